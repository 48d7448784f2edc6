"""Logins on another device (RFC 8628): a person enters a user code there, and this process polls for tokens.

They are in memory only. A closed browser and a reload of the configuration do not end them; the end of the
process does, and the person starts again. Each belongs to the party that began it: nobody else is shown its
codes, with which a stranger could give the account tokens of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from proxy import tasks
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, LoginFailed, StoreError
from proxy.oauth.device import DeviceAuthorization, Pace
from proxy.oauth.endpoint import AuthorizationServers, RefusedToken, UnprovenToken
from proxy.oauth.grants.device_code import polling_form
from proxy.oauth.token import Token
from proxy.observe.events import decision
from proxy.store.base import AccountId
from proxy.tokens.login.ends import End

MOST: Final = 100  # logins at a time; each polls its server every few seconds
SHOWN_FOR: Final = 600.0  # seconds that the end of a login is kept for its page
TOO_MANY: Final = f"{MOST} logins are waiting for a person already: try again later"
EXPIRED: Final = "nobody has entered the code in time: start the login again"
INTERNAL: Final = "this program failed unexpectedly: its log has the cause"

_log = logging.getLogger("proxy.logins")

# Turns the tokens, or the error in their place, into the end of the login. Raises LoginFailed, StoreError.
Finish = Callable[[Token | AuthorizationServerError | LoginFailed], Awaitable[End]]


@dataclass(slots=True, eq=False)
class DeviceLogin:
    """A login under way, or over. `end`: how it ended; None if it was cancelled."""

    key: AccountId
    codes: DeviceAuthorization
    expires_at: float  # the loop's time
    end: End | LoginFailed | StoreError | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.expires_at - asyncio.get_running_loop().time())

    async def wait(self) -> None:
        """Wait for the end. May be cancelled, and the login goes on."""
        if self.task is not None:
            await asyncio.wait((self.task,))

    async def ended(self) -> End:
        """Wait for the end. Raises LoginFailed, StoreError."""
        await self.wait()
        if self.end is None:
            raise LoginFailed("the login was ended: start it again", "cancelled")
        if isinstance(self.end, Exception):
            raise self.end
        return self.end

    @property
    def is_over(self) -> bool:
        return self.task is not None and self.task.done()


class DeviceLogins:
    """The logins of this process, by account and party."""

    def __init__(self, servers: AuthorizationServers) -> None:
        self._servers = servers
        self._logins: dict[tuple[AccountId, str], DeviceLogin] = {}

    def of(self, key: AccountId, party: str) -> DeviceLogin | None:
        """The last login to this account that the party has begun; None if there is none, or it is old."""
        return self._logins.get((key, party))

    async def begin(self, key: AccountId, credential: Credential, party: str, finish: Finish) -> DeviceLogin:
        """Get codes, and poll until the login ends. It takes the place of the party's former one.

        Raises LoginFailed, AuthorizationServerError.
        """
        if sum(not login.is_over for login in self._logins.values()) >= MOST:
            raise LoginFailed(TOO_MANY, "too_many_logins")
        codes = await self._servers.device_authorization(credential)
        loop = asyncio.get_running_loop()
        login = DeviceLogin(key, codes, loop.time() + codes.lifetime)
        former, self._logins[key, party] = self._logins.get((key, party)), login
        login.task = tasks.spawn(self._run(login, credential, finish), f"log in to {key} on a device")
        loop.call_later(codes.lifetime + SHOWN_FOR, self._forget, (key, party), login)
        if former is not None:
            await tasks.cancel(former.task)
        return login

    def _forget(self, name: tuple[AccountId, str], login: DeviceLogin) -> None:
        if self._logins.get(name) is login:
            del self._logins[name]

    async def close(self) -> None:
        await tasks.cancel(*(login.task for login in self._logins.values()))

    async def _run(self, login: DeviceLogin, credential: Credential, finish: Finish) -> None:
        try:
            login.end = await finish(await self._polled(login, credential))
        except (LoginFailed, StoreError) as error:
            login.end = error
        except Exception as error:  # noqa: BLE001 (the person must see an end, whatever it is)
            tasks.report("device login", error, f"unexpected error in the login to {login.key}: report it")
            login.end = LoginFailed(INTERNAL, "internal")

    async def _polled(
        self, login: DeviceLogin, credential: Credential
    ) -> Token | AuthorizationServerError | LoginFailed:
        """The tokens, or why there are none (RFC 8628 section 3.5)."""
        pace = Pace(login.codes.interval)
        while login.seconds_left > 0:
            await asyncio.sleep(min(pace.delay, login.seconds_left))
            try:
                return await self._servers.token_of_person(credential, polling_form(login.codes.device_code))
            except (RefusedToken, UnprovenToken) as error:
                return error
            except AuthorizationServerError as error:
                following = pace.after(error)
                if following is None:
                    return error
                pace = following
                sentence = "%s: no tokens yet (%s): next poll in %.0f s"
                decision(_log, sentence, login.key, error.error, pace.delay)
        return LoginFailed(EXPIRED, "expired_token")
