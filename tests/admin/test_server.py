"""The server of the admin listener: sizes, times and the number of connections. On a small application."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import web

from proxy.admin import peers
from proxy.admin import server as server_module
from proxy.admin.peer_group import LOOPBACK, group_of
from proxy.admin.server import AdminRunner, Phase
from proxy.config.address import Address
from proxy.config.limits import Limits
from proxy.config.model import ListenerTLS
from proxy.fd_limits import Descriptors
from proxy.listen import bound_address, close, listen, tls_context
from tests.other_user import STRANGER, as_user

PATIENCE = 60  # seconds, for what happens
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345"
ANY = Address("127.0.0.1", 0)


class House:
    """A listener for a few pages. `held`: a request to /held has a response when it is set."""

    def __init__(self, limits, most):
        self.held = asyncio.Event()
        self.handling = 0
        self.streaming = 0
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self._hello),
                web.get("/held", self._held),
                web.get("/large", self._large),
                web.get("/stream", self._stream),
                web.post("/body", self._body),
            ]
        )
        self.files = Descriptors(admin=most)
        self.files.admin.most = most
        self.runner = AdminRunner(app, Limits(**limits), self.files)
        self._opened = []

    async def _hello(self, _request):
        return web.Response(text="hello")

    async def _held(self, _request):
        self.handling += 1
        await self.held.wait()
        return web.Response(text="at last")

    async def _stream(self, request):
        self.streaming += 1
        try:
            with request.protocol.within(Phase.STREAM):
                response = web.StreamResponse()
                await response.prepare(request)
                await asyncio.Event().wait()
        finally:
            self.streaming -= 1

    async def _large(self, _request):
        return web.Response(body=b"x" * 30_000_000)  # more than the kernel takes

    async def _body(self, request):
        return web.Response(body=await request.read())

    async def listen(self, address=ANY, tls=None):
        return bound_address(await listen(self.runner, address, tls and tls_context(tls)), address)

    async def connect(self, address, **options):
        if address.is_unix:
            connection = await asyncio.open_unix_connection(address.path)
        else:
            connection = await asyncio.open_connection(address.host, address.port, **options)
        self._opened.append(connection[1])
        return connection

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)

    @property
    def open(self):
        return self.files.admin.open

    def leave(self):
        for writer in self._opened:
            writer.close()


@pytest.fixture
async def a_house():
    houses = []

    @asynccontextmanager
    async def make(most=64, **limits):
        house = House(limits, most)
        await house.runner.setup()
        houses.append(house)
        try:
            yield house
        finally:
            house.leave()
            await close(house.runner)
            await house.until(lambda: house.open == 0)

    return make


@pytest.fixture
async def house(a_house):
    async with a_house() as made:
        yield made


async def response(connection, sent=GET):
    """(status, body) of the response to `sent`; (0, b"") if the connection was closed."""
    reader, writer = connection
    async with asyncio.timeout(PATIENCE):
        try:
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return int(head.split()[1]), await reader.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError):
            return 0, b""


async def until_closed(connection):
    """What is received until the connection is closed."""
    received = b""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while data := await connection[0].read(1 << 20):
                received += data
    return received


@pytest.mark.parametrize("where", ["unix", "127.0.0.1", "::1", "localhost"])
async def test_it_listens_at_each_kind_of_address(house, tmp_path, where):
    if where == "::1" and not has_ipv6():
        pytest.skip("this machine has no ::1")
    address = Address("", 0, f"{tmp_path}/sock") if where == "unix" else Address(where, 0)
    assert await response(await house.connect(await house.listen(address))) == (200, b"hello")


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


# -- sizes


def padded(size):
    """A request whose header has `size` bytes, with fields as large as they may be."""
    head = GET[:-2]
    while (left := size - len(head) - 2) > 0:
        piece = min(left, 30_000)
        piece = left - 100 if 0 < left - piece < 100 else piece
        head += b"Cookie: ".ljust(piece - 2, b"c") + b"\r\n"
    assert len(head) + 2 == size
    return head + b"\r\n"


async def in_pieces(writer, data, size):
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await writer.drain()
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", [1_000, 50_000, 1_000_000])
async def test_a_header_may_be_as_large_as_the_limit_however_it_arrives(house, size):
    address = await house.listen()
    for length, status in ((131_072, 200), (131_073, 431)):
        _, writer = connection = await house.connect(address)
        sending = asyncio.ensure_future(in_pieces(writer, padded(length), size))
        assert (await response(connection, b""))[0] == status
        await sending
        if status == 431:
            assert await until_closed(connection) == b""


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"Cookie: " + b"c" * 32_000], 200),
        ([b"Cookie: " + b"c" * 33_000], 431),
        ([b"X: 1"] * 150, 200),
        ([b"X: 1"] * 300, 400),
    ],
)
async def test_fields_have_the_limits_of_the_data_side(house, lines, status):
    address = await house.listen()
    request = GET[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    assert (await response(await house.connect(address), request))[0] == status


@pytest.mark.parametrize(("length", "status"), [(32_000, 404), (33_000, 431)])
async def test_a_target_may_hold_a_long_code(house, length, status):
    address = await house.listen()
    request = b"GET /callback?code=" + b"c" * length + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert (await response(await house.connect(address), request))[0] == status


async def test_each_request_of_a_connection_may_have_a_large_header(house):
    connection = await house.connect(await house.listen())
    for _ in range(3):
        assert (await response(connection, padded(130_000)))[0] == 200


async def test_a_body_is_not_part_of_the_header(house):
    connection = await house.connect(await house.listen())
    body = b"b" * 900_000  # the application takes a million
    request = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert await response(connection, request) == (200, body)
    assert (await response(connection, padded(131_072)))[0] == 200


async def test_pipelined_requests_have_their_responses(house):
    reader, writer = await house.connect(await house.listen())
    writer.write(GET * 100)
    for _ in range(100):
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"hello"


async def test_pipelined_requests_beyond_the_size_of_a_header_end_the_connection(house):
    connection = await house.connect(await house.listen())
    connection[1].write(GET.replace(b"/ ", b"/held ") + padded(100_000) * 3)
    assert await until_closed(connection) == b""


async def test_an_error_behind_a_good_request_follows_its_response(house):
    connection = await house.connect(await house.listen())
    connection[1].write(GET.replace(b"/ ", b"/held "))
    await house.until(lambda: house.handling == 1)
    connection[1].write(b"nonsense\r\n\r\n")
    await asyncio.sleep(0.1)
    house.held.set()
    received = await until_closed(connection)
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"at lastHTTP/1.1 400 Bad Request" in received


# -- times


@pytest.mark.parametrize(
    "begun", [b"", b"\r\n", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", GET, GET + b"GET /"]
)
async def test_a_connection_without_a_complete_header_is_closed_however_it_drips(a_house, begun):
    async with a_house(admin_header_time=0.5) as house:
        _, writer = connection = await house.connect(await house.listen())
        writer.write(begun)
        closed = asyncio.ensure_future(until_closed(connection))
        while not closed.done():
            if begun and begun != GET and not writer.is_closing():
                writer.write(b"x")
            await asyncio.sleep(0.05)
        assert (await closed).count(b"HTTP/1.1 200 OK") == begun.count(GET)
        await house.until(lambda: house.open == 0)


async def test_a_body_that_never_comes_ends_with_the_time_of_its_request(house, monkeypatch):
    monkeypatch.setattr(server_module, "REQUEST_TIME", 0.5)
    address = await house.listen()
    connections = [await house.connect(address) for _ in range(20)]
    for _, writer in connections:
        writer.write(POST)
    for connection in connections:
        assert await until_closed(connection) == b""


async def test_a_body_that_no_page_reads_does_not_keep_the_connection(house):
    connection = await house.connect(await house.listen())
    assert (await response(connection, POST.replace(b"/body", b"/nothing")))[0] == 404
    assert await until_closed(connection) == b""


async def test_a_response_that_is_not_read_ends_with_the_time_of_its_request(house, monkeypatch):
    monkeypatch.setattr(server_module, "REQUEST_TIME", 0.5)
    await not_reading(house, await house.listen())
    await house.until(lambda: house.open == 1)
    await house.until(lambda: house.open == 0)


async def test_a_request_that_takes_longer_than_a_header_may_is_served(a_house):
    async with a_house(admin_header_time=0.3) as house:
        connection = await house.connect(await house.listen())
        asyncio.get_running_loop().call_later(1.0, house.held.set)
        assert await response(connection, GET.replace(b"/ ", b"/held ")) == (200, b"at last")


@pytest.mark.parametrize("status", [404, 417])
async def test_a_peer_that_leaves_in_its_body_leaves_no_traceback(house, caplog, status):
    expects = b"Expect: nothing\r\n" if status == 417 else b""
    request = POST.replace(b"/body", b"/nothing").replace(b"Content", expects + b"Content")
    address = await house.listen()
    for _ in range(10):
        connection = await house.connect(address)
        assert (await response(connection, request))[0] == status
        connection[1].write(b"6")
        await asyncio.sleep(0)
        connection[1].close()
    await house.until(lambda: house.open == 0)
    assert [record for record in caplog.records if record.exc_info] == []


# -- the number of connections


async def idle(house, address, count):
    """Connections in the order in which they were accepted."""
    connections = []
    for _ in range(count):
        connections.append(await house.connect(address))
        assert (await response(connections[-1]))[0] == 200
    return connections


async def test_at_the_limit_the_connection_that_has_waited_longest_makes_room(a_house):
    async with a_house(4) as house:
        address = await house.listen()
        first, second, *others = await idle(house, address, 4)
        assert (await response(first))[0] == 200  # and so the second has waited longest
        assert (await response(await house.connect(address)))[0] == 200
        assert await until_closed(second) == b""
        assert house.open == 4
        for connection in (first, *others):
            assert (await response(connection))[0] == 200


async def silent(house, address):
    await house.connect(address)


async def with_half_a_header(house, address):
    (await house.connect(address))[1].write(GET[:20])


async def between_requests(house, address):
    await response(await house.connect(address))


async def with_half_a_body(house, address):
    (await house.connect(address))[1].write(POST)


async def not_reading(house, address):
    reader, writer = await house.connect(address)
    reader._transport.pause_reading()
    writer.write(GET.replace(b"/ ", b"/large "))


async def streaming(house, address):
    reader, writer = await house.connect(address)
    writer.write(GET.replace(b"/ ", b"/stream "))
    await reader.readuntil(b"\r\n\r\n")


async def leaving(house, address):
    (await house.connect(address))[1].write(b"nonsense\r\n\r\n")


@pytest.mark.parametrize(
    "attack",
    [silent, with_half_a_header, between_requests, with_half_a_body, not_reading, streaming, leaving],
)
async def test_connections_that_wait_for_their_peer_keep_nobody_out(a_house, attack):
    async with a_house(8) as house:
        address = await house.listen()
        for _ in range(40):
            await attack(house, address)
        for _ in range(10):
            assert (await response(await house.connect(address)))[0] == 200
            await attack(house, address)
        assert house.open <= 8


async def test_a_request_that_is_being_handled_is_not_cut_off_and_newcomers_wait(a_house):
    async with a_house(3) as house:
        address = await house.listen()
        held = [await house.connect(address) for _ in range(3)]
        asked = [asyncio.ensure_future(response(each, GET.replace(b"/ ", b"/held "))) for each in held]
        await house.until(lambda: house.handling == 3)
        newcomer = asyncio.ensure_future(response(await house.connect(address)))
        await asyncio.sleep(0.3)
        assert not newcomer.done()
        house.held.set()
        assert await asyncio.gather(*asked) == [(200, b"at last")] * 3
        assert (await newcomer)[0] == 200


async def test_a_stream_lasts_and_ends_at_once_when_its_peer_leaves(a_house, monkeypatch):
    monkeypatch.setattr(server_module, "REQUEST_TIME", 0.1)
    async with a_house(admin_header_time=0.1) as house:
        address = await house.listen()
        await streaming(house, address)
        await asyncio.sleep(0.5)
        assert house.streaming == house.open == 1
        house.leave()
        await house.until(lambda: house.streaming == 0)
        await house.until(lambda: house.open == 0)


async def test_the_limit_is_logged_once(a_house, caplog):
    async with a_house(4) as house:
        address = await house.listen()
        for _ in range(30):
            await silent(house, address)
        await house.until(lambda: house.open == 4)
        await idle(house, address, 2)
    (told,) = [record for record in caplog.records if "admin listener" in record.getMessage()]
    assert told.levelname == "WARNING"


async def test_the_peer_with_most_connections_loses_one_first(a_house, monkeypatch):
    ports = set()
    group = lambda sock: "few" if sock.getpeername()[1] in ports else "many"  # noqa: E731
    monkeypatch.setattr(server_module, "group_of", group)
    async with a_house(6) as house:
        address = await house.listen()
        few = await idle(house, address, 2)
        ports |= {writer.get_extra_info("sockname")[1] for _, writer in few}
        many = await idle(house, address, 8)
        assert [(await response(each))[0] for each in few] == [200, 200]
        assert [(await response(each))[0] for each in many] == [0] * 4 + [200] * 4


@pytest.mark.privileged
async def test_another_user_takes_no_place_from_us(a_house):
    async with a_house(8) as house:
        address = await house.listen()
        ours = await idle(house, address, 3)
        for _ in range(40):
            with as_user(STRANGER):
                stranger = await house.connect(address)
            assert (await response(stranger))[0] == 200
        assert [(await response(each))[0] for each in ours] == [200] * 3


# -- TLS


@pytest.fixture
def certificate(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    path = tmp_path / "both.pem"
    return ListenerTLS(cert=path, key=path), trusted


async def test_handshakes_that_never_end_count_and_keep_nobody_out(a_house, certificate):
    tls, trusted = certificate
    async with a_house(8) as house:
        address = await house.listen(tls=tls)
        for number in range(40):
            _, writer = await house.connect(address)
            writer.write([b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"][number % 3])
        for _ in range(10):
            connection = await house.connect(address, ssl=trusted, server_hostname="localhost")
            assert (await response(connection))[0] == 200
            await house.connect(address)
        assert house.open <= 8


async def test_a_handshake_has_the_time_of_a_header(a_house, certificate):
    async with a_house(admin_header_time=0.5) as house:
        connection = await house.connect(await house.listen(tls=certificate[0]))
        assert await until_closed(connection) == b""
        await house.until(lambda: house.open == 0)


async def test_an_error_over_tls_is_received(house, certificate):
    tls, trusted = certificate
    address = await house.listen(tls=tls)
    connection = await house.connect(address, ssl=trusted, server_hostname="localhost")
    assert (await response(connection, b"nonsense\r\n\r\n"))[0] == 400


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_accepted_at_the_last_moment_is_closed(a_house, certificate, turns, secure):
    async with a_house() as house:
        address = await house.listen(tls=certificate[0] if secure else None)
        with socket.create_connection((address.host, address.port)) as caller:
            caller.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            await close(house.runner)
            async with asyncio.timeout(PATIENCE):
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.get_running_loop().sock_recv(caller, 1) == b""


async def test_a_page_that_is_being_sent_at_the_end_is_sent(a_house):
    async with a_house() as house:
        connection = await house.connect(await house.listen())
        asked = asyncio.ensure_future(response(connection, GET.replace(b"/ ", b"/held ")))
        await house.until(lambda: house.handling == 1)
        asyncio.get_running_loop().call_later(0.3, house.held.set)
        await close(house.runner)
        assert await asked == (200, b"at last")


async def test_peers_that_reset_their_connections_leave_nothing_behind(house):
    address = await house.listen()
    for number in range(200):
        _, writer = await house.connect(address)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.write([b"", GET, POST, b"nonsense\r\n\r\n"][number % 4])
        writer.transport.abort()
    await house.until(lambda: house.open == 0)
    assert (await response(await house.connect(address)))[0] == 200


# -- groups


def accepted_from(source, listener):
    with socket.create_connection(listener.getsockname()[:2], source_address=(source, 0)):
        accepted, _ = listener.accept()
        with accepted:
            return group_of(accepted)


def test_all_loopback_addresses_are_one_peer(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = {accepted_from(source, listener) for source in ("127.0.0.1", "127.0.0.9")}
        assert ours == {f"uid {os.geteuid()}" if peers.TELLS_USERS else LOOPBACK}
        monkeypatch.setattr(peers, "TELLS_USERS", False)
        assert accepted_from("127.0.0.9", listener) == LOOPBACK


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("127.0.0.1", LOOPBACK),
        ("::1", LOOPBACK),
        ("::ffff:127.0.0.1", LOOPBACK),
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_peers_elsewhere_are_told_apart_by_network(name, group):
    class Elsewhere:
        family = socket.AF_INET6 if ":" in name else socket.AF_INET

        def getpeername(self):
            return (name, 1)

        def getsockname(self):
            return (name, 2)

    assert group_of(Elsewhere()) in {group, f"uid {os.geteuid()}"}


def test_a_connection_that_is_closed_already_has_a_group_too():
    with socket.socket() as sock:
        assert group_of(sock) == LOOPBACK
