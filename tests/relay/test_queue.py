"""Requests that wait for a connection, over real sockets: at an upstream that hangs, refuses, or comes back.

A listener that nobody accepts from is a black hole for TLS: the kernel connects, and no handshake follows,
until `opened` serves what has come.
"""

import asyncio
import collections
import contextlib
import gc
import json
import os
import random
import socket
import struct
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy import tasks
from proxy.fd_limits import Descriptors
from proxy.relay.exchange import Exchange
from proxy.relay.inbound import Inbound
from proxy.relay.upstream import Upstream
from tests.patience import until

PATIENCE = 60  # seconds; for what must come


@contextlib.contextmanager
def hole():
    """A listener in TLS's black hole."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        yield listener


@contextlib.contextmanager
def deaf():
    """A listener whose queue is full: the kernel drops each further SYN."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener


@asynccontextmanager
async def opened(kit, listener, context, serve=None):
    """Serve what has come to `listener`, and comes."""
    served = kit.Upstream()
    server = await asyncio.start_server(serve or served.serve, sock=listener.dup(), ssl=context, backlog=1024)
    try:
        yield served
    finally:
        server.close()
        for connection in served.connections:
            connection.writer.transport.abort()


def tls_route(tls_authority):
    return f'tls = {{ ca = "{tls_authority[1]}" }}\n'


def url(listener):
    return f"https://localhost:{listener.getsockname()[1]}"


def problem(kit, answer):
    status, fields, body = kit.split(answer)
    (said,) = (field for field in fields if field.startswith(b"Proxy-Status: "))
    return status, json.loads(body)["detail"], said.decode()


async def queued(proxy, count):
    await until(lambda: proxy.sample("upstream_queued", route="up") == count)


BLACK_HOLES = {
    "hole": (hole, "no response to the TLS handshake"),
    "deaf": (deaf, "connecting takes too long"),
}


@pytest.mark.parametrize("name", BLACK_HOLES)
async def test_a_black_hole_refuses_all_in_time_and_harms_no_other_route(
    make_proxy, upstream, kit, tls_authority, name
):
    made, cause = BLACK_HOLES[name]
    other = (
        f'[[routes]]\npath = "/other"\nupstream = "http://127.0.0.1:{upstream.port}"\ncredential = "cred"\n'
    )
    with made() as listener:
        route = tls_route(tls_authority) + other
        async with make_proxy(url(listener), route=route, limits="connect = 5.0\ndials = 8") as proxy:
            assert (await proxy.get(b"/other")).startswith(b"HTTP/1.1 200 ")
            lost = [asyncio.create_task(proxy.get()) for _ in range(300)]
            await queued(proxy, 300)
            assert proxy.runtime.fixed_pool.dialling == 8
            for _ in range(20):
                assert (await proxy.get(b"/other")).startswith(b"HTTP/1.1 200 ")
            async with asyncio.timeout(PATIENCE):
                answers = await asyncio.gather(*lost)
            said = f"the upstream of route 'up' is slow to connect: {cause}"
            for answer in answers:
                status, detail, error = problem(kit, answer)
                assert (status, detail.partition(" (")[0]) == (504, said)
                assert "error=connection_timeout;" in error
            assert proxy.sample("upstream_errors_total", route="up", error="upstream-timeout") == 300
            await queued(proxy, 0)


async def test_an_upstream_that_refuses_refuses_a_crowd_at_once(make_proxy, kit):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with make_proxy(address, limits="connect = 3600.0\ndials = 4") as proxy:
            async with asyncio.timeout(PATIENCE):  # far below the limit
                answers = await asyncio.gather(*(proxy.get() for _ in range(200)))
            assert {problem(kit, answer)[0] for answer in answers} == {502}
            assert {problem(kit, answer)[2] for answer in answers} == {
                'Proxy-Status: token-proxy; error=connection_refused; details="upstream-unreachable"'
            }


