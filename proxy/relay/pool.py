"""The connections to one route's upstream that carry one account's requests, and the requests that wait.

    take ◄── idle ◄──────────── given back ◄─┐      a request takes the idle connection that was used last
               ▲                     │        │
               │ nobody waits        ▼        │      if there is none, it waits: the first in the queue gets
    dials ─────┴───────────► queue ──► in use ┘      the first connection that is dialled or given back

A dial belongs to the pool: it goes on if the request that caused it leaves. There are no more dials under way
than waiting requests, few at first (dial_bound.py), and never more than `limits.dials`.

When does a failed dial fail those who wait? One failure among many successes should fail nobody, and an
upstream that refuses must not let them wait. So a failure begins a *doubt*: no further dial is started. A
success ends it; if all dials under way fail too (at an upstream that refuses, that is at once), all who wait
are told why. Two exceptions:
- While connections in use are being given back, who may get one of them goes on waiting (some upstreams
  limit their connections); each sweep dials again.
- A dial that is merely too slow is no doubt, for each request has a limit of its own: `limits.connect`, since
  it began to wait.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import takewhile
from typing import Final

from proxy import tasks
from proxy.failure_causes import CONNECT_TIMEOUT
from proxy.relay import problems
from proxy.relay import upstream_causes as causes
from proxy.relay.dial_bound import DialBound
from proxy.relay.dialer import Dialer
from proxy.relay.pool_queue import NEVER, Queue, Waiter, first, take_all
from proxy.relay.problems import Refusal
from proxy.relay.upstream import Upstream

SURPLUS: Final = 10.0  # seconds; idle connections beyond `limits.pool` outlive the pauses within a busy time
# Seconds. Not shorter than between two sweeps, as these dial again; within it, callers are refused.
ALIVE: Final = 0.5  # an upstream has given a connection back so lately
UNDECIDED: Final = 0.5  # the longest that a failure waits for the outcome of other dials
GRACE: Final = 0.1  # a dial that began with a wait has told by then why it is too slow

_log = logging.getLogger("proxy.relay")


class Pool:
    """The connections of one route and account: no other account's response can arrive on them."""

    __slots__ = (
        "_bound",
        "_by_age",
        "_dialer",
        "_dials",
        "_doubted_at",
        "_given_at",
        "_growth",
        "_idle",
        "_is_closed",
        "_is_retired",
        "_open",
        "_probed",
        "_queue",
        "_too_slow",
    )

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._by_age = dialer.idle
        self._idle: dict[Upstream, None] = {}  # in the order of their last use
        self._open: set[Upstream] = set()
        self._queue = Queue()
        self._dials: set[asyncio.Task[None]] = set()
        self._bound = DialBound(dialer.limits.dials)
        self._growth: asyncio.TimerHandle | None = None  # the next step of the bound
        self._probed = 0.0  # loop time; connections that became idle before it have been probed
        self._given_at = -NEVER  # loop time; when a connection was given back last
        self._doubted_at = NEVER  # loop time; of the first failure since the last success
        self._too_slow: Refusal | None = None  # of the last dial, if it was
        self._is_retired = False
        self._is_closed = False

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def active(self) -> int:
        return len(self._open) - len(self._idle)

    @property
    def queued(self) -> int:
        return self._queue.length

    @property
    def dialling(self) -> int:
        return len(self._dials)

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing to close and nobody to serve."""
        return not self._open and not self._dials and not self._queue.length

    # -- take

    def take(self) -> Upstream | None:
        """The most recently used connection: surplus ones stay idle until they are closed."""
        if not self._idle:
            return None
        upstream = self._idle.popitem()[0]
        self._by_age.remove(upstream)
        return upstream

    def take_alive(self) -> Upstream | None:
        """Like `take`, for a request that can't be sent again: skips connections that have ended."""
        while (upstream := self.take()) is not None:
            upstream.probe()
            if upstream.is_open:
                return upstream
        return None

    # -- wait

    def wait(self, waiter: Waiter, *, only_new: bool) -> None:
        """Queue up for the first connection given back or dialled; `only_new`: for the first dialled.

        After `limits.connect` it is refused.
        """
        if self._is_closed:
            waiter.not_connected(_stopping())
            return
        deadline = asyncio.get_running_loop().time() + self._dialer.limits.connect
        self._queue.add(waiter, deadline, only_new=only_new)
        if self._doubted_at == NEVER:
            self._dial_another()

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer."""
        self._queue.remove(waiter)

    # -- give

    def give(self, upstream: Upstream) -> None:
        """Pass a connection whose exchange is over to the next request, or keep it."""
        self._given_at = upstream.idle_since
        upstream.reused = True
        if self._queue.any:
            self._pass_on(upstream)
        elif self._is_retired:
            upstream.close()
        else:
            self._keep(upstream)

    def _pass_on(self, upstream: Upstream) -> None:
        waiter = first(self._queue.any)
        if waiter.is_sent_once():
            upstream.probe()  # it may have ended with its response
            if not upstream.is_open:
                return
        self._queue.remove(waiter)
        waiter.connected(upstream)

    def _keep(self, upstream: Upstream) -> None:
        self._idle[upstream] = None
        self._by_age.add(upstream)

    # -- dial

    def _dial_another(self) -> bool:
        """Start a dial if more requests wait than dials are under way, and the bound permits."""
        if len(self._dials) >= self._queue.length:
            return False
        if len(self._dials) >= self._bound.allowed:
            self._grow_later()
            return False
        self._dials.add(tasks.spawn(self._dial(), "dial an upstream"))
        return True

    def _grow_later(self) -> None:
        if self._growth is None and self._open and self._bound.may_grow:
            loop = asyncio.get_running_loop()
            self._growth = loop.call_at(self._bound.next_step(loop.time()), self._grow)

    def _grow(self) -> None:
        self._growth = None
        if self._doubted_at == NEVER and self._bound.allowed <= len(self._dials) < self._queue.length:
            self._bound.grow(asyncio.get_running_loop().time())
            self._dial_for_all()

    async def _dial(self) -> None:
        failure: Refusal | None = None
        upstream: Upstream | None = None
        try:
            wire = await self._dialer.dial()
            upstream = Upstream(wire, self, self._dialer.head_limits)
        except Refusal as refusal:
            failure = refusal
        except Exception as error:  # noqa: BLE001 (whatever it is, no request may wait for ever)
            _log.error("connecting to an upstream failed unexpectedly", exc_info=error)
            failure = Refusal(problems.INTERNAL_ERROR, problems.BUG)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._dials.discard(task)
        if upstream is not None:
            self._dialled(upstream)
        elif failure is not None:
            self._bound.restart()
            self._dial_failed(failure)
        if not self._dials:
            self._bound.restart()

    def _dialled(self, upstream: Upstream) -> None:
        self._doubted_at, self._too_slow = NEVER, None
        waiter = self._queue.take_for_new()
        if waiter is not None:
            waiter.connected(upstream)
        elif self._is_retired:
            upstream.close()
        else:
            upstream.reused = True  # when a request takes it, it may have been closed as idle
            upstream.idle_since = asyncio.get_running_loop().time()
            self._keep(upstream)
        self._dial_for_all()

    def _dial_for_all(self) -> None:
        while self._dial_another():
            pass

    def _dial_failed(self, refusal: Refusal) -> None:
        now = asyncio.get_running_loop().time()
        is_slow = refusal.case is problems.CONNECT_TIMEOUT
        if is_slow:
            self._too_slow = causes.refusal(
                refusal.case, refusal.cause or CONNECT_TIMEOUT, self._dialer.route
            )
            self._refuse_overdue(now)
        if is_slow and self._doubted_at == NEVER:
            self._dial_another()
            return
        self._doubted_at = min(self._doubted_at, now)
        if not self._dials or now - self._doubted_at >= UNDECIDED:
            self._decide(refusal, now)

    def _decide(self, refusal: Refusal, now: float) -> None:
        """All dials have failed: refuse those who can't hope for a connection that is in use."""
        self._doubted_at = NEVER
        self._refuse_all(refusal, spare=self.active > 0 and now - self._given_at <= ALIVE)

    def _refuse_all(self, refusal: Refusal, *, spare: bool) -> None:
        """`spare`: only those for which it must be a new connection."""
        for waiter in take_all(self._queue.new):
            waiter.not_connected(refusal)
        if not spare:
            for waiter in take_all(self._queue.any):
                waiter.not_connected(refusal)

    def _refuse_overdue(self, now: float) -> None:
        refusal = self._too_slow
        for waiter in self._queue.take_overdue(now):
            if refusal is None:
                refusal = causes.refusal(problems.CONNECT_TIMEOUT, CONNECT_TIMEOUT, self._dialer.route)
            waiter.not_connected(refusal)

    # -- the connections

    def opened(self, upstream: Upstream) -> None:
        self._open.add(upstream)

    def closed(self, upstream: Upstream) -> None:
        self._open.discard(upstream)
        if upstream in self._idle:
            del self._idle[upstream]
            self._by_age.remove(upstream)
        if self._queue.length and not self._dials and not self._is_closed:
            self._dial_another()  # they waited for this one

    # -- time passes

    def look(self, now: float) -> None:
        """The sweep, with the loop's time: close what has been idle for long, look after those who wait."""
        if self._queue.length:
            self._refuse_overdue(now - GRACE)
            if self._doubted_at == NEVER:
                self._dial_for_all()
            else:
                self._dial_another()  # a second opinion
        if self._idle:
            self.close_idle(now - self._dialer.limits.upstream_idle)
            self._close_surplus(now - SURPLUS)

    def close_idle(self, before: float) -> None:
        """Close connections that have been idle since `before` (loop time), or that have ended."""
        for upstream in list(takewhile(lambda each: each.idle_since < before, self._idle)):
            upstream.close()
        self._probe()

    def _close_surplus(self, before: float) -> None:
        surplus = len(self._idle) - self._dialer.limits.pool
        if surplus > 0:
            for upstream in list(self._idle)[:surplus]:
                if upstream.idle_since < before:
                    upstream.close()

    def _probe(self) -> None:
        """Read each newly idle connection once: a reset that came with the response may raise no event."""
        if not self._idle:
            return
        now = asyncio.get_running_loop().time()
        new = list(takewhile(lambda upstream: upstream.idle_since >= self._probed, reversed(self._idle)))
        self._probed = now
        for upstream in new:
            upstream.probe()

    # -- the end

    def retire(self) -> None:
        """Keep no idle connections from now on; a connection in use is closed after its exchange."""
        self._is_retired = True
        self.close_idle(NEVER)

    def close(self) -> None:
        """Close everything; refuse those who wait."""
        self._is_retired = self._is_closed = True
        if self._growth is not None:
            self._growth.cancel()
        for dial in list(self._dials):
            dial.cancel()
        self._refuse_all(_stopping(), spare=False)
        for upstream in list(self._open):
            upstream.close()


def _stopping() -> Refusal:
    return Refusal(problems.OVERLOADED, problems.STOPPING, retry_after=1)
