"""Sockets of a service manager: which listener they belong to, and what serving on them leaves behind."""

import asyncio
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop
from aiohttp import web

from proxy.adopted import Adopted, Misfit, fits, misfit
from proxy.config.address import Address, read_address
from proxy.listen import close, listen
from proxy.systemd import Handed


@pytest.fixture
def opened():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def handing(opened, tmp_path):
    """Make a socket that listens at an address, as a service manager does."""

    def make(text, name="", mode=0o600):
        if text.startswith("unix:"):
            path = str(tmp_path / text.removeprefix("unix:"))
            sock = opened.enter_context(socket.socket(socket.AF_UNIX))
            sock.bind(path)
            Path(path).chmod(mode)
        elif text.startswith("@"):
            sock = opened.enter_context(socket.socket(socket.AF_UNIX))
            sock.bind(f"\0{tmp_path}")
        else:
            host, _, port = text.rpartition(":")
            family = socket.AF_INET6 if "[" in host else socket.AF_INET
            sock = opened.enter_context(socket.socket(family))
            sock.bind((host.strip("[]"), int(port)))
        sock.listen()
        return Handed(sock, name)

    return make


def port_of(handed):
    return handed.sock.getsockname()[1]


@pytest.mark.parametrize(
    ("socket_at", "listener", "is_its"),
    [
        ("127.0.0.1:0", "127.0.0.1:{port}", True),
        ("127.0.0.1:0", "127.0.0.2:{port}", False),
        ("127.0.0.1:0", "127.0.0.1:1", False),
        ("127.0.0.1:0", "[::1]:{port}", False),
        ("127.0.0.1:0", "0.0.0.0:{port}", False),
        ("127.0.0.1:0", "unix:/run/x", False),
        ("[::1]:0", "[::1]:{port}", True),
        ("[::1]:0", "[0:0::1]:{port}", True),
        ("0.0.0.0:0", "0.0.0.0:{port}", True),
        ("0.0.0.0:0", "127.0.0.1:{port}", False),  # others could reach what is for this machine alone
        ("[::]:0", "[::]:{port}", True),
        ("[::]:0", "[::1]:{port}", False),
        ("[::]:0", "0.0.0.0:{port}", False),
        ("unix:s", "unix:{folder}/s", True),
        ("unix:s", "unix:{folder}/./s", True),
        ("unix:s", "unix:{folder}/t", False),
        ("unix:s", "127.0.0.1:80", False),
        ("@", "unix:{folder}", False),
    ],
)
async def test_a_socket_belongs_to_the_listener_of_its_address(
    handing, tmp_path, socket_at, listener, is_its
):
    handed = handing(socket_at)
    port = port_of(handed) if handed.sock.family != socket.AF_UNIX else 0
    address = read_address(listener.format(port=port, folder=tmp_path))
    assert fits(handed.sock, address) == is_its
    adopted = Adopted([handed])
    sockets = await adopted.of(address)
    assert len(sockets) == is_its
    assert adopted.unused() == ([] if is_its else [handed])
    for sock in sockets:
        sock.close()


async def test_a_path_is_the_same_by_a_link(handing, tmp_path):
    handed = handing("unix:s")
    (tmp_path / "run").symlink_to(tmp_path)
    assert fits(handed.sock, read_address(f"unix:{tmp_path}/run/s"))


async def test_a_name_has_the_sockets_of_its_addresses(handing, opened):
    handed = handing("127.0.0.1:0")
    both = [handed, handing(f"[::1]:{port_of(handed)}")]
    adopted = Adopted(both)
    sockets = await adopted.of(Address("localhost", port_of(handed)))
    for sock in sockets:
        opened.enter_context(sock)
    assert {sock.getsockname()[0] for sock in sockets} <= {"127.0.0.1", "::1"}
    assert len(sockets) + len(adopted.unused()) == 2
    assert sockets
    assert await adopted.of(Address("no-such-host.invalid", port_of(handed))) == []


async def test_a_listener_that_ends_gives_its_socket_back(handing, opened):
    handed = handing("127.0.0.1:0")
    adopted, address = Adopted([handed]), Address("127.0.0.1", port_of(handed))
    (first,) = await adopted.of(address)
    first.close()
    adopted.leave(address)
    assert adopted.unused() == [handed]
    (again,) = await adopted.of(address)
    opened.enter_context(again)
    assert (adopted.unused(), again.getsockname()) == ([], handed.sock.getsockname())


