"""Setting the machine's clock: the relay's timeouts use a monotonic clock."""

import asyncio
import time

import pytest

PATIENCE = 10  # seconds; nothing here should take as long
DAY = 86_400.0
LIMITS = "header_time = 2.0\nidle = 2.0\nbody_stall = 2.0\nfirst_byte = 2.0\nupstream_idle = 2.0"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def set_clock(monkeypatch):
    """A function that shifts the wall clock by a number of seconds from then on."""
    off, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + off[0])
    return lambda seconds: off.__setitem__(0, seconds)


class Tellers:
    """A stream that waits for `go_on` each time, and an upload with a response at its end."""

    def __init__(self):
        self.go_on = asyncio.Queue()

    async def stream(self, connection):
        connection.writer.write(CHUNKED)
        while data := await self.go_on.get():
            connection.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        connection.writer.write(b"0\r\n\r\n")


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["ahead", "back"])
async def test_setting_the_clock_cuts_no_running_exchange(make_proxy, upstream, kit, set_clock, jump):
    tellers = Tellers()
    upstream.script = [tellers.stream]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits=LIMITS) as proxy:
        streaming, uploading, waiting, begun = [await proxy.connect() for _ in range(4)]
        streaming[1].write(kit.request(b"GET", b"/up/stream"))
        await streaming[0].readuntil(b"\r\n\r\n")
        uploading[1].write(kit.request(b"POST", b"/up", b"Content-Length: 10", body=b"12345"))
        waiting[1].write(kit.request(b"GET", b"/up"))
        assert await waiting[0].readexactly(len(kit.OK)) == kit.OK
        begun[1].write(b"GET /up HTTP/1.1\r\nHost: ")

        set_clock(jump)
        await asyncio.sleep(1.2)  # two sweeps

        tellers.go_on.put_nowait(b"more")
        assert await asyncio.wait_for(streaming[0].readuntil(b"more\r\n"), PATIENCE)
        tellers.go_on.put_nowait(b"")
        assert await asyncio.wait_for(streaming[0].readuntil(b"0\r\n\r\n"), PATIENCE)
        uploading[1].write(b"67890")
        begun[1].write(b"localhost\r\n\r\n")
        waiting[1].write(kit.request(b"GET", b"/up"))
        for reader, writer in (uploading, begun, waiting):
            assert await asyncio.wait_for(reader.readexactly(len(kit.OK)), PATIENCE) == kit.OK
            writer.close()
        streaming[1].close()


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["ahead", "back"])
async def test_setting_the_clock_delays_no_limit(make_proxy, upstream, kit, set_clock, jump):
    tellers = Tellers()
    upstream.script = [tellers.stream]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits=LIMITS) as proxy:
        streaming, uploading, idle, begun = [await proxy.connect() for _ in range(4)]
        streaming[1].write(kit.request(b"GET", b"/up/stream"))
        await streaming[0].readuntil(b"\r\n\r\n")
        uploading[1].write(kit.request(b"POST", b"/up", b"Content-Length: 10", body=b"12345"))
        begun[1].write(b"GET /up HTTP/1.1\r\nHost: ")
        set_clock(jump)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(streaming[0].read(), PATIENCE)
        status, *_ = kit.split(await asyncio.wait_for(uploading[0].read(), PATIENCE))
        assert status == 408
        for reader, _ in (idle, begun):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        for _, writer in (streaming, uploading, idle, begun):
            writer.close()
