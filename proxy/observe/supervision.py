"""Messages to a service manager about a serving process: signs of life, and one line about its tokens."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from proxy import tasks
from proxy.observe.status import can_serve
from proxy.services import Services
from proxy.systemd import Notifier
from proxy.tokens.account import Account

LOOK_EVERY: Final = 5.0  # seconds; the line changes with a state, and with the minute of the next refresh
AT_ONCE: Final = 64  # accounts looked at before other tasks run again
NOT_RELOADED: Final = "; the last reload failed: see the log"
NAMED: Final = 3  # accounts that need a login; more would make the line too long to be read
MINUTE: Final = 60.0
HOURS_FROM: Final = 120 * MINUTE
DAYS_FROM: Final = 48 * 3600.0
_DAY: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Summary:
    serving: int  # credentials
    credentials: int
    next_refresh_in: float | None = None  # seconds; None: none is due
    logins: Sequence[str] = ()  # accounts that need a person


def line(summary: Summary) -> str:
    """For STATUS=, as `systemctl status` shows it."""
    text = f"{summary.serving} of {summary.credentials} credentials can serve"
    if summary.next_refresh_in is not None:
        text += f", next refresh in {_time(summary.next_refresh_in)}"
    if summary.logins:
        more = len(summary.logins) - NAMED
        text += "; needs a login: " + ", ".join(summary.logins[:NAMED])
        text += f" and {more} more" if more > 0 else ""
    return text


def _time(seconds: float) -> str:
    if seconds < MINUTE:
        return "less than a minute"
    if seconds < HOURS_FROM:
        return f"{int(seconds / MINUTE)} min"
    return f"{int(seconds / 3600)} h" if seconds < DAYS_FROM else f"{int(seconds / _DAY)} d"


async def summarize(services: Services) -> Summary:
    """A credential can serve if all accounts that routes name can; if they name none, if any account can."""
    routes, credentials = services.config.routes, services.config.credentials
    fixed = {(route.credential, route.account) for route in routes if isinstance(route.account, str)}
    accounts, now = services.tokens.accounts(), services.clock.wall()
    named, others = defaultdict[str, list[bool]](list), defaultdict[str, list[bool]](list)
    logins: list[str] = []
    due: list[float] = []
    for place, account in enumerate(accounts):
        where = named if (account.key.credential, account.key.account) in fixed else others
        where[account.key.credential].append(can_serve(account))
        if account.needs_person:
            logins.append(str(account.key))
        if (at := _next_refresh(account, now)) is not None:
            due.append(at - now)
        if place % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
    serving = [name for name in credentials if (all(named[name]) if named[name] else any(others[name]))]
    return Summary(len(serving), len(credentials), min(due, default=None), sorted(logins))


def _next_refresh(account: Account, now: float) -> float | None:
    """Unix seconds; None if none is due. A time in the past does not count: the account is unused."""
    due_at = account.held.due_at
    return due_at if due_at is not None and due_at >= now and account.can_refresh else None


class Supervision:
    """Tells a service manager that the event loop runs, and the state of the tokens."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._tasks: list[asyncio.Task[None]] = []
        self._reloaded = False  # by the last reload
        self._remark = ""  # behind the line

    def start(self, services: Callable[[], Services]) -> None:
        """All listeners accept connections. `services`: those of the present configuration."""
        if not self._notifier.is_heard:
            return
        self._notifier.ready()
        look = partial(self._look, services)
        self._tasks.append(tasks.forever("tell the service manager the state", look))
        if self._notifier.ping_every is not None:
            self._tasks.append(tasks.forever("tell the service manager that the loop runs", self._ping))

    def reloading(self) -> None:
        """A reload begins."""
        self._reloaded = False
        self._notifier.reloading()

    def reloaded(self) -> None:
        """Another configuration is served."""
        self._reloaded = True

    def settled(self) -> None:
        """The reload is over. The manager can't be told that it has failed, but people can."""
        self._remark = "" if self._reloaded else NOT_RELOADED
        self._notifier.ready()

    def draining(self, seconds: float) -> None:
        """No requests are accepted any more; those in flight may take `seconds`."""
        self._notifier.stopping(seconds)
        self._notifier.status("stopping: requests in flight are completed")

    async def close(self) -> None:
        await tasks.cancel(*self._tasks)

    async def _look(self, services: Callable[[], Services]) -> None:
        self._notifier.status(line(await summarize(services())) + self._remark)
        await asyncio.sleep(LOOK_EVERY)

    async def _ping(self) -> None:
        self._notifier.ping()
        await asyncio.sleep(self._notifier.ping_every or LOOK_EVERY)
