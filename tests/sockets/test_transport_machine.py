"""Whatever the protocol and the peer do, and in whatever order: no byte is lost, doubled or late."""

import asyncio
import contextlib
import os
import socket

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.sockets.stage import Stage, turns

SIZES = st.sampled_from([1, 17, 4096, 16384, 16385, 66000, 300_000])


class Transport(RuleBasedStateMachine):
    new_loop = staticmethod(asyncio.new_event_loop)

    def __init__(self):
        super().__init__()
        self.loop = self.new_loop()
        self.stage = self.run(self.opened())
        self.written = b""  # by the protocol, and not dropped by an abort
        self.sent = b""  # by the peer
        self.is_broken = False  # by an abort, a reset or the peer's departure: data may be missing
        self.is_ended = False  # our side
        self.is_reading = True
        self.peer_ended = False

    async def opened(self):
        return Stage(half_open=True)

    def run(self, work):
        return self.loop.run_until_complete(work)

    @property
    def open(self):
        return not self.stage.transport.is_closing()

    # -- what the protocol does

    @rule(size=SIZES)
    def write(self, size):
        data = os.urandom(size)
        if self.open and not self.is_ended:
            self.written += data
        self.stage.transport.write(data)

    @rule()
    def write_eof(self):
        self.is_ended = True
        self.stage.transport.write_eof()

    @rule()
    def close(self):
        self.is_ended = True
        self.stage.transport.close()

    @rule()
    def abort(self):
        self.is_broken = self.is_ended = True
        self.stage.transport.abort()

    @rule(reading=st.booleans())
    def read_on(self, reading):
        self.is_reading = reading
        (self.stage.transport.resume_reading if reading else self.stage.transport.pause_reading)()

    # -- what the peer does

    @precondition(lambda self: not self.peer_ended)
    @rule(size=SIZES)
    def send(self, size):
        data = os.urandom(size)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.sent += data[: self.stage.peer.send(data)]

    @precondition(lambda self: not self.peer_ended)
    @rule()
    def shut(self):
        self.peer_ended = True
        with contextlib.suppress(OSError):
            self.stage.peer.shutdown(socket.SHUT_WR)

    @rule(most=SIZES)
    def receive(self, most):
        if self.stage.peer.fileno() >= 0:
            self.stage.receive(most)

    @rule()
    def reset(self):
        self.is_broken = self.peer_ended = True
        if self.stage.peer.fileno() >= 0:
            self.stage.reset()

    @rule(count=st.integers(1, 4))
    def wait(self, count):
        self.run(turns(count))

    # -- what holds

    @invariant()
    def what_was_read_was_sent(self):
        assert self.sent.startswith(self.stage.protocol.data)

    @invariant()
    def what_was_received_was_written(self):
        assert self.written.startswith(self.stage.read)

    @invariant()
    def the_events_are_in_order(self):
        events = self.stage.protocol.events
        assert events[0] == "made"
        assert events.count("end") <= 1
        assert events.count("lost") <= 1
        assert "lost" not in events[:-1]
        flow = [event for event in events if event in {"pause", "resume"}]
        assert flow == ["pause", "resume"] * (len(flow) // 2) + ["pause"] * (len(flow) % 2)

    def teardown(self):
        stage = self.stage
        try:
            if stage.peer.fileno() >= 0 and not self.is_broken and not stage.protocol.error:
                self.run(self.finish())
            self.what_was_read_was_sent()
            self.what_was_received_was_written()
            stage.close()
            self.run(turns())
            assert stage.protocol.events[-1] == "lost"
            assert stage.readiness._epoll.closed
            assert stage.ours.fileno() == -1
        finally:
            stage.peer.close()
            self.loop.close()

    async def finish(self):
        """All arrives that was written by a side that did not end before, and is read."""
        stage = self.stage
        lives = self.open
        if lives:
            stage.transport.resume_reading()
            stage.transport.write_eof()
        async with asyncio.timeout(60):
            while stage.receive():
                await asyncio.sleep(0)
            while lives and len(stage.protocol.data) < len(self.sent):
                await asyncio.sleep(0)
        if stage.peer_saw_end:  # else what the peer had sent was unread as we closed: a reset, as TCP has it
            assert stage.read == self.written


class TransportUnderUvloop(Transport):
    new_loop = staticmethod(uvloop.new_event_loop)


@pytest.mark.parametrize("machine", [Transport, TransportUnderUvloop])
def test_any_order(machine):
    case = machine.TestCase
    case.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
    case().runTest()
