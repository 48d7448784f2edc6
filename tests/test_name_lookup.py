"""Look-ups: names that need none, shared ones, and the effect of hanging ones on others."""

import asyncio
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.name_lookup import FRESH, KEPT, NAMES, REFRESH, Resolver, without_lookup
from proxy.name_lookup import PATIENCE as UNTIL_KEPT
from tests.fakes.clock import FakeClock
from tests.patience import until

PATIENCE = 10


def info_of(address):
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]


class Names:
    """As the system's resolver: names that begin with `slow` hang until they are released."""

    def __init__(self):
        self.let = threading.Event()
        self.asked = []
        self.known = {}
        self.hangs = False
        self.fails = None  # with this code

    def __call__(self, host, port, *, type):  # noqa: A002 (as of getaddrinfo)
        assert (port, type) == (None, socket.SOCK_STREAM)
        self.asked.append(host)
        if host.startswith("slow") or self.hangs:
            assert self.let.wait(PATIENCE)
        if self.fails is not None:
            raise socket.gaierror(self.fails, "as told")
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return info_of(self.known[host])


@pytest.fixture
def names():
    names = Names()
    yield names
    names.let.set()


@pytest.mark.parametrize(
    ("host", "family", "address"),
    [
        ("127.0.0.1", socket.AF_INET, ("127.0.0.1", 80)),
        ("203.0.113.9", socket.AF_INET, ("203.0.113.9", 80)),
        ("::1", socket.AF_INET6, ("::1", 80, 0, 0)),
        ("2001:db8::7", socket.AF_INET6, ("2001:db8::7", 80, 0, 0)),
        ("fe80::1%lo", socket.AF_INET6, ("fe80::1", 80, 0, socket.if_nametoindex("lo"))),
        ("fe80::1%1", socket.AF_INET6, ("fe80::1", 80, 0, 1)),
    ],
)
async def test_a_literal_is_not_looked_up(names, host, family, address):
    ((found, kind, _, _, place),) = await Resolver(names).addresses(host, 80)
    assert (found, kind, place[1:]) == (family, socket.SOCK_STREAM, address[1:])
    assert place[0].partition("%")[0] == address[0]
    assert names.asked == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "app.localhost"])
async def test_a_loopback_name_is_not_looked_up(names, host):
    names.known[host] = "198.51.100.1"
    found = await Resolver(names).addresses(host, 80)
    assert [info[4][:2] for info in found] == [("127.0.0.1", 80), ("::1", 80)]
    assert names.asked == []


@pytest.mark.parametrize("host", ["localhost.example", "notlocalhost", "1.2.3.4.example", "a.b"])
def test_other_names_are_looked_up(host):
    assert without_lookup(host, 80) is None


async def test_a_name_is_looked_up_with_the_port_put_in(names):
    names.known["api.example"] = "203.0.113.1"
    assert await Resolver(names).addresses("api.example", 8443) == [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.1", 8443))
    ]


async def test_all_that_wait_for_a_name_share_one_look_up(names):
    resolver = Resolver(names)
    names.known["slow.example"] = "203.0.113.1"
    waiting = [asyncio.create_task(resolver.addresses("slow.example", port)) for port in range(1000)]
    await until(lambda: names.asked)
    names.let.set()
    found = await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
    assert [infos[0][4] for infos in found] == [("203.0.113.1", port) for port in range(1000)]
    assert names.asked == ["slow.example"]


async def test_a_cancelled_caller_leaves_at_once_and_the_others_wait_on(names):
    resolver = Resolver(names)
    names.known["slow.example"] = "203.0.113.1"
    patient = asyncio.create_task(resolver.addresses("slow.example", 1))
    await until(lambda: names.asked)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await resolver.addresses("slow.example", 2)
    assert not patient.done()
    names.let.set()
    assert (await asyncio.wait_for(patient, PATIENCE))[0][4] == ("203.0.113.1", 1)
    assert names.asked == ["slow.example"]


async def test_a_hanging_name_delays_no_other_name_and_takes_one_thread(names):
    resolver = Resolver(names, lookups=4)
    names.known["good.example"] = "203.0.113.2"
    before = threading.active_count()
    hanging = [
        asyncio.create_task(resolver.addresses(f"slow{number % 3}.example", 1)) for number in range(300)
    ]
    await until(lambda: len(names.asked) == 3)
    assert threading.active_count() <= before + 3
    for _ in range(5):
        assert await asyncio.wait_for(resolver.addresses("good.example", 1), PATIENCE)
    names.let.set()
    assert all(
        isinstance(each, socket.gaierror) for each in await asyncio.gather(*hanging, return_exceptions=True)
    )


