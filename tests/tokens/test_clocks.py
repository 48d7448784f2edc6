"""Clocks that jump, machines that suspend and reboot, hosts with wrong clocks.

In all cases, no token is attached that its server no longer accepts (`server.active`, by the server's own
clock), and there are no more refreshes than the lifetimes require.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.oauth import expires_in
from proxy.oauth.token import Token
from proxy.store.base import AccountId, Due
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens import lifetime as lifetimes
from tests.fakes.clock import FakeClock
from tests.tokens.conftest import SEAL, process, write_config
from tests.tokens.made import token

HOUR = 3600
MINUTE = 60
BELIEVED = lifetimes.MAX_SKEW - 10  # seconds that a clock may be off by: Date is rounded
SOONEST = 0.72  # of its lifetime: refresh_at minus the largest jitter


def explained(seconds: float, life_of_one: float = HOUR) -> int:
    """The number of refreshes expected in this time."""
    return math.ceil(seconds / (SOONEST * life_of_one))


# -- the whole token side, against the authorization server


async def use(side, minutes: int, clocks=()) -> None:
    """One request per minute; none gets an expired token."""
    for _ in range(minutes):
        served = await side.tokens.get(side.account())
        assert side.is_good(served), "the server would have answered 401"
        await side.landed(side.account())
        for clock in clocks or (side.clock,):
            clock.advance(MINUTE)


@pytest.fixture
async def telling_side(make_side):
    """Its token is from a refresh, so that the server's time is known."""
    async with make_side() as side:
        await side.log_in()
        await side.tokens.refresh_now(side.account())
        yield side


JUMPS = [[HOUR], [-HOUR], [HOUR, -HOUR] * 10, [-HOUR] * 8, [HOUR] * 8, [30 * 86400], [-10 * 365 * 86400]]


@pytest.mark.parametrize("jumps", JUMPS)
async def test_a_wall_clock_that_is_set_to_and_fro_changes_nothing(telling_side, jumps):
    side = telling_side
    for jump in jumps:
        side.clock.jump(jump)
        await use(side, 20)
    assert len(side.refreshes) - 1 <= explained(len(jumps) * 20 * MINUTE)


@pytest.mark.parametrize("jump", [0, HOUR, -HOUR])
async def test_a_machine_that_slept_for_two_lives_refreshes_once_when_it_wakes(telling_side, jump):
    side = telling_side
    await use(side, 10)
    side.clock.advance(2 * HOUR)
    side.clock.jump(jump)
    assert side.tokens.ready(side.account()) is None
    await use(side, 10)
    assert len(side.refreshes) == 2


@asynccontextmanager
async def host(stack_of, clock):
    """Another machine that uses the store and server of `stack_of`."""
    async with process(stack_of.config, clock, stack_of.server, stack_of.store) as side:
        await side.tokens.start()
        yield side


REBOOTS = [  # minutes used before, seconds off, jump of the clock meanwhile, refreshes that follow at once
    (10, 60, 0, 0),
    (10, 2 * HOUR, 0, 1),
    (10, 60, HOUR, 1),  # too old by the only clock
    (10, 60, -HOUR, 1),  # from the future
    (10, 2 * HOUR, HOUR, 1),
    (10, 60, -10 * 365 * 86400, 1),  # no battery: 2016
]


@pytest.mark.parametrize(("minutes", "off", "jump", "at_once"), REBOOTS)
async def test_after_a_reboot_stored_tokens_have_the_right_age(telling_side, minutes, off, jump, at_once):
    await use(telling_side, minutes)
    before = len(telling_side.refreshes)
    telling_side.clock.reboot(off)
    telling_side.clock.jump(jump)
    async with host(telling_side, telling_side.clock) as side:
        await use(side, 1)
        assert len(side.refreshes) == before + at_once
        await use(side, 60)
        assert len(side.refreshes) <= before + at_once + explained(61 * MINUTE)


SKEWS = [0, HOUR, -HOUR, 5 * MINUTE, -5 * MINUTE, 100 * HOUR, -100 * HOUR]


