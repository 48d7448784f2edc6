"""The real server while its machine's clock is set (libfaketime leaves CLOCK_BOOTTIME alone), and stopped."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress

import aiohttp

from proxy.demo.wiring import PERSON
from tests.servers.programs import find

HOUR = 3600
LIFETIME = 4  # seconds
SOONEST = 0.72  # of a life: refresh_at less the most of jitter
WHILE = 1.5 * LIFETIME  # seconds that each setting of the clock lasts
BETWEEN = 0.1  # seconds between two requests


class WallClock:
    """The time of day of the processes that are started with `environment`."""

    def __init__(self, folder):
        self._file = folder / "faketime"
        library = find("libfaketime")
        self.environment = {
            "LD_PRELOAD": library,
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # Debian's build has it on: threads wait by spinning
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
        }
        self.set(0)

    def set(self, off):
        new = self._file.with_suffix(".new")
        new.write_text(f"{off:+d}\n")
        new.rename(self._file)


async def start(bench, **environment):
    server = await bench.start("run", "-c", str(bench.path), **environment)
    async with asyncio.timeout(60):
        while True:
            with suppress(aiohttp.ClientConnectionError):
                await bench.get(bench.data)  # its last listener
                return server
            await asyncio.sleep(BETWEEN)


async def off_by(bench) -> float:
    """Seconds by which the server's clock is ahead, by its status."""
    response = await bench.get(f"{bench.admin}/api/status")
    return (await response.json())["now"] - time.time()


async def use(bench) -> None:
    before, until = refreshes(bench), time.monotonic() + WHILE
    while time.monotonic() < until:
        response = await bench.get(f"{bench.data}/demo/x")
        assert response.status == 200, await response.text()
        await asyncio.sleep(BETWEEN)
    assert refreshes(bench) > before


def refreshes(bench) -> int:
    return bench.granted().count("refresh_token")


async def unauthorized(bench) -> list[str]:
    """The metric lines of 401 responses of the API, if there were any."""
    lines = (await (await bench.get(f"{bench.admin}/metrics")).text()).splitlines()
    counters = [line for line in lines if line.startswith("token_proxy_upstream_unauthorized_total{")]
    return [line for line in counters if not line.endswith(" 0.0")]


async def test_while_the_clock_is_set_to_and_fro_every_request_has_a_good_token(a_bench, tmp_path):
    clock = WallClock(tmp_path)
    async with a_bench(access_token_lifetime=LIFETIME) as bench:
        bench.edit('format = "json"', 'format = "json"\nlevel = "warning"')
        await bench.log_in()
        begun = time.monotonic()
        server = await start(bench, **clock.environment)
        for off in (HOUR, -HOUR, 0):
            clock.set(off)
            assert abs(await off_by(bench) - off) < 2
            await use(bench)
        assert await unauthorized(bench) == []
        server.signal(signal.SIGTERM)
        assert await server.end() == 0
        clock.set(-HOUR)
        await start(bench, **clock.environment)
        await use(bench)
        assert await unauthorized(bench) == []
        assert refreshes(bench) <= (time.monotonic() - begun) / (SOONEST * LIFETIME) + 1
        assert bench.server.families_revoked == 0


async def test_a_server_that_was_stopped_for_two_lives_sends_no_old_token_when_it_goes_on(a_bench):
    async with a_bench(access_token_lifetime=LIFETIME) as bench:
        bench.edit('format = "json"', 'format = "json"\nlevel = "warning"')
        await bench.log_in()
        server = await start(bench)
        await use(bench)
        before = refreshes(bench)
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(2 * LIFETIME)
        server.signal(signal.SIGCONT)
        assert await asyncio.gather(*(bench.whose() for _ in range(20))) == [PERSON] * 20
        assert refreshes(bench) == before + 1
        assert await unauthorized(bench) == []