async def test_with_no_thread_free_a_name_waits_for_its_turn_within_its_callers_time(names):
    resolver = Resolver(names, lookups=2)
    names.known |= {"good.example": "203.0.113.2", "better.example": "203.0.113.3"}
    hanging = [asyncio.create_task(resolver.addresses(f"slow{number}.example", 1)) for number in range(2)]
    await until(lambda: len(names.asked) == 2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await resolver.addresses("good.example", 1)
    later = [asyncio.create_task(resolver.addresses(f"{name}.example", 1)) for name in ("good", "better")]
    await asyncio.sleep(0.02)
    names.let.set()
    found = await asyncio.wait_for(asyncio.gather(*later), PATIENCE)
    assert [infos[0][4][0] for infos in found] == ["203.0.113.2", "203.0.113.3"]
    assert names.asked.count("good.example") == 1
    await asyncio.gather(*hanging, return_exceptions=True)
    assert resolver._free == 2
    assert not resolver._flights


async def test_all_waiting_callers_get_a_failure_and_the_next_one_asks_again(names):
    resolver = Resolver(names)
    names.let.set()
    outcomes = await asyncio.gather(
        *(resolver.addresses("slow.invalid", 1) for _ in range(3)), return_exceptions=True
    )
    assert [error.errno for error in outcomes] == [socket.EAI_NONAME] * 3
    names.known["slow.invalid"] = "203.0.113.1"
    assert await resolver.addresses("slow.invalid", 1)


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "a..b", ".example"])
async def test_an_invalid_name_is_unknown(host):
    with pytest.raises(socket.gaierror):
        await asyncio.wait_for(Resolver().addresses(host, 1), 60)


async def test_an_unexpected_error_is_raised_and_frees_its_thread():
    def odd(*_args, **_kwargs):
        raise ZeroDivisionError

    resolver = Resolver(odd, lookups=1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(resolver.addresses("odd.example", 1), PATIENCE)


async def test_a_system_without_threads_is_a_failure_and_no_hang(names, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    resolver = Resolver(names)
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", refuse)
        with pytest.raises(socket.gaierror):
            await asyncio.wait_for(resolver.addresses("good.example", 1), PATIENCE)
    names.known["good.example"] = "203.0.113.2"
    assert await resolver.addresses("good.example", 1)


# -- addresses that are kept


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def resolver(names, clock):
    names.known["api.example"] = "203.0.113.1"
    return Resolver(names, now=clock.boot)


async def found_by(resolver, **options):
    (info,) = await asyncio.wait_for(resolver.addresses("api.example", 443, **options), 60)
    return info[4][0]


async def idle(resolver):
    """Wait until no look-up is under way."""
    await until(lambda: not resolver._flights)


async def test_a_name_is_looked_up_once_in_a_while(resolver, names, clock):
    for _ in range(5):
        assert await found_by(resolver) == "203.0.113.1"
        clock.advance(REFRESH / 5)
    assert len(names.asked) == 1


async def test_each_caller_gets_its_own_port(resolver):
    for port in (1, 2):
        assert (await resolver.addresses("api.example", port))[0][4] == ("203.0.113.1", port)


async def test_a_busy_name_is_looked_up_behind_and_nobody_waits(resolver, names, clock):
    await found_by(resolver)
    names.hangs, names.known["api.example"] = True, "203.0.113.2"
    clock.advance(FRESH)
    for _ in range(5):
        assert await found_by(resolver) == "203.0.113.1"
    await until(lambda: len(names.asked) == 2)
    names.let.set()
    await idle(resolver)
    assert await found_by(resolver) == "203.0.113.2"
    assert len(names.asked) == 2


async def test_a_name_that_moves_is_followed_after_a_pause_at_once(resolver, names, clock):
    await found_by(resolver)
    names.known["api.example"] = "203.0.113.2"
    clock.advance(FRESH + 1)
    assert await found_by(resolver) == "203.0.113.2"


async def test_while_look_ups_hang_the_last_good_addresses_serve(resolver, names, clock):
    await found_by(resolver)
    names.hangs = True
    clock.advance(KEPT / 2)
    assert await found_by(resolver) == "203.0.113.1"  # after PATIENCE
    clock.advance(UNTIL_KEPT)
    for _ in range(100):
        assert await found_by(resolver) == "203.0.113.1"  # at once: the look-up hangs
    assert len(names.asked) == 2
    clock.advance(KEPT / 2)
    with pytest.raises(TimeoutError):  # who knows whose address that is by now
        async with asyncio.timeout(0.1):
            await resolver.addresses("api.example", 443)


@pytest.mark.parametrize("code", [socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM, socket.EAI_MEMORY])
async def test_while_look_ups_fail_for_a_time_the_last_good_addresses_serve(resolver, names, clock, code):
    await found_by(resolver)
    names.fails = code
    clock.advance(FRESH + 1)
    for _ in range(10):
        assert await found_by(resolver) == "203.0.113.1"
    assert len(names.asked) == 2  # not once for each
    clock.advance(REFRESH + 1)
    assert await found_by(resolver) == "203.0.113.1"
    assert len(names.asked) == 3
    clock.advance(KEPT)
    with pytest.raises(socket.gaierror) as raised:
        await found_by(resolver)
    assert raised.value.errno == code
    names.fails = None
    assert await found_by(resolver) == "203.0.113.1"


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY])
async def test_a_name_that_exists_no_more_is_followed(resolver, names, clock, code):
    await found_by(resolver)
    names.fails = code
    clock.advance(REFRESH + 1)
    assert await found_by(resolver) == "203.0.113.1"
    await idle(resolver)
    with pytest.raises(socket.gaierror) as raised:
        await found_by(resolver)
    assert raised.value.errno == code
    names.fails = None
    assert await found_by(resolver) == "203.0.113.1"  # and back again


