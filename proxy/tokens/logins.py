"""A login, from the first click to the stored token.

`begin` seals a state and a PKCE verifier in the store; `finish` takes them out again, once, within ten
minutes, whichever process the callback reaches. Where a page began the login, the callback must come from
the same browser (its cookie); where a command did, the command is told how it ended (`outcome`).

The code goes only to the server and client that the login was begun for, and the tokens only to its account.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.config.model import Config, Credential
from proxy.errors import AuthorizationServerError, LoginFailed, StoreError, UnreadableRecord
from proxy.oauth import authorize, grants
from proxy.oauth.discovery import Endpoints
from proxy.oauth.endpoint import AuthorizationServers, server_of
from proxy.store.base import Key, Store
from proxy.tokens.manager import TokenManager

TIME_TO_LOG_IN: Final = 600.0  # seconds; RFC 9700 wants it short, a second factor takes a while
ASK_AGAIN: Final = 0.25  # seconds, for the command that waits for its outcome

_log = logging.getLogger("proxy.logins")


@dataclass(frozen=True, slots=True)
class Begun:
    """A login under way: where to send the browser, and what to remember."""

    url: str
    state: str


class Logins:
    def __init__(
        self, config: Config, store: Store, servers: AuthorizationServers, tokens: TokenManager
    ) -> None:
        self._config = config
        self._store = store
        self._servers = servers
        self._tokens = tokens

    @property
    def redirect_uri(self) -> str:
        return self._config.public_url + "/callback"

    async def begin(self, key: Key, *, browser: str) -> Begun:
        """`browser`: the cookie of the browser that begins it; empty when a command does.

        Raises LoginFailed, StoreError.
        """
        credential = self._credential(key.credential)
        endpoint = (await self._endpoints(credential)).authorization_endpoint
        if endpoint is None:
            raise LoginFailed(
                f"credential {key.credential!r} has no authorization_endpoint: the configuration must name it"
            )
        try:
            await self._store.get(key)
        except UnreadableRecord as error:  # it would not be replaced: say so before the person logs in
            raise LoginFailed(str(error)) from error
        state, verifier = authorize.new_state(), authorize.new_verifier()
        pending = {
            "credential": key.credential,
            "account": key.account,
            "server": server_of(credential),
            "client_id": credential.client_id,
            "verifier": verifier,
            "redirect_uri": self.redirect_uri,
            "browser": _digest(browser),
        }
        await self._store.stash(f"login:{state}", json.dumps(pending).encode(), TIME_TO_LOG_IN)
        url = authorize.authorization_url(
            credential, endpoint, redirect_uri=self.redirect_uri, state=state, verifier=verifier
        )
        return Begun(url, state)

    async def finish(self, parameters: Mapping[str, str], browser: str) -> Key:
        """A callback arrived, with the cookie of `browser`; empty where a person pasted the URL.

        Raises LoginFailed, StoreError.
        """
        callback = authorize.read_callback(parameters)
        pending = await self._take(callback.state)
        key = Key(pending["credential"], pending["account"])
        try:
            await self._finish(callback, pending, browser)
        except LoginFailed as error:
            await self._tell(callback.state, str(error))
            raise
        except StoreError as error:
            _log.error("the login to %s could not be saved: %s", key, error)
            await self._tell(
                callback.state, "the tokens could not be saved: look into the log, then try again"
            )
            raise
        await self._tell(callback.state, "")
        return key

    async def exchange(self, key: Key, code: str, redirect_uri: str, verifier: str | None) -> None:
        """A code becomes tokens, and they are stored. Raises LoginFailed, StoreError."""
        credential = self._credential(key.credential)
        try:
            token = await self._servers.token(
                credential, grants.authorization_code(code, redirect_uri, verifier)
            )
        except AuthorizationServerError as error:
            raise LoginFailed(_why(error)) from error
        if token.refresh_token is None:
            _log.warning("%s: the server gave no refresh token; the login ends with the access token", key)
        await self._tokens.adopt(key, token)
        _log.info(
            "logged in to %s",
            key,
            extra={"event": "login", "credential": key.credential, "account": key.account},
        )

    async def log_out(self, key: Key) -> None:
        """Forget the tokens, then revoke them (RFC 7009), refresh token first. Raises StoreError.

        What the server says to that changes nothing here.
        """
        token = await self._tokens.forget(key)
        _log.info(
            "logged out of %s",
            key,
            extra={"event": "logout", "credential": key.credential, "account": key.account},
        )
        if token is None:
            return
        credential = self._config.credentials[key.credential]
        for secret, hint in ((token.refresh_token, "refresh_token"), (token.access_token, "access_token")):
            try:
                if secret is not None:
                    await self._servers.revoke(credential, secret, hint)
            except AuthorizationServerError as error:
                _log.warning("%s: its %s could not be revoked (%s)", key, hint, error.error)

    async def outcome(self, state: str) -> str:
        """Wait for the login of `state` to end. Returns "" or the sentence that says why it failed."""
        while (told := await self._store.take(f"outcome:{state}")) is None:  # noqa: ASYNC110 (from another process)
            await asyncio.sleep(ASK_AGAIN)
        return told.decode()

    async def _finish(self, callback: authorize.Callback, pending: dict[str, Any], browser: str) -> None:
        if pending["browser"] and not hmac.compare_digest(pending["browser"], _digest(browser)):
            raise LoginFailed("this login was begun in another browser: begin it again in this one")
        credential = self._credential(pending["credential"])
        if (pending["server"], pending["client_id"]) != (server_of(credential), credential.client_id):
            raise LoginFailed("the configuration has changed since this login was begun: begin it again")
        endpoints = await self._endpoints(credential)
        _check_issuer(callback, endpoints)
        if callback.error:
            raise LoginFailed(_REFUSALS.get(callback.error, "the authorization server refused the login"))
        if not callback.code:
            raise LoginFailed("the redirect carries no code: begin the login again")
        key = Key(pending["credential"], pending["account"])
        await self.exchange(key, callback.code, pending["redirect_uri"], pending["verifier"])

    async def _take(self, state: str) -> dict[str, Any]:
        stashed = await self._store.take(f"login:{state}") if state else None
        if stashed is None:
            raise LoginFailed("this login is not known here: it was used, or is older than ten minutes")
        pending: dict[str, Any] = json.loads(stashed)
        return pending

    async def _tell(self, state: str, outcome: str) -> None:
        """For a command that may be waiting; the login itself is over, whether or not this works."""
        try:
            await self._store.stash(f"outcome:{state}", outcome.encode(), TIME_TO_LOG_IN)
        except StoreError as error:
            _log.error("who began this login can't be told how it ended: %s", error)

    async def _endpoints(self, credential: Credential) -> Endpoints:
        try:
            return await self._servers.endpoints(credential)
        except AuthorizationServerError as error:
            raise LoginFailed(f"discovery of {credential.issuer} failed ({error.error})") from error

    def _credential(self, name: str) -> Credential:
        credential = self._config.credentials.get(name)
        if credential is None:
            raise LoginFailed(f"there is no credential {name!r} in the configuration")
        if credential.grant != "authorization_code":
            raise LoginFailed(f"credential {name!r} has the grant {credential.grant}: nobody logs in to it")
        return credential


_REFUSALS: Final = {  # RFC 6749 section 4.1.2.1; the server's own text is never shown
    "access_denied": "the login was declined",
    "invalid_scope": "the authorization server does not know one of the scopes: check `scopes`",
    "unauthorized_client": "this client may not log people in: check its registration",
    "unsupported_response_type": "this client may not log people in: check its registration",
    "server_error": "the authorization server failed: try again",
    "temporarily_unavailable": "the authorization server is not available now: try again later",
}


def _check_issuer(callback: authorize.Callback, endpoints: Endpoints) -> None:
    """RFC 9207 section 2.4: a code must come from the server that it will be sent to."""
    if endpoints.issuer is None:
        return  # nothing to compare with: the endpoints were given by hand
    if callback.iss is None and not endpoints.iss_in_callback:
        return
    if callback.iss != endpoints.issuer:
        raise LoginFailed("the redirect comes from another authorization server than the login went to")


def _why(error: AuthorizationServerError) -> str:
    if error.error == "invalid_grant":
        return (
            "the authorization server refuses the code: it is used up, expired, or from another redirect URI"
        )
    if error.outcome == "misconfigured":
        return (
            f"the authorization server refuses this client ({error.error}): check client_id and client_secret"
        )
    return f"the token endpoint did not answer well ({error.error}): try again"


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest() if value else ""
