"""Connecting to an upstream: the address chosen, and the problem reported if there is none."""

import asyncio
import resource
import socket
import threading

import pytest

from proxy import name_lookup
from proxy.name_lookup import resolver
from proxy.relay import problems
from proxy.relay.dial import dial
from proxy.relay.problems import Refusal
from tests.fakes.clock import FakeClock


async def test_a_lack_of_descriptors_is_not_the_upstreams_fault(proxy):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as probe:
        none_left = probe.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (none_left, hard))
        try:
            with pytest.raises(Refusal) as refused:
                await dial(proxy.runtime.route, None, 5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused.value.case is problems.OVERLOADED
    assert refused.value.retry_after == 1


@pytest.fixture
async def names(monkeypatch):
    """The system resolver's result from now on: a list of (address, port)."""
    says = []

    async def addresses(_host, _port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in says]

    monkeypatch.setattr(resolver, "addresses", addresses)
    return says


@pytest.fixture
def silent():
    """An address of this machine that accepts no connection: its queue is full."""
    with socket.socket() as listener, socket.socket() as waiting, socket.socket() as another:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (waiting, another):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()


async def test_an_unresponsive_address_does_not_delay_the_next_one(make_proxy, upstream, names, silent):
    """RFC 8305. Without it, the first address would use up the connect timeout."""
    route = "plaintext = true"
    async with make_proxy("http://api.example", route=route, limits="connect = 30") as proxy:
        names[:] = [silent, ("127.0.0.1", upstream.port)]
        answered = await asyncio.wait_for(proxy.get(), 10)
    assert answered.endswith(b"ok")


async def test_no_responsive_address_is_a_504(make_proxy, names, silent):
    route = "plaintext = true"
    async with make_proxy("http://api.example", route=route, limits="connect = 0.4") as proxy:
        names[:] = [silent]
        assert (await proxy.get()).startswith(b"HTTP/1.1 504 ")
        assert proxy.sample("upstream_errors_total", route="up", error="upstream-timeout") == 1


CLOSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Moving:
    """An upstream with a name, on addresses of this machine. `asked`: how often the name was looked up."""

    def __init__(self):
        self.clock = FakeClock()
        self.address = "127.0.0.1"
        self.fails = None  # with this code
        self.let = threading.Event()
        self.let.set()
        self.asked = 0

    def getaddrinfo(self, host, port, **_):
        assert (host, port) == ("api.example", None)
        self.asked += 1
        assert self.let.wait(60)
        if self.fails is not None:
            raise socket.gaierror(self.fails, "as told")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.address, 0))]


@pytest.fixture
def moving(monkeypatch):
    moving = Moving()
    kept = name_lookup.Resolver(moving.getaddrinfo, now=moving.clock.boot)
    monkeypatch.setattr(resolver, "addresses", kept.addresses)
    yield moving
    moving.let.set()


@pytest.fixture
async def two(kit):
    """Upstreams on one port of 127.0.0.1 and 127.0.0.2; each response ends its connection."""
    first, second = kit.Upstream(), kit.Upstream()
    first.script, second.script = [CLOSE] * 100, [CLOSE] * 100
    async with kit.serving(first), kit.serving(second, host="127.0.0.2", port=first.port):
        yield first, second


@pytest.fixture
def by_name(make_proxy, two):
    return make_proxy(f"http://api.example:{two[0].port}", route="plaintext = true")


async def test_a_name_that_moves_is_followed_within_seconds(by_name, two, moving):
    async with by_name as proxy:
        for _ in range(3):
            assert (await proxy.get()).endswith(b"ok")
        assert moving.asked == 1
        moving.address = "127.0.0.2"
        moving.clock.advance(name_lookup.FRESH + 0.1)
        for _ in range(3):
            assert (await proxy.get()).endswith(b"ok")
    assert [upstream.requests for upstream in two] == [3, 3]
    assert moving.asked == 2