async def test_a_name_that_exists_no_more_is_followed_after_a_pause(resolver, names, clock):
    await found_by(resolver)
    names.fails = socket.EAI_NONAME
    clock.advance(FRESH + 1)
    with pytest.raises(socket.gaierror):
        await found_by(resolver)


async def test_an_answer_without_addresses_is_no_such_name(clock):
    answers = [info_of("203.0.113.1"), []]
    resolver = Resolver(lambda *_, **__: answers.pop(0), now=clock.boot)
    await found_by(resolver)
    clock.advance(FRESH + 1)
    with pytest.raises(socket.gaierror) as raised:
        await found_by(resolver)
    assert raised.value.errno == socket.EAI_NONAME


async def test_who_wants_them_newer_waits_for_a_look_up(resolver, names, clock):
    """As for a refresh, or after a connection has failed."""
    await found_by(resolver)
    names.known["api.example"] = "203.0.113.2"
    clock.advance(0.5)
    assert await found_by(resolver, age=1.0) == "203.0.113.1"
    assert await found_by(resolver, age=0.0) == "203.0.113.2"
    assert await found_by(resolver) == "203.0.113.2"
    assert len(names.asked) == 2


async def test_who_wants_them_newer_gets_the_last_good_ones_if_look_ups_hang(resolver, names, clock):
    await found_by(resolver)
    names.hangs = True
    clock.advance(1)
    assert await found_by(resolver, age=0.0) == "203.0.113.1"


async def test_a_caller_that_leaves_ends_no_look_up_of_a_kept_name(resolver, names, clock):
    await found_by(resolver)
    names.hangs, names.known["api.example"] = True, "203.0.113.2"
    clock.advance(FRESH + 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await resolver.addresses("api.example", 443)
    names.let.set()
    await idle(resolver)
    assert await found_by(resolver) == "203.0.113.2"


async def test_the_number_of_names_is_bounded(names, clock):
    resolver = Resolver(names, now=clock.boot)
    for number in range(NAMES + 10):
        names.known[f"n{number}.example"] = "203.0.113.1"
        await resolver.addresses(f"n{number}.example", 443)
    assert len(resolver._kept) == NAMES
    await resolver.addresses("n0.example", 443)
    assert names.asked.count("n0.example") == 2
    await resolver.addresses(f"n{NAMES}.example", 443)
    assert names.asked.count(f"n{NAMES}.example") == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.1, 1.0, 4.0, 6.0, 11.0, 4000.0]),
            st.sampled_from([None, "moves", socket.EAI_AGAIN, socket.EAI_NONAME]),
            st.sampled_from([FRESH, 1.0, 0.0]),
        ),
        max_size=30,
    )
)
def test_an_address_is_as_old_as_it_may_be(steps):
    """If look-ups succeed: no older than asked for. If they fail: no older than KEPT."""

    async def main():
        clock, names = FakeClock(), Names()
        resolver = Resolver(names, now=clock.boot)
        since = {}  # address -> from when to when the name had it
        names.known["api.example"] = "203.0.113.0"
        since["203.0.113.0"] = clock.boot()
        left = {}
        failed_at = None
        for number, (seconds, event, age) in enumerate(steps):
            clock.advance(seconds)
            names.fails = event if isinstance(event, int) else None
            if event == "moves":
                left[names.known["api.example"]] = clock.boot()
                names.known["api.example"] = f"203.0.113.{number + 1}"
            failed_at = clock.boot() if names.fails is not None else failed_at
            try:
                address = await found_by(resolver, age=age)
            except socket.gaierror:
                assert names.fails is not None
                continue
            finally:
                await idle(resolver)
            gone = clock.boot() - left.get(address, clock.boot())
            assert gone <= KEPT
            if names.fails is None and (failed_at is None or clock.boot() - failed_at > REFRESH):
                assert gone <= age

    asyncio.run(main())


def test_the_end_of_a_process_waits_for_no_look_up():
    import subprocess
    import sys

    script = """
import asyncio, time
from proxy.name_lookup import Resolver
async def main():
    try:
        async with asyncio.timeout(0.1):
            await Resolver(lambda *_, **__: time.sleep(600)).addresses("slow.example", 1)
    except TimeoutError:
        print("freed")
asyncio.run(main())
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=100, check=True)
    assert done.stdout == b"freed\n"
    assert time.monotonic() - began < 100
