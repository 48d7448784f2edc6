"""Authorization requests (RFC 6749 section 4.1.1): made, and kept in the store until their redirect."""

from __future__ import annotations

from collections.abc import Collection

from proxy.config.model import Config, Credential
from proxy.errors import AuthorizationServerError, LoginFailed, UnreadableRecord
from proxy.oauth import authorize, grants
from proxy.oauth.binding import by_hand, server_of
from proxy.oauth.discovery import Endpoints
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.grants.authorization_code import DEFAULT_ACCOUNT
from proxy.store.base import AccountId, Store
from proxy.tokens.login import failures, pending
from proxy.tokens.login.pending import Pending
from proxy.tokens.manager import TokenManager
from proxy.tokens.saved import found


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
        credential = await self._with_client(self.credential(key.credential))
        endpoint = await self._authorization_endpoint(credential)
        if endpoint is None:
            raise LoginFailed(
                f"credential {key.credential!r} has no authorization_endpoint: set it in the configuration",
                "no_authorization_endpoint",
            )
        try:
            await self._tokens.owner(key)
        except UnreadableRecord as error:  # it would not be replaced: fail before the person logs in
            raise LoginFailed(str(error), "record_unreadable") from error
        return credential, endpoint

    async def make(self, key: AccountId, parties: Collection[str], command: str = "") -> str:
        """The URL for the browser of a new login, which `parties` may end. Raises as `check`.

        `command`: the party that waits for the outcome, if one does.
        """
        credential, endpoint = await self.check(key)
        configured = self.credential(key.credential)
        state = authorize.new_state()
        login = Pending(
            key.credential,
            key.account,
            server=server_of(configured),
            client_id=configured.client_id,
            endpoints=by_hand(configured),
            redirect_uri=self._config.redirect_uri(credential),
            nonce=authorize.nonce_for(credential),
            verifier=authorize.new_verifier() if credential.pkce else None,
            command=command,
            found=found.to_json(credential.found) if credential.found else None,
        )
        await pending.keep(self._store, state, login, parties)
        return authorize.authorization_url(
            credential,
            endpoint,
            redirect_uri=login.redirect_uri,
            state=state,
            verifier=login.verifier,
            nonce=login.nonce,
        )

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

    async def _with_client(self, credential: Credential) -> Credential:
        try:
            return await self._tokens.clients.for_login(credential, self._config.redirect_uri(credential))
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
