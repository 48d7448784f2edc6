"""Requests and responses pass unchanged."""

import asyncio

import pytest

REQUESTS = {  # name -> the fields after the request line and Host, body
    "nothing": ([], b""),
    "a length": ([b"Content-Length: 5"], b"hello"),
    "an empty body": ([b"Content-Length: 0"], b""),
    "odd fields": ([b"x-odd: \xff\xe9", b"X-B: 1", b"X-B: 2", b"accept:  */*"], b""),
}


def authorization(received):
    return next(line for line in received.split(b"\r\n") if line.startswith(b"Authorization: "))


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_reaches_the_upstream_unchanged(proxy, upstream, kit, name):
    lines, body = REQUESTS[name]
    await proxy.ask(kit.request(b"POST", b"/up/x?q=%41", *lines, b"Connection: close", body=body))
    (received,) = upstream.received
    head, _, sent_body = received.partition(b"\r\n\r\n")
    first, host, *fields = head.split(b"\r\n")
    assert first == b"POST /base/x?q=%41 HTTP/1.1"
    assert host == f"Host: 127.0.0.1:{upstream.port}".encode()
    assert [field.replace(b":  ", b": ") for field in lines] == [
        field.replace(b":  ", b": ") for field in fields[:-2]
    ]
    assert fields[-2].startswith(b"Authorization: Bearer ")
    assert fields[-1].startswith(b"Via: 1.1 token-proxy-")
    assert sent_body == body


async def test_a_chunked_body_stays_chunked_and_keeps_its_trailers(proxy, upstream, kit):
    body = b"5;ext=1\r\nhello\r\n3\r\n, w\r\n0\r\nDigest: x\r\n\r\n"
    await proxy.ask(
        kit.request(b"POST", b"/up", b"Transfer-Encoding: chunked", b"Connection: close", body=body)
    )
    (received,) = upstream.received
    assert received.endswith(b"8\r\nhello, w\r\n0\r\nDigest: x\r\n\r\n")
    assert received.count(b"Transfer-Encoding: chunked\r\n") == 1


ANSWERS = [  # the upstream's bytes, the caller's bytes
    (
        (
            b"HTTP/1.1 201 Made it\r\nx-a: 1\r\nX-A: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
            b"Content-Length: 2\r\n\r\nok"
        ),
        (
            b"HTTP/1.1 201 Made it\r\nx-a: 1\r\nX-A: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
            b"Content-Length: 2\r\nConnection: close\r\n\r\nok"
        ),
    ),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: 1\r\n\r\n",
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b"5\r\nhello\r\n0\r\nT: 1\r\n\r\n"
        ),
    ),
    (
        b"HTTP/1.1 204 No Content\r\nx: \xff\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nx: \xff\r\nConnection: close\r\n\r\n",
    ),
    (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nConnection: close\r\n\r\n",
    ),
    (
        b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
    ),
]


@pytest.mark.parametrize(("sent", "expected"), ANSWERS)
async def test_a_response_reaches_the_caller_unchanged(proxy, upstream, sent, expected):
    upstream.script = [sent]
    assert await proxy.get() == expected


async def test_a_close_delimited_response_is_one_for_the_caller_too(proxy, upstream, kit):
    async def until_close(connection):
        connection.writer.write(b"HTTP/1.0 200 OK\r\n\r\nold ways")
        await connection.writer.drain()
        connection.writer.close()

    upstream.script = [until_close]
    answer = await proxy.ask(kit.request(b"GET", b"/up"))
    assert answer == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nold ways"


