"""The requests that a client authenticates, to every endpoint of its authorization server alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth import client_auth, dpop
from proxy.oauth.binding import server_of
from proxy.oauth.client_auth import Choice
from proxy.oauth.discovery import Discovery, Endpoints
from proxy.oauth.dpop import Nonces, Prover
from proxy.oauth.fetch import Fetcher, Reply
from proxy.oauth.token import Token

_FIELDS: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


class Posts:
    def __init__(self, fetcher: Fetcher, clock: Clock, discovery: Discovery) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._discovery = discovery
        self._nonces = Nonces()

    async def auth_of(self, credential: Credential) -> Choice:
        """How the client authenticates at endpoints other than the token endpoint: as there."""
        audience = credential.token_endpoint or server_of(credential)
        if credential.issuer is None or not client_auth.needs_metadata(credential):
            return client_auth.choose(credential, audience)
        try:
            found = await self._discovery.endpoints(credential, is_urgent=False)
        except AuthorizationServerError:
            return client_auth.choose(credential, audience)
        return by_metadata(credential, found)

    async def send(
        self,
        credential: Credential,
        endpoint: str,
        body: str,
        auth: Choice,
        before_send: Callable[[], None] | None = None,
        prover: Prover | None = None,
    ) -> Reply:
        """POST a form; with `prover` a proof of possession too. Raises AuthorizationServerError.

        It is sent a second time, once, if the server asks for a nonce in the proof: it has not acted then.
        """
        origin = dpop.origin_of(endpoint)
        reply = await self._send(credential, endpoint, body, auth, before_send, prover)
        has_nonce = self._nonces.learn(origin, reply.headers.get(dpop.NONCE_FIELD, ""))
        if prover is None or not has_nonce:
            return reply
        if not dpop.asks_for_nonce(reply.status, reply.headers, reply.body):
            return reply
        reply = await self._send(credential, endpoint, body, auth, before_send, prover)
        self._nonces.learn(origin, reply.headers.get(dpop.NONCE_FIELD, ""))
        return reply

    async def _send(
        self,
        credential: Credential,
        endpoint: str,
        body: str,
        auth: Choice,
        before_send: Callable[[], None] | None,
        prover: Prover | None,
    ) -> Reply:
        heard = self._clock.heard.get(server_of(credential))
        now = self._clock.wall() if heard is None else heard + self._clock.boot()
        authenticated = await client_auth.authenticate(client_auth.Request(credential, auth, body, now))
        headers = {**_FIELDS}
        if authenticated.authorization:
            headers["Authorization"] = authenticated.authorization
        if prover is not None:
            nonce = self._nonces.of(dpop.origin_of(endpoint))
            headers["DPoP"] = prover.proof("POST", endpoint, now, nonce=nonce)
        return await self._fetcher.fetch(
            credential, "POST", endpoint, headers, authenticated.body, before_send
        )


def by_metadata(credential: Credential, found: Endpoints) -> Choice:
    audience = found.audience or found.token_endpoint or server_of(credential)
    return client_auth.choose(credential, audience, found.auth_methods, found.auth_algorithms)


def as_before(credential: Credential, before: Token) -> Choice:
    """As for this token, while discovery fails."""
    methods = (before.auth_method,) if before.auth_method else None
    algorithms = (before.auth_algorithm,) if before.auth_algorithm else None
    return client_auth.choose(credential, before.token_endpoint, methods, algorithms)
