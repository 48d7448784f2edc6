"""The real command with a stderr that is not read: it serves, and it stops."""

import asyncio
import json
import os
import signal
import sys

import aiohttp
import pytest

REQUESTS = 2000  # their lines are several times what a pipe holds
PATIENCE = 30


@pytest.fixture
def unread():
    """A pipe that is read only when the test says so."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


async def started(bench, writer):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "run", "-c", str(bench.path)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=writer,
    )
    os.close(writer)
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{bench.data}/demo/x") as response:
                    if response.status == 200:
                        return process
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


async def read_lines(reader):
    data = await asyncio.to_thread(read_to_end, reader)
    return [json.loads(line) for line in data.splitlines()]


def read_to_end(fd):
    data = b""
    while piece := os.read(fd, 65536):
        data += piece
    return data


async def test_a_stderr_that_is_not_read_stops_neither_requests_nor_the_shutdown(bench, unread):
    await bench.log_in()
    reader, writer = unread
    process = await started(bench, writer)
    try:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            for _ in range(REQUESTS):
                async with session.get(f"{bench.data}/demo/x") as response:
                    assert response.status == 200
            async with session.get(f"{bench.admin}/healthz") as response:
                assert response.status == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (await read_lines(reader))[0]["event"]  # whole lines, as far as the pipe took them


async def test_a_reader_that_comes_back_gets_the_number_of_lost_lines(bench, unread):
    """The queue holds some 4000 requests; longer lines fill it sooner."""
    await bench.log_in()
    reader, writer = unread
    process = await started(bench, writer)
    try:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            dropped = 0
            while dropped == 0:
                for _ in range(500):
                    async with session.get(f"{bench.data}/demo/x") as response:
                        assert response.status == 200
                async with session.get(f"{bench.admin}/metrics") as response:
                    dropped = metric(await response.text(), "token_proxy_log_lines_dropped_total")
            reading = asyncio.create_task(read_lines(reader))
            await asyncio.sleep(0.5)
            async with session.get(f"{bench.data}/demo/x") as response:
                assert response.status == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        lines = await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert sum(line["count"] for line in lines if line["event"] == "log_lines_dropped") >= dropped
    assert lines[-1]["event"] == "stop"


def metric(text, name):
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))
