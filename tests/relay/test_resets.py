"""A reset that arrives together with data: all data is read, and nothing waits for a further event.

The limits are the defaults: a minute to the first byte, five for a stalled body. An exchange that hangs for
`PATIENCE` seconds has therefore not noticed the reset.
"""

import asyncio
import contextlib
import json
import socket
import struct
import threading

import pytest
import uvloop

from proxy.demo.faults import Answer, Fault

from .abrupt import AbruptUpstream
from .conftest import proxying, request, split_answer

PATIENCE = 20  # seconds; a third of the shortest limit
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"
CUT = "cut"


@pytest.fixture(params=LOOPS)
def run(request):
    """Runs a coroutine on one kind of loop."""

    def runs(work):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(asyncio.wait_for(work, 3 * PATIENCE))

    return runs


@pytest.fixture(params=["plain", "tls"])
def place(request, tls_authority, tmp_path):
    """(TLS context of the upstream or None, a function that makes the proxy for a port)."""
    context, ca = tls_authority
    if request.param == "plain":
        return None, lambda port, route="": proxying(tmp_path, f"http://127.0.0.1:{port}", route=route)
    tls = f'tls = {{ ca = "{ca}" }}\n'
    return context, lambda port, route="": proxying(tmp_path, f"https://localhost:{port}", route=tls + route)


async def outcome(proxy, raw):
    """(status, body or ending) of the response, or (CUT, the bytes received)."""
    reader, writer = await proxy.connect()
    writer.write(raw)
    received = b""
    try:
        while data := await asyncio.wait_for(reader.read(65536), PATIENCE):
            received += data
    except ConnectionResetError:
        return CUT, received
    finally:
        writer.transport.abort()
    status, fields, body = split_answer(received)
    if b"Content-Type: application/problem+json" in fields:
        return status, json.loads(body)["type"].rpartition(":")[2]
    return status, body


def get(method=b"GET", body=b""):
    lines = [b"Content-Length: %d" % len(body)] if body else []
    return request(method, b"/up", *lines, b"Connection: close", body=body)


def says_and_resets(data):
    def act(pipe):
        pipe.say(data)
        pipe.reset()

    return act


async def asked(place, act, *raws, at_once=False, route=""):
    context, make = place
    upstream = AbruptUpstream(act, context, at_once=at_once)
    async with upstream.serving() as port, make(port, route) as proxy:
        outcomes = [await outcome(proxy, raw) for raw in raws]
        pool = proxy.runtime.pool(proxy.account)
        assert (proxy.runtime.in_flight, pool.active) == (0, 0)
        return outcomes


def test_a_complete_response_passes_and_the_connection_is_not_reused(run, place):
    found = run(asked(place, says_and_resets(WHOLE), *[get()] * 12))
    assert found == [(200, b"0123456789")] * 12


def test_a_post_goes_to_no_connection_that_is_known_to_be_dead(run, place):
    """No byte of it could be sent: it may be sent again, although it is not idempotent."""
    found = run(asked(place, says_and_resets(WHOLE), *[get(b"POST", b"x")] * 6))
    assert found == [(200, b"0123456789")] * 6


def test_a_dead_connection_does_not_stay_in_the_pool(run, place):
    async def scenario():
        context, make = place
        async with AbruptUpstream(says_and_resets(WHOLE), context).serving() as port, make(port) as proxy:
            assert await outcome(proxy, get()) == (200, b"0123456789")
            async with asyncio.timeout(PATIENCE):
                while proxy.runtime.pool(proxy.account)._open:
                    await asyncio.sleep(0.05)

    run(scenario())


BEGUN = {
    "a counted body": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "a chunked body": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "a body until the end": b"HTTP/1.0 200 OK\r\n\r\nhalf",
}


@pytest.mark.parametrize("name", BEGUN)
def test_a_response_that_has_begun_is_cut_at_once(run, place, name):
    ((cut, received),) = run(asked(place, says_and_resets(BEGUN[name]), get()))
    assert cut == CUT
    assert not received.endswith(b"0\r\n\r\n")


NOT_BEGUN = {
    "within its head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "before its head": b"",
}


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("name", NOT_BEGUN)
def test_a_response_that_has_not_begun_is_a_502_at_once(run, place, name, method):
    found = run(
        asked(place, says_and_resets(NOT_BEGUN[name]), get(method, b"x" if method == b"POST" else b""))
    )
    assert found == [(502, "upstream-protocol")]


