"""GET /api/status, on the admin listener and on the control socket."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from proxy.observe.health import Health
from proxy.observe.query import BadQueryError, Query

BAD_REQUEST: Final = "urn:token-proxy:problem:bad-request"


async def status(request: web.Request, health: Health, *, shows_owners: bool = True) -> web.Response:
    """A page of the accounts (observe/query.py); a problem document (RFC 9457) if the query is wrong.

    `shows_owners`: the visitor may know whose tokens these are.
    """
    try:
        query = Query.of(request.query)
    except BadQueryError as error:
        known = HTTPStatus.BAD_REQUEST
        problem = {"type": BAD_REQUEST, "title": known.phrase, "status": known.value, "detail": str(error)}
        return web.json_response(problem, status=known.value, content_type="application/problem+json")
    document = await health.status(query)
    if not shows_owners:
        document["tokens"] = [{**entry, "owner": None} for entry in document["tokens"]]
    return web.json_response(document)
