"""Look-ups: names that need none, shared ones, and the effect of hanging ones on others."""

import asyncio
import socket
import threading
import time

import pytest

from proxy.name_lookup import Resolver, without_lookup
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

    def __call__(self, host, port, *, type):  # noqa: A002 (as of getaddrinfo)
        assert (port, type) == (None, socket.SOCK_STREAM)
        self.asked.append(host)
        if host.startswith("slow"):
            assert self.let.wait(PATIENCE)
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


async def test_all_that_wait_for_a_name_share_one_look_up_and_the_next_has_one_of_its_own(names):
    resolver = Resolver(names)
    names.known["slow.example"] = "203.0.113.1"
    waiting = [asyncio.create_task(resolver.addresses("slow.example", port)) for port in range(1000)]
    await until(lambda: names.asked)
    names.let.set()
    found = await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
    assert [infos[0][4] for infos in found] == [("203.0.113.1", port) for port in range(1000)]
    assert names.asked == ["slow.example"]
    await resolver.addresses("slow.example", 1)
    assert names.asked == ["slow.example"] * 2


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
