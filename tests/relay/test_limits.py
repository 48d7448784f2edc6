"""Every limit of [limits] that a caller or an upstream can reach: below it, and the response above it."""

import asyncio
import contextlib
import json

import pytest

from proxy.config.limits import Limits
from proxy.demo.faults import Fault

PATIENCE = 10  # seconds; nothing here should take as long
ELSEWHERE = {  # limit -> its test in another file
    "admin_connections": "admin/test_server.py, test_process.py",
    "admin_header_time": "admin/test_server.py, test_process.py",
    "health_connections": "admin/test_health_listener.py, black_box/test_health_attack.py",
    "connect": "test_bad_upstreams.py",
    "first_byte": "test_bad_upstreams.py",
    "body_stall": "test_bad_upstreams.py",
    "upstream_idle": "test_upstream.py",
    "pool": "test_pool.py",
    "dials": "test_pool.py",
    "half_closed": "test_half_closed.py",
    "shutdown": "test_server.py, commands/test_run.py",
    "authorization_server_connect": "oauth/",
    "authorization_server_total": "oauth/",
    "authorization_server_rate": "tokens/test_gate.py",
    "account_labels": "test_metrics.py",
    "account_idle": "tokens/test_refresher.py",
}


def problem(kit, answer):
    """(status, ending) of a response of our own; (status, "") of an upstream's."""
    status, fields, body = kit.split(answer)
    if b"Content-Type: application/problem+json" not in fields:
        return status, ""
    return status, json.loads(body)["type"].removeprefix("urn:token-proxy:problem:")


def test_each_limit_is_shown_here_or_elsewhere():
    assert set(REACHED) | set(ELSEWHERE) | {"field_size", "fields", "header_size"} == set(Limits.model_fields)


# -- the size of heads, with the default limits


def padded(size):
    """A field of `size` bytes, name and value."""
    return b"X-Padding: ".ljust(size, b"x")


def filled(size, *, besides):
    """Fields that fill a head up to `size` bytes; `besides`: the number of its other bytes."""
    fields = []
    left = size - besides
    while left > 0:
        fields.append(padded(min(left, 32_000) - 2))
        left -= min(left, 32_000)
    return fields


ASKED = len(b"GET /up HTTP/1.1\r\nHost: localhost\r\nConnection: close")
ANSWERED = len(b"HTTP/1.1 200 OK\r\nContent-Length: 2")
HEADS = {  # limit -> the fields (beside those above) that pass, and one byte or one field more
    "field_size": lambda _: ([padded(32_768)], [padded(32_769)]),
    "fields": lambda others: ([b"X: 1"] * (200 - others), [b"X: 1"] * (201 - others)),
    "header_size": lambda others: (
        filled(131_072, besides=ASKED if others == 2 else ANSWERED),
        filled(131_073, besides=ASKED if others == 2 else ANSWERED),
    ),
}


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_may_be_as_large_as_the_limit_and_no_larger(proxy, upstream, kit, name):
    fits, does_not = HEADS[name](2)
    assert problem(kit, await proxy.get(b"/up", *fits)) == (200, "")
    assert all(field in upstream.received[0] for field in fits)
    assert problem(kit, await proxy.get(b"/up", *does_not)) == (431, "header-too-large")
    assert proxy.refused("header-too-large") == 1
    assert upstream.requests == 1


@pytest.mark.parametrize("name", HEADS)
async def test_an_upstreams_head_has_the_same_limits(proxy, upstream, kit, name):
    heads = [
        b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"Content-Length: 2", b"", b"ok"])
        for fields in HEADS[name](1)
    ]
    upstream.script = list(heads)
    assert (await proxy.get()).startswith(heads[0].partition(b"\r\n\r\n")[0])
    assert problem(kit, await proxy.get()) == (502, "upstream-protocol")
    assert proxy.sample("upstream_errors_total", route="up", error="upstream-protocol") == 1


async def arriving(writer, data, cut):
    writer.write(data[:cut])
    await writer.drain()
    await asyncio.sleep(0.05)  # until the beginning has been read
    writer.write(data[cut:])


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
async def test_a_head_may_be_as_large_wherever_it_is_cut(proxy, upstream, kit, missing):
    head = kit.request(b"GET", b"/up", b"Connection: close", *HEADS["header_size"](2)[0])
    reader, writer = await proxy.connect()
    await arriving(writer, head, len(head) - missing)
    assert problem(kit, await reader.read()) == (200, "")
    writer.close()


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
async def test_an_upstreams_head_may_be_as_large_wherever_it_is_cut(proxy, upstream, kit, missing):
    fields = HEADS["header_size"](1)[0]
    answer = b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"Content-Length: 2", b"", b"ok"])
    upstream.script = [lambda connection: arriving(connection.writer, answer, len(answer) - 2 - missing)]
    assert problem(kit, await proxy.get()) == (200, "")


# -- counts and timeouts, made small


async def connections(proxy, upstream, kit):
    kept = [await proxy.connect() for _ in range(2)]
    for reader, writer in kept:
        writer.write(kit.request(b"GET", b"/up"))
        assert await reader.readexactly(len(kit.OK)) == kit.OK
    answer = await proxy.get()
    assert problem(kit, answer) == (503, "overloaded")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert proxy.refused("overloaded") == 1
    for _, writer in kept:
        writer.close()
    while proxy.relay._connections:
        await asyncio.sleep(0.01)
    assert problem(kit, await proxy.get()) == (200, "")