@pytest.mark.parametrize(
    ("mode", "listener_mode", "is_refused"),
    [
        (0o600, 0o600, False),
        (0o644, 0o600, False),  # writing is connecting
        (0o660, 0o600, True),
        (0o666, 0o660, True),
        (0o660, 0o660, False),
        (0o600, 0o660, False),
        (0o666, 0o666, False),
    ],
)
async def test_a_socket_that_too_many_may_connect_to_is_refused(
    handing, tmp_path, mode, listener_mode, is_refused
):
    adopted = Adopted([handing("unix:s", mode=mode)])
    address = Address("", 0, str(tmp_path / "s"), listener_mode)
    if not is_refused:
        (sock,) = await adopted.of(address)
        sock.close()
        return
    with pytest.raises(Misfit) as refused:
        await adopted.of(address)
    assert str(refused.value) == (
        f"the socket unix:{tmp_path}/s was handed over with mode {mode:04o}: expected {listener_mode:04o}, "
        f"as in the configuration - write SocketMode={listener_mode:04o} in the socket unit"
    )


def test_a_socket_that_fits_no_listener_is_named_with_what_to_write(handing, tmp_path):
    wide, named, plain = handing("0.0.0.0:0"), handing("unix:s", "admin"), handing("@")
    port = port_of(wide)
    listeners = [read_address(f"127.0.0.1:{port}"), read_address("unix:/run/other")]
    keys = "fits no listener: expected its address in server.listen, server.admin, server.health, "
    keys += "or listen of a route"
    assert misfit(wide, listeners) == (
        f"the socket 0.0.0.0:{port} {keys} - or write ListenStream=127.0.0.1:{port} in the socket unit, "
        "as in the configuration"
    )
    assert misfit(named, listeners) == f"the socket unix:{tmp_path}/s (admin) {keys}"
    assert misfit(plain, listeners) == f"the socket unix:@{tmp_path} {keys}"


# -- serving on them


LOOPS = pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


async def hello(_request):
    return web.Response(text="hello")


async def served(address, sockets):
    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    await listen(runner, address, None, sockets=sockets)
    return runner


async def get(sock):
    """Ask at the address of a listening socket."""
    where = sock.getsockname()
    if isinstance(where, str):
        reader, writer = await asyncio.open_unix_connection(where)
    else:
        reader, writer = await asyncio.open_connection(*where[:2])
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(60):
        response = await reader.read()
    writer.close()
    return response.rpartition(b"\r\n")[2]


@LOOPS
@pytest.mark.parametrize("where", ["127.0.0.1:0", "[::1]:0", "unix:s"])
def test_a_caller_that_comes_between_two_servers_is_served_by_the_second(handing, tmp_path, factory, where):
    handed = handing(where, mode=0o640)

    async def two_lives():
        if handed.sock.family == socket.AF_UNIX:
            address = Address("", 0, str(tmp_path / "s"))
        else:
            address = Address(handed.sock.getsockname()[0], port_of(handed))
        adopted = Adopted([handed])
        runner = await served(address, await adopted.of(address))
        assert await get(handed.sock) == b"hello"
        await close(runner)
        waiting = asyncio.ensure_future(get(handed.sock))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        runner = await served(address, await adopted.of(address))
        assert await waiting == b"hello"
        await close(runner)

    with asyncio.Runner(loop_factory=factory) as loop:
        loop.run(two_lives())
    if where == "unix:s":
        assert (tmp_path / "s").is_socket()
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o640


@LOOPS
def test_a_listener_may_have_several_sockets(handing, factory):
    handed = handing("127.0.0.1:0")
    both = [handed, handing(f"[::1]:{port_of(handed)}")]

    async def serve():
        runner = await served(Address("localhost", port_of(handed)), [each.sock.dup() for each in both])
        assert [await get(each.sock) for each in both] == [b"hello", b"hello"]
        await close(runner)

    with asyncio.Runner(loop_factory=factory) as loop:
        loop.run(serve())


@pytest.mark.skipif(sys.platform != "linux", reason="reads the queue's length as Linux shows it")
@LOOPS
def test_the_queue_is_not_made_shorter(handing, factory):
    handed = handing("127.0.0.1:0")
    handed.sock.listen(2000)

    def length():
        info = handed.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return int.from_bytes(info[28:32], sys.byteorder)  # tcpi_sacked: of a listener, its queue's length

    before = length()

    async def serve():
        runner = await served(Address("127.0.0.1", port_of(handed)), [handed.sock.dup()])
        await close(runner)

    with asyncio.Runner(loop_factory=factory) as loop:
        loop.run(serve())
    assert length() >= before >= 1000
