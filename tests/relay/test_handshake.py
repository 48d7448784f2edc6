"""TLS handshakes and connections by callbacks, on both event loops: in pieces, cut off, odd, cancelled."""

import asyncio
import contextlib
import errno
import socket
import ssl
import threading

import pytest
import trustme
import uvloop

from proxy.failure_causes import NOT_TLS, TLS_ENDED, UNKNOWN_CA, cause_of
from proxy.relay.connect import connect
from proxy.relay.wire import TLSWire
from tests.patience import FOR_CERTAIN

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
versions = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request):
    """Run a coroutine in a loop of this kind; no callback of it may fail."""
    failed = []

    def run(coroutine):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: failed.append(context))
            return runner.run(asyncio.wait_for(coroutine, FOR_CERTAIN))

    yield run
    assert failed == []


class Server:
    """A TLS server without a socket: bytes in, bytes out. `at_once` is sent with its last flight."""

    def __init__(self, context, at_once=b""):
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._at_once = at_once
        self.done = False
        self.received = b""

    def take(self, data):
        """What it says to `data`."""
        self._in.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.done:
                self.tls.do_handshake()
                self.done = True
                if self._at_once:
                    self.tls.write(self._at_once)
            while part := self.tls.read(65536):
                self.received += part
        return self._out.read()


class Ends:
    """A wire, and the other end of its socket as a plain one for the test to play."""

    def __init__(self, version=ssl.TLSVersion.TLSv1_3, at_once=b""):
        authority = trustme.CA()
        self.theirs, self.ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), None
        authority.issue_cert("localhost").configure_cert(self.theirs)
        self.theirs.maximum_version = version
        self.ours = ssl.create_default_context()
        authority.configure_trust(self.ours)
        self._at_once = at_once

    def __enter__(self):
        self.left, self.right = socket.socketpair()
        self.left.setblocking(False)
        self.right.setblocking(False)
        self.server = Server(self.theirs, self._at_once)
        self.wire = TLSWire(self.left, self.ours, "localhost")
        return self

    def __exit__(self, *_):
        self.left.close()
        self.right.close()

    async def play(self, *, piece=65536):
        """Answer until the handshake is over for the server, or the client has gone."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while not self.server.done:
                data = await loop.sock_recv(self.right, piece)
                if not data:
                    return
                said = self.server.take(data)
                if self.server.done:  # tickets and data, which nobody reads here
                    self.right.send(said)
                    return
                for at in range(0, len(said), piece):
                    await loop.sock_sendall(self.right, said[at : at + piece])
                    await asyncio.sleep(0)


def nothing_registered(sock):
    loop = asyncio.get_running_loop()
    return not loop.remove_reader(sock.fileno()) and not loop.remove_writer(sock.fileno())


@versions
@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_a_handshake_may_drip(run, version, piece):
    async def main():
        with Ends(version) as ends:
            await asyncio.gather(ends.wire.handshake(), ends.play(piece=piece))
            assert ends.server.done
            assert ends.wire._tls.version() == version.name.replace("v1_", "v1.")
            assert nothing_registered(ends.left)

    run(main())


def test_a_server_may_ask_for_another_key_share(run):
    """HelloRetryRequest (RFC 8446 section 4.1.4)."""

    async def main():
        ends = Ends()
        ends.theirs.set_ecdh_curve("secp521r1")
        with ends:
            await asyncio.gather(ends.wire.handshake(), ends.play())
            assert ends.server.done

    run(main())


@versions
def test_data_with_the_last_flight_is_not_lost(run, version):
    async def main():
        with Ends(version, b"early") as ends:
            await asyncio.gather(ends.wire.handshake(), ends.play())
            if not ends.wire.has_more:  # in TLS 1.3 our flight is the last
                await asyncio.sleep(0)
            assert ends.wire.receive() == b"early"

    run(main())


@versions
def test_a_server_may_take_our_first_flight_late_and_in_parts(run, version):
    """The kernel's buffer is full of something else when the handshake begins."""

    async def main():
        with Ends(version) as ends:
            ends.left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            filled = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    filled += ends.left.send(b"z")
            shaking = asyncio.create_task(ends.wire.handshake())
            await asyncio.sleep(0.02)
            loop = asyncio.get_running_loop()
            while filled:
                filled -= len(await loop.sock_recv(ends.right, min(filled, 4096)))
            await asyncio.gather(shaking, ends.play(piece=100))
            assert nothing_registered(ends.left)

    run(main())


@versions
def test_a_server_that_ends_anywhere_in_the_handshake_is_named(run, version):
    """After each number of its bytes; and the descriptor is left to nobody."""

    async def flight(ends):
        shaking = asyncio.create_task(ends.wire.handshake())
        await asyncio.sleep(0)
        said = ends.server.take(await asyncio.get_running_loop().sock_recv(ends.right, 65536))
        return shaking, said

    async def main():
        ends = Ends(version)
        size = None
        at = 0
        while size is None or at < size:
            with ends:
                shaking, said = await flight(ends)
                size = len(said)  # not always the same: signatures differ in their length
                ends.right.send(said[: min(at, size - 1)])
                ends.right.close()
                with pytest.raises(OSError) as raised:
                    await shaking
                assert cause_of(raised.value) is TLS_ENDED, at
                assert nothing_registered(ends.left)
            at += 97

    run(main())