@pytest.mark.parametrize("skew", SKEWS)
async def test_hosts_with_wrong_clocks_share_tokens_and_refresh_each_once_for_all(
    make_server, tmp_path, skew
):
    right = FakeClock()
    wrong = FakeClock(wall=right.wall() + skew, boot=99.0, boot_id="another host")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(make_server(clock=right))
        store = SealedStore(MemoryStore(right), SEAL)
        config = write_config(tmp_path, server.issuer)
        hosts = []
        for clock in (right, wrong):
            side = await stack.enter_async_context(process(config, clock, server, store))
            await side.tokens.start()
            hosts.append(side)
        await hosts[0].log_in()
        await hosts[0].tokens.refresh_now(hosts[0].account())
        key = AccountId("crm", "default")
        for minute in range(12 * 60):
            side = hosts[minute % 7 % 2]
            await side.tokens._accounts.load(side.account())  # as the store's changes would have it
            served = await side.tokens.get(side.account())
            assert side.is_good(served)
            await side.landed(side.account())
            for clock in (right, wrong):
                clock.advance(MINUTE)
        assert (await store.get(key)).state == "valid"
        first_contact = 2  # of each host, before it has heard the server
        assert len(server.token_requests) <= explained(12 * HOUR) + first_contact
        assert server.families_revoked == 0


async def test_the_window_of_a_token_is_computed_again_at_its_time_in_the_index(telling_side):
    """A machine that boots with its clock behind, and has it corrected a minute later."""
    await use(telling_side, 40)
    telling_side.clock.reboot(off=10 * MINUTE)
    telling_side.clock.jump(-30 * MINUTE)
    before = len(telling_side.refreshes)
    async with host(telling_side, telling_side.clock) as side:
        account = side.account()
        assert account.state() == "valid", "as far as the wrong clock tells"
        side.clock.jump(30 * MINUTE)
        assert await side.tokens.scheduler.refresh_if_due(Due(side.clock.wall(), account.key, None)) == 0.0
        await side.landed(account)
        assert len(side.refreshes) == before + 1
        assert side.is_good(side.tokens.ready(account))


async def test_which_of_two_tokens_is_the_later_is_seen_though_one_is_from_a_clock_that_is_ahead(
    make_side, make_server, clock
):
    inner = MemoryStore(clock)
    async with make_side(store=SealedStore(inner, SEAL)) as side:
        await side.log_in()
        ahead = FakeClock(wall=clock.wall() + HOUR, boot=1.0, boot_id="another host")
        async with host(side, ahead) as other:
            await other.tokens.refresh_now(other.account())
        backup = dict(inner._records)
        await side.tokens._accounts.load(side.account())
        clock.advance(MINUTE)
        await side.tokens.refresh_now(side.account())
        latest = side.account().held.token
        inner._records = backup
        await side.tokens._accounts.load(side.account())
        assert side.account().held.token == latest, "the store was put back from a backup"


# -- the rules alone: any lives, jumps, sleeps and reboots, any skews


@dataclass
class Host:
    clock: FakeClock
    off: float  # seconds that its wall clock is wrong by
    known: float = math.inf  # when its token was issued, as far as known
    seen: Token | None = None


@dataclass
class World:
    """Hosts that share one token, and an authorization server with a right clock."""

    lifetime: float
    took: float  # seconds that a response takes
    hosts: list[Host]
    now: float = 1_800_000_000.0
    token: Token | None = None
    due_at: float = 0.0
    good_until: float = -math.inf
    writer_off: float = 0.0
    refreshes: int = 0
    boots: int = 0
    refused: list[str] = field(default_factory=list)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for host in self.hosts:
            host.clock.advance(seconds)

    def refresh(self, host: Host, chance: float) -> None:
        sent = host.clock.wall()
        issued = token(host.clock, self.lifetime)
        self.advance(self.took / 2)
        self.good_until, date = self.now + self.lifetime, math.floor(self.now)
        self.advance(self.took / 2)
        least, most = expires_in.skew(date, sent, host.clock.wall())
        self.token = replace(issued, skew=least)
        host.clock.heard[issued.server] = sent + most - issued.issued_boot
        self.due_at = issued.issued_at + lifetimes.due_after(self.lifetime, 0.8, chance)
        self.writer_off = host.off
        self.refreshes += 1

    def request(self, host: Host, chance: float) -> None:
        """As in account.py and manager.py, but a refresh only takes time."""
        if self.token is None:
            self.refresh(host, chance)
        if host.seen is not self.token:
            host.seen, host.known = self.token, math.inf
        window = lifetimes.window(self.token, self.due_at, host.clock, known=host.known)
        host.known = window.begun
        if host.clock.boot() >= window.expired:
            self.refresh(host, chance)
            return
        guesses = self.token.boot_id != host.clock.boot_id and not host.clock.heard
        is_misled = (host.off < 0 or abs(self.writer_off) > BELIEVED) and host.off < self.writer_off
        if self.now >= self.good_until and not (guesses and is_misled):
            self.refused.append(f"{self.now - self.good_until} s after its end, by a clock {host.off} s off")
        if host.clock.boot() >= window.due:
            self.refresh(host, chance)

    def reboot(self, host: Host, off: float) -> None:
        """The time of the other hosts passes, too."""
        self.boots += 1
        others = [other for other in self.hosts if other is not host]
        host.clock.reboot(off)
        host.clock.boot_id += f" of {id(host)}"
        self.now += off
        for other in others:
            other.clock.advance(off)
        host.seen = None


