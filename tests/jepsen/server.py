"""The demo's authorization server and API, with everything noted that tells whose token was good when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.clients import Client
from proxy.demo.ledger import Family, Ledger, RefreshToken, TokenAnswer
from proxy.demo.serve import running
from tests.jepsen.history import Recorder, fingerprint

CALLBACK = "http://127.0.0.1:8081/callback"
CLIENT = Client("web", "s3cret", redirect_uris=(CALLBACK,))


class RecordingLedger(Ledger):
    recorder: Recorder
    names: dict[Family, str]
    presented: str | None = None

    def present(self, value: str, client_id: str) -> RefreshToken | None:
        token = self._refresh.get(value)
        was_good = token is not None and not token.family.revoked
        self.presented = value
        found = super().present(value, client_id)
        self.presented = None
        if found is None and not was_good:
            family = self._name(token.family) if token else None
            self.recorder.note("refused", refresh=fingerprint(value), family=family)
        return found

    def save(self, answer: TokenAnswer, family: Family, exchanged: RefreshToken | None = None) -> None:
        old = next((value for value, token in self._refresh.items() if token is exchanged), None)
        super().save(answer, family, exchanged)
        self._note("issued", family, answer, old)

    def repeat(self, spent: RefreshToken) -> TokenAnswer:
        old = next(value for value, token in self._refresh.items() if token is spent)
        answer = super().repeat(spent)
        self._note("repeated", spent.family, answer, old)
        return answer

    def revoke_family(self, family: Family) -> None:
        if not family.revoked:
            why = "reused" if self.presented else "revoked"
            self.recorder.note(why, family=self._name(family), refresh=fingerprint(self.presented))
        super().revoke_family(family)

    def _note(self, what: str, family: Family, answer: TokenAnswer, old: str | None) -> None:
        access = answer["access_token"]
        self.recorder.note(
            what,
            family=self._name(family),
            exchanged=fingerprint(old),
            refresh=fingerprint(answer["refresh_token"]),
            access=fingerprint(access),
            expires=round(self._access[access].expires_at, 4),
        )

    def _name(self, family: Family) -> str:
        return self.names.setdefault(family, f"f{len(self.names) + 1}")


@asynccontextmanager
async def serving(
    recorder: Recorder, *, lifetime: int, grace: float
) -> AsyncIterator[tuple[AuthorizationServer, str]]:
    """The server, and where its API is."""
    server = AuthorizationServer(
        clients=(CLIENT,), access_token_lifetime=lifetime, rotation=True, grace=grace
    )
    ledger = RecordingLedger(server._ledger._clock, lifetime=lifetime, rotation=True, grace=grace)
    ledger.recorder, ledger.names = recorder, {}
    server._ledger = server._protocol.ledger = ledger

    async def judge(request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        good = server.active(token) is not None
        about: dict[str, Any] = {"process": request.headers["Process"], "token": fingerprint(token)}
        recorder.note("judged", account=request.path[1:], good=good, **about)
        return web.Response(status=200 if good else 401)

    api = web.Application()
    api.router.add_get("/{account}", judge)
    async with running(server.application()), running(api) as address:
        yield server, address
