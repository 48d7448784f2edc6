"""Accepting under a gate's control: no room, no open file, failures, both event loops."""

import asyncio
import contextlib
import functools
import resource
import socket
import ssl
import time

import pytest
import trustme

from proxy.accept import Acceptor, Gate, bound
from proxy.sockets.acceptor import PlainAcceptor

PATIENCE = 60  # seconds


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._transport.write(data)

    def close(self):
        self._transport.close()


class Turnstile(Gate):
    """Has room for so many, and remembers what it was told."""

    def __init__(self, room):
        self.room = room
        self.admitted = []
        self.ended = []
        self.without_files = 0

    def has_room(self):
        return len(self.admitted) < self.room

    def admit(self, sock):
        self.admitted.append(Echo())
        return self.admitted[-1]

    def failed(self, protocol):
        self.ended.append(protocol)

    def out_of_files(self):
        self.without_files += 1


@pytest.fixture
async def opened():
    stack = contextlib.ExitStack()
    with stack:
        yield stack


ACCEPTORS = {"of the loop": functools.partial(Acceptor, options={"ssl": None}), "of our own": PlainAcceptor}


@pytest.fixture(params=ACCEPTORS)
def accepting(request):
    """Without TLS."""
    return ACCEPTORS[request.param]


@pytest.fixture
async def made(opened, accepting):
    """A gate without a limit, and its address."""
    gate = Turnstile(1000)
    sockets = await bound("127.0.0.1", 0)
    acceptor = accepting(gate, sockets, 128)
    yield gate, sockets[0].getsockname()
    acceptor.close()
    for protocol in gate.admitted:
        protocol.close()


async def connect(opened, address):
    reader, writer = await asyncio.open_connection(*address)
    opened.callback(writer.close)
    return reader, writer


async def echoed(connection):
    reader, writer = connection
    writer.write(b"hello")
    async with asyncio.timeout(PATIENCE):
        return await reader.read(5)


async def test_connections_are_accepted(made, opened):
    _, address = made
    for connection in [await connect(opened, address) for _ in range(50)]:
        assert await echoed(connection) == b"hello"


async def test_without_room_connections_wait_until_there_is_some(made, opened):
    gate, address = made
    gate.room = 2
    connections = [await connect(opened, address) for _ in range(4)]
    for connection in connections[:2]:
        assert await echoed(connection) == b"hello"
    await asyncio.sleep(0.3)
    assert len(gate.admitted) == 2
    gate.room = 4
    for connection in connections:
        assert await echoed(connection) == b"hello"


@contextlib.contextmanager
def no_more_files():
    """What is open stays open, and no file can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as lowest:
        number = lowest.fileno()
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (number + 5, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(socket.socket())
        yield
    finally:
        for filler in fillers:
            filler.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_files_it_pauses_and_goes_on(made, opened):
    gate, address = made
    callers = [opened.enter_context(socket.socket()) for _ in range(3)]
    with no_more_files():
        for caller in callers:
            caller.connect(address)  # the kernel has accepted it
        used = time.process_time()
        await asyncio.sleep(1)
        assert 1 <= gate.without_files <= 20, "it tries again now and then, but not all the time"
        assert time.process_time() - used < 0.5
        assert gate.admitted == []
    for caller in callers:
        caller.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(caller, b"hello")
        async with asyncio.timeout(PATIENCE):
            assert await loop.sock_recv(caller, 5) == b"hello"


async def test_a_name_is_bound_at_each_of_its_addresses():
    sockets = await bound("localhost", 0)
    assert {sock.getsockname()[0] for sock in sockets} <= {"127.0.0.1", "::1"}
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize(
    ("addresses", "bound_to"),
    [
        (["127.0.0.1", "203.0.113.1"], ["127.0.0.1"]),
        (["203.0.113.1", "127.0.0.1"], ["127.0.0.1"]),
        (["127.0.0.1", "127.0.0.1", "127.0.0.2"], ["127.0.0.1", "127.0.0.2"]),
        (["203.0.113.1"], []),
        ([], []),
    ],
)
async def test_addresses_that_this_machine_lacks_are_left_out(monkeypatch, addresses, bound_to):
    async def resolved(*_, **__):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    if not bound_to:
        with pytest.raises(OSError, match="assign requested address"):
            await bound("a.name", 0)
        return
    sockets = await bound("a.name", 0)
    assert [sock.getsockname()[0] for sock in sockets] == bound_to
    for sock in sockets:
        sock.close()


async def test_a_taken_port_is_an_error_and_leaves_no_socket():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await bound("127.0.0.1", taken.getsockname()[1])


async def test_while_it_pauses_it_can_be_closed(opened, accepting):
    gate = Turnstile(0)
    sockets = await bound("127.0.0.1", 0)
    address = sockets[0].getsockname()
    acceptor = accepting(gate, sockets, 128)
    await connect(opened, address)
    await asyncio.sleep(0.05)
    acceptor.close()
    await asyncio.sleep(0.3)
    with pytest.raises(OSError, match=r".*"):
        await connect(opened, address)


@pytest.fixture
def tls():
    """The contexts of a server and of its callers."""
    authority = trustme.CA()
    server, caller = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(caller)
    return server, caller


async def test_a_handshake_that_has_begun_is_completed_before_it_is_closed(opened, tls):
    gate, sockets = Turnstile(1000), await bound("127.0.0.1", 0)
    address = sockets[0].getsockname()
    acceptor = Acceptor(gate, sockets, 128, {"ssl": tls[0]})
    caller = opened.enter_context(socket.create_connection(address))
    while not gate.admitted:
        await asyncio.sleep(0.01)
    settling = asyncio.create_task(acceptor.settle(PATIENCE))
    await asyncio.sleep(0.1)
    with pytest.raises(ConnectionRefusedError):
        await connect(opened, address)
    caller.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=caller, ssl=tls[1], server_hostname="127.0.0.1")
    opened.callback(writer.close)
    await settling
    acceptor.close()
    assert await echoed((reader, writer)) == b"hello"
    assert gate.ended == []
    gate.admitted[0].close()


async def test_a_handshake_that_never_ends_does_not_keep_it_open(opened, tls):
    gate, sockets = Turnstile(1000), await bound("127.0.0.1", 0)
    acceptor = Acceptor(gate, sockets, 128, {"ssl": tls[0]})
    opened.enter_context(socket.create_connection(sockets[0].getsockname()))
    while not gate.admitted:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(PATIENCE):
        await acceptor.settle(0.1)
        acceptor.close()
        while not gate.ended:
            await asyncio.sleep(0.01)
