"""An in-process authorization server, for the demo and for tests.

    server = AuthorizationServer(clients=[Client("cli", "secret", redirect_uris=("http://127.0.0.1/cb",))])
    async with running(server.application()) as issuer:
        server.script(faults.delay(2), faults.NAMED["drop-after-commit"])
        ...
        assert server.families_revoked == 0

It supports the grants authorization_code (always with PKCE, S256), refresh_token, client_credentials,
device_code (RFC 8628), jwt_bearer (RFC 7523), token_exchange (RFC 8693) and password, revocation (RFC 7009),
metadata (RFC 8414) and `iss` (RFC 9207). All state is in memory and survives a restart of the application.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

from aiohttp import web

from proxy.clock import Clock, SystemClock
from proxy.demo.clients import Client
from proxy.demo.delivery import response
from proxy.demo.devices import Devices
from proxy.demo.faults import Answer, Fault
from proxy.demo.journal import (
    ApiRequest,
    Journal,
    Revocation,
    TokenRecord,
    TokenRequest,
    Verdict,
    fingerprint,
)
from proxy.demo.ledger import Ledger, TokenAnswer
from proxy.demo.other_grants import Trust
from proxy.demo.pages import HEADERS, decided_page, device_page, login_page, refusal_page
from proxy.demo.protocol import AUTH_METHODS, CODE_CHALLENGE_METHODS, GRANT_TYPES, Protocol
from proxy.demo.read_request import ReadRequest, read_form
from proxy.demo.script import Rule, Script
from proxy.demo.serve import BASE_URL
from proxy.demo.token_endpoint import TokenEndpoint

__all__ = ["AuthorizationServer", "Client", "TokenRequest", "fingerprint"]


class AuthorizationServer:
    def __init__(
        self,
        *,
        clients: Iterable[Client],
        users: Iterable[str] = ("alice",),
        issuer: str = "",
        access_token_lifetime: int = 60,
        rotation: bool = True,
        grace: float = 0,
        limit: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Times are in seconds. `issuer` defaults to the address at which the application is served.

        `grace`: how long a spent refresh token gets its successor again. `limit`: the number of events in
        the journal, and of tokens above which expired, spent and revoked ones are evicted; None keeps all.
        """
        self.issuer = issuer
        self.clock = clock or SystemClock()
        self.journal = Journal(limit)
        self._users = tuple(users)
        self._issuer_is_given = bool(issuer)
        self._ledger = Ledger(
            self.clock,
            self.journal,
            lifetime=access_token_lifetime,
            rotation=rotation,
            grace=grace,
            limit=limit,
        )
        self.devices = Devices(self.clock)
        self._protocol = Protocol(clients, self._ledger, self.devices)
        self._token_endpoint = TokenEndpoint(self._protocol, self._ledger, self.journal, self.clock)
        logging.getLogger("authlib.oauth2").setLevel(logging.INFO)  # its debug lines show whole tokens

    def application(self) -> web.Application:
        """A new application with the same state; a second one simulates a restart."""
        app = web.Application()
        app.on_startup.append(self._started)
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_get("/authorize", self._ask)
        app.router.add_post("/authorize", self._decide)
        app.router.add_post("/token", self._token_endpoint.serve)
        app.router.add_post("/revoke", self._revoke)
        app.router.add_post("/device_authorization", self._authorize_device)
        app.router.add_get("/device", self._ask_for_code)
        app.router.add_post("/device", self._decide_device)
        return app

    def script(
        self,
        *faults: Fault,
        times: int | None = 1,
        client_id: str | None = None,
        subject: str | None = None,
        grant_type: str | None = None,
        after: float = 0.0,
        lasting: float = math.inf,
    ) -> None:
        """Script faults for the next token requests: each applies to `times` of them, in this order.

        With `times=None` it applies until `server.faults.clear()`. A fault can be limited to requests of one
        client, subject or grant, and to `lasting` seconds, starting `after` seconds from now. Requests
        without a matching fault are served normally.
        """
        now = self.clock.boot()
        for fault in faults:
            self.faults.add(
                Rule(
                    fault=fault,
                    times=times,
                    client_id=client_id,
                    subject=subject,
                    grant_type=grant_type,
                    starts_at=now + after,
                    ends_at=now + after + lasting,
                )
            )

    @property
    def trust(self) -> Trust:
        """The issuers of accepted JWT assertions (RFC 7523)."""
        return self._protocol.trust

    @property
    def passwords(self) -> dict[str, str]:
        """By username, for the grant password."""
        return self._protocol.passwords

    @property
    def exchanges(self) -> list[dict[str, str]]:
        """The forms of the token exchanges (RFC 8693) that succeeded."""
        return self._protocol.exchanges

    def issue(self, client_id: str, subject: str) -> TokenAnswer:
        """Issue tokens as after a login. Raises KeyError for an unknown client."""
        return self._protocol.issue(client_id, subject)

    @property
    def access_token_lifetime(self) -> int:
        """Seconds; applies to tokens issued from now on."""
        return self._ledger.lifetime

    @access_token_lifetime.setter
    def access_token_lifetime(self, seconds: int) -> None:
        self._ledger.lifetime = seconds

    @property
    def grace(self) -> float:
        """Seconds for which a spent refresh token gets its successor again; applies to all tokens."""
        return self._ledger.grace

    @grace.setter
    def grace(self, seconds: float) -> None:
        self._ledger.grace = seconds

    @property
    def rotation(self) -> bool:
        """Whether a refresh replaces the refresh token; otherwise the response has none."""
        return self._ledger.rotation

    @rotation.setter
    def rotation(self, on: bool) -> None:
        self._ledger.rotation = on

    @property
    def faults(self) -> Script:
        """The scripted faults that still apply."""
        return self._token_endpoint.script

    @property
    def token_requests(self) -> list[TokenRequest]:
        return self.journal.all(TokenRequest)

    @property
    def api_requests(self) -> list[ApiRequest]:
        """The requests to the API of this server (`proxy.demo.api`)."""
        return self.journal.all(ApiRequest)

    @property
    def revocations(self) -> list[Revocation]:
        """Revocations of families. That of a single access token is in its record."""
        return self.journal.all(Revocation)

    @property
    def families_revoked(self) -> int:
        """The number of families revoked by reuse, by a client or by this object's methods."""
        return self._ledger.families_revoked

    def token_record(self, of: str) -> TokenRecord | None:
        """The record of the token with the fingerprint `of`; None if it is unknown."""
        token = self._ledger.find_fingerprint(of)
        return token.record() if token else None

    def token_records(self) -> list[TokenRecord]:
        """The records of all tokens ever issued, except those evicted due to `limit`."""
        return list(self._ledger.records())

    def judge(self, access_token: str, now: float) -> tuple[Verdict, TokenRecord | None]:
        """The verdict on an access token, and its record if it is known. `now`: boot clock."""
        token = self._ledger.find(access_token)
        if token is None or token.kind != "access_token":
            return "unknown", None
        return token.verdict(now), token.record()

    def active(self, access_token: str) -> str | None:
        """The subject of a valid access token; None otherwise."""
        verdict, record = self.judge(access_token, self.clock.boot())
        return record.subject if record and verdict == "good" else None

    def expires_in(self, access_token: str) -> float:
        """Seconds until a token expires, negative afterwards. Raises KeyError for an unknown token."""
        now = self.clock.boot()
        _, record = self.judge(access_token, now)
        if record is None or record.expires_at is None:
            raise KeyError("no such access token")
        return record.expires_at - now

    def revoke(self, token: str) -> None:
        """Revoke like the revocation endpoint: an access token alone, a refresh token with its family."""
        if (found := self._ledger.find(token)) is not None:
            self._ledger.revoke(found, "server")

    def revoke_family(self, token: str, *, after: float = 0.0) -> None:
        """Revoke all tokens of the login from which `token` came, `after` seconds from now."""
        if (found := self._ledger.find(token)) is not None:
            self._ledger.revoke_family(found.family, "server", after=after)

    def revoke_logins(self, subject: str) -> int:
        """Revoke all logins of a person, as an administrator may; returns their number."""
        return self._ledger.revoke_subject(subject, "server")

    async def _started(self, app: web.Application) -> None:
        if not self._issuer_is_given:
            self.issuer = app[BASE_URL]
        self._protocol.issuer = self.issuer

    async def _metadata(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "revocation_endpoint": f"{self.issuer}/revoke",
                "device_authorization_endpoint": f"{self.issuer}/device_authorization",
                "response_types_supported": ["code"],
                "grant_types_supported": GRANT_TYPES,
                "code_challenge_methods_supported": CODE_CHALLENGE_METHODS,
                "token_endpoint_auth_methods_supported": AUTH_METHODS,
                "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _ask(self, request: web.Request) -> web.Response:
        asked = self._protocol.ask(self._read(request, request.query.items()))
        if isinstance(asked, Answer):
            return _for_browser(asked)
        page = login_page(asked.client_id, asked.scopes, self._users)
        return web.Response(text=page, headers=HEADERS)

    async def _decide(self, request: web.Request) -> web.Response:
        user = dict(await read_form(request)).get("user")
        if user is not None and user not in self._users:
            return web.Response(status=400, text=refusal_page("There is no such user."), headers=HEADERS)
        return _for_browser(self._protocol.decide(self._read(request, request.query.items()), user))

    async def _revoke(self, request: web.Request) -> web.Response:
        return response(self._protocol.revocation(self._read(request, await read_form(request))))

    async def _authorize_device(self, request: web.Request) -> web.Response:
        return response(self._protocol.device_authorization(self._read(request, await read_form(request))))

    async def _ask_for_code(self, request: web.Request) -> web.Response:
        page = device_page(request.query.get("user_code", ""), self._users)
        return web.Response(text=page, headers=HEADERS)

    async def _decide_device(self, request: web.Request) -> web.Response:
        form = dict(await read_form(request))
        device, user = self.devices.of_user_code(form.get("user_code", "")), form.get("user", "")
        if device is None or (user and user not in self._users):
            return web.Response(status=400, text=refusal_page("There is no such code now."), headers=HEADERS)
        device.subject, device.approved = user or "nobody", bool(user)
        return web.Response(text=decided_page(), headers=HEADERS)

    def _read(self, request: web.Request, pairs: Iterable[tuple[str, str]]) -> ReadRequest:
        return ReadRequest(request.method, f"{self.issuer}{request.path_qs}", request.headers, pairs)


def _for_browser(answer: Answer) -> web.Response:
    """A redirect unchanged; an error that must not go back to the client as a page."""
    if isinstance(answer.body, str):
        return response(answer)
    reason = answer.body.get("error_description") or answer.body["error"]
    return web.Response(status=answer.status, text=refusal_page(reason), headers=HEADERS)
