"""Authorization requests (RFC 6749 section 4.1.1): made, and kept in the store until their redirect."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from proxy.config.model import Config, Credential
from proxy.errors import AuthorizationServerError, LoginFailed, UnreadableRecord
from proxy.oauth import authorize, grants
from proxy.oauth.authorize import AuthorizationRequest
from proxy.oauth.binding import by_hand, server_of
from proxy.oauth.discovery import Endpoints
from proxy.oauth.dpop import Prover
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.grants import Login
from proxy.oauth.grants.authorization_code import DEFAULT_ACCOUNT
from proxy.secret import Secret
from proxy.store.base import AccountId, Store
from proxy.tokens.login import failures, pending
from proxy.tokens.login.pending import Pending
from proxy.tokens.manager import TokenManager
from proxy.tokens.saved import found

_PUSH: Final = "pushed_authorization_request_endpoint"
NO_PUSH: Final = (
    f"the server's metadata name no {_PUSH}: set it in the configuration, or leave `par` out if it has none"
)


class AuthorizationRequests:
    def __init__(
        self, config: Config, store: Store, servers: AuthorizationServers, tokens: TokenManager
    ) -> None:
        self._config = config
        self._store = store
        self._servers = servers
        self._tokens = tokens

    async def check(self, key: AccountId) -> tuple[Credential, str]:
        """The credential, with what was found for it, and its authorization endpoint.

        Raises LoginFailed if no login can begin, StoreError.
        """
        credential = await self.with_client(key)
        endpoint = await self._authorization_endpoint(credential)
        if endpoint is None:
            raise LoginFailed(
                f"credential {key.credential!r} has no authorization_endpoint: set it in the configuration",
                "no_authorization_endpoint",
            )
        return credential, endpoint

    async def check_account(self, key: AccountId) -> Credential:
        """The credential. Raises LoginFailed if the account can't be logged in to, StoreError."""
        credential = self.credential(key.credential)
        try:
            await self._tokens.owner(key)
        except UnreadableRecord as error:  # it would not be replaced: fail before the person logs in
            raise LoginFailed(str(error), "record_unreadable") from error
        return credential

    def is_on_device(self, key: AccountId) -> bool:
        """Whether the logins of this credential are on another device."""
        credential = self._config.credentials.get(key.credential)
        return credential is not None and grants.of(credential).login is Login.DEVICE

    async def make(self, key: AccountId, parties: Collection[str], command: str = "") -> str:
        """The URL for the browser of a new login, which `parties` may end. Raises as `check`.

        `command`: the party that waits for the outcome, if one does.
        """
        credential, endpoint = await self.check(key)
        configured = self.credential(key.credential)
        dpop_key = await self._servers.dpop_key(credential)
        request = AuthorizationRequest(
            redirect_uri=self._config.redirect_uri(credential),
            state=authorize.new_state(),
            verifier=authorize.new_verifier() if credential.pkce else None,
            nonce=authorize.nonce_for(credential),
            dpop_jkt=Prover(dpop_key).thumbprint if dpop_key else "",
        )
        url = await self._url(credential, endpoint, request, dpop_key)
        login = Pending(
            key.credential,
            key.account,
            server=server_of(configured),
            client_id=configured.client_id,
            endpoints=by_hand(configured),
            redirect_uri=request.redirect_uri,
            nonce=request.nonce,
            verifier=request.verifier,
            command=command,
            dpop_key=dpop_key.reveal() if dpop_key else None,
            found=found.to_json(credential.found) if credential.found else None,
        )
        await pending.keep(self._store, request.state, login, parties)
        return url

    async def _url(
        self, credential: Credential, endpoint: str, request: AuthorizationRequest, dpop_key: Secret | None
    ) -> str:
        """The URL for the browser; the request is pushed first if it must be. Raises LoginFailed."""
        found = await self.endpoints(credential)
        try:
            push_to = found.get(_PUSH) if credential.par or found.requires_par else None
            if push_to is None and credential.par:
                raise LoginFailed(NO_PUSH, "no_par_endpoint")
            if push_to is None:
                return authorize.authorization_url(credential, endpoint, request)
            uri = await self._servers.push(credential, push_to, request, dpop_key)
        except AuthorizationServerError as error:
            raise failures.of_push(credential, request.redirect_uri, error) from error
        return authorize.pushed_url(credential, endpoint, uri)

    def credential(self, name: str) -> Credential:
        """Raises LoginFailed unless the configuration has it, with a grant that has logins."""
        credential = self._config.credentials.get(name)
        if credential is None:
            raise LoginFailed(f"there is no credential {name!r} in the configuration")
        grant = grants.of(credential)
        if not grant.needs_person:
            remedy = grant.remedy(name, DEFAULT_ACCOUNT)
            instead = f"; if it needs new tokens, {remedy}" if remedy else ""
            raise LoginFailed(f"credential {name!r} has the grant {grant.name}, which has no login{instead}")
        return credential

    async def with_client(self, key: AccountId, *, on_device: bool = False) -> Credential:
        """The credential, with the server and client of a new login. Raises as `check`."""
        credential = await self.check_account(key)
        redirect_uri = None if on_device else self._config.redirect_uri(credential)
        try:
            return await self._tokens.clients.for_login(credential, redirect_uri)
        except AuthorizationServerError as error:
            raise self._no_discovery(credential, error) from error

    async def endpoints(self, credential: Credential) -> Endpoints:
        """Raises LoginFailed."""
        try:
            return await self._servers.endpoints(credential)
        except AuthorizationServerError as error:
            raise self._no_discovery(credential, error) from error

    async def _authorization_endpoint(self, credential: Credential) -> str | None:
        endpoints = await self.endpoints(credential)
        try:
            return endpoints.get("authorization_endpoint")
        except AuthorizationServerError as error:
            raise self._no_discovery(credential, error) from error

    def _no_discovery(self, credential: Credential, error: AuthorizationServerError) -> LoginFailed:
        why = failures.explained(credential, error)
        return LoginFailed(f"discovery of {credential.mcp or credential.issuer} failed: {why}", error.error)
