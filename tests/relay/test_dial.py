"""Connecting to an upstream: the address chosen, and the problem reported if there is none."""

import asyncio
import resource
import socket
import threading

import pytest

from proxy.name_lookup import resolver
from proxy.relay import problems
from proxy.relay.dial import dial
from proxy.relay.problems import Refusal


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


async def test_a_name_is_looked_up_again_for_each_connection(make_proxy, upstream, kit, names):
    async with (
        kit.serving(kit.Upstream()) as moved,
        make_proxy("http://api.example", route="plaintext = true", limits="upstream_idle = 0.1") as proxy,
    ):
        names[:] = [("127.0.0.1", upstream.port)]
        assert (await proxy.get()).endswith(b"ok")
        names[:] = [("127.0.0.1", moved.port)]
        await asyncio.wait_for(upstream.connections[0].ended.wait(), 5)
        assert (await proxy.get()).endswith(b"ok")
    assert (upstream.requests, moved.requests) == (1, 1)


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
