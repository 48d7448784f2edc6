"""Looks secrets up again, in a keyring or by a command, when a server refuses the one that was found before.

    invalid_client, or a 401 to a static value ──► that credential's lookups, in a thread ──► Process.replace

At most one look in PAUSE seconds for each credential. What can't be looked up now leaves the old value, with
one warning until a look succeeds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from proxy import tasks
from proxy.config.load import Loaded
from proxy.config.lookups import Lookup
from proxy.errors import ConfigError
from proxy.file_thread import FileThread
from proxy.observe.events import INFO, WARNING, decision, event
from proxy.process import Process

PAUSE: Final = 30.0  # seconds; a wrong secret is refused again and again
LOOK_UP: Final = "look secrets up again"  # in internal_errors_total

_log = logging.getLogger("proxy.reload")


class LookupsAgain:
    def __init__(
        self,
        process: Process,
        thread: FileThread,
        lock: asyncio.Lock,
        replace: Callable[[Loaded], Awaitable[None]],
    ) -> None:
        """`lock`: held while the configuration is replaced; `replace` does it, and raises ConfigError."""
        self._process = process
        self._thread = thread
        self._lock = lock
        self._replace = replace
        self._looks: dict[str, asyncio.Task[None]] = {}  # by credential: the last of each
        self._not_before: dict[str, float] = {}  # loop time
        self._told: dict[str, str] = {}

    def begin(self, credential: str) -> asyncio.Task[None] | None:
        """Look up the secrets of a credential again. None: it has none, or that was done a moment ago.

        All that ask while a look is under way share it.
        """
        lookups = self._process.loaded.lookups(credential)
        if not lookups:
            return None
        look = self._looks.get(credential)
        if look is not None and not look.done():
            return look
        now = asyncio.get_running_loop().time()
        if now < self._not_before.get(credential, now):
            return None
        self._not_before[credential] = now + PAUSE
        self._looks[credential] = tasks.spawn(self._look(credential, lookups), f"look up {credential}")
        return self._looks[credential]

    async def _look(self, credential: str, lookups: set[Lookup]) -> None:
        try:
            async with self._lock:
                await self._take_up(credential, lookups)
        except ConfigError as error:
            self._tell(credential, "; ".join(fault.message for fault in error.faults))
        except Exception as error:  # noqa: BLE001 (whatever it is, the process goes on as it was)
            tasks.report(
                LOOK_UP, error, f"unexpected error in looking up credentials.{credential}: report it"
            )
        else:
            self._told.pop(credential, None)

    async def _take_up(self, credential: str, lookups: set[Lookup]) -> None:
        """Raises ConfigError."""
        before = self._process.loaded
        decision(_log, "credentials.%s: its secrets are looked up again", credential)
        loaded = await self._thread.run(partial(before.again, before.files.but(lookups)))
        old, new = before.files.contents, loaded.files.contents
        if all(each in old and new[each].print == old[each].print for each in lookups & new.keys()):
            decision(_log, "credentials.%s: its secrets are as they were", credential)
            return
        await self._replace(loaded)
        event(
            _log,
            INFO,
            "reload",
            "took up other secrets of credentials.%s, looked up again as the one before was refused",
            credential,
            credential=credential,
        )

    def _tell(self, credential: str, reason: str) -> None:
        if self._told.get(credential) == reason:
            return
        self._told[credential] = reason
        event(
            _log,
            WARNING,
            "reload",
            "the secrets of credentials.%s can't be looked up again: %s; those found before count until then",
            credential,
            reason,
            credential=credential,
        )
