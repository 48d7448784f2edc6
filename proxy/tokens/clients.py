"""The clients of credentials with `mcp`: found, or registered once for all processes that share the store.

A token is renewed by the client that it was issued to, whatever discovery finds now: that client is stored
with the token (`Token.found`). The record of a registration is for new tokens alone.

A registered client ends in two ways, and its refresh tokens with it (RFC 6749 section 6): its secret expires,
or the server has forgotten it. New tokens get another client, which is registered some time before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from proxy.clock import Clock
from proxy.config.credential import Credential
from proxy.config.found import Registration
from proxy.config.grants import REQUIREMENTS
from proxy.errors import AuthorizationServerError, GenerationConflict, Outcome
from proxy.oauth import grants
from proxy.oauth.client_auth import REFUSALS
from proxy.oauth.discovered import OFFLINE, with_found
from proxy.oauth.discovery import Endpoints
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.grants import Form
from proxy.oauth.token import Token
from proxy.observe.events import INFO, WARNING, decision, event
from proxy.store.base import Store
from proxy.tokens.refresh import lease
from proxy.tokens.refresh.lease import LeaseLost
from proxy.tokens.saved import registrations

EXPIRED: Final = "client_expired"
FORGOTTEN: Final = "client_forgotten"

_log = logging.getLogger("proxy.tokens")


class Clients:
    def __init__(self, store: Store, servers: AuthorizationServers, clock: Clock, process: str) -> None:
        self._store = store
        self._servers = servers
        self._clock = clock
        self._process = process

    async def for_login(self, credential: Credential, redirect_uri: str | None) -> Credential:
        """The credential with the server and client of a new login; without `redirect_uri` on another device.

        A registered client is for one of the two: a server may refuse grant types that it does not know.
        Raises AuthorizationServerError, StoreError.
        """
        return await self._found(credential, redirect_uri) if credential.mcp else credential

    async def token(
        self,
        credential: Credential,
        form: Form,
        before_send: Callable[[], None],
        before: Token | None,
    ) -> Token:
        """The successor of a token, as AuthorizationServers.token. Raises also StoreError."""
        of_client = await self._for_token(credential, before)
        if grants.of(credential).renews_itself and of_client.scopes:
            form = {**form, "scope": " ".join(of_client.scopes)}
        try:
            return await self._servers.token(of_client, form, before_send=before_send, before=before)
        except AuthorizationServerError as error:
            raise await self.refused(of_client, error) from None

    async def _for_token(self, credential: Credential, before: Token | None) -> Credential:
        found = before.found if before else None
        if credential.mcp is None:
            return credential
        if found is None:
            return await self._found(credential, None)
        if not grants.of(credential).renews_itself:
            if found.registration is not None and self._has_ended(found.registration):
                raise AuthorizationServerError("login_required", EXPIRED, reached=False)
            return with_found(credential, found)
        try:
            return await self._found(credential, None)
        except AuthorizationServerError as error:
            if error.outcome != "transient" or found.registration is None:
                raise
            return with_found(credential, found)  # the MCP server is away, not the authorization server

    async def give_up(self, credential: Credential, redirect_uri: str) -> None:
        """Let the next login register another client: the server may have forgotten the present one.

        Nobody would learn it, as a server tells the person, and not us, that it does not know a client. The
        tokens of other accounts keep the client that is stored with them.
        Raises AuthorizationServerError, StoreError.
        """
        if credential.registers:
            located, _ = await self._located(credential)
            place = registrations.place_of(located, redirect_uri)
            generation, current = await registrations.read(self._store, place)
            if current is not None:
                await registrations.put(self._store, place, None, expected=generation)

    async def _found(self, credential: Credential, redirect_uri: str | None) -> Credential:
        located, endpoints = await self._located(credential)
        if not credential.registers or located.found is None:
            return located
        made = await self._registered(located, endpoints, redirect_uri)
        return with_found(credential, replace(located.found, registration=made))

    async def _located(self, credential: Credential) -> tuple[Credential, Endpoints]:
        """The credential with its server, but no client. Raises AuthorizationServerError."""
        found = await self._servers.protected_resource(credential)
        endpoints = await self._servers.endpoints(with_found(credential, found))
        _check_pkce(credential, endpoints)
        can_refresh = REQUIREMENTS[credential.grant].has_refresh_tokens
        if found.scopes and can_refresh and OFFLINE in endpoints.scopes and OFFLINE not in found.scopes:
            found = replace(found, scopes=(*found.scopes, OFFLINE))
        return with_found(credential, found), endpoints

    async def _registered(
        self, credential: Credential, endpoints: Endpoints, redirect_uri: str | None
    ) -> Registration:
        """The client in the store, or a new one. Raises AuthorizationServerError, StoreError."""
        while True:
            try:
                return await self._register_once(credential, endpoints, redirect_uri)
            except LeaseLost:
                decision(_log, "%s: suspended before the registration: again", credential.name)

    async def _register_once(
        self, credential: Credential, endpoints: Endpoints, redirect_uri: str | None
    ) -> Registration:
        place = registrations.place_of(credential, redirect_uri)
        async with lease.holding(self._store, f"register:{place}", self._process, self._clock) as mine:
            generation, current = await registrations.read(self._store, place)
            if current is not None and not self._is_due(current):
                return current
            mine.check()
            try:
                made = await self._register(credential, endpoints, redirect_uri, place)
            except AuthorizationServerError:
                if current is None or self._has_ended(current):
                    raise
                return current  # it ends, but not yet
            try:
                await registrations.put(self._store, place, made, expected=generation)
            except GenerationConflict:  # we were suspended for too long, and another process was first
                _, first = await registrations.read(self._store, place)
                return first or made
        sentence = f"{credential.name}: a client is registered at the authorization server"
        event(_log, INFO, "client_registered", sentence, credential=credential.name, ends_at=made.expires_at)
        return made

    async def _register(
        self, credential: Credential, endpoints: Endpoints, redirect_uri: str | None, place: str
    ) -> Registration:
        assert credential.found is not None
        endpoint = dict(credential.found.endpoints).get("registration_endpoint")
        endpoint = endpoint or endpoints.get("registration_endpoint")
        if endpoint is None:
            raise AuthorizationServerError("misconfigured", "no_registration")
        return await self._servers.register(credential, endpoint, endpoints.auth_methods, redirect_uri, place)

    async def refused(
        self, credential: Credential, error: AuthorizationServerError
    ) -> AuthorizationServerError:
        """What the error of a token request of this credential, as found, means.

        If the server has forgotten the client that was registered there, another one is registered for the
        next tokens. Raises StoreError.
        """
        made = credential.found.registration if credential.found else None
        if made is None or error.error not in REFUSALS:
            return error
        generation, current = await registrations.read(self._store, made.place)
        if current is not None and current.client_id == made.client_id:
            sentence = (
                f"{credential.name}: the authorization server does not know its registered client any more"
            )
            event(_log, WARNING, "client_forgotten", sentence, credential=credential.name)
            with suppress(GenerationConflict):  # another process has registered the next one
                await registrations.put(self._store, made.place, None, expected=generation)
        is_temporary = grants.of(credential).renews_itself
        outcome: Outcome = "transient" if is_temporary else "login_required"
        return AuthorizationServerError(outcome, FORGOTTEN)

    def _is_due(self, made: Registration) -> bool:
        """Whether its secret ends so soon that new tokens get another client."""
        return made.due_at is not None and self._clock.wall() >= made.due_at

    def _has_ended(self, made: Registration) -> bool:
        return made.expires_at is not None and made.expires_at <= self._clock.wall()


def _check_pkce(credential: Credential, endpoints: Endpoints) -> None:
    """MCP requires PKCE: a server whose metadata deny S256 would let a stolen code be used.

    Raises AuthorizationServerError.
    """
    methods = endpoints.challenge_methods
    if credential.pkce and methods is not None and "S256" not in methods:
        raise AuthorizationServerError("misconfigured", "no_pkce")
