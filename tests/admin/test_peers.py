"""The user at the other end of a connection."""

import asyncio
import os
import socket
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.admin import peers
from proxy.admin.peers import End, address_of, is_own, uid_of
from tests.other_user import STRANGER, as_user

linux = pytest.mark.skipif(sys.platform != "linux", reason="the user of a TCP peer is known on Linux only")
HERE = ["127.0.0.1", "::1", "::ffff:127.0.0.1"]


@asynccontextmanager
async def accepting(host="127.0.0.1", path=None):
    """Yields the listener's port and a queue of accepted transports."""
    accepted, writers = asyncio.Queue(), []

    async def keep(_reader, writer):
        writers.append(writer)
        await accepted.put(writer.transport)

    if path:
        server = await asyncio.start_unix_server(keep, path)
    else:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
        server = await asyncio.start_server(keep, sock=sock)
    try:
        yield (path or server.sockets[0].getsockname()[1]), accepted
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


@asynccontextmanager
async def connected(host="127.0.0.1", listen=None):
    """A connection from this process: the accepted transport, and the client's writer."""
    async with accepting(listen or host) as (port, accepted):
        _, writer = await asyncio.open_connection(host, port)
        try:
            yield await accepted.get(), writer
        finally:
            writer.close()


@pytest.fixture
def any_number_of_sockets(monkeypatch):
    """Other tests may have left thousands behind."""
    monkeypatch.setattr(peers, "MOST_SOCKETS", 10**9)


def by_netlink(local, remote):
    return peers._owner(peers._by_netlink(local, remote))


def ends_of(transport):
    return [peers._end(transport.get_extra_info(name)) for name in ("peername", "sockname")]


@linux
@pytest.mark.parametrize("host", HERE)
async def test_the_peer_on_loopback_is_our_own_user(host):
    listen = "::" if host.startswith("::ffff") else host
    async with connected(host, listen) as (accepted, _):
        assert uid_of(accepted) == os.geteuid()
        assert is_own(uid_of(accepted))


@linux
@pytest.mark.parametrize("host", HERE)
@pytest.mark.usefixtures("any_number_of_sockets")
async def test_both_ways_to_look_it_up_agree(host):
    listen = "::" if host.startswith("::ffff") else host
    async with connected(host, listen) as (accepted, _):
        peer, ours = ends_of(accepted)
        assert peers._by_proc(peer, ours) == os.geteuid()
        assert by_netlink(peer, ours) == os.geteuid()


@linux
@pytest.mark.usefixtures("any_number_of_sockets")
async def test_without_netlink_the_table_in_proc_is_read(monkeypatch):
    def forbidden(*_):
        raise PermissionError(1, "a sandbox forbids it")

    for netlink in (forbidden, lambda *_: None):  # forbidden, or the kernel's module is missing
        monkeypatch.setattr(peers, "_by_netlink", netlink)
        async with connected() as (accepted, _):
            assert uid_of(accepted) == os.geteuid()


@linux
async def test_without_either_the_user_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "_by_netlink", lambda *_: None)
    monkeypatch.setattr(peers, "PROC", tmp_path)
    async with connected() as (accepted, _):
        assert uid_of(accepted) is None
        assert not is_own(None)


@linux
async def test_of_a_long_table_in_proc_only_the_beginning_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "PROC", tmp_path)
    async with connected() as (accepted, _):
        peer, ours = ends_of(accepted)
        places = " ".join(peers._hex(end.address.packed, end.port) for end in (peer, ours))
        other = "0: 0100007F:0001 0100007F:0002 01 0:0 0:0 0 7 0 5\n"
        for before, owner in ((peers.MOST_SOCKETS - 1, 1000), (peers.MOST_SOCKETS, None)):
            found = f"0: {places} 01 00000000:00000000 00:00000000 00000000 1000 0 12345 1 0\n"
            (tmp_path / "tcp").write_text("sl local rem\n" + other * before + found)
            assert peers._by_proc(peer, ours) == owner


@linux
async def test_where_netlink_works_proc_is_never_read(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "_by_proc", lambda *_: pytest.fail("the table in /proc was read"))
    async with connected() as (accepted, writer):
        assert uid_of(accepted) == os.geteuid()
        writer.write_eof()
        await asyncio.sleep(0.05)
        assert uid_of(accepted) is None


@linux
@pytest.mark.parametrize("way", [by_netlink, peers._by_proc], ids=["netlink", "proc"])
@pytest.mark.usefixtures("any_number_of_sockets")
async def test_a_socket_that_its_process_has_closed_is_nobodys(way):
    """The kernel says root of one: whoever closed it early would pass for root."""
    async with connected() as (accepted, writer):
        peer, ours = ends_of(accepted)
        accepted.pause_reading()
        writer.write(b"POST /logout/crm HTTP/1.1\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        for _ in range(5):
            assert way(peer, ours) is None
            await asyncio.sleep(0.01)


@linux
@pytest.mark.parametrize("way", [by_netlink, peers._by_proc], ids=["netlink", "proc"])
async def test_a_listener_at_the_peers_port_is_not_taken_for_the_peer(way):
    async with connected() as (accepted, _):
        _, ours = ends_of(accepted)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            there = End(peers._end(listener.getsockname()).address, listener.getsockname()[1])
            assert way(there, ours) is None


@linux
async def test_the_peer_of_a_unix_socket_is_known(tmp_path):
    path = str(tmp_path / "s")
    async with accepting(path=path) as (_, accepted):
        _, writer = await asyncio.open_unix_connection(path)
        transport = await accepted.get()
        assert uid_of(transport) == os.geteuid()
        assert address_of(transport) is None
        writer.close()


@pytest.mark.privileged
@pytest.mark.parametrize("closes", [False, True], ids=["", "it closes at once"])
async def test_another_user_is_not_our_own(closes):
    async with accepting() as (port, accepted):
        with as_user(STRANGER):
            sock = socket.socket()
        with sock:
            sock.connect(("127.0.0.1", port))
            transport = await asyncio.wait_for(accepted.get(), 60)
            transport.pause_reading()
            assert uid_of(transport) == STRANGER
            assert not is_own(STRANGER)
            if closes:
                sock.send(b"POST /logout/crm HTTP/1.1\r\n\r\n")
                sock.close()
                assert uid_of(transport) is None


@pytest.mark.privileged
async def test_another_user_of_a_unix_socket_is_not_our_own():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are private to our user
        path = Path(folder) / "s"
        async with accepting(path=str(path)) as (_, accepted):
            path.parent.chmod(0o755)
            path.chmod(0o666)
            with as_user(STRANGER), socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                assert uid_of(await asyncio.wait_for(accepted.get(), 60)) == STRANGER


def test_nobody_is_never_our_own_user(monkeypatch):
    """In a user namespace the kernel shows all users from outside as this one."""
    monkeypatch.setattr(peers, "_of_tcp", lambda *_: peers.NOBODY)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as end,
    ):

        class Transport:
            def get_extra_info(self, _name):
                return end

        assert uid_of(Transport()) is None


async def test_an_address_in_another_address_counts_as_itself():
    async with connected("::ffff:127.0.0.1", "::") as (accepted, _):
        assert str(address_of(accepted)) == "127.0.0.1"


def test_a_request_without_a_connection_has_no_user():
    assert uid_of(None) is None
    assert address_of(None) is None
