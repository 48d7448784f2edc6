"""A caller's connection on a socket of our own: data, ends, resets, full buffers, exceptions."""

import asyncio
import gc
import os
import select
import socket
import time

import pytest

from proxy.sockets import readiness, transport
from proxy.sockets.transport import PlainTransport
from tests.patience import until
from tests.sockets.stage import Stage, turns


@pytest.fixture
async def stages():
    opened = []

    def make(**options):
        opened.append(Stage(**options))
        return opened[-1]

    yield make
    for stage in opened:
        stage.close()
    await turns()
    assert all(stage.readiness._epoll.closed for stage in opened)


def test_the_flags_are_those_of_epoll():
    assert (readiness.READ, readiness.WRITE) == (select.EPOLLIN, select.EPOLLOUT)


@pytest.mark.parametrize("size", [1, 100, 16384, 16385, 300_000])
async def test_data_arrives_in_order_and_in_both_directions(stages, size):
    stage, sent = stages(), os.urandom(size)
    loop = asyncio.get_running_loop()
    arrived = until(lambda: len(stage.protocol.data) == size)
    await asyncio.gather(loop.sock_sendall(stage.peer, sent), arrived)
    assert stage.protocol.data == sent
    stage.transport.write(sent)
    await until(lambda: stage.receive() and len(stage.read) == size)
    assert stage.read == sent


async def test_a_full_buffer_pauses_the_protocol_and_an_emptied_one_resumes_it(stages):
    stage = stages()
    written = b""
    while "pause" not in stage.protocol.events:
        chunk = os.urandom(10000)
        stage.transport.write(chunk)
        written += chunk
        await turns(1)
    assert stage.transport.get_write_buffer_size() > transport.HIGH_WATER
    await until(lambda: stage.receive(1000) and "resume" in stage.protocol.events)
    assert stage.transport.get_write_buffer_size() <= transport.LOW_WATER
    await until(lambda: stage.receive() and stage.read == written)
    assert stage.protocol.events == ["made", "pause", "resume"]
    assert stage.transport.get_write_buffer_size() == 0


async def test_a_close_sends_the_rest_first(stages):
    stage = stages()
    written = os.urandom(1_000_000)
    stage.transport.write(written)
    stage.transport.close()
    assert stage.transport.is_closing()
    stage.transport.write(b"too late")
    await turns()
    assert "lost" not in stage.protocol.events
    await until(lambda: not stage.receive())
    assert stage.peer_saw_end
    assert stage.read == written
    await until(lambda: stage.protocol.events[-1] == "lost")
    assert stage.protocol.error is None
    assert stage.ours.fileno() == -1


async def test_while_closing_nothing_is_read(stages):
    stage = stages()
    stage.transport.write(os.urandom(1_000_000))
    stage.transport.close()
    stage.peer.send(b"ignored")
    await turns()
    assert stage.protocol.data == b""


async def test_the_socket_stays_open_until_the_protocol_knows(stages):
    stage = stages()
    stage.transport.close()
    assert stage.ours.fileno() == stage.number, "so its number is not given away before"
    await turns()
    assert stage.protocol.events == ["made", "lost"]
    assert stage.ours.fileno() == -1


async def test_the_end_of_our_side_leaves_the_other_open(stages):
    stage = stages()
    written = os.urandom(500_000)
    stage.transport.write(written)
    stage.transport.write_eof()
    stage.transport.write(b"too late")
    await until(lambda: not stage.receive())
    assert (stage.peer_saw_end, stage.read) == (True, written)
    stage.peer.send(b"still here")
    await until(lambda: stage.protocol.data)
    assert stage.protocol.data == b"still here"
    stage.transport.close()
    await turns()
    assert stage.protocol.events[-1] == "lost"


