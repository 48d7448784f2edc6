"""Bytes over TLS: records arrive together, in parts, or not at all."""

import asyncio
import socket
import ssl

import pytest
import trustme

from proxy.relay.failures import Failure
from proxy.relay.wire import TLSWire, Wire, failure_of


@pytest.fixture
async def ends():
    """A wire after its handshake, and the peer's end as a blocking TLS socket."""
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(theirs)
    authority.configure_trust(ours)
    left, right = socket.socketpair()
    left.setblocking(False)
    wire = TLSWire(left, ours, "localhost")
    peer, _ = await asyncio.gather(
        asyncio.to_thread(theirs.wrap_socket, right, server_side=True, suppress_ragged_eofs=False),
        wire.handshake(),
    )
    yield wire, peer
    left.close()
    peer.close()


async def test_session_tickets_are_not_data(ends):
    wire, _ = ends
    assert wire.receive() is None
    assert wire.receive() is None


async def test_several_records_come_in_one_piece(ends):
    wire, peer = ends
    for part in (b"one ", b"two ", b"three"):
        peer.send(part)
    assert wire.receive() == b"one two three"


async def test_half_a_record_waits_for_its_other_half(ends):
    wire, peer = ends
    wire.receive()  # the tickets
    peer.send(b"x" * 1000)
    encrypted = wire.sock.recv(65536)
    wire._take(encrypted[:500])
    assert wire._decrypted(at_end=False) is None
    wire._take(encrypted[500:])
    assert wire._decrypted(at_end=False) == b"x" * 1000


async def test_encoded_data_may_be_sent_in_any_pieces(ends):
    wire, peer = ends
    encoded = wire.encode(b"y" * 40_000)
    for at in range(0, len(encoded), 777):
        assert wire.send(encoded[at : at + 777]) <= 777
    received = b""
    while len(received) < 40_000:
        received += peer.recv(65536)
    assert received == b"y" * 40_000


async def test_an_announced_end_is_an_end(ends):
    wire, peer = ends
    peer.send(b"last words")
    await asyncio.to_thread(_close_properly, peer)
    assert wire.receive() == b"last words"
    assert wire.receive() == b""


def _close_properly(peer):
    peer.setblocking(False)
    try:
        peer.unwrap()
    except (ssl.SSLWantReadError, OSError):
        peer.close()


async def test_an_announced_end_after_our_own_is_an_end(ends):
    """OpenSSL reports it in another way then: a tunnel whose caller ended first was cut off for it."""
    wire, peer = ends
    wire.end()
    assert await asyncio.to_thread(peer.recv, 100) == b""
    peer.send(b"last words")
    await asyncio.to_thread(_close_properly, peer)
    assert wire.receive() == b"last words"
    assert wire.receive() == b""
    assert wire.receive() == b""


@pytest.mark.parametrize(
    "kind", [ssl.SSLError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError]
)
def test_a_failure_without_a_reason_of_openssl_is_an_end(kind):
    """Its `reason` is None, or missing, whatever its type says."""
    error = kind()
    if isinstance(error, ssl.SSLError):
        error.reason = None
    assert failure_of(error) is Failure.ENDED


async def test_an_end_without_close_notify_is_an_error(ends):
    wire, peer = ends
    wire.receive()
    peer.close()
    with pytest.raises(ssl.SSLEOFError):
        wire.receive()


async def test_a_full_kernel_takes_nothing_more():
    left, right = socket.socketpair()
    left.setblocking(False)
    wire = Wire(left)
    while wire.send(b"z" * 65536):
        pass
    assert wire.send(b"z") == 0
    assert wire.receive() is None
    left.close()
    right.close()