def test_a_response_has_not_begun_after_an_interim_one(run, place):
    """The interim response may have been passed on already."""
    act = says_and_resets(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    ((status, rest),) = run(asked(place, act, get()))
    assert (status, b" 502 Bad Gateway" in rest) == (103, True)


def test_data_and_a_reset_after_the_handshake_are_a_502_at_once(run, place):
    def act(pipe):
        pipe.say(b"")  # under TLS, the session tickets
        pipe.reset()

    assert run(asked(place, act, get(), at_once=True)) == [(502, "upstream-protocol")]


def test_an_end_without_close_notify_is_a_502_at_once(run, place):
    def act(pipe):
        pipe.say(b"")
        pipe.close()

    assert run(asked(place, act, get(), at_once=True)) == [(502, "upstream-protocol")]


def test_a_refusal_of_an_unfinished_body_arrives(run, place):
    """The connection is reset in the middle of an upload: sending fails, but a 413 is there to be read."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
    found = run(asked(place, says_and_resets(refusal), *[get(b"POST", b"x" * 100_000)] * 10))
    assert found == [(413, b"big")] * 10


def test_the_end_of_a_tunnel_is_passed_on_at_once(run, place):
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    lines = [b"Connection: Upgrade", b"Upgrade: websocket"]
    raw = request(b"GET", b"/up", *lines)
    act = says_and_resets(switched + b"a frame")
    ((cut, _),) = run(asked(place, act, raw, route="websocket = true"))
    assert cut == CUT


@pytest.mark.parametrize("loop", LOOPS)
def test_data_of_several_reads_ends_at_once(tmp_path, loop):
    """The upstream is a thread with a blocking socket, so that the kernel holds as much as it can."""
    size = 200_000

    def act(sock):
        sock.recv(65536)
        with contextlib.suppress(OSError):  # there may be no room for all at once
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size - 1))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def serve(listening):
        for _ in range(5):
            sock, _ = listening.accept()
            act(sock)

    async def scenario():
        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=serve, args=(listening,), daemon=True)
            thread.start()
            async with proxying(tmp_path, f"http://127.0.0.1:{listening.getsockname()[1]}") as proxy:
                for _ in range(5):
                    status, _ = await outcome(proxy, get())
                    assert status in {CUT, 502}  # 502: the reset came before the head was read
            await asyncio.to_thread(thread.join)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(asyncio.wait_for(scenario(), 3 * PATIENCE))


@pytest.mark.parametrize("framing", ["counted", "chunked", "empty", "until the end"])
@pytest.mark.parametrize("ending", ["reset", "close"])
@pytest.mark.parametrize("refresh", ["invalid_grant", "503"])
def test_a_held_401_passes_whole_although_its_upstream_has_gone(run, place, framing, ending, refresh):
    response = {
        "counted": b"HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
        "chunked": b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        "empty": b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
        "until the end": b"HTTP/1.0 401 No\r\n\r\nno",
    }[framing]

    def act(pipe):
        pipe.say(response)
        pipe.reset() if ending == "reset" else pipe.close()

    async def scenario():
        context, make = place
        async with AbruptUpstream(act, context).serving() as port, make(port) as proxy:
            await proxy.adopt("rejected")
            gone = asyncio.Event()
            answer = Answer(400, {"error": refresh}) if refresh == "invalid_grant" else Answer(503)
            proxy.server.script(Fault(wait_before=gone.wait, answer=answer))
            asking = asyncio.ensure_future(outcome(proxy, get()))
            while not proxy.server.token_requests and not proxy.account.flight:
                await asyncio.sleep(0)
            for _ in range(20):  # turns of the loop, enough to notice the end if it is read
                await asyncio.sleep(0)
            gone.set()
            return await asking

    found = run(scenario())
    if framing == "until the end" and (ending == "reset" or place[0] is not None):
        assert found[0] == CUT  # a cut response must not look complete; under TLS no close_notify came
    else:
        body = b"2\r\nno\r\n0\r\n\r\n" if framing == "chunked" else b"" if framing == "empty" else b"no"
        assert found == (401, body)
