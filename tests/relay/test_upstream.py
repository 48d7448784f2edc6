"""A misbehaving upstream: every response reaches its own caller, whole or not at all."""

import asyncio
import json
import socket
import ssl

import pytest


async def cut(connection, data):
    connection.writer.write(data)
    await connection.writer.drain()
    connection.writer.close()


def then_close(data):
    return lambda connection: cut(connection, data)


async def reset(connection):
    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.writer.transport.abort()


BROKEN = {  # name -> the upstream's behaviour, status, ending
    "closes at once": (then_close(b""), 502, "upstream-protocol"),
    "closes within its head": (then_close(b"HTTP/1.1 200 O"), 502, "upstream-protocol"),
    "resets": (reset, 502, "upstream-protocol"),
    "speaks something else": (then_close(b"SSH-2.0-OpenSSH\r\n\r\n"), 502, "upstream-protocol"),
    "frames twice": (
        then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        502,
        "upstream-protocol",
    ),
    "switches protocols unasked": (
        then_close(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
        502,
        "upstream-protocol",
    ),
    "sends an endless head": (
        then_close(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000),
        502,
        "upstream-protocol",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_response_is_not_passed_on(proxy, upstream, kit, name):
    act, expected, ending = BROKEN[name]
    upstream.script = [act]
    status, _, body = kit.split(await proxy.get())
    assert (status, json.loads(body)["type"]) == (expected, f"urn:token-proxy:problem:{ending}")
    assert proxy.sample("upstream_errors_total", route="up", error=ending) == 1


CUT = {
    "a length too long": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhello",
    "a broken chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n",
}


@pytest.mark.parametrize("name", CUT)
async def test_a_cut_response_never_looks_complete(proxy, upstream, kit, name):
    upstream.script = [then_close(CUT[name])]
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    received = b""
    try:
        while data := await asyncio.wait_for(reader.read(65536), 5):
            received += data
    except ConnectionResetError:
        pass
    writer.close()
    assert not received.endswith(b"0\r\n\r\n")
    assert received.count(b"HTTP/1.1") <= 1
    assert len(received.partition(b"\r\n\r\n")[2]) < 15


async def test_no_caller_gets_an_unrequested_response(proxy, upstream, kit):
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    upstream.script = [kit.OK + evil]
    assert (await proxy.get()).endswith(b"\r\n\r\nok")
    assert (await proxy.get()).endswith(b"\r\n\r\nok")
    assert len(upstream.connections) == 2


async def test_a_response_on_an_idle_connection_closes_it(proxy, upstream, kit):
    assert (await proxy.get()).endswith(b"ok")
    (connection,) = upstream.connections
    connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
    assert await asyncio.wait_for(connection.ended.wait(), 5)
    assert (await proxy.get()).endswith(b"ok")
    assert len(upstream.connections) == 2


async def test_a_connection_that_closed_while_idle_costs_a_get_nothing(proxy, upstream, kit):
    assert (await proxy.get()).endswith(b"ok")
    upstream.script = [then_close(b"")]  # as if it had closed while the request was on its way
    assert (await proxy.get()).endswith(b"ok")
    assert upstream.requests == 3


async def test_a_post_is_not_sent_twice(proxy, upstream, kit):
    assert (await proxy.get()).endswith(b"ok")
    upstream.script = [then_close(b"")]
    answer = await proxy.ask(
        kit.request(b"POST", b"/up", b"Content-Length: 1", b"Connection: close", body=b"x")
    )
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert upstream.requests == 2


async def test_a_request_is_sent_again_once_only(proxy, upstream):
    assert (await proxy.get()).endswith(b"ok")
    upstream.script = [then_close(b""), then_close(b"")]
    assert (await proxy.get()).startswith(b"HTTP/1.1 502 ")
    assert upstream.requests == 3


async def test_an_unreachable_upstream_is_a_502(make_proxy, kit):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with make_proxy(url) as proxy:
            status, _, body = kit.split(await proxy.get())
    assert (status, json.loads(body)["type"]) == (502, "urn:token-proxy:problem:upstream-unreachable")


async def test_an_upstream_that_does_not_respond_is_a_504(make_proxy, upstream, kit):
    async def silent(connection):
        await connection.reader.read()

    upstream.script = [silent]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="first_byte = 0.3") as proxy:
        status, _, body = kit.split(await proxy.get())
    assert (status, json.loads(body)["type"]) == (504, "urn:token-proxy:problem:upstream-timeout")


async def test_a_stalled_response_is_cut(make_proxy, upstream, kit):
    async def stalls(connection):
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await connection.reader.read()

    upstream.script = [stalls]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="body_stall = 0.3") as proxy:
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up"))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_two_accounts_never_share_a_connection(make_proxy, upstream, kit):
    route = 'account = { header = "X-Account" }'
    async with make_proxy(
        f"http://127.0.0.1:{upstream.port}", route=route, grant="authorization_code"
    ) as proxy:
        for name in ("alice", "bob"):
            await proxy.adopt(f"token-of-{name}", account=name)
        for name in (b"alice", b"bob", b"alice", b"bob"):
            await proxy.get(b"/up", b"X-Account: " + name)
    assert len(upstream.connections) == 2
    for received in upstream.received:
        assert received.count(b"GET ") == 2
        assert (b"token-of-alice" in received) != (b"token-of-bob" in received)


async def test_idle_connections_are_not_kept_for_ever(make_proxy, upstream):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="upstream_idle = 0.2") as proxy:
        await proxy.get()
        await asyncio.wait_for(upstream.connections[0].ended.wait(), 5)