async def test_who_waits_is_served_by_the_first_connections_and_in_order(make_proxy, kit, tls_authority):
    with hole() as listener:
        route = tls_route(tls_authority)
        async with make_proxy(url(listener), route=route, limits="dials = 1\nconnect = 60.0") as proxy:
            asking = []
            for number in range(20):
                asking.append(asyncio.create_task(proxy.get(b"/up/%d" % number)))
                await queued(proxy, number + 1)
            async with opened(kit, listener, tls_authority[0]) as served, asyncio.timeout(PATIENCE):
                answers = await asyncio.gather(*asking)
            assert all(answer.endswith(b"ok") for answer in answers)
            assert served.requests == 20
            first = served.connections[0].received
            numbers = [int(line.split(b" ")[1][1:]) for line in first.split(b"\r\n") if line[:4] == b"GET "]
            assert numbers[0] == 0
            assert numbers == sorted(numbers)
            assert len(served.connections) < 20


async def test_a_queue_of_a_route_that_is_no_longer_configured_is_served_or_refused(
    make_proxy, kit, tls_authority
):
    """A reload: the requests in flight end under the configuration that they began with."""
    with hole() as listener:
        route = tls_route(tls_authority)
        async with make_proxy(url(listener), route=route, limits="dials = 1\nconnect = 3.0") as proxy:
            relay, before = proxy.relay, proxy.relay.context
            lost = [asyncio.create_task(proxy.get()) for _ in range(10)]
            await queued(proxy, 10)
            relay._former.append(proxy.runtime)  # as RelayServer.swap, to a context without it
            proxy.runtime.retire()
            before.runtimes.clear()
            async with asyncio.timeout(PATIENCE):
                assert {problem(kit, answer)[0] for answer in await asyncio.gather(*lost)} == {504}
            await until(lambda: not relay._former)
            assert proxy.runtime.fixed_pool.is_empty


async def test_a_stop_serves_who_waits(make_proxy, kit, tls_authority):
    with hole() as listener:
        route = tls_route(tls_authority)
        async with make_proxy(url(listener), route=route, limits="dials = 1\nconnect = 60.0") as proxy:
            asking = [asyncio.create_task(proxy.get()) for _ in range(10)]
            await queued(proxy, 10)
            draining = asyncio.create_task(proxy.relay.drain(PATIENCE))
            async with opened(kit, listener, tls_authority[0]), asyncio.timeout(PATIENCE):
                assert all(answer.endswith(b"ok") for answer in await asyncio.gather(*asking))
                await draining


async def test_a_close_leaves_no_dial_and_nobody_who_waits(make_proxy, kit, tls_authority):
    with hole() as listener:
        async with make_proxy(url(listener), route=tls_route(tls_authority)) as proxy:
            asking = [asyncio.create_task(proxy.get()) for _ in range(10)]
            await queued(proxy, 10)
            await proxy.relay.close()
            await asyncio.gather(*asking, return_exceptions=True)
            await until(lambda: not [task for task in tasks._running if "dial" in task.get_name()])
            assert proxy.runtime.fixed_pool.is_empty


# -- open files


BY_HEADER = """
[[routes]]
path = "/who"
upstream = "http://127.0.0.1:{port}"
credential = "cred"
account = {{ header = "Who" }}
"""


async def test_idle_connections_of_other_accounts_and_former_routes_give_way(make_proxy, upstream, kit):
    address = f"http://127.0.0.1:{upstream.port}"
    more = BY_HEADER.format(port=upstream.port)
    async with make_proxy(address, route=more, grant="authorization_code") as proxy:
        for name in ("default", "ann", "bob", "eve"):
            await proxy.adopt("t", name)
        idle = proxy.relay.context.lasting.idle
        assert (await proxy.get()).endswith(b"ok")
        assert (await proxy.get(b"/who", b"Who: ann")).endswith(b"ok")
        few = Descriptors()
        few._usable = (
            idle.oldest._fd + 1
        )  # of all numbers below it only those of idle connections can be free
        object.__setattr__(idle, "_descriptors", few)
        for name in (b"bob", b"eve", b"ann", b"bob"):
            assert (await proxy.get(b"/who", b"Who: " + name)).endswith(b"ok"), name
        assert upstream.requests == 6


