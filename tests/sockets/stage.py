"""One connection of a PlainTransport, with its peer's end in the test's hands."""

import asyncio
import contextlib
import socket
import struct

from proxy.sockets.readiness import Readiness
from proxy.sockets.transport import PlainTransport

RESET = struct.pack("ii", 1, 0)  # SO_LINGER with zero timeout
FEW = 4096  # bytes that the kernel is asked to buffer; it takes some more


class Record(asyncio.Protocol):
    """What a protocol is told, in order. `half_open`: whether it may write on after the peer's end."""

    def __init__(self, *, half_open=False):
        self.half_open = half_open
        self.events = []
        self.data = b""
        self.error = None
        self.raising = None  # by the next data
        self.on_resume = None

    def connection_made(self, transport):
        self.events.append("made")

    def data_received(self, data):
        assert self.events[-1] != "lost"
        assert "end" not in self.events
        self.data += data
        if self.raising is not None:
            raising, self.raising = self.raising, None
            raise raising

    def eof_received(self):
        self.events.append("end")
        return self.half_open

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")
        if self.on_resume is not None:
            self.on_resume()

    def connection_lost(self, error):
        self.events.append("lost")
        self.error = error


def pair():
    """Both ends of a connection through loopback, with small buffers."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FEW)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FEW)
        peer.connect(listener.getsockname())
        ours, address = listener.accept()
    peer.setblocking(False)
    return ours, address, peer


class Stage:
    def __init__(self, *, half_open=False):
        self.readiness = Readiness()
        self.ours, address, self.peer = pair()
        self.number = self.ours.fileno()
        self.protocol = Record(half_open=half_open)
        self.transport = PlainTransport(self.ours, address, self.readiness)
        self.transport.begin(self.protocol)
        self.read = b""  # by the peer
        self.peer_saw_end = False

    def receive(self, most=1 << 20):
        """What the peer can read now. False: the connection is over for it."""
        with contextlib.suppress(BlockingIOError):
            while most > 0:
                try:
                    data = self.peer.recv(min(most, 65536))
                except ConnectionResetError:
                    return False
                if not data:
                    self.peer_saw_end = True
                    return False
                self.read += data
                most -= len(data)
        return True

    def reset(self):
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.peer.close()

    def close(self):
        self.transport.abort()
        self.readiness.retire()
        self.peer.close()


async def turns(count=4):
    """Let the loop, the epoll and what they have begun take place."""
    for _ in range(count):
        await asyncio.sleep(0)
