"""A server that reaches its limit of open files says so, to callers and in its log, and goes on."""

import asyncio
import contextlib
import json
import os
import ssl
import time
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from proxy.demo.serve import running

FILES = 128  # that the server may have open
CALLERS = 100  # more than it can have
REQUEST = b"GET /machine/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
HELD_ROUTE = """
[[routes]]
path = "/held"
upstream = "{url}"
credential = "machine"
"""


def limits_of(pid):
    """(soft, hard)"""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(tuple(line.split()[3:5]) for line in lines if line.startswith("Max open files"))


def open_files(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def connected(bench):
    return await asyncio.open_connection("127.0.0.1", bench.config.server.listen[0].port)


async def ask(caller, request=REQUEST):
    """(status, fields, document); status 0 if the connection was closed."""
    reader, writer = caller
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split()[1]), head, json.loads(await reader.readexactly(length))
    except (ConnectionError, asyncio.IncompleteReadError):
        return 0, b"", {}


def leave(callers):
    for _, writer in callers:
        writer.close()


async def until_served(bench):
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(ConnectionError):
                caller = await connected(bench)
                status, *_ = await ask(caller)
                leave([caller])
                if status == 200:
                    return
            await asyncio.sleep(0.05)


async def metrics(bench):
    """The lines of /metrics about refusals and upstream errors, where there were any."""
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(f"{bench.admin}/metrics") as response:
        text = await response.text()
    return [
        line
        for line in text.splitlines()
        if ("refused_total{" in line or "upstream_errors_total{" in line) and not line.endswith(" 0.0")
    ]


async def test_callers_beyond_the_limit_of_open_files_get_a_503(bench):
    server = await bench.run(files=FILES)
    served, refused, told = [], 0, 0
    for _ in range(CALLERS):
        try:
            caller = await connected(bench)
        except ConnectionResetError:  # closed before this side was told of the connection
            refused += 1
            continue
        status, head, document = await ask(caller)
        if status == 200:
            served.append(caller)
            continue
        refused += 1
        leave([caller])
        if status:  # 0: the request met a connection closed already, whose reset overtook the response
            assert (status, document["type"]) == (503, "urn:token-proxy:problem:overloaded")
            assert b"\r\nRetry-After: 1\r\n" in head
            told += 1
    assert told > refused / 2
    assert len(served) > FILES / 3
    assert [status for status, *_ in [await ask(caller) for caller in served]] == [200] * len(served)
    assert await metrics(bench) == [f'token_proxy_refused_total{{reason="overloaded"}} {refused}.0']

    leave(served)
    await until_served(bench)
    server.signal()
    assert await server.end() == 0
    (line,) = [line for line in server.log if "refusing connections" in line]
    assert "LimitNOFILE" in line
    assert "limits.connections" in line
    assert "Traceback" not in "".join(server.log)


async def test_a_flood_beyond_the_limit_neither_spins_nor_ends_the_listener(bench):
    server = await bench.run(files=FILES)
    callers = await asyncio.gather(*(connected(bench) for _ in range(6 * FILES)), return_exceptions=True)
    callers = [caller for caller in callers if not isinstance(caller, BaseException)]
    assert len(callers) > 2 * FILES
    await asyncio.sleep(0.5)  # it has dealt with them
    used, began = cpu_seconds(server.pid), time.monotonic()
    await asyncio.sleep(1)
    assert cpu_seconds(server.pid) - used < (time.monotonic() - began) / 2
    assert (await bench.get(f"{bench.admin}/healthz")).status == 200
    leave(callers)
    await until_served(bench)
    server.signal()
    assert await server.end() == 0
    assert sum("refusing connections" in line for line in server.log) == 1
    assert "Traceback" not in "".join(server.log)


class HeldUpstream:
    """An upstream that responds when it is released."""

    def __init__(self):
        self.go_on = asyncio.Event()

    def application(self):
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        return app

    async def _answer(self, _request):
        await self.go_on.wait()
        return web.json_response({"held": True})


