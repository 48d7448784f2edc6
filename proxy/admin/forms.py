"""Reading a form: only what the forms of our own pages send, within a size and a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

MAX_FORM: Final = 16 * 1024  # bytes; the forms here have a few short fields
MAX_FIELDS: Final = 20
FORM_TIME: Final = 20.0  # seconds, as for a header; any user of this machine can begin a form and stall
_TYPE: Final = re.compile(
    r'application/x-www-form-urlencoded(?:[ \t]*;[ \t]*charset=(?:utf-8|"utf-8"))?', re.IGNORECASE
)


async def read(request: web.Request) -> Mapping[str, str]:
    """The fields of a form; may be called again.

    Raises HTTPUnsupportedMediaType and HTTPRequestEntityTooLarge, if possible before any of it is read,
    HTTPBadRequest and HTTPRequestTimeout.
    """
    if not _is_ours(request):
        raise web.HTTPUnsupportedMediaType
    size = request.content_length or 0
    if size > MAX_FORM:
        raise web.HTTPRequestEntityTooLarge(MAX_FORM, size)
    try:
        async with asyncio.timeout(FORM_TIME):
            body = await request.read()  # not more than the application's client_max_size
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except web.RequestPayloadError:  # its chunks are malformed, or it ended early
        raise web.HTTPBadRequest from None
    return parse(body)


def parse(body: bytes) -> Mapping[str, str]:
    """Raises HTTPBadRequest if it is not UTF-8, has too many fields or two of one name."""
    try:
        text = body.decode("ascii")  # all else is percent-encoded
        fields = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise web.HTTPBadRequest from None
    form = dict(fields)
    if len(form) < len(fields):
        raise web.HTTPBadRequest
    return form


def _is_ours(request: web.Request) -> bool:
    given = request.headers.getall("Content-Type", [])
    return len(given) == 1 and bool(_TYPE.fullmatch(given[0])) and "Content-Encoding" not in request.headers
