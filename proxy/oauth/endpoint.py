"""Requests to an authorization server: to its token endpoint here, to the others by other_endpoints."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from proxy.clock import Clock
from proxy.config.found import Found, Registration
from proxy.config.model import AuthorizationServerTLS, Credential, Limits
from proxy.errors import AuthorizationServerError
from proxy.oauth import (
    client_auth,
    described,
    dpop,
    expires_in,
    grants,
    id_token,
    other_endpoints,
    posts,
    protected_resource,
    registration,
    resource,
    step_response,
    token_response,
    used_files,
)
from proxy.oauth.authorize import AuthorizationRequest
from proxy.oauth.binding import by_hand, server_of
from proxy.oauth.client_auth import Choice
from proxy.oauth.clock_skew import SkewWatch
from proxy.oauth.device import DeviceAuthorization
from proxy.oauth.discovery import Discovery, Endpoints, is_safe
from proxy.oauth.dpop import Prover
from proxy.oauth.fetch import Fetcher, Reply
from proxy.oauth.grants import Form, Proof
from proxy.oauth.oddities import Oddities
from proxy.oauth.posts import Body, Posts
from proxy.oauth.token import Token
from proxy.oauth.token_response import TokenResponse
from proxy.observe.events import decision
from proxy.secret import Secret

_log = logging.getLogger("proxy.oauth")
_NO_NONCE: Final = {"no_nonce": "it lacks the nonce of the login"}


class UnprovenToken(AuthorizationServerError):
    """The response is valid, except for its id_token. `token` works, but its owner is unknown."""

    def __init__(self, error: str, token: Token) -> None:
        super().__init__("misconfigured", error)
        self.token = token


class RefusedToken(AuthorizationServerError):
    """The access token can't be attached, but a refresh token came with it.

    `token` has that refresh token and no access token. It must be saved before this is raised any further:
    the refresh token that was sent may be spent, and must not be sent again.
    """

    def __init__(self, refusal: AuthorizationServerError, token: Token) -> None:
        super().__init__(refusal.outcome, refusal.error)
        self.token = token


@dataclass(frozen=True, slots=True)
class _TokenEndpoint:
    url: str
    auth: Choice


@dataclass(frozen=True, slots=True)
class _Sent:
    """When a request was sent (wall and boot clock), and its response complete (wall clock)."""

    wall: float
    boot: float
    received: float


class AuthorizationServers:
    """Sends requests to the authorization server of any credential."""

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._oddities = Oddities()
        self._skews = SkewWatch()
        self._discovery = Discovery(fetcher, clock, self._oddities)
        self._posts = Posts(fetcher, clock, self._discovery)

    def use(
        self,
        limits: Limits,
        contexts: Mapping[AuthorizationServerTLS, ssl.SSLContext],
        changed: Collection[AuthorizationServerTLS],
    ) -> None:
        """Use other limits and TLS contexts from now on. `changed`: settings with other files.

        What was discovered under those is forgotten.
        """
        self._fetcher.use(limits, contexts)
        self._discovery.forget(changed)

    async def endpoints(self, credential: Credential) -> Endpoints:
        """Raises AuthorizationServerError if discovery fails."""
        return await self._discovery.endpoints(credential)

    async def protected_resource(self, credential: Credential) -> Found:
        """The authorization server of a credential with `mcp`. Raises AuthorizationServerError."""
        return await protected_resource.find(self._fetcher, self._discovery, credential)

    async def register(
        self,
        credential: Credential,
        endpoint: str,
        offered: tuple[str, ...] | None,
        redirect_uri: str | None,
        place: str,
    ) -> Registration:
        """Register a client (RFC 7591). Raises AuthorizationServerError."""
        decision(_log, "%s: a client is registered", credential.name)
        body = registration.request(credential, redirect_uri, offered)
        asked, fields = registration.method_for(credential, offered), registration.FIELDS
        reply = await self._fetcher.fetch(credential, "POST", endpoint, fields, body)
        return registration.read(reply, asked=asked, place=place, now=self._clock.wall())

    async def token(
        self,
        credential: Credential,
        form: Form,
        before_send: Callable[[], None] | None = None,
        *,
        before: Token | None = None,
    ) -> Token:
        """Request a token (RFC 6749 section 3.2). Raises RefusedToken, AuthorizationServerError.

        `before_send` is called just before the body is sent: what it raises is raised here, and nothing was
        sent. `before` is the token to be replaced. An invalid id_token counts as none: the response to a
        refresh must not be lost for that.
        """
        if credential.steps:
            return await self._described(credential, before_send)
        try:
            return await self.token_of_person(credential, form, before_send, before=before)
        except UnprovenToken as error:
            words = {error.error: "it is invalid and ignored"}
            self._oddities.log(credential.name, "id_token", words, words)
            return error.token

    async def _described(self, credential: Credential, before_send: Callable[[], None] | None) -> Token:
        """By the requests in the configuration, which may be any server's: it has no token endpoint."""
        end = await described.run(self._fetcher, self._clock, credential, before_send)
        granted = end.granted
        self._oddities.log(
            credential.name, "response of the last step", granted.oddities, step_response.ODDITIES
        )
        sent = _Sent(end.sent_at, end.sent_boot, end.received)
        nowhere = _TokenEndpoint("", Choice("none"))
        return self._made(credential, nowhere, granted, sent, self._heard(credential, end.reply, sent))

    async def token_of_person(
        self,
        credential: Credential,
        form: Form,
        before_send: Callable[[], None] | None = None,
        *,
        before: Token | None = None,
        nonce: str = "",
        dpop_key: Secret | None = None,
    ) -> Token:
        """As `token`, but raises UnprovenToken if the id_token is invalid.

        `nonce` is that of the login (OpenID Connect Core 1.0 section 3.1.2.1), and `dpop_key` its key.
        """
        endpoint = await self._token_endpoint(credential, before)
        grant, method = form.get("grant_type", ""), endpoint.auth.method
        body = await self._body(credential, form, endpoint)
        decision(_log, "%s: a token is requested (%s, %s)", credential.name, grant, method)
        sent_at, sent_boot = self._clock.wall(), self._clock.boot()
        key = (dpop_key if credential.dpop else None) or await self.dpop_key(credential, before)
        prover = Prover(key) if key else None
        reply = await self._posts.send(credential, endpoint.url, body, endpoint.auth, before_send, prover)
        sent = _Sent(sent_at, sent_boot, sent_at + self._clock.boot() - sent_boot)
        try:
            granted = token_response.parse(
                reply.status,
                reply.headers,
                reply.body,
                now=sent.received,
                token_types=credential.token_types,
                upstream_fields=credential.upstream_fields,
                dpop=credential.dpop,
            )
        except AuthorizationServerError as error:
            error.hint = client_auth.hint(credential, endpoint.auth.method, error.error)
            raise
        self._oddities.log(credential.name, "token response", granted.oddities, token_response.ODDITIES)
        token = self._made(credential, endpoint, granted, sent, self._heard(credential, reply, sent))
        token = replace(token, dpop_key=key)
        if granted.refusal is not None:
            raise RefusedToken(granted.refusal, token)
        if granted.id_token is None:
            return token
        nonce_before = before.nonce if before else ""
        identified = self._identified(credential, token, granted.id_token, nonce or nonce_before)
        if nonce and not identified.nonce:
            self._oddities.log(credential.name, "id_token", _NO_NONCE, _NO_NONCE)
        return identified

    async def _body(self, credential: Credential, form: Form, endpoint: _TokenEndpoint) -> Body:
        """The form, with the parameter that its grant makes anew for each request."""
        added = {**resource.parameters(credential), **credential.token_params}
        kind = grants.of(credential)
        prove = kind.proof
        if prove is None or form.get("grant_type") != kind.grant_type:
            return urlencode({**form, **added}, doseq=True)  # a list repeats the parameter
        path = kind.file(credential)
        content = None if path is None else await used_files.read(path)

        def at(now: float) -> str:
            proven = prove(credential, Proof(endpoint.url, now, content))
            return urlencode({**form, **proven, **added}, doseq=True)

        return at if credential.key is not None and content is None else at(self._clock.wall())

    async def dpop_key(self, credential: Credential, before: Token | None = None) -> Secret | None:
        """The key of the account that has the token `before`, a new one without; None without `dpop`."""
        if not credential.dpop:
            return None
        if before is not None and before.dpop_key is not None:
            return before.dpop_key
        try:
            found = await self._discovery.endpoints(credential, is_urgent=False)
        except AuthorizationServerError:
            return dpop.new_key(None)
        return dpop.new_key(found.dpop_algorithms)

    async def _token_endpoint(self, credential: Credential, before: Token | None) -> _TokenEndpoint:
        """Configured, discovered, or that of the token `before` while discovery fails."""
        if credential.token_endpoint is not None:
            url = credential.token_endpoint
            return _TokenEndpoint(url, client_auth.choose(credential, url))
        is_known = before is not None and is_safe(before.token_endpoint)
        try:
            found = await self._discovery.endpoints(credential, is_urgent=not is_known)
        except AuthorizationServerError:
            if before is None or not is_known:
                raise
            return _TokenEndpoint(before.token_endpoint, posts.as_before(credential, before))
        found_url = found.get("token_endpoint")
        if found_url is None:
            raise AuthorizationServerError("misconfigured", "no_token_endpoint")
        return _TokenEndpoint(found_url, posts.by_metadata(credential, found))

    def _heard(self, credential: Credential, reply: Reply, sent: _Sent) -> float | None:
        """The lower bound of the server's clock skew (seconds) by its Date; None without one."""
        date = expires_in.server_time(reply.headers)
        if date is None:
            return None
        skew, most = expires_in.skew(date, sent.wall, sent.received)
        # the upper bound: in doubt, a token counts as older than it is
        self._clock.heard[server_of(credential)] = sent.wall + most - sent.boot
        self._skews.note(credential.name, skew)
        return skew

    def _made(
        self,
        credential: Credential,
        endpoint: _TokenEndpoint,
        granted: TokenResponse,
        sent: _Sent,
        skew: float | None,
    ) -> Token:
        return Token(
            access_token=granted.access_token,
            refresh_token=granted.refresh_token,
            server=server_of(credential),
            client_id=credential.principal,
            issued_at=sent.wall,
            issued_boot=sent.boot,
            boot_id=self._clock.boot_id,
            lifetime=credential.access_token_lifetime or granted.lifetime,
            refresh_in=granted.refresh_in,
            skew=skew,
            refresh_expires_at=sent.wall + granted.refresh_lifetime if granted.refresh_lifetime else None,
            scope=granted.scope,
            upstreams=granted.upstreams,
            grant=credential.grant,
            endpoints=tuple(by_hand(credential).items()),
            token_endpoint=endpoint.url,
            auth_method=endpoint.auth.method,
            auth_algorithm=endpoint.auth.algorithm,
            found=credential.found,
        )

    def _identified(self, credential: Credential, token: Token, proof: Secret, nonce: str) -> Token:
        """The token with its principal. Raises UnprovenToken."""
        try:
            principal = id_token.read(
                proof, issuer=credential.issuer, client_id=credential.client_id, now=self._clock.wall()
            )
            token = replace(token, principal=principal)  # a refresh compares it whatever the nonce is
            has_nonce = id_token.has_nonce(proof, nonce)
        except id_token.BadIdToken as error:
            raise UnprovenToken(error.error, token) from None
        return replace(token, nonce=nonce if has_nonce else "")

    async def device_authorization(self, credential: Credential) -> DeviceAuthorization:
        """Codes for a login on another device (RFC 8628 section 3.1). Raises AuthorizationServerError."""
        return await other_endpoints.device_authorization(
            self._posts, self._discovery, credential, self._clock
        )

    async def introspected_lifetime(self, credential: Credential, token: Secret) -> float | None:
        """The remaining lifetime in seconds by introspection (RFC 7662); None: the server states none.

        Raises AuthorizationServerError.
        """
        return await other_endpoints.introspected_lifetime(
            self._posts, self._discovery, credential, token, self._clock
        )

    async def revoke(self, credential: Credential, token: Secret, hint: str) -> bool:
        """Revoke a token (RFC 7009). False if the server has no such endpoint.

        Raises AuthorizationServerError.
        """
        return await other_endpoints.revoke(self._posts, self._discovery, credential, token, hint)

    async def push(
        self,
        credential: Credential,
        endpoint: str,
        request: AuthorizationRequest,
        dpop_key: Secret | None = None,
    ) -> str:
        """Push an authorization request (RFC 9126); its request_uri. Raises AuthorizationServerError."""
        prover = Prover(dpop_key) if dpop_key else None
        return await other_endpoints.push(self._posts, credential, endpoint, request, self._clock, prover)
