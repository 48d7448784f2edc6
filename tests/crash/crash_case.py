"""One refresh that is killed at a system call, and the recovery by the next process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from proxy.config.model import Config
from proxy.demo.authorization_server import TokenRequest, fingerprint
from tests.crash import forkserver, tracing
from tests.crash.herd import herd
from tests.crash.setup import Setup, stored
from tests.crash.tracing import Call, Traced
from tests.patience import FOR_CERTAIN, slowness

LOOPS: Final = 1.3  # seconds; a process that goes on refreshing would do so within them
SHORTEST_GRACE: Final = 5  # seconds, of some servers
START: Final = 1.0  # seconds until a process listens, on an idle machine


@dataclass(frozen=True)
class CrashCase:
    call: Call
    where: str  # the call as strace saw it; empty: it was not reached, or went elsewhere
    grace: float
    old: str  # fingerprint of the first refresh token
    exchanged: bool  # whether the server had issued its successor when the process died
    before: list[TokenRequest]  # by the killed process
    after: list[TokenRequest]  # by the next process, until its end
    outcome: str
    again: str  # that of a second request; after a while, if a person must log in
    starting: float  # seconds from the death until the next process listened
    slowness: float  # of this machine, in the end
    seconds: float  # from the death until the refresh token was sent again, else until the response
    state: str  # in the store, in the end
    held: str  # fingerprint of the refresh token in the store, in the end
    is_current: bool  # whether that one is the last of its family, for the server
    revoked: int  # families
    code: int  # with which the next process stopped
    log: str

    @property
    def saved(self) -> bool:
        """Whether the store had the successor when the process died: else the old one was sent again."""
        return self.exchanged and not self.after

    @property
    def due(self) -> str:
        """A login may be lost only if its new token was issued, not saved, and there is no grace."""
        return "login_required" if self.exchanged and not self.saved and not self.grace else "recovered"

    @property
    def errors(self) -> list[str]:
        """The errors in the log of the next process. Logins that are due are judged by the outcome."""
        lines = [line for line in self.log.splitlines() if '"level": "error"' in line]
        return [line for line in lines if '"event": "login_required"' not in line]

    def faults(self) -> Iterator[str]:
        if self.outcome != self.due:
            yield f"{self.due} was due"
        if self.seconds >= SHORTEST_GRACE * max(self.slowness, self.starting / START):
            yield "the refresh token was sent again too late for some servers"
        if self.again != self.outcome:
            yield f"asked again: {self.again}"
        if max(len(self.before), len(self.after)) > 1:
            yield f"token requests: {len(self.before)}, then {len(self.after)}"
        if {one.refresh_token for one in self.before + self.after} - {self.old}:
            yield "another refresh token was sent than the stored one"
        if self.revoked != (self.due == "login_required"):
            yield f"{self.revoked} families revoked"
        if self.due == "recovered" and (self.state != "valid" or not self.is_current):
            yield f"the store says {self.state}, its refresh token is current: {self.is_current}"
        if self.due == "login_required" and (self.state != "login_required" or self.held != self.old):
            yield f"the store says {self.state}, it kept the refresh token: {self.held == self.old}"
        if self.code != 0 or self.errors:
            yield f"the next process ended with {self.code}: {self.errors}"

    def __str__(self) -> str:
        had = f"server {'new' if self.exchanged else 'old'}, store {'new' if self.saved else 'old'}"
        faults = "".join(f"\n    {fault}" for fault in self.faults())
        where = self.where[:60] or "(not where it was traced)"
        return f"{self.call!s:17} {where:60} {had} → {self.outcome} in {self.seconds:.2f} s{faults}"


async def calls_of_a_refresh(setup: Setup, *, expired: bool) -> list[Traced]:
    """Those that reach the store or the authorization server."""
    config = setup.configure()
    await setup.plant(config, ["first", "traced"], expired=expired)
    async with forkserver.refresher(config, "first") as process:  # a new store may do more, or wait
        await _refreshed(process)
    async with forkserver.refresher(config, "traced") as process:
        known, trace = tracing.threads(process.pid), setup.folder / "trace"
        async with tracing.tracing(process.pid, trace):
            await _refreshed(process)
    return [one for one in tracing.calls_in(trace.read_text(), known) if is_outside(one, setup)]


async def _refreshed(process: forkserver.Child) -> None:
    process.tell("go")
    assert await process.hears() == "done"
    assert await process.end() == 0


def is_outside(one: Traced, setup: Setup) -> bool:
    return str(setup.folder) in one.text or "<TCP:" in one.text or "AF_INET" in one.text


async def killed_at(call: Call, setup: Setup, account: str, *, expired: bool) -> CrashCase:
    config = setup.configure()
    (old,) = (await setup.plant(config, [account], expired=expired)).values()
    where = await _kill_a_refresher(call, setup, config, account)
    died_at = setup.server.clock.boot()
    exchanged, before = not setup.is_current(old), setup.server.token_requests
    async with forkserver.serving(config, log := setup.folder / "log") as process:
        starting = setup.server.clock.boot() - died_at
        async with herd([config.server.listen[0].port], 1) as (caller,):
            if exchanged and not expired:
                await _until_current(setup, config, account)  # it recovers without a request
            outcome = named(await caller.ask(account))
            answered_at = setup.server.clock.boot()
            await asyncio.sleep(LOOPS if outcome == "login_required" else 0)
            again = named(await caller.ask(account))
        process.signal(signal.SIGTERM)
        code = await process.end()
    after = setup.server.token_requests[len(before) :]
    state, held = await stored(config, account)
    return CrashCase(
        call=call,
        where=where,
        grace=setup.server.grace,
        old=fingerprint(old),
        exchanged=exchanged,
        before=before,
        after=after,
        outcome=outcome,
        again=again,
        starting=starting,
        slowness=slowness(),
        seconds=(after[0].arrived_at if after else answered_at) - died_at,
        state=state,
        held=fingerprint(held),
        is_current=setup.is_current(held),
        revoked=setup.server.families_revoked,
        code=code,
        log=log.read_text(),
    )


async def _kill_a_refresher(call: Call, setup: Setup, config: Config, account: str) -> str:
    """The call at which it died, as strace saw it; empty if it is not that of the trace."""
    trace = setup.folder / "trace"
    async with forkserver.refresher(config, account) as process:
        thread = tracing.threads(process.pid)[call.thread]
        async with tracing.signalling(process.pid, call, "KILL", trace):
            process.tell("go")
            code = await process.end()
    seen = tracing.calls_in(trace.read_text(), [thread])
    if (
        code != -signal.SIGKILL
        or not seen
        or seen[-1].call[1:] != call[1:]
        or not is_outside(seen[-1], setup)
    ):
        return ""
    return seen[-1].text.replace(str(setup.folder), "")


async def _until_current(setup: Setup, config: Config, account: str) -> None:
    """Wait until the store has the refresh token that is the last for the server; without it, no longer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FOR_CERTAIN):
            while not setup.is_current((await stored(config, account))[1]):
                await asyncio.sleep(0.05)


def named(response: str) -> str:
    if response == "200 ok":
        return "recovered"
    return "login_required" if response.startswith("503 ") and ":login-required" in response else response