async def test_head_has_the_length_and_no_body(proxy, upstream, kit):
    upstream.script = [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", kit.OK]
    answer = await proxy.ask(kit.request(b"HEAD", b"/up") + kit.request(b"GET", b"/up", b"Connection: close"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_an_http_1_0_caller_gets_no_chunks(proxy, upstream):
    upstream.script = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    answer = await proxy.ask(b"GET /up HTTP/1.0\r\n\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"


async def test_pipelined_requests_are_answered_in_order_over_one_connection(proxy, upstream, kit):
    upstream.script = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number for number in range(1, 4)]
    three = kit.request(b"GET", b"/up/1")
    three += kit.request(b"POST", b"/up/2", b"Transfer-Encoding: chunked", body=b"2\r\nab\r\n0\r\n\r\n")
    three += kit.request(b"GET", b"/up/3", b"Connection: close")
    answer = await proxy.ask(three)
    assert [part[-1:] for part in answer.split(b"HTTP/1.1 200")[1:]] == [b"1", b"2", b"3"]
    assert len(upstream.connections) == 1
    assert upstream.requests == 3


async def test_a_request_may_be_cut_anywhere(proxy, upstream, kit):
    whole = kit.request(
        b"POST", b"/up/x", b"Transfer-Encoding: chunked", b"Connection: close", body=b"3\r\nabc\r\n0\r\n\r\n"
    )
    for cut in range(1, len(whole)):
        assert b" 200 OK" in await proxy.ask(whole[:cut], whole[cut:])
    (connection,) = upstream.connections
    requests = [b"POST" + part for part in connection.received.split(b"POST")[1:]]
    assert len(requests) == len(whole) - 1
    assert (
        len({r.replace(b"3\r\nabc\r\n", b"").replace(b"1\r\n", b"") for r in requests}) <= 8
    )  # chunk sizes may differ
    assert all(request.endswith(b"0\r\n\r\n") for request in requests)


async def test_an_h2c_upgrade_is_ignored_and_its_body_passes(proxy, upstream, kit):
    lines = [
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMA",
        b"Content-Length: 5",
    ]
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"POST", b"/up", *lines, body=b"hello"))
    assert await reader.readexactly(len(kit.OK)) == kit.OK
    writer.close()
    (received,) = upstream.received
    assert received.endswith(b"\r\n\r\nhello")
    assert b"pgrade" not in received
    assert b"HTTP2" not in received


async def test_a_half_closed_caller_gets_its_response(proxy, kit):
    assert await proxy.ask(kit.request(b"GET", b"/up"), eof=True) == kit.OK


async def test_an_early_response_ends_an_unfinished_upload(proxy, upstream, kit):
    early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"

    class Impatient(kit.Upstream):
        async def _converse(self, connection):
            await connection.reader.readuntil(b"\r\n\r\n")
            connection.writer.write(early)
            await connection.writer.drain()

    async with kit.serving(Impatient()) as impatient:
        proxy.lead_to(impatient.port)
        answer = await proxy.ask(kit.request(b"POST", b"/up", b"Content-Length: 1000000", body=b"x" * 1000))
    assert answer == b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def test_an_early_response_leaves_nothing_behind_for_the_next_one(proxy, upstream, kit):
    early = b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"

    class Impatient(kit.Upstream):
        async def _converse(self, connection):
            head = await connection.reader.readuntil(b"\r\n\r\n")
            connection.writer.write(early if head.startswith(b"POST") else kit.OK)
            await connection.reader.read()

    async with kit.serving(Impatient()) as impatient:
        proxy.lead_to(impatient.port)
        assert (await proxy.ask(kit.request(b"POST", b"/up", b"Content-Length: 20"))).startswith(
            b"HTTP/1.1 405"
        )
        assert (await proxy.get()).endswith(b"\r\n\r\nok")
        assert len(impatient.connections) == 2


async def test_a_caller_that_expects_100_gets_the_upstreams(proxy, upstream, kit):
    class Willing(kit.Upstream):
        async def _converse(self, connection):
            head = await connection.reader.readuntil(b"\r\n\r\n")
            assert b"\r\nExpect: 100-continue\r\n" in head
            connection.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await connection.reader.readexactly(5) == b"hello"
            connection.writer.write(kit.OK)
            await connection.writer.drain()

    async with kit.serving(Willing()) as willing:
        proxy.lead_to(willing.port)
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"POST", b"/up", b"Expect: 100-continue", b"Content-Length: 5"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert await reader.readexactly(len(kit.OK)) == kit.OK
        writer.close()


async def test_a_caller_that_hangs_up_ends_the_upstreams_work(proxy, upstream, kit):
    begun = asyncio.Event()

    async def endless(connection):
        connection.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        begun.set()
        assert await asyncio.wait_for(connection.reader.read(), 5) == b""
        connection.writer.close()

    upstream.script = [endless]
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    await begun.wait()
    await reader.readuntil(b"x\r\n")
    writer.close()
    await asyncio.wait_for(upstream.connections[0].ended.wait(), 5)


async def test_a_slow_caller_pauses_the_upstream_instead_of_filling_memory(proxy, upstream, kit):
    size = 64 * 2**20
    sent = 0

    async def large(connection):
        nonlocal sent
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            connection.writer.write(b"x" * 65536)
            sent += 65536
            await connection.writer.drain()

    upstream.script = [large]
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up", b"Connection: close"))
    await reader.readuntil(b"\r\n\r\n")
    previous = -1
    while previous != sent:  # until no more is read
        previous = sent
        await asyncio.sleep(0.2)
    assert sent < size / 2
    rest = 0
    while data := await reader.read(2**20):
        rest += len(data)
    assert rest == size
    writer.close()


async def test_an_upload_is_read_no_faster_than_the_upstream_takes_it(proxy, upstream, kit):
    size = 64 * 2**20
    go_on = asyncio.Event()

    class Slow(kit.Upstream):
        async def _converse(self, connection):
            await connection.reader.readuntil(b"\r\n\r\n")
            await go_on.wait()
            await connection.reader.readexactly(size)
            connection.writer.write(kit.OK)
            await connection.writer.drain()

    async with kit.serving(Slow()) as slow:
        proxy.lead_to(slow.port)
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"POST", b"/up", b"Content-Length: %d" % size, b"Connection: close"))

        async def upload():
            for _ in range(size // 65536):
                writer.write(b"x" * 65536)
                await writer.drain()

        sending = asyncio.ensure_future(upload())
        done, _ = await asyncio.wait({sending}, timeout=1)
        assert not done
        go_on.set()
        assert (await reader.read()).endswith(b"\r\n\r\nok")
        await sending
        writer.close()
