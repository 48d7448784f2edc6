"""Limits shared by all accounts of one client at an authorization server: turns, rate, circuit breaker.

Each account also has its own back-off (account.py), which the success of another account does not end.

The breaker's probe is the account with the fewest failures since its last success: accounts that are refused
for reasons of their own must not decide for all others whether the server is up. For the same reason they
get at most half of the turns, and their failures do not count against the server.

Such an account is not known as one before its first failure, and during an outage all fail alike. So accounts
probe in rounds: after an outage it delays the others by one pause at most.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from proxy.clock import Clock
from proxy.errors import AuthorizationServerError, ProxyError
from proxy.observe.events import decision
from proxy.store.base import AccountId
from proxy.tokens.refresh.breaker import (
    Candidate,
    Closed,
    Event,
    HalfOpen,
    Open,
    ProbeStarts,
    ServerDown,
    ServerUp,
    State,
    TryNow,
    TurnEnds,
    next_state,
)
from proxy.tokens.refresh.refusal import ClientRefusals

AT_ONCE: Final = 8  # refreshes: many accounts due together must not look like an attack
AT_ONCE_TROUBLED: Final = AT_ONCE // 2  # of accounts that failed last time: each may take until its timeout
CROWD: Final = 25  # background refreshes waiting for a turn, at most: a request never queues behind more
INTEREST: Final = (
    3.0  # seconds; an account that still needs a refresh asks each second (scheduler.LOOK_AGAIN)
)


_log = logging.getLogger("proxy.tokens")


class HeldBack(ProxyError):
    """The circuit breaker is open, or another account is the better probe."""


class ServerThrottle:
    def __init__(self, clock: Clock, rate: float) -> None:
        """`rate`: refreshes per second, at most."""
        self.use(rate)
        self.state: State = Closed()
        self.refusals = ClientRefusals()
        self._clock = clock
        self._next_at = 0.0  # event loop's clock: when the next may be sent
        self._pacing = False  # one waits until `_next_at`, the others behind it
        self._crowd = {False: 0, True: 0}  # refreshes under way, by is_troubled
        self._under_way = {False: 0, True: 0}  # those with a turn, by is_troubled
        self._lines: dict[bool, deque[asyncio.Future[None]]] = {False: deque(), True: deque()}
        self._called = 0  # woken from the line, and not yet run
        self._best: Candidate | None = None  # the first choice for the next probe ...
        self._best_asked_at = float("-inf")  # ... and when it last asked (boot clock)
        self._round = 0  # of probes, since the server last responded: each account probes once in each
        self._places: dict[AccountId, tuple[int, int]] = {}  # the next round of an account, its place there
        self._last_place = 0

    def use(self, rate: float) -> None:
        self._interval = 1 / rate

    @property
    def is_closed(self) -> bool:
        return isinstance(self.state, Closed)

    def waits_until(self, candidate: Candidate) -> float:
        """No refresh before this (boot clock)."""
        return self.state.pause_ends(candidate) if isinstance(self.state, Open) else float("-inf")

    @property
    def crowd(self) -> int:
        """Refreshes under way, with a turn or waiting for one."""
        return sum(self._crowd.values())

    @property
    def is_quiet(self) -> bool:
        """Whether no refresh may be sent now, except by a probe under way."""
        state = self.state
        return isinstance(state, HalfOpen) or (
            isinstance(state, Open) and self._clock.boot() < state.fresh_until
        )

    def has_room(self, candidate: Candidate) -> bool:
        """Whether a background refresh may join."""
        return not self.is_quiet and self._crowd[candidate.is_troubled] < CROWD

    def admits(self, candidate: Candidate) -> bool:
        """Whether it may ask for a turn now. Registers it as a candidate for the next probe."""
        if not isinstance(self.state, Open):
            return True
        self._is_first_choice(candidate)
        return self._clock.boot() >= self.state.pause_ends(candidate)

    def join(self, candidate: Candidate) -> None:
        """Count a refresh as under way, until `leave`."""
        self._crowd[candidate.is_troubled] += 1

    def leave(self, candidate: Candidate) -> None:
        self._crowd[candidate.is_troubled] -= 1

    @asynccontextmanager
    async def turn(self, candidate: Candidate) -> AsyncIterator[Turn]:
        """Wait for a turn, and have it for the duration of the block. Raises HeldBack."""
        await self._enter(candidate)
        self._under_way[candidate.is_troubled] += 1
        self._wake()
        try:
            yield Turn(self, candidate)
        finally:
            self._under_way[candidate.is_troubled] -= 1
            self.on(TurnEnds(candidate.key, self._clock.boot()))
            self._wake()

    def try_now(self, key: AccountId) -> None:
        """A person may have corrected the cause: this account may try before the pause ends."""
        self.on(TryNow(key))

    def succeeded(self) -> None:
        self.on(ServerUp())

    def failed(self, candidate: Candidate, error: AuthorizationServerError) -> None:
        """Note a failed request of `candidate`. Only an error of the server opens the breaker."""
        if error.about == "server":
            if not candidate.is_troubled:
                self._send_to_next_round(candidate)
            self.on(ServerDown(candidate, error, self._clock.boot(), random.random()))  # noqa: S311 (spreads load, hides nothing)
        else:
            self.on(ServerUp())

    def on(self, event: Event) -> None:
        """The only place that changes the state."""
        before, self.state = self.state, next_state(self.state, event)
        if self.state is not before:
            names = (type(before).__name__, type(self.state).__name__, type(event).__name__)
            decision(_log, "the circuit breaker of a client: %s -> %s, by %s", *names)
            if type(self.state) is not type(before):
                self._best = None
            if isinstance(event, ServerUp):
                self._round, self._places = 0, {}
            self._wake()

    def may_repeat(self, candidate: Candidate, error: AuthorizationServerError) -> bool:
        """Whether a request that has just failed may be sent again within the same turn.

        It may after a lost response: the server may have spent the refresh token, and repeats its response
        for some seconds only (RFC 9700 section 4.14.2). So may the only refresh under way: it is the probe.
        """
        if self.is_closed:
            return True
        if not error.is_lost and sum(self._under_way.values()) > 1:
            return False
        self._start_probe(candidate)
        return True

    def _start_probe(self, candidate: Candidate) -> None:
        self._round = max(self._round, self._rank(candidate)[0])
        self._send_to_next_round(candidate)
        self.on(ProbeStarts(candidate.key))

    def _send_to_next_round(self, candidate: Candidate) -> None:
        self._last_place += 1
        self._places[candidate.key] = (self._round + 1, self._last_place)

    def _rank(self, candidate: Candidate) -> tuple[int, int, Candidate]:
        """The smallest is the first choice for a probe. Each failure before the outage costs a round."""
        round_, place = self._places.get(candidate.key, (candidate.failures, 0))
        return round_, place, candidate

    def _is_first_choice(self, candidate: Candidate) -> bool:
        """Whether it is the best of the recent candidates for the probe. Registers it as one."""
        now, best = self._clock.boot(), self._best
        is_gone = best is None or now - self._best_asked_at > INTEREST
        if best is None or is_gone or best.key == candidate.key or self._rank(candidate) < self._rank(best):
            self._best, self._best_asked_at = candidate, now
            return True
        return False

    def _is_full(self, troubled: bool) -> bool:
        total = sum(self._under_way.values())
        return total >= AT_ONCE or (troubled and self._under_way[True] >= AT_ONCE_TROUBLED)

    async def _enter(self, candidate: Candidate) -> None:
        """Return when it may send. A probe does not wait."""
        loop, line = asyncio.get_running_loop(), self._lines[candidate.is_troubled]
        is_next = not line
        while True:
            if isinstance(self.state, Open):
                if self._clock.boot() < self.state.pause_ends(candidate):
                    raise HeldBack("the authorization server is down: retried shortly")
                if candidate.key == self.state.pressed:
                    self.on(ProbeStarts(candidate.key))  # outside the rounds
                    break
                if self._is_first_choice(candidate):
                    self._start_probe(candidate)
                    break
            if not isinstance(self.state, Closed) or not is_next or self._is_waiting(candidate):
                await self._wait(line, in_front=is_next)
                is_next = True
                continue
            pause = self._next_at - loop.time()
            if pause <= 0:
                break
            await self._keep_pace(pause)  # then check again: another may have failed meanwhile
        self._next_at = loop.time() + self._interval

    def _is_waiting(self, candidate: Candidate) -> bool:
        return self._pacing or self._is_full(candidate.is_troubled)

    async def _keep_pace(self, seconds: float) -> None:
        self._pacing = True
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self._pacing = False
            self._wake()
            raise
        self._pacing = False

    async def _wait(self, line: deque[asyncio.Future[None]], *, in_front: bool) -> None:
        """Wait to be woken, at most INTEREST seconds; in front of the line if it had been there before.

        The timeout is for a first choice that no longer wants to probe: then nobody is woken, and all check.
        """
        call: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if in_front:
            line.appendleft(call)
        else:
            line.append(call)
        try:
            await asyncio.wait((call,), timeout=INTEREST)
        except asyncio.CancelledError:
            self._leave_line(line, call)
            self._wake()  # this one may have been woken
            raise
        self._leave_line(line, call)

    def _leave_line(self, line: deque[asyncio.Future[None]], call: asyncio.Future[None]) -> None:
        if call.done():
            self._called -= 1
        else:
            line.remove(call)

    def _wake(self) -> None:
        """Wake all in line if the breaker is open, since they are held back; else the next one.

        Each one that enters wakes the next. Accounts without failures go first.
        """
        match self.state:
            case Open():
                for line in self._lines.values():
                    while line:
                        self._call(line)
            case Closed() if not self._pacing and not self._called:
                for troubled, line in self._lines.items():
                    if line and not self._is_full(troubled):
                        self._call(line)
                        return

    def _call(self, line: deque[asyncio.Future[None]]) -> None:
        line.popleft().set_result(None)
        self._called += 1


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn of a refresh that may send."""

    throttle: ServerThrottle
    candidate: Candidate

    def succeeded(self) -> None:
        self.throttle.succeeded()

    def failed(self, error: AuthorizationServerError) -> None:
        self.throttle.failed(self.candidate, error)

    def may_repeat(self, error: AuthorizationServerError) -> bool:
        return self.throttle.may_repeat(self.candidate, error)
