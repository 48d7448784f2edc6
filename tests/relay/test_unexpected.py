"""An unexpected exception ends one exchange, and nothing else: no caller waits for ever, no loop ends."""

import asyncio
import contextlib
import json
import logging
import socket

import pytest

PATIENCE = 10  # seconds; nothing here should take as long


class Odd(RuntimeError):
    """An unexpected exception."""


async def odd(*_args, **_named):
    raise Odd("unexpected")


def at_once(*_args, **_named):
    raise Odd("unexpected")


def told(kit, answer):
    status, fields, body = kit.split(answer)
    return status, json.loads(body)["type"].rpartition(":")[2], b"Connection: close" in fields


PLACES = {  # where it is raised -> (the attribute and its replacement, whether a 401 comes first)
    "as the token is looked up": ("ready", at_once, False),
    "as the token is awaited": ("get", odd, False),
    "as a 401 is judged": ("reject", at_once, True),
    "as a better token is awaited": ("reject", lambda *_: odd(), True),
}


@pytest.mark.parametrize("place", PLACES)
async def test_an_unexpected_exception_is_a_500(proxy, upstream, kit, monkeypatch, caplog, place):
    name, replacement, unauthorized = PLACES[place]
    if name == "get":
        monkeypatch.setattr(proxy.tokens, "ready", lambda _account: None)
    if unauthorized:
        upstream.script = [b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno"]
    monkeypatch.setattr(proxy.tokens, name, replacement)
    caplog.set_level(logging.ERROR)
    answer = await proxy.ask(kit.request(b"GET", b"/up"))  # although the caller would keep the connection
    assert told(kit, answer) == (500, "internal-error", True)
    assert proxy.refused("internal-error") == 1
    assert proxy.sample("requests_total", route="up", method="GET", code="500") == 1
    assert proxy.runtime.in_flight == 0
    assert proxy.runtime.pool(proxy.account).active == 0
    assert any(record.exc_info and isinstance(record.exc_info[1], Odd) for record in caplog.records)
    monkeypatch.undo()
    assert (await proxy.get()).endswith(b"\r\n\r\nok")


async def test_one_during_an_upload_closes_the_connection(proxy, kit, monkeypatch):
    monkeypatch.setattr(proxy.tokens, "ready", at_once)
    answer = await proxy.ask(kit.request(b"POST", b"/up", b"Content-Length: 100", body=b"half"))
    assert told(kit, answer) == (500, "internal-error", True)


class OddLog:
    """A request log that can't be written to."""

    enabled = True
    add = staticmethod(at_once)

    def __init__(self, log):
        self._log = log

    def __getattr__(self, name):
        return getattr(self._log, name)


async def test_one_after_the_head_cuts_the_connection(proxy, upstream, kit):
    """Counting and logging are the last steps of a request."""

    async def in_two_parts(connection):
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        await connection.writer.drain()
        await go_on.wait()
        connection.writer.write(b"lf")

    go_on = asyncio.Event()
    upstream.script = [in_two_parts]
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    await reader.readuntil(b"ha")
    log = proxy.relay.context.log
    proxy.relay.context.log = OddLog(log)
    go_on.set()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), PATIENCE)
    proxy.relay.context.log = log
    assert proxy.runtime.in_flight == 0
    assert proxy.refused("internal-error") == 1
    assert (await proxy.get()).endswith(b"\r\n\r\nok")
    writer.close()


async def test_one_when_the_caller_leaves_leaves_nothing_behind(proxy, upstream, kit):
    upstream.script = [lambda connection: connection.reader.read()]
    _reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    while not upstream.answered:
        await asyncio.sleep(0.01)
    log = proxy.relay.context.log
    proxy.relay.context.log = OddLog(log)
    writer.transport.abort()
    while proxy.relay._connections:
        await asyncio.sleep(0.01)
    proxy.relay.context.log = log
    await asyncio.wait_for(upstream.connections[0].ended.wait(), PATIENCE)
    assert proxy.runtime.in_flight == 0


# -- the sweep


class OddTransport(asyncio.Transport):
    """A transport that raises when asked for its unsent bytes."""

    def __init__(self, transport):
        super().__init__()
        self._transport = transport

    get_write_buffer_size = at_once

    def __getattribute__(self, name):
        if name in {"abort", "close", "get_extra_info", "is_closing", "pause_reading", "resume_reading"}:
            return getattr(object.__getattribute__(self, "_transport"), name)
        return object.__getattribute__(self, name)


async def test_one_in_a_check_aborts_that_connection_and_the_sweep_goes_on(make_proxy, upstream, kit, caplog):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}/base", limits="header_time = 1") as proxy:
        odd_reader, odd_writer = await proxy.connect()
        while not proxy.relay._connections:
            await asyncio.sleep(0.01)
        (connection,) = proxy.relay._connections
        connection._transport = OddTransport(connection._transport)
        caplog.set_level(logging.ERROR)
        reader, writer = await proxy.connect()
        writer.write(b"GET /up HT")
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""  # by its limit
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(odd_reader.read(), PATIENCE) == b""
        assert proxy.refused("internal-error") == 1
        assert any(record.exc_info and isinstance(record.exc_info[1], Odd) for record in caplog.records)
        writer.close()
        odd_writer.close()


async def test_one_outside_the_checks_does_not_end_the_sweep_either(make_proxy, upstream, kit, caplog):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="header_time = 0.2") as proxy:

        class OddRuntime:
            close_idle = staticmethod(at_once)

        proxy.relay.runtimes.append(OddRuntime())
        caplog.set_level(logging.ERROR)
        for _ in range(2):
            reader, writer = await proxy.connect()
            writer.write(b"GET /up HT")
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()
        assert any("sweep" in record.message for record in caplog.records)
        proxy.relay.runtimes.pop()


async def test_the_sweep_lives_through_a_retry_at_the_deadline(make_proxy, upstream, kit):
    """An assertion in it once ended all deadlines of the process."""

    async def holds_then_closes(connection):
        await asyncio.sleep(0.9)
        connection.writer.close()

    limits = "first_byte = 1.0\nheader_time = 0.5\nconnect = 2.0"
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits=limits) as proxy:
        await proxy.get()
        upstream.script = [holds_then_closes]
        asking = asyncio.ensure_future(proxy.get())
        while upstream.script:
            await asyncio.sleep(0.01)
        with full_server() as port:
            proxy.lead_to(port)  # the second try can't connect until its limit is over
            status, _, _ = kit.split(await asyncio.wait_for(asking, PATIENCE))
        assert status == 504
        reader, writer = await proxy.connect()
        writer.write(b"GET /up HT")
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()


@contextlib.contextmanager
def full_server():
    """A port whose queue is full: a connection to it is neither accepted nor refused."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
        yield server.getsockname()[1]