@pytest.mark.parametrize("half_open", [False, True])
async def test_the_end_of_the_peer(stages, half_open):
    stage = stages(half_open=half_open)
    stage.peer.send(b"last words")
    stage.peer.shutdown(socket.SHUT_WR)
    await until(lambda: "end" in stage.protocol.events)
    assert stage.protocol.data == b"last words"
    await turns()
    assert ("lost" in stage.protocol.events) is not half_open
    if half_open:
        stage.transport.resume_reading()
        stage.transport.write(b"response")
        await until(lambda: stage.receive() and stage.read)
        assert stage.read == b"response"
        stage.transport.close()
        await turns()
    assert stage.protocol.events == ["made", "end", "lost"]


async def test_an_end_costs_nothing_while_the_connection_stays(stages):
    stage = stages(half_open=True)
    stage.peer.shutdown(socket.SHUT_WR)
    await until(lambda: "end" in stage.protocol.events)
    used = time.process_time()
    await asyncio.sleep(0.5)
    assert time.process_time() - used < 0.25, "no spinning"


@pytest.mark.parametrize("paused", [False, True])
async def test_a_reset_costs_nothing_either(stages, paused):
    stage = stages()
    if paused:
        stage.transport.pause_reading()
    stage.reset()
    used = time.process_time()
    await asyncio.sleep(0.5)
    assert time.process_time() - used < 0.25, "no spinning"
    if paused:
        assert stage.protocol.events == ["made"], "as with an event loop's: nothing is watched"
        stage.transport.resume_reading()
        await until(lambda: "lost" in stage.protocol.events)
    assert stage.protocol.events == ["made", "lost"]
    assert isinstance(stage.protocol.error, ConnectionResetError)


async def test_a_reset_ends_what_waits_to_be_sent(stages):
    stage = stages()
    stage.transport.pause_reading()
    stage.transport.write(os.urandom(1_000_000))
    stage.reset()
    await until(lambda: "lost" in stage.protocol.events)
    assert stage.protocol.error is not None
    assert stage.transport.get_write_buffer_size() == 0
    stage.transport.write(b"harmless")
    stage.transport.write_eof()
    stage.transport.abort()
    stage.transport.pause_reading()
    stage.transport.resume_reading()
    await turns()
    assert stage.protocol.events.count("lost") == 1


async def test_a_protocol_may_abort_as_it_resumes(stages):
    stage = stages()
    stage.protocol.on_resume = stage.transport.abort
    stage.transport.write(os.urandom(1_000_000))
    stage.transport.write_eof()
    await until(lambda: not stage.receive())
    await turns()
    assert stage.protocol.events == ["made", "pause", "resume", "lost"]


async def test_what_is_not_read_waits_in_the_kernel(stages):
    stage = stages()
    stage.transport.pause_reading()
    stage.peer.send(b"data")
    await turns()
    assert stage.protocol.data == b""
    stage.transport.resume_reading()
    await until(lambda: stage.protocol.data == b"data")


async def test_an_unexpected_exception_ends_this_connection_alone(stages, caplog):
    stage, other = stages(), stages()
    stage.protocol.raising = ZeroDivisionError("of a test")
    stage.peer.send(b"x")
    other.peer.send(b"x")
    await until(lambda: "lost" in stage.protocol.events)
    assert "a connection failed unexpectedly" in caplog.text
    await until(lambda: other.protocol.data == b"x")
    assert other.protocol.events == ["made"]


async def test_its_addresses(stages):
    stage = stages()
    info = stage.transport.get_extra_info
    assert info("peername") == stage.peer.getsockname()
    assert info("sockname") == stage.peer.getpeername() == info("sockname")
    assert info("socket") is stage.ours
    assert info("ssl_object") is None
    assert info("peercert", "none") == "none"


async def reset_while_it_writes():
    stage = Stage()
    stage.transport.write(os.urandom(1_000_000))
    stage.reset()
    await until(lambda: "lost" in stage.protocol.events)
    stage.readiness.retire()


async def test_an_ended_connection_is_freed_at_once():
    """Without the cyclic garbage collector, which seldom runs: until then its data would be kept, too."""
    gc.collect()
    gc.disable()
    try:
        await reset_while_it_writes()
        await turns()
        assert not [each for each in gc.get_objects() if type(each) is PlainTransport]
    finally:
        gc.enable()
