"""The requests that a client authenticates, to every endpoint of its authorization server alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth import client_auth, clock_skew, dpop, expires_in
from proxy.oauth.binding import server_of
from proxy.oauth.client_auth import Choice
from proxy.oauth.discovery import Discovery, Endpoints
from proxy.oauth.dpop import Nonces, Prover
from proxy.oauth.fetch import Fetcher, Reply
from proxy.oauth.token import Token

# A request's form; where it holds something signed, made with the server's time (Unix seconds).
Body = str | Callable[[float], str]
MISDATED: Final = 10.0  # seconds of a difference that was unknown: as much as JWTs are backdated
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
        body: Body,
        auth: Choice,
        before_send: Callable[[], None] | None = None,
        prover: Prover | None = None,
    ) -> Reply:
        """POST a form; with `prover` a proof of possession too. Raises AuthorizationServerError.

        It is sent a second time, once, if the server has not acted: it asks for a nonce in the proof, or it
        refuses something signed, and its Date shows that this was signed with the wrong time.
        """
        origin = dpop.origin_of(endpoint)
        assumed = clock_skew.server_now(self._clock, credential) - self._clock.wall()
        reply = await self._send(credential, endpoint, body, auth, before_send, prover)
        has_nonce = self._nonces.learn(origin, reply.headers.get(dpop.NONCE_FIELD, ""))
        if prover is not None and dpop.asks_for_nonce(reply.status, reply.headers, reply.body):
            must_repeat = has_nonce
        else:
            is_signed = prover is not None or callable(body) or client_auth.is_signed(credential, auth)
            must_repeat = is_signed and self._was_misdated(credential, reply, assumed)
        if must_repeat:
            reply = await self._send(credential, endpoint, body, auth, before_send, prover)
            self._nonces.learn(origin, reply.headers.get(dpop.NONCE_FIELD, ""))
        return reply

    def _was_misdated(self, credential: Credential, reply: Reply, assumed: float) -> bool:
        """`assumed`: seconds by which the server's clock was thought to be ahead."""
        seconds = clock_skew.server_now(self._clock, credential) - self._clock.wall()
        return reply.status in {400, 401} and abs(seconds - assumed) >= MISDATED

    async def _send(
        self,
        credential: Credential,
        endpoint: str,
        body: Body,
        auth: Choice,
        before_send: Callable[[], None] | None,
        prover: Prover | None,
    ) -> Reply:
        now = clock_skew.server_now(self._clock, credential)
        form = body(now) if callable(body) else body
        authenticated = await client_auth.authenticate(client_auth.Request(credential, auth, form, now))
        headers = {**_FIELDS}
        if authenticated.authorization:
            headers["Authorization"] = authenticated.authorization
        if prover is not None:
            nonce = self._nonces.of(dpop.origin_of(endpoint))
            headers["DPoP"] = prover.proof("POST", endpoint, now, nonce=nonce)
        sent_at, sent_boot = self._clock.wall(), self._clock.boot()
        reply = await self._fetcher.fetch(
            credential, "POST", endpoint, headers, authenticated.body, before_send
        )
        self._hear(credential, reply, sent_at, sent_boot)
        return reply

    def _hear(self, credential: Credential, reply: Reply, sent_at: float, sent_boot: float) -> None:
        """Learn the server's time from its Date, also from a refusal: what was refused may be the time."""
        date = expires_in.server_time(reply.headers)
        if date is None or reply.status >= 500:  # of a gateway before it, perhaps
            return
        received = sent_at + self._clock.boot() - sent_boot
        _, most = expires_in.skew(date, sent_at, received)
        self._clock.heard[server_of(credential)] = sent_at + most - sent_boot


def by_metadata(credential: Credential, found: Endpoints) -> Choice:
    audience = found.audience or found.token_endpoint or server_of(credential)
    return client_auth.choose(credential, audience, found.auth_methods, found.auth_algorithms)


def as_before(credential: Credential, before: Token) -> Choice:
    """As for this token, while discovery fails."""
    methods = (before.auth_method,) if before.auth_method else None
    algorithms = (before.auth_algorithm,) if before.auth_algorithm else None
    return client_auth.choose(credential, before.token_endpoint, methods, algorithms)