ODD = {
    "plain HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", NOT_TLS),
    "an empty handshake record": (bytes.fromhex("1603030000"), None),
    "a record of data before the handshake": (bytes.fromhex("170303000161"), None),
    "a record that is too long": (bytes.fromhex("160303ffff") + bytes(16384 + 300), None),
    "a fatal alert": (bytes.fromhex("15030300020228"), None),
    "many warnings": (bytes.fromhex("1503030002015a") * 100, None),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_bytes_are_a_failure_with_a_cause(run, odd):
    data, cause = ODD[odd]

    async def main():
        with Ends() as ends:
            shaking = asyncio.create_task(ends.wire.handshake())
            loop = asyncio.get_running_loop()
            await loop.sock_recv(ends.right, 65536)
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(ends.right, data)
            ends.right.shutdown(socket.SHUT_WR)
            with pytest.raises(ssl.SSLError) as raised:
                await shaking
            assert cause is None or cause_of(raised.value) is cause
            assert nothing_registered(ends.left)

    run(main())


@versions
def test_a_refused_certificate_is_told_to_the_server(run, version):
    """It logs why, then (RFC 8446 section 6.2)."""

    async def main():
        ends = Ends(version)
        ends.ours = ssl.create_default_context()  # it knows no authority of the test's
        with ends:
            shaking = asyncio.create_task(ends.wire.handshake())
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(ends.right, ends.server.take(await loop.sock_recv(ends.right, 65536)))
            with pytest.raises(ssl.SSLCertVerificationError) as raised:
                await shaking
            assert cause_of(raised.value) is UNKNOWN_CA
            with pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"):
                ends.server.take(await loop.sock_recv(ends.right, 65536))

    run(main())


@versions
@pytest.mark.parametrize("flights", [0, 1])
def test_a_handshake_that_is_cancelled_leaves_nothing_behind(run, version, flights):
    async def main():
        with Ends(version) as ends:
            shaking = asyncio.create_task(ends.wire.handshake())
            loop = asyncio.get_running_loop()
            for _ in range(flights):
                said = ends.server.take(await loop.sock_recv(ends.right, 65536))
                await loop.sock_sendall(ends.right, said[:500])
                await asyncio.sleep(0.01)
            shaking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await shaking
            assert nothing_registered(ends.left)
            ends.right.send(b"more")
            await asyncio.sleep(0.01)

    run(main())


def test_a_handshake_that_is_cancelled_while_the_kernel_takes_nothing(run):
    async def main():
        with Ends() as ends:
            with contextlib.suppress(BlockingIOError):
                while True:
                    ends.left.send(b"z" * 65536)
            shaking = asyncio.create_task(ends.wire.handshake())
            await asyncio.sleep(0.01)
            shaking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await shaking
            assert nothing_registered(ends.left)

    run(main())


def test_an_unexpected_exception_in_a_callback_is_raised_to_the_caller(run):
    class Odd(Exception):
        pass

    class Tls:
        calls = 0

        def do_handshake(self):
            self.calls += 1
            if self.calls > 1:
                raise Odd
            raise ssl.SSLWantReadError

    async def main():
        with Ends() as ends:
            ends.wire._tls = Tls()
            shaking = asyncio.create_task(ends.wire.handshake())
            await asyncio.sleep(0)
            ends.right.send(b"x")
            with pytest.raises(Odd):
                await shaking
            assert nothing_registered(ends.left)

    run(main())


# -- connections


async def connected(address):
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    sock.setblocking(False)
    try:
        await connect(sock, address)
    except BaseException:
        assert nothing_registered(sock)
        sock.close()
        raise
    return sock


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_is_made(run, host):
    async def main(address):
        for _ in range(100):
            sock = await connected(address)
            assert nothing_registered(sock)
            assert sock.getpeername()[:2] == address[:2]
            sock.close()

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=200) as listener:
        run(main(listener.getsockname()))


def test_a_refused_connection_says_so(run):
    async def main(address):
        for _ in range(10):
            with pytest.raises(ConnectionRefusedError) as raised:
                await connected(address)
            assert raised.value.errno == errno.ECONNREFUSED

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
    run(main(address))


def test_a_connection_that_is_cancelled_leaves_nothing_behind(run):
    async def main(address):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await connected(address)

    with socket.socket() as listener, socket.socket() as waiting, socket.socket() as another:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (waiting, another):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        run(main(listener.getsockname()))


def test_hundreds_at_once_with_a_third_cancelled(run):
    async def main(address):
        dials = [asyncio.create_task(connected(address)) for _ in range(300)]
        for dial in dials[::3]:
            asyncio.get_running_loop().call_soon(dial.cancel)
        done = await asyncio.gather(*dials, return_exceptions=True)
        for each in done:
            assert isinstance(each, socket.socket | asyncio.CancelledError)
            if isinstance(each, socket.socket):
                each.close()

    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        accepting = threading.Thread(target=_accept_all, args=(listener,), daemon=True)
        accepting.start()
        run(main(listener.getsockname()))


def _accept_all(listener):
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()