async def test_a_kept_address_that_fails_is_looked_up_anew_for_the_same_request(by_name, two, moving):
    first, second = two
    async with by_name as proxy:
        assert (await proxy.get()).endswith(b"ok")
        first.stop()
        moving.address = "127.0.0.2"
        moving.clock.advance(2)
        for _ in range(3):
            assert (await proxy.get()).endswith(b"ok")
        assert proxy.sample("upstream_errors_total", route="up", error="upstream-unreachable") == 0
    assert (first.requests, second.requests, moving.asked) == (1, 3, 2)


async def test_an_upstream_that_is_down_is_not_looked_up_for_each_request(by_name, two, moving):
    async with by_name as proxy:
        assert (await proxy.get()).endswith(b"ok")
        two[0].stop()
        moving.clock.advance(2)
        for _ in range(5):
            assert b"connection refused" in await proxy.get()
        assert moving.asked == 2


async def test_while_look_ups_hang_requests_are_served(by_name, two, moving):
    async with by_name as proxy:
        assert (await proxy.get()).endswith(b"ok")
        moving.let.clear()
        moving.clock.advance(600)
        for _ in range(5):
            assert (await asyncio.wait_for(proxy.get(), 30)).endswith(b"ok")
            moving.clock.advance(10)
    assert (two[0].requests, moving.asked) == (6, 2)


@pytest.mark.parametrize(("code", "serves"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)])
async def test_a_name_server_that_fails_is_no_name_that_is_gone(by_name, two, moving, code, serves):
    async with by_name as proxy:
        assert (await proxy.get()).endswith(b"ok")
        moving.fails = code
        moving.clock.advance(600)
        answer = await proxy.get()
    assert answer.endswith(b"ok") == serves
    assert (b"no such host" in answer) != serves


async def test_an_unknown_name_is_a_502(make_proxy):
    async with make_proxy("https://no-such-host.invalid") as proxy:
        assert (await proxy.get()).startswith(b"HTTP/1.1 502 ")
        assert proxy.sample("upstream_errors_total", route="up", error="upstream-unreachable") == 1


# -- look-ups that hang


@pytest.fixture
def hanging(monkeypatch):
    """The system's resolver hangs for slow*.example, and knows no other name."""
    let = threading.Event()
    known = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        if host.startswith("slow") and not kwargs.get("flags"):
            assert let.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no response")
        return known(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    let.set()


async def test_hanging_look_ups_do_not_affect_other_routes_and_refreshes(make_proxy, upstream, hanging, kit):
    slow = "".join(
        f'[[routes]]\npath = "/slow{n}"\nupstream = "https://slow{n}.example"\ncredential = "cred"\n'
        for n in range(8)
    )
    upstream.script = [
        kit.OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    ] * 5  # so that each needs a new connection
    url = f"http://127.0.0.1:{upstream.port}"
    async with make_proxy(url, route=slow, limits="connect = 1.0") as proxy:
        hung = [asyncio.create_task(proxy.get(f"/slow{number % 8}/x".encode())) for number in range(40)]
        await asyncio.sleep(0.1)
        for _ in range(5):
            assert (await asyncio.wait_for(proxy.get(), 10)).startswith(b"HTTP/1.1 200 ")
        for answer in await asyncio.wait_for(asyncio.gather(*hung), 30):
            assert answer.startswith(b"HTTP/1.1 504 ")


# -- loopback names


async def test_a_squatter_on_the_other_loopback_address_gets_no_token_while_the_upstream_lives(
    make_proxy, upstream, kit
):
    """The hosts file may put ::1 first; the upstream listens on 127.0.0.1 only."""
    async with kit.serving(kit.Upstream(), host="::1", port=upstream.port) as squatter:
        async with make_proxy(f"http://localhost:{upstream.port}") as proxy:
            for _ in range(3):
                assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")
        assert squatter.requests == 0


async def test_an_upstream_on_the_other_loopback_address_alone_is_reached(make_proxy, kit):
    async with (
        kit.serving(kit.Upstream(), host="::1") as upstream,
        make_proxy(f"http://localhost:{upstream.port}") as proxy,
    ):
        assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")