# -- ten thousand callers that vanish

CALLERS = int(os.environ.get("VANISHING_CALLERS", "10000"))
AT_ONCE = 500
STAY = 0.2  # share of those that wait until they are served
RESET = struct.pack("ii", 1, 0)


class Counting:
    """Responds to each request with its path; counts how often each came."""

    def __init__(self):
        self.seen = collections.Counter()
        self.writers = []

    async def serve(self, reader, writer):
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1]
                self.seen[path] += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    def close(self):
        for writer in self.writers:
            writer.transport.abort()


async def waits(proxy, kit, number):
    answer = await proxy.ask(kit.request(b"GET", b"/up/%d" % number, b"Connection: close"))
    assert answer.endswith(b"\r\n\r\n/%d" % number), answer
    return number


async def vanishes(proxy, kit, number, chance, go):
    """Some while all wait, some while the first are being served."""
    _, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up/%d" % number))
    wait, how = chance.random(), chance.choice(["close", "abort", "reset", "half"])
    await go.wait()
    await asyncio.sleep(wait * 0.5)
    with contextlib.suppress(OSError):
        if how == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if how == "half":
            writer.write_eof()
            await asyncio.sleep(0.05)
    writer.close() if how == "close" else writer.transport.abort()
    return number


async def wave(proxy, kit, context, numbers, chance):
    """Returns what the upstream has seen."""
    pool = proxy.runtime.fixed_pool
    counting, go = Counting(), asyncio.Event()
    with hole() as listener:
        proxy.lead_to(listener.getsockname()[1])
        stay = [number for number in numbers if chance.random() < STAY]
        staying = [asyncio.create_task(waits(proxy, kit, number)) for number in stay]
        leave = [
            asyncio.create_task(vanishes(proxy, kit, number, chance, go))
            for number in numbers
            if number not in set(stay)
        ]
        await queued(proxy, len(numbers))
        assert pool.dialling == 4
        go.set()
        await asyncio.sleep(0.25)
        async with opened(kit, listener, context, counting.serve), asyncio.timeout(PATIENCE):
            await asyncio.gather(*staying, *leave)
            await until(lambda: not proxy.relay._connections)
            await queued(proxy, 0)
            await until(lambda: not pool.dialling)
            pool.close_idle(float("inf"))
            assert pool.is_empty
            counting.close()
    assert all(counting.seen[b"/%d" % number] == 1 for number in stay)
    return counting.seen


def left():
    gc.collect()
    return collections.Counter(
        type(each).__name__
        for each in gc.get_objects()
        if issubclass(type(each), (Exchange, Inbound, Upstream))
    )


def open_files():
    return len(list(Path("/dev/fd").iterdir()))


async def test_ten_thousand_callers_that_vanish_in_the_queue_leave_nothing(make_proxy, kit, tls_authority):
    chance = random.Random(13)
    with hole() as listener:
        address = url(listener)
    limits = "dials = 4\nconnect = 600.0\nhalf_closed = 0.1"
    async with make_proxy(address, route=tls_route(tls_authority), limits=limits) as proxy:
        await wave(proxy, kit, tls_authority[0], range(AT_ONCE), chance)  # what is loaded once
        files, seen = open_files(), collections.Counter()
        for begin in range(AT_ONCE, AT_ONCE + CALLERS, AT_ONCE):
            seen += await wave(proxy, kit, tls_authority[0], range(begin, begin + AT_ONCE), chance)
        assert max(seen.values()) == 1, "a request was sent twice"
        assert len(seen) < CALLERS * 0.9, "nobody vanished in the queue"
        assert proxy.runtime.in_flight == 0
        await until(lambda: {task.get_name() for task in tasks._running} <= {"sweep deadlines"})
        await until(lambda: open_files() <= files)
        await until(lambda: not left())