async def test_at_the_limit_requests_for_an_upstream_connection_get_a_503_and_no_upstream_error_is_counted(
    bench,
):
    held = HeldUpstream()
    async with running(held.application()) as url:
        bench.path.write_text(bench.path.read_text() + HELD_ROUTE.format(url=url))
        server = await bench.run(files=FILES)
        callers = [await connected(bench) for _ in range(FILES // 3)]
        for caller in callers:  # each is accepted before the first opens an upstream connection
            status, *_ = await ask(caller, REQUEST.replace(b"/machine/", b"/nowhere/"))
            assert status == 404
        asked = [
            asyncio.create_task(ask(caller, REQUEST.replace(b"/machine/", b"/held/"))) for caller in callers
        ]
        while not any(task.done() for task in asked):
            await asyncio.sleep(0.02)
        assert (await bench.get(f"{bench.admin}/healthz")).status == 200
        held.go_on.set()
        responses = await asyncio.gather(*asked)
        statuses = [status for status, *_ in responses]
        assert set(statuses) == {200, 503}
        assert {document["type"] for status, _, document in responses if status == 503} == {
            "urn:token-proxy:problem:overloaded"
        }
        refused = statuses.count(503)
        assert await metrics(bench) == [
            f'token_proxy_refused_total{{reason="no-route"}} {len(callers)}.0',
            f'token_proxy_refused_total{{reason="overloaded"}} {refused}.0',
        ]
        leave(callers)
        await until_served(bench)
        server.signal()
        assert await server.end() == 0
    assert sum("refusing connections" in line for line in server.log) == 1


@pytest.mark.parametrize(
    ("soft", "hard", "after", "warns"),
    [
        (100, 1500, 1000, False),
        (100, 300, 300, True),
        (1200, 1500, 1200, False),
    ],
)
async def test_the_soft_limit_is_raised_to_what_all_callers_need(bench, soft, hard, after, warns):
    bench.path.write_text(bench.path.read_text() + "[limits]\nconnections = 500\n")
    server = await bench.run(files=(soft, hard))
    assert limits_of(server.pid) == (str(after), str(hard))
    server.signal()
    assert await server.end() == 0
    told = [line for line in server.log if "LimitNOFILE" in line]
    assert len(told) == warns
    for line in told:
        assert '"level": "warning"' in line
        assert "limits.connections = 500 can need 1000 open files, and this process may have 300" in line


async def test_a_flood_of_callers_that_never_shake_hands_neither_spins_nor_ends_the_listener(bench, tmp_path):
    """Under TLS only the event loop has them until the handshake ends, so it is what reaches the limit."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    both = f'"{tmp_path}/both.pem"'
    bench.edit("[server]\n", f"[server]\ntls = {{ cert = {both}, key = {both} }}\n")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    server = await bench.run(files=FILES)
    callers = await asyncio.gather(*(connected(bench) for _ in range(6 * FILES)), return_exceptions=True)
    callers = [caller for caller in callers if not isinstance(caller, BaseException)]
    await asyncio.sleep(0.5)
    used, began = cpu_seconds(server.pid), time.monotonic()
    await asyncio.sleep(1)
    assert cpu_seconds(server.pid) - used < (time.monotonic() - began) / 2
    async with asyncio.timeout(10):  # handshakes may take twice as long
        assert (await bench.get(f"{bench.admin}/healthz")).status == 200
        assert (await bench.get(f"{bench.admin}/")).status == 200
    assert open_files(server.pid) < FILES * 3 / 4
    leave(callers)
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(ConnectionError):
                port = bench.config.server.listen[0].port
                caller = await asyncio.open_connection("localhost", port, ssl=trusted)
                status, *_ = await ask(caller)
                leave([caller])
                if status == 200:
                    break
            await asyncio.sleep(0.05)
    server.signal()
    assert await server.end() == 0
    assert sum("refusing connections" in line for line in server.log) == 1
