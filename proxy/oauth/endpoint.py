"""The only POST: a form goes to an authorization server, an Answer comes back."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from authlib.oauth2.rfc7009 import prepare_revoke_token_request

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth import answer, client_auth, lifetime
from proxy.oauth.discovery import Discovery, Endpoints
from proxy.oauth.fetch import Fetcher, Reply
from proxy.oauth.grants import Form
from proxy.oauth.token import Token
from proxy.secret import Secret


class AuthorizationServers:
    """Talks to the authorization server of any credential."""

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._discovery = Discovery(fetcher, clock)

    async def endpoints(self, credential: Credential) -> Endpoints:
        """Raises AuthorizationServerError if discovery fails."""
        return await self._discovery.endpoints(credential)

    async def token(self, credential: Credential, form: Form) -> Token:
        """Ask for a token (RFC 6749 section 3.2). Raises AuthorizationServerError."""
        endpoint = credential.token_endpoint or (await self.endpoints(credential)).token_endpoint
        if endpoint is None:
            raise AuthorizationServerError("misconfigured", "no_token_endpoint")
        sent_at, sent_boot = self._clock.wall(), self._clock.boot()
        body = urlencode({**form, **credential.token_params}, doseq=True)  # a list repeats its parameter
        reply = await self._post(credential, endpoint, body)
        received_at = sent_at + self._clock.boot() - sent_boot
        granted = answer.parse(reply.status, reply.headers, reply.body, now=received_at)
        skew = None
        date = lifetime.server_time(reply.headers)
        if date is not None:  # the token is rather too old than too young, whoever judges it
            skew, most = lifetime.skew(date, sent_at, received_at)
            self._clock.heard[server_of(credential)] = sent_at + most - sent_boot
        return Token(
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
        now = lifetime.server_time(reply.headers)
        return lifetime.of_claims(claims, self._clock.wall() if now is None else now)

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
            raise AuthorizationServerError("transient", answer.http_error(reply.status))
        return True

    async def _post(self, credential: Credential, endpoint: str, body: str) -> Reply:
        url, headers, body = client_auth.authenticate(credential, endpoint, body)
        return await self._fetcher.fetch(credential, "POST", url, headers, body)


def server_of(credential: Credential) -> str:
    """What a stored token is bound to (with the client id)."""
    return credential.issuer or credential.token_endpoint or ""
