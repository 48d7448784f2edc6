"""The only POST: a form goes to an authorization server, an Answer comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from authlib.oauth2.rfc7009 import prepare_revoke_token_request

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth import client_auth, expires_in, id_token, token_response
from proxy.oauth.discovery import Discovery, Endpoints
from proxy.oauth.fetch import Fetcher, Reply
from proxy.oauth.grants import Form
from proxy.oauth.token import Token
from proxy.secret import Secret


class UnprovenToken(AuthorizationServerError):
    """The answer was good, but not the id_token in it. `token` works, for a person who is not known."""

    def __init__(self, error: str, token: Token) -> None:
        super().__init__("misconfigured", error)
        self.token = token


class AuthorizationServers:
    """Talks to the authorization server of any credential."""

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._discovery = Discovery(fetcher, clock)

    async def endpoints(self, credential: Credential) -> Endpoints:
        """Raises AuthorizationServerError if discovery fails."""
        return await self._discovery.endpoints(credential)

    async def token(
        self, credential: Credential, form: Form, before_send: Callable[[], None] | None = None
    ) -> Token:
        """Ask for a token (RFC 6749 section 3.2). Raises AuthorizationServerError.

        `before_send` is called in the last moment: what it raises is raised, and nothing was sent. An
        id_token that is no good is as none: the answer to a refresh must not be lost for that.
        """
        try:
            return await self.token_of_person(credential, form, before_send)
        except UnprovenToken as error:
            return error.token

    async def token_of_person(
        self, credential: Credential, form: Form, before_send: Callable[[], None] | None = None
    ) -> Token:
        """As `token`, but who it is of must not be in doubt: raises UnprovenToken."""
        endpoint = credential.token_endpoint or (await self.endpoints(credential)).token_endpoint
        if endpoint is None:
            raise AuthorizationServerError("misconfigured", "no_token_endpoint")
        sent_at, sent_boot = self._clock.wall(), self._clock.boot()
        body = urlencode({**form, **credential.token_params}, doseq=True)  # a list repeats its parameter
        reply = await self._post(credential, endpoint, body, before_send)
        received_at = sent_at + self._clock.boot() - sent_boot
        granted = token_response.parse(reply.status, reply.headers, reply.body, now=received_at)
        skew = None
        date = expires_in.server_time(reply.headers)
        if date is not None:  # the token is rather too old than too young, whoever judges it
            skew, most = expires_in.skew(date, sent_at, received_at)
            self._clock.heard[server_of(credential)] = sent_at + most - sent_boot
        token = Token(
            access_token=granted.access_token,
            refresh_token=granted.refresh_token,
            server=server_of(credential),
            client_id=credential.client_id,
            issued_at=sent_at,
            issued_boot=sent_boot,
            boot_id=self._clock.boot_id,
            lifetime=credential.access_token_lifetime or granted.lifetime,
            refresh_in=granted.refresh_in,
            skew=skew,
            refresh_expires_at=sent_at + granted.refresh_lifetime if granted.refresh_lifetime else None,
            scope=granted.scope,
        )
        if granted.id_token is None:
            return token
        try:
            principal = id_token.read(
                granted.id_token,
                issuer=credential.issuer,
                client_id=credential.client_id,
                now=self._clock.wall(),
            )
        except id_token.BadIdToken as error:
            raise UnprovenToken(error.error, token) from None
        return replace(token, principal=principal)

    async def introspected_lifetime(self, credential: Credential, token: Secret) -> float | None:
        """Seconds that an access token still lives by the server's own word (RFC 7662); None: it has none.

        Raises AuthorizationServerError.
        """
        endpoint = credential.introspection_endpoint
        if endpoint is None and credential.issuer is not None:
            endpoint = (await self.endpoints(credential)).introspection_endpoint
        if endpoint is None:
            return None
        body = urlencode({"token": token.reveal(), "token_type_hint": "access_token"})
        reply = await self._post(credential, endpoint, body)
        try:
            claims: Any = json.loads(reply.body) if reply.status == 200 else None
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict) or claims.get("active") is not True:
            raise AuthorizationServerError("transient", "introspection")
        now = expires_in.server_time(reply.headers)
        return expires_in.of_claims(claims, self._clock.wall() if now is None else now)

    async def revoke(self, credential: Credential, token: Secret, hint: str) -> bool:
        """Revoke a token (RFC 7009). False if the server has no such endpoint.

        Raises AuthorizationServerError.
        """
        endpoint = credential.revocation_endpoint or (await self.endpoints(credential)).revocation_endpoint
        if endpoint is None:
            return False
        body, _ = prepare_revoke_token_request(token.reveal(), hint, "", {})
        reply = await self._post(credential, endpoint, body)
        if reply.status != 200:
            raise AuthorizationServerError("transient", token_response.http_error(reply.status))
        return True

    async def _post(
        self,
        credential: Credential,
        endpoint: str,
        body: str,
        before_send: Callable[[], None] | None = None,
    ) -> Reply:
        url, headers, body = client_auth.authenticate(credential, endpoint, body)
        return await self._fetcher.fetch(credential, "POST", url, headers, body, before_send)


def server_of(credential: Credential) -> str:
    """What a stored token is bound to (with the client id)."""
    return credential.issuer or credential.token_endpoint or ""
