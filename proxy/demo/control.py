"""HTTP interface to control an authorization server from another process.

    POST   /faults         {"faults": ["outage", {"wait_after": 5}], "times": 1, "client_id": …, "subject": …,
                            "grant_type": …, "after": 0, "lasting": …}; only "faults" is required;
                            "times": null means until deleted
    DELETE /faults         remove all faults
    GET    /faults/named   the named faults, with descriptions
    GET    /events?after=N the journal after event number N: one numbered JSON object per line
    GET    /tokens         the record of each token: one JSON object per line
    GET    /settings       grace, access_token_lifetime (seconds), rotation, families_revoked
    PATCH  /settings       change some of the first three
    POST   /issue          {"client_id": …, "subject": …}: issue tokens as after a login
    POST   /revoke         {"token": …}: revoke as in RFC 7009
    POST   /revoke-family  {"token": …, "after": 0}: revoke all tokens of its login, in `after` seconds
    DELETE /logins/SUBJECT revoke all logins of a person

Bodies must have the media type application/json, which a foreign web page can't send without a preflight, and
neither can it send a DELETE.
Anyone who can connect gets tokens: for tests on loopback only.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.faults import NAMED, Fault, named
from proxy.demo.journal import to_json


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Faults(_Asked):
    faults: list[str | Fault]
    times: int | None = Field(1, gt=0)
    client_id: str | None = None
    subject: str | None = None
    grant_type: str | None = None
    after: float = Field(0.0, ge=0)
    lasting: float = Field(float("inf"), gt=0)


class _Settings(_Asked):
    grace: float | None = Field(None, ge=0)
    access_token_lifetime: int | None = Field(None, gt=0)
    rotation: bool | None = None


class _Login(_Asked):
    client_id: str
    subject: str


class _Token(_Asked):
    token: str


class _FamilyOf(_Token):
    after: float = Field(0.0, ge=0)


M = TypeVar("M", bound=_Asked)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Refused(Exception):
    """The request can't be fulfilled; the message has the reason."""


class Control:
    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_explain])
        app.router.add_routes(
            [
                web.post("/faults", self._script),
                web.delete("/faults", self._clear),
                web.get("/faults/named", self._named),
                web.get("/events", self._events),
                web.get("/tokens", self._tokens),
                web.get("/settings", self._settings),
                web.patch("/settings", self._set),
                web.post("/issue", self._issue),
                web.post("/revoke", self._revoke),
                web.post("/revoke-family", self._revoke_family),
                web.delete("/logins/{subject}", self._end_logins),
            ]
        )
        return app

    async def _script(self, request: web.Request) -> web.Response:
        asked = await _read(request, _Faults)
        try:
            faults = [named(fault) if isinstance(fault, str) else fault for fault in asked.faults]
        except ValueError as error:
            raise _Refused(str(error)) from None
        self._server.script(*faults, **asked.model_dump(exclude={"faults"}))
        return web.Response(status=204)

    async def _clear(self, _request: web.Request) -> web.Response:
        self._server.faults.clear()
        return web.Response(status=204)

    async def _named(self, _request: web.Request) -> web.Response:
        return web.json_response({name: fault.about for name, fault in NAMED.items()})

    async def _events(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdigit()):
            raise _Refused("after: expected the number of the last event received")
        events = self._server.journal.after(int(after))
        first = self._server.journal.noted - len(events) + 1
        return _lines({"number": number, **to_json(event)} for number, event in enumerate(events, first))

    async def _tokens(self, _request: web.Request) -> web.Response:
        return _lines(asdict(record) for record in self._server.token_records())

    async def _settings(self, _request: web.Request) -> web.Response:
        names = (*_Settings.model_fields, "families_revoked")
        return web.json_response({name: getattr(self._server, name) for name in names})

    async def _set(self, request: web.Request) -> web.Response:
        asked = await _read(request, _Settings)
        for name, value in asked.model_dump(exclude_none=True).items():
            setattr(self._server, name, value)
        return await self._settings(request)

    async def _issue(self, request: web.Request) -> web.Response:
        asked = await _read(request, _Login)
        try:
            return web.json_response(self._server.issue(asked.client_id, asked.subject))
        except KeyError:
            raise _Refused("client_id: there is no such client") from None

    async def _revoke(self, request: web.Request) -> web.Response:
        self._server.revoke((await _read(request, _Token)).token)
        return web.Response(status=204)

    async def _revoke_family(self, request: web.Request) -> web.Response:
        asked = await _read(request, _FamilyOf)
        self._server.revoke_family(asked.token, after=asked.after)
        return web.Response(status=204)

    async def _end_logins(self, request: web.Request) -> web.Response:
        subject = request.match_info["subject"]
        number = self._server.revoke_logins(subject)
        if not number:
            raise _Refused(f"{subject!r} is not logged in")
        return web.json_response({"logins_revoked": number})


@web.middleware
async def _explain(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _Refused as refused:
        return web.json_response({"error": str(refused)}, status=400)


async def _read(request: web.Request, model: type[M]) -> M:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise _Refused("; ".join(faults)) from None


def _lines(members: Iterable[Mapping[str, Any]]) -> web.Response:
    text = "".join(f"{json.dumps(each)}\n" for each in members)
    return web.Response(text=text, content_type="application/x-ndjson")