async def test_running_exchanges_end_when_the_proxy_stops(proxy, upstream, kit):
    go_on = asyncio.Event()

    async def later(connection):
        await go_on.wait()
        connection.writer.write(kit.OK)

    upstream.script = [later]
    idle_reader, idle_writer = await proxy.connect()  # is waited for, as its first request may be on the way
    asking = asyncio.ensure_future(proxy.ask(kit.request(b"GET", b"/up")))
    while not upstream.answered:
        await asyncio.sleep(0.01)
    draining = asyncio.ensure_future(proxy.relay.drain(60))
    assert await asyncio.wait_for(idle_reader.read(), 60) == b""
    go_on.set()
    assert (await asking) == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    await draining
    idle_writer.close()


# -- TLS


def tls(upstream):
    return f"https://localhost:{upstream.port}", f'tls = {{ ca = "{upstream.ca}" }}'


async def test_a_tls_upstream_works_like_any_other(make_proxy, tls_upstream, kit):
    url, route = tls(tls_upstream)
    async with make_proxy(url, route=route) as proxy:
        for _ in range(3):
            assert (await proxy.get()).endswith(b"\r\n\r\nok")
    assert len(tls_upstream.connections) == 1


async def test_large_bodies_pass_through_tls_both_ways(make_proxy, tls_upstream, kit):
    size = 10 * 2**20  # beyond all buffers; the fake upstream's time grows with its square
    body = bytes(range(256)) * (size // 256)

    async def back(connection):
        payload = connection.received.partition(b"\r\n\r\n")[2]
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + payload)
        await connection.writer.drain()

    tls_upstream.script = [back]
    url, route = tls(tls_upstream)
    async with make_proxy(url, route=route) as proxy:
        answer = await proxy.ask(
            kit.request(b"POST", b"/up", b"Content-Length: %d" % size, b"Connection: close", body=body)
        )
    assert answer.partition(b"\r\n\r\n")[2] == body


async def test_a_cut_tls_connection_is_not_a_clean_end(make_proxy, tls_upstream, kit):
    async def ragged(connection):
        connection.writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        await connection.writer.drain()
        connection.writer.transport.abort()  # no close_notify

    tls_upstream.script = [ragged]
    url, route = tls(tls_upstream)
    async with make_proxy(url, route=route) as proxy:
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up"))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_a_certificate_of_an_unknown_ca_is_refused(make_proxy, tls_upstream, kit):
    async with make_proxy(f"https://localhost:{tls_upstream.port}") as proxy:
        status, _, body = kit.split(await proxy.get())
    assert (status, json.loads(body)["type"]) == (502, "urn:token-proxy:problem:upstream-tls")


async def test_a_certificate_for_another_name_is_refused(make_proxy, tls_upstream, kit):
    route = f'tls = {{ ca = "{tls_upstream.ca}" }}'
    async with make_proxy(f"https://127.0.0.1:{tls_upstream.port}", route=route) as proxy:
        assert (await proxy.get()).startswith(b"HTTP/1.1 502 ")
    route = f'tls = {{ ca = "{tls_upstream.ca}", server_name = "localhost" }}'
    async with make_proxy(f"https://127.0.0.1:{tls_upstream.port}", route=route) as proxy:
        assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")


async def test_an_old_tls_version_is_refused(make_proxy, tmp_path, kit):
    import trustme

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    ca = tmp_path / "old.pem"
    authority.cert_pem.write_to_path(str(ca))
    async with (
        kit.serving(kit.Upstream(), context) as old,
        make_proxy(f"https://localhost:{old.port}", route=f'tls = {{ ca = "{ca}" }}') as proxy,
    ):
        status, _, body = kit.split(await proxy.get())
    assert (status, json.loads(body)["type"]) == (502, "urn:token-proxy:problem:upstream-tls")


def serve_until_the_end(listening, context, response):
    """In a thread: respond to one request, and return the kind of end that a careful peer sees."""
    sock, _ = listening.accept()
    with context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as tls:
        tls.recv(65536)
        tls.sendall(response)
        try:
            return tls.recv(65536)
        except OSError as error:
            return error


@pytest.mark.parametrize("when", ["in use", "idle", "as the proxy stops"])
async def test_closing_a_tls_connection_sends_close_notify(make_proxy, tls_authority, kit, when):
    """RFC 8446 section 6.1: without it, the upstream can't tell the end from a truncation."""
    context, ca = tls_authority
    limits = "upstream_idle = 0.2" if when == "idle" else ""
    response = kit.OK + b"more than was asked for" if when == "in use" else kit.OK
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served = asyncio.ensure_future(asyncio.to_thread(serve_until_the_end, listening, context, response))
        url = f"https://localhost:{listening.getsockname()[1]}"
        async with make_proxy(url, route=f'tls = {{ ca = "{ca}" }}', limits=limits) as proxy:
            assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")
            if when != "as the proxy stops":
                assert await asyncio.wait_for(asyncio.shield(served), 10) == b""
        assert await asyncio.wait_for(served, 10) == b""