async def waiting(proxy, upstream, kit):
    go_on = asyncio.Event()
    proxy.server.script(Fault(wait_before=go_on.wait))
    patient = [asyncio.ensure_future(proxy.get()) for _ in range(2)]
    while proxy.relay.context.lasting.waiting < 2:
        await asyncio.sleep(0.01)
    answer = await proxy.get()
    assert problem(kit, answer) == (503, "overloaded")
    assert b"\r\nRetry-After: 1\r\n" in answer
    assert proxy.refused("overloaded") == 1
    go_on.set()
    assert [problem(kit, answer) for answer in await asyncio.gather(*patient)] == [(200, "")] * 2
    assert proxy.relay.context.lasting.waiting == 0
    assert upstream.requests == 2


async def token_wait(proxy, upstream, kit):
    go_on = asyncio.Event()
    proxy.server.script(Fault(wait_before=go_on.wait))
    answer = await proxy.get()
    assert problem(kit, answer) == (503, "token-unavailable")
    assert b"\r\nRetry-After: " in answer
    assert proxy.refused("token-unavailable") == 1
    go_on.set()
    while proxy.tokens.ready(proxy.account) is None:
        await asyncio.sleep(0.01)
    assert problem(kit, await proxy.get()) == (200, "")
    assert upstream.requests == 1


async def header_time(proxy, upstream, kit):
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    assert await reader.readexactly(len(kit.OK)) == kit.OK
    writer.write(b"GET /up HTTP/1.1\r\nHost: local")
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    assert upstream.requests == 1
    writer.close()


async def idle(proxy, upstream, kit):
    async def takes_longer_than_idle(connection):
        await asyncio.sleep(1.2)
        connection.writer.write(kit.OK)

    upstream.script = [takes_longer_than_idle]
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    assert await asyncio.wait_for(reader.read(), PATIENCE) == kit.OK
    assert upstream.requests == 1
    writer.close()


async def spool(proxy, upstream, kit):
    unauthorized = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
    for body, status, action in ((b"1234", 200, "replayed"), (b"12345", 401, "returned")):
        upstream.script = [unauthorized]
        proxy.account.rejected_at = float("-inf")
        lines = [b"Content-Length: %d" % len(body), b"Connection: close"]
        answer = await proxy.ask(kit.request(b"POST", b"/up", *lines, body=body))
        assert (len(body), problem(kit, answer)) == (len(body), (status, ""))
        assert proxy.sample("upstream_unauthorized_total", route="up", action=action) == 1


REACHED = {  # limit -> its small value, the outcome at it
    "connections": (2, connections),
    "waiting": (2, waiting),
    "token_wait": (0.3, token_wait),
    "header_time": (0.3, header_time),
    "idle": (0.6, idle),
    "spool": (4, spool),
}


@pytest.mark.parametrize("name", REACHED)
async def test_a_limit_that_is_reached_has_its_response(make_proxy, upstream, kit, name):
    value, scenario = REACHED[name]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits=f"{name} = {value}") as proxy:
        await scenario(proxy, upstream, kit)


# -- many callers that never finish their header

SLOW = 1000
BEGINNINGS = [  # what such a caller has sent before it begins to drip
    b"",
    b"\r\n",
    b"POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nX: ",
    b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\nGET /up HTTP/1.1\r\nX: ",
]


async def test_callers_that_drip_their_headers_are_closed_without_harm_to_others(make_proxy, upstream, kit):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="header_time = 5.0") as proxy:
        slow = [await proxy.connect() for _ in range(SLOW)]
        for number, (_, writer) in enumerate(slow):
            writer.write(BEGINNINGS[number % len(BEGINNINGS)])
        ends = asyncio.gather(*(until_closed(reader) for reader, _ in slow))
        served = 0
        while not ends.done():
            for _, writer in slow:
                if not writer.is_closing():
                    writer.write(b"x")
            assert problem(kit, await proxy.get()) == (200, "")
            served += len(proxy.relay._connections) > SLOW // 2
            await asyncio.sleep(0.05)
        assert served, "no request was served while they were connected"
        for answer in await ends:
            assert answer in {b"", kit.OK}
        assert not proxy.relay._connections
        for _, writer in slow:
            writer.close()


async def until_closed(reader):
    received = b""
    with contextlib.suppress(ConnectionError):  # reset, or a broken pipe: the caller had dripped once more
        while data := await asyncio.wait_for(reader.read(65536), PATIENCE):
            received += data
    return received


@pytest.mark.parametrize("split", range(1, 5))
async def test_two_empty_lines_before_a_request_are_ignored_however_they_arrive(proxy, kit, split):
    """RFC 9112 section 2.2: old callers send one after a body, not counted in its length."""
    asked = b"\r\n\r\n" + kit.request(b"GET", b"/up", b"Connection: close")
    assert (await proxy.ask(asked[:split], asked[split:])).startswith(b"HTTP/1.1 200 ")


async def test_more_empty_lines_are_no_request(proxy, upstream, kit):
    answer = await proxy.ask(b"\r\n" * 3 + kit.request(b"GET", b"/up"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert upstream.requests == 0


@pytest.mark.parametrize("behind", [b"\r", b"\r\n", b"\r\n\r", b"\r\n\r\n"])
async def test_empty_lines_after_the_last_request_do_not_delay_the_end(proxy, kit, behind):
    answer = await proxy.ask(kit.request(b"GET", b"/up") + behind, eof=True)
    assert answer.count(b"HTTP/1.1 200 ") == 1


async def test_each_request_of_a_connection_may_have_empty_lines_before_it(proxy, kit):
    last = kit.request(b"GET", b"/up", b"Connection: close")
    answer = await proxy.ask(b"\r\n\r\n" + kit.request(b"GET", b"/up") + b"\r\n\r\n" + last)
    assert answer.count(b"HTTP/1.1 200 ") == 2
