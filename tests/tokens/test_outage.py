"""An authorization server that is down for five minutes under load: first valid tokens, then expired ones."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.serve import running
from proxy.demo.wiring import free_ports
from proxy.errors import TokenUnavailable
from proxy.tokens.refresh import backoff
from tests.tokens.conftest import CLIENTS, HOUR

MINUTES = 5
RATE = 500  # requests per second
STEP = 0.1  # seconds of the manual clock
MOST_CALLS = 25  # to a server that is down
VALID_FOR = 145  # seconds of the outage with tokens still valid


class Away:
    """A server that can be taken off the network and put back, without losing its state."""

    def __init__(self, clock):
        self.server = AuthorizationServer(clients=CLIENTS, access_token_lifetime=HOUR, clock=clock)
        (self._port,) = free_ports(0)
        self._stack = AsyncExitStack()

    async def come(self):
        await self._stack.enter_async_context(running(self.server.application(), port=self._port))

    async def go(self):
        await self._stack.aclose()


@pytest.fixture
async def away(clock):
    made = Away(clock)
    await made.come()
    yield made
    await made.go()


@pytest.mark.parametrize("count", [1, 2, 50], ids="{} accounts".format)
async def test_few_calls_flat_memory_clear_errors_and_a_gradual_recovery(make_side, away, monkeypatch, count):
    async with make_side(server=away.server) as side:
        monkeypatch.setattr(backoff, "BACKOFF_FIRST", 1.0)
        accounts = [await side.log_in(f"user{number}") for number in range(count)]
        side.clock.advance(HOUR - 5 - VALID_FOR)
        await away.go()
        outcomes, objects = Counter(), []
        for second in range(60 * MINUTES):
            outcomes += await a_second(side, accounts)
            if second % 60 == 59:
                gc.collect()
                objects.append(len(gc.get_objects()))
        assert outcomes["served"] == VALID_FOR * RATE
        assert outcomes["unavailable"] == (60 * MINUTES - VALID_FOR) * RATE
        assert calls(side) <= MOST_CALLS
        assert objects[-1] <= objects[0] * 1.01
        await away.come()
        for _ in range(int(backoff.BACKOFF_LAST)):
            await a_second(side, accounts)
        assert await a_second(side, accounts) == {"served": RATE}
        assert [request.error for request in side.refreshes] == [None] * count
        assert away.server.families_revoked == 0
        assert all(side.is_good(side.tokens.ready(account)) for account in accounts)


async def a_second(side, accounts) -> Counter:
    """One second with its requests, and one check by the scheduler."""
    outcomes = Counter()
    await side.tokens.scheduler.look(side.clock.wall())
    for number in range(int(1 / STEP)):
        each = [accounts[(number + n) % len(accounts)] for n in range(int(RATE * STEP))]
        outcomes.update(await asyncio.gather(*(request(side, account) for account in each)))
        side.clock.advance(STEP)
    return outcomes


async def request(side, account) -> str:
    if side.tokens.ready(account) is not None:
        return "served"
    try:
        await side.tokens.get(account)
    except TokenUnavailable as error:
        return "unavailable" if 1 <= error.retry_after <= backoff.BACKOFF_LAST else "told to wait for long"
    return "served after a while"


def calls(side) -> int:
    """Requests that were sent, whatever their result."""
    family = next(
        each for each in side.metrics.registry.collect() if each.name == "token_proxy_token_refreshes"
    )
    return int(sum(sample.value for sample in family.samples if sample.name.endswith("_total")))
