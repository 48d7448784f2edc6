"""An authorization server in the process: for the demo, and as the other side in tests.

    server = AuthorizationServer(clients=[Client("cli", "secret", redirect_uris=("http://127.0.0.1/cb",))])
    async with running(server.application()) as issuer:
        server.script(faults.delay(2), faults.NAMED["drop-after-commit"])
        ...
        assert server.families_revoked == 0

It knows the grants authorization_code (PKCE with S256, always), refresh_token and client_credentials,
revocation (RFC 7009), metadata (RFC 8414) and `iss` (RFC 9207). All state is in memory and outlives a
restart of the application. `faults` is consumed one per token request.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiohttp import web

from proxy.clock import Clock, SystemClock
from proxy.demo.clients import Client
from proxy.demo.faults import Answer, Fault, suffer
from proxy.demo.ledger import Ledger, TokenAnswer
from proxy.demo.pages import HEADERS, login_page, refusal_page
from proxy.demo.protocol import AUTH_METHODS, CODE_CHALLENGE_METHODS, GRANT_TYPES, Protocol
from proxy.demo.read_request import ReadRequest, basic_credentials, read_form
from proxy.demo.serve import BASE_URL

__all__ = ["AuthorizationServer", "Client", "TokenRequest", "fingerprint"]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to the token endpoint that has ended."""

    grant_type: str
    client_id: str
    refresh_token: str | None  # its fingerprint
    status: int | None  # None: the connection was dropped
    error: str | None  # RFC 6749 section 5.2


def fingerprint(token: str) -> str:
    """What tells tokens apart and is no secret: SHA-256, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


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
        clock: Clock | None = None,
    ) -> None:
        """Times are seconds. Without `issuer` it is the address that the application is served at."""
        self.issuer = issuer
        self.token_requests: list[TokenRequest] = []
        self.faults: deque[Fault] = deque()
        self._users = tuple(users)
        self._issuer_is_given = bool(issuer)
        self._ledger = Ledger(
            clock or SystemClock(), lifetime=access_token_lifetime, rotation=rotation, grace=grace
        )
        self._protocol = Protocol(clients, self._ledger, lifetime=access_token_lifetime)
        logging.getLogger("authlib.oauth2").setLevel(logging.INFO)  # its debug lines show whole tokens

    def application(self) -> web.Application:
        """A new application over the same state; a restart is a second one."""
        app = web.Application()
        app.on_startup.append(self._started)
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_get("/authorize", self._ask)
        app.router.add_post("/authorize", self._decide)
        app.router.add_post("/token", self._token)
        app.router.add_post("/revoke", self._revoke)
        return app

    def script(self, *faults: Fault) -> None:
        """What happens to the next token requests, one each. Those after them are served well."""
        self.faults.extend(faults)

    def issue(self, client_id: str, subject: str) -> TokenAnswer:
        """Tokens as from a login, without the login."""
        return self._protocol.issue(client_id, subject)

    def active(self, access_token: str) -> str | None:
        """Whose token it is; None when it is not, or no longer, good."""
        return self._ledger.active(access_token)

    def expires_in(self, access_token: str) -> float:
        """Seconds left of a token that this server has issued."""
        return self._ledger.expires_in(access_token)

    def revoke(self, token: str) -> None:
        """As the revocation endpoint does: an access token alone, a refresh token with its family."""
        if (found := self._ledger.find(token)) is not None:
            self._ledger.revoke(found)

    def revoke_family(self, token: str) -> None:
        """End all tokens of the login that gave `token`, access or refresh token."""
        if (found := self._ledger.find(token)) is not None:
            self._ledger.revoke_family(found.family)

    @property
    def families_revoked(self) -> int:
        """By reuse of a refresh token or code, by a client or by this object's methods."""
        return self._ledger.families_revoked

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
            return _for_a_person(asked)
        page = login_page(asked.client_id, asked.scopes, self._users)
        return web.Response(text=page, headers=HEADERS)

    async def _decide(self, request: web.Request) -> web.Response:
        user = dict(await read_form(request)).get("user")
        if user is not None and user not in self._users:
            return web.Response(status=400, text=refusal_page("There is no such user."), headers=HEADERS)
        return _for_a_person(self._protocol.decide(self._read(request, request.query.items()), user))

    async def _token(self, request: web.Request) -> web.Response:
        fault = self.faults.popleft() if self.faults else Fault()
        form = await read_form(request)
        answer = await suffer(fault, lambda: self._protocol.token(self._read(request, form)))
        self.token_requests.append(_note(request, dict(form), answer))
        return _hang_up(request) if answer is None else _response(answer)

    async def _revoke(self, request: web.Request) -> web.Response:
        return _response(self._protocol.revocation(self._read(request, await read_form(request))))

    def _read(self, request: web.Request, pairs: Iterable[tuple[str, str]]) -> ReadRequest:
        return ReadRequest(request.method, f"{self.issuer}{request.path_qs}", request.headers, pairs)


def _response(answer: Answer) -> web.Response:
    text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    return web.Response(status=answer.status, body=text.encode(), headers=answer.headers)


def _for_a_person(answer: Answer) -> web.Response:
    """A redirect as it is; an error that may not go back to the client becomes a page."""
    if isinstance(answer.body, str):
        return _response(answer)
    reason = answer.body.get("error_description") or answer.body["error"]
    return web.Response(status=answer.status, text=refusal_page(reason), headers=HEADERS)


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.close()
    return web.Response()  # aiohttp wants one; there is nobody left to get it


def _note(request: web.Request, form: Mapping[str, str], answer: Answer | None) -> TokenRequest:
    token = form.get("refresh_token")
    return TokenRequest(
        grant_type=form.get("grant_type", ""),
        client_id=form.get("client_id") or basic_credentials(request.headers)[0],
        refresh_token=fingerprint(token) if token else None,
        status=answer.status if answer else None,
        error=answer.body.get("error") if answer and not isinstance(answer.body, str) else None,
    )
