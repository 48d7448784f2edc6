"""The faults of upstreams, and exactly what the caller gets for each.

A row gives the upstream's behaviour; its `Story` the outcome: the caller's response (or that it was cut), how
often the request was sent, and the metrics. After each one the next request works.
"""

import asyncio
import contextlib
import json
import os
import re
import socket
from dataclasses import dataclass

import pytest

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
PATIENCE = 10  # seconds; nothing here should take as long
LINGER_OF_NO_TIME = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # the kernel sends RST
SHORT = "first_byte = 1.0\nbody_stall = 1.0\nconnect = 1.0"


@dataclass
class Story:
    """`answer`: (status, body), (status, a problem's ending), or CUT: visibly incomplete for the caller."""

    answer: object
    sent: int  # how often the upstream got the request
    error: str = ""  # the label in upstream_errors_total
    code: str = ""  # and in requests_total


CUT = "cut"


# -- the caller


async def hear(reader):
    """One response from an open connection, in the form of Story.answer."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        fields = [line.partition(b": ") for line in head.lower().split(b"\r\n")]
        length = next((int(value) for name, _, value in fields if name == b"content-length"), None)
        if length is None:
            body = await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), PATIENCE)
        else:
            body = await asyncio.wait_for(reader.readexactly(length), PATIENCE)
    except (ConnectionResetError, asyncio.IncompleteReadError):
        return CUT
    status = int(head.split()[1])
    if b"application/problem+json" in head:
        return status, json.loads(body)["type"].removeprefix("urn:token-proxy:problem:")
    return status, body


async def told(proxy, upstream, ask):
    """The Story of the request that `ask(reader, writer)` sends on a connection of its own."""
    counted = [error_count(proxy, error) for error in ERRORS]
    codes = code_counts(proxy)
    sent = upstream.requests
    reader, writer = await proxy.connect()
    try:
        await ask(reader, writer)
        answer = await hear(reader)
    finally:
        writer.transport.abort()  # there may be much unread data
    story = Story(answer, upstream.requests - sent)
    after = [error_count(proxy, error) for error in ERRORS]
    (story.error,) = [e for e, was, now in zip(ERRORS, counted, after, strict=True) if now > was] or [""]
    (story.code,) = [code for code, number in code_counts(proxy).items() if number > codes.get(code, 0)]
    return story


ERRORS = ("upstream-protocol", "upstream-timeout", "upstream-tls", "upstream-unreachable")


def error_count(proxy, error):
    return proxy.sample("upstream_errors_total", route="up", error=error)


def code_counts(proxy):
    (metric,) = [m for m in proxy.state.metrics.registry.collect() if m.name == "token_proxy_requests"]
    counts = {}
    for sample in metric.samples:
        code = sample.labels.get("code")
        if sample.name.endswith("_total"):
            counts[code] = counts.get(code, 0) + sample.value
    return counts


async def all_is_well(proxy, kit):
    assert (await proxy.get()).endswith(b"\r\n\r\nok")
    pool = proxy.runtime.pool(proxy.account)
    assert (proxy.runtime.in_flight, pool.active) == (0, 0)
    assert len(pool._open) == pool.idle


def asking(kit, method=b"GET"):
    async def ask(_reader, writer):
        body = b"" if method == b"GET" else b"x"
        lines = [b"Content-Length: 1"] if body else []
        writer.write(kit.request(method, b"/up", *lines, body=body))

    return ask


# -- the upstream


async def close(connection):
    connection.writer.close()


async def reset(connection):
    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OF_NO_TIME)
    connection.writer.transport.abort()


async def stall(connection):
    with contextlib.suppress(ConnectionError):
        while await connection.reader.read(65536):
            pass


def sends(data, then):
    async def act(connection):
        connection.writer.write(data)
        await connection.writer.drain()
        await then(connection)

    return act


# -- it ends too early, at every place, in every way

PLACES = {  # where -> what has arrived by then
    "before its head": b"",
    "within its head": HEAD[:20],
    "after its head": HEAD,
    "within a counted body": HEAD + b"hello",
    "within the head of a chunk": CHUNKS + b"A",
    "within a chunk": CHUNKS + b"A\r\nhel",
    "between two chunks": CHUNKS,
    "within its trailers": CHUNKS + b"0\r\nDigest: x",
}
WAYS = {"closes": close, "resets": reset}


def fate(place, ending, status):
    """What the caller gets when a response ends, or stops, at `place`."""
    begun = b"\r\n\r\n" in PLACES[place]
    return Story(CUT if begun else (status, ending), 1, ending, "200" if begun else str(status))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PATCH"], ids=bytes.decode)
async def test_a_response_that_ends_too_early_never_looks_complete(proxy, upstream, kit, place, way, method):
    for connection in ("new", "kept"):
        act = sends(PLACES[place], WAYS[way])
        upstream.script = [act, act, kit.OK]
        expected = fate(place, "upstream-protocol", 502)
        if connection == "kept" and place == "before its head" and method == b"GET":
            expected.sent = 2  # a retry on a new connection; never a third time
        assert (connection, await told(proxy, upstream, asking(kit, method))) == (connection, expected)
        upstream.script = []
        await all_is_well(proxy, kit)


async def test_a_request_is_not_sent_again_once_its_response_has_begun(proxy, upstream, kit):
    await proxy.get()
    upstream.script = [sends(b"HTTP/1.1 103 Early Hints\r\n\r\n", close)]
    answer = await proxy.get()
    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 502 ")
    assert upstream.requests == 2


# -- it is slow: all cases at once, each with its own proxy, because the limits are a second


async def drip(connection, pieces, pause=0.1):
    for piece in pieces:
        connection.writer.write(piece)
        await connection.writer.drain()
        await asyncio.sleep(pause)


def bytes_of(data):
    return [data[at : at + 1] for at in range(len(data))]


async def drip_body(connection):
    await drip(
        connection, [b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n", *bytes_of(b"a byte at a time")[:15]]
    )


async def drip_head(connection):
    with contextlib.suppress(ConnectionError):
        await drip(connection, bytes_of(HEAD))


SLOW = {
    "stalls " + place: (sends(data, stall), fate(place, "upstream-timeout", 504))
    for place, data in PLACES.items()
}
SLOW |= {
    "drips its body for longer than any pause may be": (
        drip_body,
        Story((200, b"a byte at a time"[:15]), 1, "", "200"),
    ),
    "drips its head": (drip_head, Story((504, "upstream-timeout"), 1, "upstream-timeout", "504")),
}


async def test_a_slow_upstream_times_out(make_proxy, kit):
    async def suffer(name, method):
        act, expected = SLOW[name]
        async with (
            kit.serving(kit.Upstream()) as upstream,
            make_proxy(f"http://127.0.0.1:{upstream.port}", limits=SHORT) as proxy,
        ):
            await proxy.get()  # so that the connection is reused, and a GET might be retried
            upstream.script = [act]
            story = await told(proxy, upstream, asking(kit, method))
            await all_is_well(proxy, kit)
            return story, expected

    rows = [(name, method) for name in SLOW for method in (b"GET", b"POST")]
    stories = await asyncio.gather(*(suffer(*row) for row in rows))
    assert dict(zip(rows, [story for story, _ in stories], strict=True)) == dict(
        zip(rows, [expected for _, expected in stories], strict=True)
    )


# -- it sends more than was requested

EXTRA = {  # method, what the upstream sends, what the caller gets
    "two responses at once": (b"GET", HEAD + b"0123456789" + EVIL, (200, b"0123456789")),
    "a body longer than its length": (b"GET", HEAD + b"0123456789ABC", (200, b"0123456789")),
    "bytes after the last chunk": (b"GET", CHUNKS + b"0\r\n\r\n" + EVIL, (200, b"5\r\nhello\r\n0\r\n\r\n")),
    "a body to HEAD": (b"HEAD", HEAD + b"0123456789", (200, b"")),
    "a body with 204": (b"GET", b"HTTP/1.1 204 No\r\n\r\nEVIL", (204, b"")),
    "a body with 304": (b"GET", b"HTTP/1.1 304 No\r\nContent-Length: 4\r\n\r\nEVIL", (304, b"")),
}


@pytest.mark.parametrize("name", EXTRA)
async def test_an_unrequested_response_reaches_no_caller(proxy, upstream, kit, name):
    method, sent, (status, body) = EXTRA[name]
    await proxy.get()
    upstream.script = [sent]
    answer = await proxy.ask(kit.request(method, b"/up", b"Connection: close"))
    assert kit.split(answer)[::2] == (status, body)
    assert len(upstream.connections) == 1
    await all_is_well(proxy, kit)
    assert len(upstream.connections) == 2
    assert not any(error_count(proxy, error) for error in ERRORS)


async def test_a_surplus_response_harms_one_request_at_most(proxy, upstream, kit):
    """Sent late, when the next request is on its way, it looks like the response to that one."""
    own = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown"

    async def late(connection):
        connection.writer.write(EVIL + own)

    await proxy.get()
    upstream.script = [late]
    assert (await proxy.get()).endswith(b"EVIL")
    (connection,) = upstream.connections
    await asyncio.wait_for(connection.ended.wait(), PATIENCE)
    await all_is_well(proxy, kit)


# -- it sends valid responses in unusual ways


WHOLE = {
    "counted": HEAD + b"0123456789",
    "chunked": CHUNKS + b"3\r\nabc\r\n0\r\nDigest: x\r\n\r\n",
    "after an interim one": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + HEAD + b"0123456789",
}


@pytest.mark.parametrize("name", WHOLE)
async def test_a_response_may_come_byte_by_byte(proxy, upstream, kit, name):
    async def by_byte(connection):
        await drip(connection, bytes_of(WHOLE[name]), pause=0)

    upstream.script = [WHOLE[name], by_byte]
    at_once, by_bytes = [unchunked(await proxy.get()) for _ in range(2)]
    assert by_bytes == at_once
    assert len(upstream.connections) == 1


def unchunked(answer):
    """The response with its body in one chunk: chunk sizes need not be preserved."""
    head, _, body = answer.rpartition(b"Connection: close\r\n\r\n")
    return head, re.sub(rb"[0-9A-Fa-f]+\r\n([a-z]+)\r\n", rb"\1", body)


async def test_a_thousand_interim_responses_pass(proxy, upstream, kit):
    interim = b"".join(b"HTTP/1.1 103 Early Hints\r\nLink: <%d>\r\n\r\n" % number for number in range(1000))
    upstream.script = [interim + kit.OK]
    answer = await proxy.get()
    assert answer.startswith(interim)
    assert answer.endswith(b"\r\n\r\nok")


async def test_interim_responses_are_together_no_larger_than_a_head(proxy, upstream, kit):
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: <" + b"x" * 30_000 + b">\r\n\r\n"
    upstream.script = [interim * 8 + kit.OK]
    answer = await proxy.get()
    assert answer.count(interim) == 4
    status, _, body = kit.split(answer.replace(interim, b""))
    assert (status, json.loads(body)["type"]) == (502, "urn:token-proxy:problem:upstream-protocol")


# -- it ends or responds before it has read all

UPLOAD = 50_000_000  # bytes: more than all the buffers on the way


class Interrupting:
    """An upstream that acts once it has the head of a POST and a little of its body."""

    @staticmethod
    def serving(kit, act):
        class Interrupting(kit.Upstream):
            async def _converse(self, connection):
                head = await connection.reader.readuntil(b"\r\n\r\n")
                if not head.startswith((b"POST", b"PUT")):
                    connection.writer.write(kit.OK)
                    await self._converse(connection)
                    return
                connection.requests += 1
                await connection.reader.readexactly(1000)
                await act(connection)

        return kit.serving(Interrupting())


ENOUGH = {
    "resets": (reset, Story((502, "upstream-protocol"), 1, "upstream-protocol", "502")),
    "closes": (close, Story((502, "upstream-protocol"), 1, "upstream-protocol", "502")),
    "responds and stops reading": (
        sends(TOO_LARGE, lambda c: c.ended.wait()),
        Story((413, b"big"), 1, "", "413"),
    ),
    "responds and reads on": (sends(TOO_LARGE, stall), Story((413, b"big"), 1, "", "413")),
    "responds and closes": (sends(TOO_LARGE, close), Story((413, b"big"), 1, "", "413")),
    "responds and resets": (sends(TOO_LARGE, reset), Story((413, b"big"), 1, "", "413")),
    "responds half and resets": (
        sends(HEAD + b"hello", reset),
        Story(CUT, 1, "upstream-protocol", "200"),
    ),
}


@pytest.mark.parametrize("method", [b"POST", b"PUT"], ids=bytes.decode)
@pytest.mark.parametrize("name", ENOUGH)
async def test_an_interrupted_upload_gets_a_response_and_is_not_sent_again(proxy, kit, name, method):
    act, expected = ENOUGH[name]

    async def ask(_reader, writer):
        writer.write(kit.request(method, b"/up", b"Content-Length: %d" % UPLOAD))
        writer.write(b"x" * UPLOAD)  # goes out while the response is awaited

    async with Interrupting.serving(kit, act) as upstream:
        proxy.lead_to(upstream.port)
        await proxy.get()
        assert await told(proxy, upstream, ask) == expected
        for connection in upstream.connections:
            connection.ended.set()
        await all_is_well(proxy, kit)


# -- it can't be reached


def full_backlog(listener):
    """Connections that fill the accept queue of a listener that never accepts."""
    held = []
    for _ in range(4):
        sock = socket.socket(listener.family)
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(listener.getsockname())
        held.append(sock)
    return held


@contextlib.contextmanager
def nobody_listens(_folder):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@contextlib.contextmanager
def nobody_accepts(_folder):
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in full_backlog(listener):
            stack.enter_context(sock)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def nobody_accepts_locally(folder):
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(folder / "full.sock"))
        listener.listen(0)
        for sock in full_backlog(listener):
            stack.enter_context(sock)
        yield f"unix:{folder}/full.sock"


@contextlib.contextmanager
def no_socket(folder):
    yield f"unix:{folder}/none.sock"


@contextlib.contextmanager
def a_file(folder):
    (folder / "file.sock").write_text("")
    yield f"unix:{folder}/file.sock"


UNREACHABLE = Story((502, "upstream-unreachable"), 0, "upstream-unreachable", "502")
AWAY = {
    "nobody listens": (nobody_listens, UNREACHABLE),
    "nobody accepts": (nobody_accepts, Story((504, "upstream-timeout"), 0, "upstream-timeout", "504")),
    "there is no socket": (no_socket, UNREACHABLE),
    "the socket is a file": (a_file, UNREACHABLE),
    "the socket's queue is full": (nobody_accepts_locally, UNREACHABLE),
}


@pytest.mark.parametrize("name", AWAY)
async def test_an_unreachable_upstream_is_distinguished_from_a_broken_one(make_proxy, kit, tmp_path, name):
    place, expected = AWAY[name]
    with place(tmp_path) as url:
        async with make_proxy(url, limits="connect = 0.3") as proxy:
            assert await told(proxy, kit.Upstream(), asking(kit, b"POST")) == expected
            assert await told(proxy, kit.Upstream(), asking(kit)) == expected
            assert proxy.runtime.in_flight == 0


# -- its TLS is broken


async def hang_up(connection):
    """End the connection below TLS: no close_notify."""
    connection.writer.transport.abort()


async def garbage(connection):
    """Bytes that are not a TLS record, in the place of one."""
    os.write(connection.writer.get_extra_info("socket").fileno(), b"this is no record")
    await connection.ended.wait()


BELOW_TLS = {"hangs up": hang_up, "sends garbage": garbage}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", BELOW_TLS)
async def test_a_response_that_ends_below_tls_never_looks_complete(make_proxy, tls_upstream, kit, place, way):
    route = f'tls = {{ ca = "{tls_upstream.ca}" }}'
    async with make_proxy(f"https://localhost:{tls_upstream.port}", route=route) as proxy:
        tls_upstream.script = [sends(PLACES[place], BELOW_TLS[way])]
        expected = fate(place, "upstream-protocol", 502)
        unheard = fate(
            "before its head", "upstream-protocol", 502
        )  # the garbage came together with the data before it
        assert await told(proxy, tls_upstream, asking(kit)) in (
            [expected, unheard] if way == "sends garbage" else [expected]
        )
        for connection in tls_upstream.connections:
            connection.ended.set()
        await all_is_well(proxy, kit)


async def test_a_response_with_a_length_may_be_followed_by_garbage_below_tls(make_proxy, tls_upstream, kit):
    route = f'tls = {{ ca = "{tls_upstream.ca}" }}'
    async with make_proxy(f"https://localhost:{tls_upstream.port}", route=route) as proxy:
        tls_upstream.script = [sends(HEAD + b"0123456789", hang_up)]
        story = await told(proxy, tls_upstream, asking(kit))
        assert story == Story((200, b"0123456789"), 1, "", "200")
        await all_is_well(proxy, kit)


async def says_nothing(reader, writer):
    await reader.read()
    while await reader.read(65536):
        pass


async def closes(reader, _writer):
    await reader.read(65536)


async def speaks_plainly(reader, writer):
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 The plain HTTP request was sent to the wrong port\r\n\r\n")
    await writer.drain()


async def resets_at_once(reader, writer):
    await reader.read(1)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OF_NO_TIME)
    writer.transport.abort()


HANDSHAKES = {
    "closes": (closes, Story((502, "upstream-tls"), 0, "upstream-tls", "502")),
    "speaks plainly": (speaks_plainly, Story((502, "upstream-tls"), 0, "upstream-tls", "502")),
    "resets": (resets_at_once, UNREACHABLE),
    "says nothing": (says_nothing, Story((504, "upstream-timeout"), 0, "upstream-timeout", "504")),
}


@pytest.mark.parametrize("name", HANDSHAKES)
async def test_a_failed_handshake_has_its_own_response(make_proxy, kit, name):
    act, expected = HANDSHAKES[name]
    ends = []

    async def serve(reader, writer):
        ends.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await act(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with make_proxy(f"https://localhost:{port}", limits="connect = 0.3") as proxy:
        assert await told(proxy, kit.Upstream(), asking(kit)) == expected
    server.close()
    await asyncio.wait(ends)


# -- it doesn't speak HTTP: a 502 at once, although it keeps the connection open

OTHER_PROTOCOLS = {
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "SMTP": b"220 mail ESMTP\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\x00\x04\x40\x00\x00\x00\x00\x02",
    "lines that end in LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "one line that ends in LF": b"HTTP/1.1 200 OK\r\nContent-Length: 2\n",
    "another version": b"HTTP/2.0 200 OK\r\n",
    "a TLS alert": b"\x15\x03\x03\x00\x02\x02\x28",
}


@pytest.mark.parametrize("name", OTHER_PROTOCOLS)
@pytest.mark.parametrize("pieces", ["at once", "byte by byte"])
async def test_another_protocol_is_a_502_at_once(proxy, upstream, kit, name, pieces):
    async def act(connection):
        data = OTHER_PROTOCOLS[name]
        if pieces == "at once":
            connection.writer.write(data)
        else:
            await drip(connection, bytes_of(data), pause=0)
        await stall(connection)

    upstream.script = [act]
    story = await told(proxy, upstream, asking(kit))
    assert story == Story((502, "upstream-protocol"), 1, "upstream-protocol", "502")
