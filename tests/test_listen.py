"""Listeners: addresses, access, and the errors when an address is unavailable."""

import asyncio
import errno
import fcntl
import os
import socket
import ssl
import stat
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
import uvloop
from aiohttp import web

from proxy import unix_sockets
from proxy.config.address import Address
from proxy.config.model import ListenerTLS
from proxy.listen import CannotListen, bound_address, close, listen, tls_context

ANY = Address("127.0.0.1", 0)


@pytest.fixture
async def runner():
    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    yield runner
    await runner.cleanup()


async def hello(_request):
    return web.Response(text="hello")


async def get(reader, writer):
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    response = await reader.read()
    writer.close()
    return response.decode().rpartition("\r\n")[2]


async def test_a_free_port_is_reported(runner):
    site = await listen(runner, ANY, None)
    address = bound_address(site, ANY)
    assert address.host == "127.0.0.1"
    assert await get(*await asyncio.open_connection(address.host, address.port)) == "hello"


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_accepted_at_the_last_moment_is_closed(runner, turns):
    address = bound_address(site := await listen(runner, ANY, None), ANY)
    with socket.create_connection((address.host, address.port)) as caller:
        caller.setblocking(False)
        for _ in range(turns):  # of the event loop, which learns of the caller, accepts it, and so on
            await asyncio.sleep(0)
        await close(runner)
        assert site not in runner.sites
        async with asyncio.timeout(60):
            with suppress(ConnectionResetError):  # by the kernel, if it was not accepted yet
                assert await asyncio.get_running_loop().sock_recv(caller, 1) == b""


def test_an_address_of_version_six_keeps_its_brackets():
    assert str(Address("::1", 80)) == "[::1]:80"


NOT_OURS = (  # asyncio's own words since 3.13; uvloop, on which the server runs, keeps the system's
    "could not bind on any address out of [('203.0.113.1', 1)]: configure another address"
    if sys.version_info >= (3, 13)
    else "cannot assign requested address: configure one of this machine's addresses"
)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (Address("203.0.113.1", 1), f"can't listen on 203.0.113.1:1: {NOT_OURS}"),
        (
            Address("no-such-host.invalid", 1),
            "can't listen on no-such-host.invalid:1: the name does not resolve: configure an address",
        ),
        (
            Address("", 0, "/nowhere/at/all"),
            "can't listen on unix:/nowhere/at/all: no such file or directory: make the directory first",
        ),
        (
            Address("", 0, "/tmp/" + "x" * 200),
            f"can't listen on unix:/tmp/{'x' * 200}: AF_UNIX path too long: configure another address",
        ),
    ],
)
async def test_an_unavailable_address_is_named_with_the_reason(runner, address, reason):
    with pytest.raises(CannotListen) as refused:
        await listen(runner, address, None)
    assert str(refused.value) == reason


async def test_a_taken_port_is_named(runner):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            CannotListen, match=rf"^can't listen on 127\.0\.0\.1:{port}: address already in use: stop "
        ):
            await listen(runner, Address("127.0.0.1", port), None)


# -- unix sockets


async def test_a_unix_socket_is_its_owners_alone_and_leaves_no_file(runner, tmp_path):
    path = tmp_path / "proxy.sock"
    site = await listen(runner, Address("", 0, str(path)), None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await get(*await asyncio.open_unix_connection(path)) == "hello"
    await site.stop()
    assert not path.exists()


async def test_a_socket_file_that_a_killed_process_left_is_replaced(runner, tmp_path):
    path = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await listen(runner, Address("", 0, str(path)), None)
    assert await get(*await asyncio.open_unix_connection(path)) == "hello"


async def test_a_socket_that_is_in_use_is_left_alone(runner, tmp_path):
    path = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        with pytest.raises(CannotListen, match="address already in use"):
            await listen(runner, Address("", 0, str(path)), None)
        assert path.is_socket()


async def test_a_file_that_is_no_socket_is_left_alone(runner, tmp_path):
    path = tmp_path / "notes"
    path.write_text("precious")
    with pytest.raises(CannotListen, match="address already in use"):
        await listen(runner, Address("", 0, str(path)), None)
    assert path.read_text() == "precious"


def test_of_two_processes_that_find_one_dead_socket_one_gets_the_address(tmp_path, monkeypatch):
    path = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    unlink = Path.unlink

    def unlink_late(self, *, missing_ok=False):
        time.sleep(0.1)  # the other one has looked, too, by now
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_late)
    before = os.umask(0o027)
    with ThreadPoolExecutor(2) as threads:
        tries = [threads.submit(unix_sockets.unix_socket, path) for _ in range(2)]
    (winner,) = [each.result() for each in tries if each.exception() is None]
    (loser,) = [each.exception() for each in tries if each.exception() is not None]
    assert loser.errno == errno.EADDRINUSE
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
        winner.settimeout(5)
        winner.accept()[0].close()
    winner.close()
    assert os.umask(before) == 0o027, "it is of all threads"


