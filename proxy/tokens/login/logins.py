"""A login, from the first click to the stored token.

`begin` stores what `finish` needs: state, PKCE verifier and nonce, for one party (pending.py): the browser
whose page began it, or the command into which the redirect URL will be pasted. A command can also `invite` a
browser: the first one that comes with the ticket begins the login, and either of them may end it. The command
waits for the result (`outcome`). All of this is in the store: any process can take the next step.

An event of a party ends its login, even if something is wrong with it: so a code, or a state, counts once.
The code is sent only to the server and client of this login, with its redirect URI, and the tokens are stored
only in its account. If that has another person's tokens, nothing is stored before somebody decides, in the
browser that was asked. Without a browser to ask, the login is refused and its tokens are revoked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Final
from urllib.parse import urlencode, urlsplit

from proxy.config.model import Config, Credential
from proxy.errors import AuthorizationServerError, LoginFailed, StoreError
from proxy.oauth import authorize
from proxy.oauth.authorize import Callback
from proxy.oauth.binding import by_hand, is_bound, server_of
from proxy.oauth.discovered import with_found
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.grants import Form
from proxy.oauth.grants.authorization_code import redemption_form
from proxy.oauth.token import Principal, Token
from proxy.observe.events import ERROR, WARNING, event
from proxy.secret import Secret
from proxy.store.base import AccountId, Store
from proxy.tokens.adoption import AnotherClient, AnotherPerson
from proxy.tokens.login import failures, pending, takeover
from proxy.tokens.login.devices import DeviceLogin, DeviceLogins
from proxy.tokens.login.ends import Cancelled, End, LoggedIn
from proxy.tokens.login.logout import log_out
from proxy.tokens.login.mix_up import check_issuer
from proxy.tokens.login.outcomes import Outcomes
from proxy.tokens.login.pending import TIME_TO_LOG_IN, TIME_TO_LOG_IN_SAID, Pending, UnknownLogin, party
from proxy.tokens.login.redeem import failure_of, redeem
from proxy.tokens.login.requests import AuthorizationRequests
from proxy.tokens.login.revoke import discard
from proxy.tokens.login.takeover import Takeover
from proxy.tokens.manager import TokenManager
from proxy.tokens.saved import found

CONFIG_CHANGED: Final = "the configuration has changed since this login was started: start it again"
UNKNOWN: Final = (
    f"no such login is under way in this browser: it was completed, is older than {TIME_TO_LOG_IN_SAID}, or "
    "was started elsewhere; start it again here, or paste the address of this page into the command that "
    "asks for it"
)
NOT_PASTED: Final = "that is not the redirect URL of this login"
TICKET_USED: Final = (
    f"this address has been used, is older than {TIME_TO_LOG_IN_SAID}, or is for another user of this "
    "machine: run the command that printed it again"
)
REPEATED: Final = "the redirect has a parameter more than once (RFC 6749 section 3.1): start the login again"
WRONG_PLACE: Final = (
    "the redirect belongs to another callback address than this one: the code was not used; start the login "
    "again"
)
NOTHING_TO_DECIDE: Final = (
    f"there is nothing to decide: it was decided, is older than {TIME_TO_LOG_IN_SAID}, or another browser "
    "was asked; log in again"
)
CANCELLED: Final = "the login was cancelled: the account has another person's tokens, and keeps them"
CALLBACK: Final = "/callback"  # the path of redirect URIs; "own" ones continue with the credential's name
DEVICE: Final = "device"  # the query of the page that shows the codes of a login on another device
POLL_EVERY: Final = 0.25  # seconds between the polls of a command that waits for the outcome

_log = logging.getLogger("proxy.logins")


def device_page(key: AccountId) -> str:
    """The path of the page that shows the codes of a login on another device."""
    return f"/login/{key}?{DEVICE}"


class Logins:
    def __init__(
        self,
        config: Config,
        store: Store,
        servers: AuthorizationServers,
        tokens: TokenManager,
        devices: DeviceLogins | None = None,
    ) -> None:
        """`devices`: the logins on other devices that outlive this configuration."""
        self._config = config
        self._store = store
        self._servers = servers
        self._tokens = tokens
        self._requests = AuthorizationRequests(config, store, servers, tokens)
        self._outcomes = Outcomes(config, tokens)
        self._devices = devices or DeviceLogins(servers)

    def redirect_uri(self, credential: str) -> str:
        return self._config.redirect_uri(self._config.credentials[credential])

    async def begin(self, key: AccountId, *, browser: str) -> str:
        """Begin a login in the browser with the cookie `browser`; the URL at which it goes on.

        Raises LoginFailed, StoreError.
        """
        if self._requests.is_on_device(key):
            await self.begin_on_device(key, browser=browser)
            return f"{self._config.public_url}{device_page(key)}"
        with self._outcomes.noted(key):
            return await self._requests.make(key, [party(browser)])

    async def begin_on_device(self, key: AccountId, *, browser: str = "") -> DeviceLogin:
        """Begin a login that goes on in this process, whatever device the person uses (RFC 8628).

        `browser`: the cookie of the one that shows the codes; "" for a command, which shows them itself.
        Raises LoginFailed, StoreError.
        """
        with self._outcomes.noted(key):
            credential = await self._requests.with_client(key, on_device=True)
            try:
                finish = partial(self._finish_on_device, key, party(browser))
                return await self._devices.begin(key, credential, party(browser), finish)
            except AuthorizationServerError as error:
                raise LoginFailed(failures.explained(credential, error), error.error) from error

    def on_device(self, key: AccountId, *, browser: str) -> DeviceLogin | None:
        """The last login of this browser to the account, if it is recent."""
        return self._devices.of(key, party(browser))

    async def begin_to_paste(self, key: AccountId, command: str) -> str:
        """Begin a login that ends only with `paste`. Returns and raises as `begin`."""
        with self._outcomes.noted(key):
            return await self._requests.make(key, [party(command)], party(command))

    async def invite(self, key: AccountId, command: str, *, for_own_user: bool = False) -> str:
        """A page of ours that begins the login, once, in the browser that opens it first.

        `command`: a new secret. `for_own_user`: only a browser of this user may open it.
        Raises LoginFailed if the login could not begin, StoreError.
        """
        with self._outcomes.noted(key):
            await self._requests.check(key)
        ticket = pending.new_secret()
        await pending.keep_ticket(self._store, ticket, key, party(command), for_own_user=for_own_user)
        return f"{self._config.public_url}/login/{key}?{urlencode({'ticket': ticket})}"

    async def accept(self, key: AccountId, ticket: str, *, browser: str, by_own_user: bool = False) -> str:
        """Begin the login of an invitation. Returns and raises as `begin`; UnknownLogin for a used ticket."""
        command = await pending.take_ticket(self._store, ticket, key, by_own_user=by_own_user)
        if command is None:
            raise UnknownLogin(TICKET_USED)
        try:
            with self._outcomes.noted(key):
                return await self._requests.make(key, [party(browser), command], command)
        except LoginFailed as error:
            await self._report(command, str(error))
            raise

    async def finish(self, parameters: Mapping[str, str], browser: str, *, path: str = CALLBACK) -> End:
        """Handle a callback that came to `path` with the cookie `browser`.

        Raises LoginFailed (UnknownLogin if it is not one of this browser's), StoreError.
        """
        callback = authorize.read_callback(parameters.items())
        login = await self._taken(callback, party(browser), UNKNOWN)
        return await self._ended(
            login.key, login.command, self._finish(callback, login, party(browser), path)
        )

    async def paste(self, key: AccountId, url: str, command: str) -> End:
        """End a login of this command with its redirect URL. Returns and raises as `finish`."""
        callback, path = authorize.read_callback(authorize.callback_parameters(url)), authorize.path_of(url)
        if path != urlsplit(self.redirect_uri(key.credential)).path:
            raise UnknownLogin(NOT_PASTED)
        login = await self._taken(callback, party(command), NOT_PASTED)
        return await self._ended(login.key, login.command, self._finish(callback, login, "", path))

    async def exchange(self, key: AccountId, code: str, redirect_uri: str, verifier: str | None) -> None:
        """Redeem a code and store its tokens. Raises LoginFailed, StoreError."""
        with self._outcomes.noted(key):
            credential, _ = await self._requests.check(key)
            token = await self._redeem(key, credential, redemption_form(code, redirect_uri, verifier))
            await self._save(key, token)

    async def decide(self, ticket: str, browser: str, *, replace: bool) -> End:
        """Give the account the other person's tokens, or keep its own. Returns and raises as `finish`."""
        asked = await takeover.take(self._store, ticket, party(browser))
        if asked is None:
            raise UnknownLogin(NOTHING_TO_DECIDE)
        return await self._ended(asked.key, asked.command, self._decide(asked, replace=replace))

    async def log_out(self, key: AccountId) -> str:
        """Forget the tokens, then revoke them (RFC 7009), refresh token first.

        Returns "", or a sentence that says why the server still accepts them. Raises LoginFailed, StoreError.
        """
        return await log_out(self._config, self._servers, self._tokens, key)

    async def outcome(self, command: str) -> str:
        """Wait for the login of a command to end. Returns "", or a sentence that says why it failed."""
        name = f"outcome:{party(command)}"
        while (outcome := await self._store.take(name)) is None:  # noqa: ASYNC110 (from another process)
            await asyncio.sleep(POLL_EVERY)
        return outcome.decode()

    async def _taken(self, callback: Callback, by: str, unknown: str) -> Pending:
        """The login of this callback, which can't be taken again. Raises LoginFailed, StoreError."""
        if "state" in callback.repeated:
            raise LoginFailed(REPEATED, "repeated_parameter")
        login = await pending.take(self._store, callback.state, by)
        if login is None:
            raise UnknownLogin(unknown)
        return login

    async def _finish(self, callback: Callback, login: Pending, browser: str, path: str) -> End:
        if callback.repeated:
            raise LoginFailed(REPEATED, "repeated_parameter")
        if path != urlsplit(login.redirect_uri).path:
            raise LoginFailed(WRONG_PLACE, "wrong_callback")
        credential = self._requests.credential(login.credential)
        configured = (server_of(credential), credential.client_id, by_hand(credential))
        if (login.server, login.client_id, login.endpoints) != configured:
            raise LoginFailed(CONFIG_CHANGED, "configuration_changed")
        if login.found is not None:
            credential = with_found(credential, found.from_json(login.found))
        endpoints = await self._requests.endpoints(credential)
        await check_issuer(callback.iss, credential, endpoints, self._config, self._servers)
        if callback.error:
            raise failures.of_redirect(credential, login.redirect_uri, callback.error)
        if not callback.code:
            raise LoginFailed("the redirect has no code: start the login again", "no_code")
        form = redemption_form(callback.code, login.redirect_uri, login.verifier)
        dpop_key = Secret(login.dpop_key) if login.dpop_key else None
        token = await self._redeem(login.key, credential, form, login.nonce, dpop_key)
        return await self._save(login.key, token, browser, login.command)

    async def _finish_on_device(
        self, key: AccountId, browser: str, polled: Token | AuthorizationServerError | LoginFailed
    ) -> End:
        """`browser`: the party that can be asked. Raises LoginFailed, StoreError."""
        with self._outcomes.noted(key):
            if isinstance(polled, AuthorizationServerError):
                credential = self._requests.credential(key.credential)
                polled = await failure_of(
                    polled, self._store, self._tokens, credential, key, failures.of_poll
                )
            if isinstance(polled, LoginFailed):
                raise polled
            return await self._save(key, polled, browser)

    async def _redeem(
        self,
        key: AccountId,
        credential: Credential,
        form: Form,
        nonce: str = "",
        dpop_key: Secret | None = None,
    ) -> Token:
        """Exchange a code for tokens. Raises LoginFailed."""
        return await redeem(self._servers, self._store, self._tokens, credential, key, form, nonce, dpop_key)

    async def _save(
        self,
        key: AccountId,
        token: Token,
        browser: str = "",
        command: str = "",
        *,
        instead_of: Principal | None = None,
    ) -> End:
        """Store the tokens in the account, or ask first if it has those of a person other than `instead_of`.

        Raises LoginFailed, StoreError.
        """
        try:
            await self._tokens.adopt(key, token, instead_of=instead_of)
        except AnotherClient:
            raise LoginFailed(CONFIG_CHANGED) from None
        except AnotherPerson as error:
            return await self._ask(Takeover(key, error.owner, token, browser, command))
        if token.refresh_token is None:
            self._outcomes.ends(key, token)
        self._outcomes.succeeded(key)
        return LoggedIn(key, token.principal)

    async def _ask(self, asked: Takeover) -> Takeover:
        """Store it until it is decided. Raises LoginFailed if nobody can be asked, StoreError."""
        if not asked.browser:
            await self._discard(asked)
            raise LoginFailed(
                f"{asked.key} has the tokens of another person than the one who logged in: to replace "
                f"them, first run `token-proxy logout {asked.key.credential} --account {asked.key.account}`",
                "other_person",
            )
        sentence = f"{asked.key} has another person's tokens: the login waits for a decision in the browser"
        event(_log, WARNING, "login_undecided", sentence, **asked.key._asdict())
        await takeover.stash(self._store, asked)
        return asked

    async def _decide(self, asked: Takeover, *, replace: bool) -> End:
        if not is_bound(asked.token, self._requests.credential(asked.key.credential)):
            raise LoginFailed(CONFIG_CHANGED, "configuration_changed")
        if replace:
            return await self._save(
                asked.key, asked.token, asked.browser, asked.command, instead_of=asked.owner
            )
        await self._discard(asked)
        return Cancelled(asked.key)

    async def _discard(self, asked: Takeover) -> None:
        credential = self._config.credentials[asked.key.credential]
        await discard(self._store, self._servers, credential, asked.key, asked.token)

    async def _ended(self, key: AccountId, command: str, ending: Awaitable[End]) -> End:
        """Await the end of a login, and report it to a waiting command."""
        try:
            with self._outcomes.noted(key):
                end = await ending
        except LoginFailed as error:
            await self._report(command, str(error))
            raise
        except StoreError:
            await self._report(command, "the tokens could not be saved: see the log, then log in again")
            raise
        if isinstance(end, Cancelled):
            self._outcomes.cancelled(key)
        if not isinstance(end, Takeover):
            await self._report(command, CANCELLED if isinstance(end, Cancelled) else "")
        return end

    async def _report(self, command: str, outcome: str) -> None:
        """Report to a command, if one waits; the login itself is over even if this fails."""
        if not command:
            return
        try:
            await self._store.stash(f"outcome:{command}", outcome.encode(), TIME_TO_LOG_IN)
        except StoreError as error:
            sentence = f"the outcome of a login can't be reported to its command: {error}"
            event(_log, ERROR, "store_not_writable", sentence)