# All in lifetimes of the token. A clock is right, or off by at least what Date can show.
OFFS = st.sampled_from([0.0, 0.5, -0.5, 1.0, -1.0, 1000.0, -1000.0]) | st.floats(0.5, 3) | st.floats(-3, -0.5)
LONG = st.sampled_from([0.1, 0.75, 0.8, 0.96, 1.2, 2.0]) | st.floats(0, 2)
EVENTS = st.one_of(
    st.tuples(st.just("pass"), LONG),  # awake or asleep
    st.tuples(st.just("jump"), OFFS),
    st.tuples(st.just("reboot"), LONG),
)
HOSTS = st.integers(0, 2)
# The host of an event, the event, and the hosts of the requests after it.
HISTORIES = st.lists(st.tuples(HOSTS, EVENTS, st.lists(HOSTS, max_size=6)), max_size=20)
CHANCES = st.floats(0, 1, exclude_max=True)


def run(world: World, history, chance: float) -> float:
    """Returns the seconds that have passed."""
    begun = world.now
    for where, (event, amount), requests in history:
        host = world.hosts[where % len(world.hosts)]
        if event == "pass":
            world.advance(amount * world.lifetime)
        elif event == "jump":
            host.clock.jump(amount * world.lifetime - host.off)
            host.off = amount * world.lifetime
        else:
            world.reboot(host, amount * world.lifetime)
        for number in requests:
            world.request(world.hosts[number % len(world.hosts)], chance)
    return world.now - begun


@settings(deadline=None, max_examples=400)
@given(st.floats(60, 1e5), st.floats(0, 3), st.lists(OFFS, min_size=1, max_size=3), HISTORIES, CHANCES)
def test_no_expired_token_is_attached_and_no_refresh_is_for_nothing(lifetime, took, offs, history, chance):
    hosts = [
        Host(FakeClock(1_800_000_000.0 + off * lifetime, 5000.0 + number, f"host {number}"), off * lifetime)
        for number, off in enumerate(offs)
    ]
    world = World(lifetime, took, hosts)
    seconds = run(world, history, chance)
    assert world.refused == []
    blur = 4 * (took + 1)  # the rounding of Date, on both sides
    assert world.refreshes <= 1 + len(hosts) + world.boots + seconds / max(SOONEST * lifetime - blur, 1)


@given(st.floats(1, 1e7), st.floats(-1, 1), st.floats(0, 3), st.floats(0, 10), st.floats(0, 2))
def test_without_a_server_time_the_age_is_right_on_a_host_with_a_right_clock_and_on_the_issuing_one(
    lifetime, writer_off, took, age, fraction
):
    writer = Host(FakeClock(1_800_000_000.0 + fraction), 0.0)
    writer.off = round(writer_off * BELIEVED)
    writer.clock.jump(writer.off)
    world = World(lifetime, took, [writer])
    world.now += fraction
    world.refresh(writer, 0.0)
    world.advance(age * lifetime)
    for off in (0.0, writer.off):
        reader = FakeClock(world.now + off, 7.0, "another boot")
        window = lifetimes.window(world.token, world.due_at, reader)
        blur = took + 1 if abs(writer.off) <= took + 1 else 0  # two clocks that may agree are assumed to
        assert window.expired - reader.boot() <= world.good_until - world.now + blur


@settings(deadline=None)
@given(st.floats(1, 30), HISTORIES, CHANCES)
def test_on_one_host_in_one_boot_that_holds_for_the_shortest_lives_too(lifetime, history, chance):
    world = World(lifetime, 0.0, [Host(FakeClock(), 0.0)])
    seconds = run(world, [entry for entry in history if entry[1][0] != "reboot"], chance)
    assert world.refused == []
    assert world.refreshes <= 1 + seconds / (SOONEST * lifetime)
