"""A login, from the first click to the stored token.

`begin` seals a state, a PKCE verifier and a nonce in the store; `finish` removes them, once, within
TIME_TO_LOG_IN, in whichever process the callback reaches. If a page began the login, the callback must come
from the same browser (its cookie); if a command did, the command waits for the result (`outcome`).

The code is sent only to the server and client of this login, and the tokens are stored only in its account.
If that has another person's tokens, nothing is stored before somebody decides, in the browser that was
asked. Without a browser to ask, the login is refused and its tokens are revoked.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.config.model import Config, Credential
from proxy.errors import AuthorizationServerError, LoginFailed, StoreError, UnreadableRecord
from proxy.oauth import authorize, grants
from proxy.oauth.binding import by_hand, is_bound, server_of
from proxy.oauth.discovery import Endpoints
from proxy.oauth.endpoint import AuthorizationServers, RefusedToken, UnprovenToken
from proxy.oauth.grants.authorization_code import DEFAULT_ACCOUNT, redemption_form
from proxy.oauth.token import Principal, Token
from proxy.store.base import AccountId, Store
from proxy.tokens.login import failures, takeover
from proxy.tokens.login.revoke import has_account, revoke
from proxy.tokens.login.takeover import TIME_TO_LOG_IN, TIME_TO_LOG_IN_SAID, Takeover
from proxy.tokens.manager import AnotherPerson, TokenManager

CONFIG_CHANGED: Final = "the configuration has changed since this login was started: start it again"
CANCELLED: Final = "the login was cancelled: the account has another person's tokens, and keeps them"
POLL_EVERY: Final = 0.25  # seconds between the polls of a command that waits for the outcome

_log = logging.getLogger("proxy.logins")


@dataclass(frozen=True, slots=True)
class Begun:
    """A login under way: `url` is for the browser, `state` for `outcome`."""

    url: str
    state: str


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The account has its tokens. `principal`: their owner; None if the server named none."""

    key: AccountId
    principal: Principal | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The account is unchanged."""

    key: AccountId


End = LoggedIn | Cancelled | Takeover  # Takeover: not ended yet, a decision is needed


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

    async def begin(self, key: AccountId, *, browser: str) -> Begun:
        """`browser`: the cookie of the browser that begins it; empty when a command does.

        Raises LoginFailed, StoreError.
        """
        credential = self._credential(key.credential)
        endpoint = self._authorization_endpoint(credential, await self._endpoints(credential))
        if endpoint is None:
            raise LoginFailed(
                f"credential {key.credential!r} has no authorization_endpoint: set it in the configuration"
            )
        try:
            await self._tokens.owner(key)
        except UnreadableRecord as error:  # it would not be replaced: fail before the person logs in
            raise LoginFailed(str(error)) from error
        state, nonce = authorize.new_state(), authorize.nonce_for(credential)
        verifier = authorize.new_verifier() if credential.pkce else None
        pending = {
            "credential": key.credential,
            "account": key.account,
            "server": server_of(credential),
            "client_id": credential.client_id,
            "endpoints": by_hand(credential),
            "verifier": verifier,
            "nonce": nonce,
            "redirect_uri": self.redirect_uri,
            "browser": _digest(browser),
        }
        await self._store.stash(f"login:{state}", json.dumps(pending).encode(), TIME_TO_LOG_IN)
        url = authorize.authorization_url(
            credential,
            endpoint,
            redirect_uri=self.redirect_uri,
            state=state,
            verifier=verifier,
            nonce=nonce,
        )
        return Begun(url, state)

    async def finish(self, parameters: Mapping[str, str], browser: str) -> End:
        """Handle a callback with the cookie `browser`; empty if nobody can be asked (a pasted URL).

        Raises LoginFailed, StoreError.
        """
        callback = authorize.read_callback(parameters)
        pending = await self._pending(callback.state)
        key = AccountId(pending["credential"], pending["account"])
        return await self._ended(key, callback.state, self._finish(callback, pending, browser))

    async def exchange(self, key: AccountId, code: str, redirect_uri: str, verifier: str | None) -> None:
        """Redeem a code and store its tokens. Raises LoginFailed, StoreError."""
        token = await self._redeem(key, code, redirect_uri, verifier)
        await self._save(key, token, browser="", state="")

    async def decide(self, ticket: str, browser: str, *, replace: bool) -> End:
        """Give the account the other person's tokens, or keep its own. Returns and raises as `finish`."""
        asked = await self._asked(ticket, browser)
        if replace:
            ending = self._save(asked.key, asked.token, browser, asked.state, instead_of=asked.owner)
        else:
            ending = self._cancel(asked)
        return await self._ended(asked.key, asked.state, ending)

    async def log_out(self, key: AccountId) -> None:
        """Forget the tokens, then revoke them (RFC 7009), refresh token first. Raises StoreError.

        A failed revocation is logged only.
        """
        token = await self._tokens.forget(key)
        _log.info(
            "logged out of %s",
            key,
            extra={"event": "logout", "credential": key.credential, "account": key.account},
        )
        if token is not None:
            await self._revoke(key, token)

    async def outcome(self, state: str) -> str:
        """Wait for the login of `state` to end. Returns "", or a sentence with the reason of its failure."""
        while (outcome := await self._store.take(f"outcome:{state}")) is None:  # noqa: ASYNC110 (from another process)
            await asyncio.sleep(POLL_EVERY)
        return outcome.decode()

    async def _finish(self, callback: authorize.Callback, pending: dict[str, Any], browser: str) -> End:
        if pending["browser"] and not hmac.compare_digest(pending["browser"], _digest(browser)):
            raise LoginFailed("this login was started in another browser: start it again in this one")
        credential = self._credential(pending["credential"])
        configured = (server_of(credential), credential.client_id, by_hand(credential))
        begun_for = (pending["server"], pending["client_id"], pending.get("endpoints", by_hand(credential)))
        if begun_for != configured:
            raise LoginFailed(CONFIG_CHANGED)
        endpoints = await self._endpoints(credential)
        failures.check_issuer(callback, endpoints)
        if callback.error:
            raise LoginFailed(failures.of_redirect(callback.error))
        if not callback.code:
            raise LoginFailed("the redirect has no code: start the login again")
        key = AccountId(pending["credential"], pending["account"])
        nonce = pending.get("nonce", "")  # none if an earlier version began the login
        token = await self._redeem(
            key, callback.code, pending["redirect_uri"], pending["verifier"], nonce=nonce
        )
        return await self._save(key, token, browser, callback.state)

    async def _redeem(
        self, key: AccountId, code: str, redirect_uri: str, verifier: str | None, *, nonce: str = ""
    ) -> Token:
        """Exchange a code for tokens. Raises LoginFailed."""
        credential = self._credential(key.credential)
        try:
            return await self._servers.token_of_person(
                credential, redemption_form(code, redirect_uri, verifier), nonce=nonce
            )
        except RefusedToken as error:
            await self._save_refused(key, error)
            raise LoginFailed(failures.of_response(credential, error)) from error
        except UnprovenToken as error:
            raise LoginFailed(failures.of_id_token(error)) from error
        except AuthorizationServerError as error:
            raise LoginFailed(failures.of_response(credential, error)) from error

    async def _save_refused(self, key: AccountId, refused: RefusedToken) -> None:
        """Store the refresh token of a login whose access token can't be attached, for a configuration that
        accepts such tokens. Skipped if the account has working tokens: those are worth more.
        """
        try:
            record = await self._store.get(key)
            if record is None or record.state != "valid":
                await self._tokens.adopt(key, refused.token)
        except (AnotherPerson, StoreError) as error:
            _log.error("%s: the refresh token of a refused login is lost: %s", key, error)

    async def _save(
        self, key: AccountId, token: Token, browser: str, state: str, *, instead_of: Principal | None = None
    ) -> End:
        """Store the tokens in the account, or ask first if it has those of a person other than `instead_of`.

        Raises LoginFailed, StoreError.
        """
        try:
            await self._tokens.adopt(key, token, instead_of=instead_of)
        except AnotherPerson as error:
            return await self._ask(Takeover(key, error.owner, token, _digest(browser), state))
        if token.refresh_token is None:
            _log.warning(
                "%s: the server gave no refresh token: the login ends when the access token expires", key
            )
        _log.info(
            "logged in to %s",
            key,
            extra={"event": "login", "credential": key.credential, "account": key.account},
        )
        return LoggedIn(key, token.principal)

    async def _ask(self, asked: Takeover) -> Takeover:
        """Store it until it is decided. Raises LoginFailed if nobody can be asked, StoreError."""
        if not asked.browser:
            await self._discard(asked)
            raise LoginFailed(
                f"{asked.key} has the tokens of another person than the one who logged in: to replace "
                f"them, first run `token-proxy logout {asked.key.credential} --account {asked.key.account}`"
            )
        _log.warning(
            "%s has another person's tokens: the login waits for a decision in the browser", asked.key
        )
        await takeover.stash(self._store, asked)
        return asked

    async def _revoke(self, key: AccountId, token: Token) -> None:
        await revoke(self._servers, self._config.credentials[key.credential], key, token)

    async def _cancel(self, asked: Takeover) -> End:
        await self._discard(asked)
        return Cancelled(asked.key)

    async def _discard(self, asked: Takeover) -> None:
        """Revoke tokens that no account will use, unless that could invalidate the tokens of an account.

        Some servers (Google) revoke all tokens of the same person together.
        """
        try:
            has_others = await has_account(self._store, asked.token)
        except StoreError:
            has_others = True  # possibly
        if not has_others:
            await self._revoke(asked.key, asked.token)

    async def _ended(self, key: AccountId, state: str, ending: Awaitable[End]) -> End:
        """Await the end of a login, and report it to a waiting command."""
        try:
            end = await ending
        except LoginFailed as error:
            await self._report(state, str(error))
            raise
        except StoreError as error:
            _log.error("the login to %s could not be saved: %s", key, error)
            await self._report(state, "the tokens could not be saved: see the log, then log in again")
            raise
        if not isinstance(end, Takeover):
            await self._report(state, CANCELLED if isinstance(end, Cancelled) else "")
        return end

    async def _asked(self, ticket: str, browser: str) -> Takeover:
        """The takeover that this browser was asked about. Raises LoginFailed, StoreError."""
        asked = await takeover.take(self._store, ticket)
        if asked is None:
            raise LoginFailed(
                "there is nothing to decide: it was decided, or is older than "
                f"{TIME_TO_LOG_IN_SAID}; log in again"
            )
        sentence = ""
        if not is_bound(asked.token, self._credential(asked.key.credential)):
            sentence = CONFIG_CHANGED
        elif not hmac.compare_digest(asked.browser, _digest(browser)):
            sentence = "another browser was asked to decide: start the login again in this one"
            await self._discard(asked)
        if sentence:
            await self._report(asked.state, sentence)
            raise LoginFailed(sentence)
        return asked

    async def _pending(self, state: str) -> dict[str, Any]:
        stashed = await self._store.take(f"login:{state}") if state else None
        if stashed is None:
            raise LoginFailed(
                "this login is unknown: it was completed, or is older than "
                f"{TIME_TO_LOG_IN_SAID}; start it again"
            )
        pending: dict[str, Any] = json.loads(stashed)
        return pending

    async def _report(self, state: str, outcome: str) -> None:
        """Report to a command that may be waiting; the login itself is over even if this fails."""
        try:
            await self._store.stash(f"outcome:{state}", outcome.encode(), TIME_TO_LOG_IN)
        except StoreError as error:
            _log.error("the outcome of a login can't be reported to its command: %s", error)

    async def _endpoints(self, credential: Credential) -> Endpoints:
        try:
            return await self._servers.endpoints(credential)
        except AuthorizationServerError as error:
            why = failures.explained(credential, error)
            raise LoginFailed(f"discovery of {credential.issuer} failed: {why}") from error

    def _authorization_endpoint(self, credential: Credential, endpoints: Endpoints) -> str | None:
        try:
            return endpoints.get("authorization_endpoint")
        except AuthorizationServerError as error:
            why = failures.explained(credential, error)
            raise LoginFailed(f"discovery of {credential.issuer} failed: {why}") from error

    def _credential(self, name: str) -> Credential:
        credential = self._config.credentials.get(name)
        if credential is None:
            raise LoginFailed(f"there is no credential {name!r} in the configuration")
        grant = grants.of(credential)
        if not grant.needs_person:
            remedy = grant.remedy(name, DEFAULT_ACCOUNT)
            instead = f"; if it needs new tokens, {remedy}" if remedy else ""
            raise LoginFailed(f"credential {name!r} has the grant {grant.name}, which has no login{instead}")
        return credential


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest() if value else ""