def test_a_folder_locked_by_another_program_is_used_nevertheless(tmp_path, monkeypatch):
    monkeypatch.setattr(unix_sockets, "LOCK_WAIT", 0.1)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    unix_sockets.unix_socket(tmp_path / "proxy.sock").close()
    os.close(folder)


# -- unix sockets for others


def test_a_socket_for_others_has_its_mode_and_group_from_the_start(tmp_path):
    import threading

    path, seen, done = tmp_path / "proxy.sock", set(), threading.Event()

    def watch():
        while not done.is_set():
            for file in tmp_path.iterdir():
                with suppress(OSError):
                    status = file.stat()
                    seen.add((file == path, stat.S_IMODE(status.st_mode), status.st_gid))

    group = 4321 if os.geteuid() == 0 else os.getegid()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(300):
            unix_sockets.unix_socket(path, 0o660, group).close()
            path.unlink()
    finally:
        done.set()
        watcher.join()
    assert {each for each in seen if each[0]} <= {(True, 0o660, group)}
    assert {each[1:] for each in seen if not each[0]} <= {
        (0o600, os.getegid()),
        (0o600, group),
        (0o660, group),
    }


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_socket_has_its_mode_whatever_the_umask(tmp_path, mode):
    before = os.umask(0o077)
    try:
        unix_sockets.unix_socket(tmp_path / "s", mode).close()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


def test_a_shared_socket_leaves_a_file_of_its_name_alone_and_replaces_a_dead_one(tmp_path):
    path = tmp_path / "proxy.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        unix_sockets.unix_socket(path, 0o660)
    assert path.read_text() == "precious"
    path.unlink()
    unix_sockets.unix_socket(path, 0o660).close()
    with unix_sockets.unix_socket(path, 0o660), pytest.raises(OSError, match="in use"):
        unix_sockets.unix_socket(path, 0o660)
    assert [file.name for file in tmp_path.iterdir()] == ["proxy.sock"]


async def test_a_group_of_others_is_refused(runner):
    me = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is root's own
        os.chmod(folder, 0o777)  # noqa: PTH101 (a path's method is forbidden in coroutines)
        if me == 0:  # who may give a file to any group
            os.seteuid(65534)
        try:
            with pytest.raises(CannotListen, match="operation not permitted"):
                await listen(runner, Address("", 0, f"{folder}/s", 0o660, 4321), None)
            assert os.listdir(folder) == []  # noqa: PTH208
        finally:
            os.seteuid(me)


# -- TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority, tmp_path):
    certificate = authority.issue_cert("127.0.0.1")
    chain, key, ca = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    return {"cert": chain, "key": key, "client_ca": ca}


def given(files, *names):
    settings = {"client_ca": None, "certificates_optional": False, **{name: files[name] for name in names}}
    return tls_context(ListenerTLS.model_construct(**settings))


async def greeting(site, authority, *, with_certificate=False):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if with_certificate:
        authority.issue_cert("caller").configure_cert(context)
    port = bound_address(site, ANY).port
    return await get(*await asyncio.open_connection("127.0.0.1", port, ssl=context))


async def test_a_listener_speaks_tls(runner, tls, authority):
    site = await listen(runner, ANY, given(tls, "cert", "key"))
    assert await greeting(site, authority) == "hello"


async def test_callers_without_a_required_certificate_are_refused(runner, tls, authority):
    site = await listen(runner, ANY, given(tls, "cert", "key", "client_ca"))
    assert await greeting(site, authority, with_certificate=True) == "hello"
    with suppress(OSError):  # the refusal comes with the handshake, or after it
        assert await greeting(site, authority) == ""


@pytest.mark.parametrize("damage", ["empty", "encrypted", "other"])
def test_files_that_are_no_certificate_and_key_make_no_context(tls, authority, damage):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(tls["key"].read_bytes(), None)
    format_ = serialization.PrivateFormat.PKCS8
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, format_, serialization.BestAvailableEncryption(b"password")
    )
    other = authority.issue_cert("other").private_key_pem.bytes()
    tls["key"].write_bytes({"empty": b"", "encrypted": encrypted, "other": other}[damage])
    with pytest.raises(ssl.SSLError):
        given(tls, "cert", "key")


@pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n"], ids=["nothing", "half", "http"]
)
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_caller_that_never_shakes_hands_is_closed_in_time(tls, authority, tmp_path, factory, said, kind):
    async def serve():
        app = web.Application()
        app.router.add_get("/", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        address = ANY if kind == "tcp" else Address("", 0, str(tmp_path / "tls.sock"))
        site = await listen(runner, address, given(tls, "cert", "key"), handshake=0.5)
        reader, writer = await connect(bound_address(site, address))
        writer.write(said)
        async with asyncio.timeout(10):
            with suppress(ConnectionResetError):
                assert not (await reader.read()).startswith(b"HTTP/")
        writer.close()
        if kind == "tcp":
            assert await greeting(site, authority) == "hello"
        await close(runner)

    with asyncio.Runner(loop_factory=factory) as loop:
        loop.run(serve())


async def connect(address):
    if address.is_unix:
        return await asyncio.open_unix_connection(address.path)
    return await asyncio.open_connection(address.host, address.port)
