"""A server with a full disk: requests that need no disk are served, the others once there is room again."""

import asyncio
import json
import resource
import signal
import sys

import aiohttp
import pytest

from proxy.demo.wiring import PERSON

TOKEN_LIFE = 3  # seconds
PATIENCE = 90  # seconds until a postponed try has been made

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="prlimit(2), /dev/full")


def fill_disk(pid):
    """Writes to files fail, as on a full disk; those to pipes and sockets succeed."""
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    return lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


async def asked(bench):
    """(status, ending of a problem or "", Retry-After)"""
    async with aiohttp.ClientSession() as session, session.get(f"{bench.data}/machine/x") as response:
        document = json.loads(await response.read())
        ending = document.get("type", "").removeprefix("urn:token-proxy:problem:")
        return response.status, ending, response.headers.get("Retry-After")


async def until(bench, status):
    """Ask until the response has `status`; all responses, the last one is that."""
    responses = [await asked(bench)]
    async with asyncio.timeout(PATIENCE):
        while responses[-1][0] != status:
            await asyncio.sleep(0.05)
            responses.append(await asked(bench))
    return responses


@only_linux
async def test_a_full_disk_spares_requests_with_a_valid_token_and_is_reported(a_bench):
    async with a_bench(access_token_lifetime=TOKEN_LIFE) as bench:
        server = await bench.run()
        await until(bench, 200)
        make_room = fill_disk(server.pid)
        served = await until(bench, 503)
        assert len(served) > 5
        _, ending, retry_after = served[-1]
        assert ending == "token-unavailable"
        assert int(retry_after) >= 1
        assert {status for status, *_ in served[:-1]} == {200}
        make_room()
        recovering = await until(bench, 200)  # at once, if the postponed try is due
        assert {ending for _, ending, _ in served[-1:] + recovering} == {"token-unavailable", ""}
        server.signal()
        assert await server.end() == 0
        assert any("tokens.db" in line for line in server.log if '"level": "error"' in line)
        assert "Traceback" not in "".join(server.log)


@only_linux
async def test_a_log_that_cannot_be_written_ends_nothing(bench):
    await bench.log_in()
    command = 'exec "$@" 2>/dev/full'
    server = await asyncio.create_subprocess_exec(
        *("sh", "-c", command, "sh", sys.executable, "-m", "proxy", "run", "-c", str(bench.path))
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    if await bench.whose() == PERSON:
                        break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        for _ in range(200):  # more lines than are kept back
            assert await bench.whose() == PERSON
        server.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await server.wait() == 0
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
