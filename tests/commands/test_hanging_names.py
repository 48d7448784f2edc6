"""The real command with a name server that does not respond: only routes that need a name are affected."""

import asyncio
import os
import shutil
import signal
import socket
import sys

import aiohttp
import pytest
from aiohttp import web

from proxy.demo.serve import running

pytestmark = pytest.mark.privileged  # a mount namespace, and port 53

PATIENCE = 60
ROUTES = """
[limits]
connect = 2.0
[[routes]]
path = "/slow1"
upstream = "https://slow1.example"
credential = "machine"
[[routes]]
path = "/slow2"
upstream = "https://slow2.example"
credential = "machine"
[[routes]]
path = "/ip"
upstream = "{ip}"
credential = "machine"
[[routes]]
path = "/local"
upstream = "{local}"
credential = "machine"
"""
IN_NAMESPACE = 'mount --make-rprivate / && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


@pytest.fixture
def silent_name_server(tmp_path):
    """A resolv.conf with a name server of ours that does not respond."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, and util-linux for a mount namespace")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.9", 53))
        path = tmp_path / "resolv.conf"
        path.write_text("nameserver 127.0.0.9\n")
        yield path


async def say_and_close(_request):
    response = web.Response(text="ok")
    response.force_close()  # so that each request needs a new connection
    return response


@pytest.fixture
async def server(bench, silent_name_server):
    app = web.Application()
    app.router.add_get("/{path:.*}", say_and_close)
    async with running(app) as url:
        local = url.replace("127.0.0.1", "localhost")
        text = bench.path.read_text()
        machine = f'token_endpoint = "{bench.server.issuer.replace("127.0.0.1", "localhost")}/token"'
        before, header, rest = text.partition("[credentials.machine]\n")
        rest = rest.replace(rest.split("\n", 1)[0], machine, 1)  # its issuer
        bench.path.write_text(before + header + rest + ROUTES.format(ip=url, local=local))
        process = await asyncio.create_subprocess_exec(
            *("unshare", "-m", "sh", "-c", IN_NAMESPACE, "sh", str(silent_name_server)),
            *(sys.executable, "-m", "proxy", "run", "-c", str(bench.path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await up(bench)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def up(bench):
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if (await bench.get(f"{bench.admin}/healthz")).status == 200:
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


async def test_hanging_names_stop_no_other_route_no_refresh_and_not_the_shutdown(bench, server):
    async def keep_trying(path):
        while True:
            response = await bench.get(f"{bench.data}{path}/x")
            assert response.status == 504

    assert (await bench.get(f"{bench.data}/slow1/x")).status == 504
    trying = [asyncio.create_task(keep_trying(path)) for path in ("/slow1", "/slow2") * 4]
    await asyncio.sleep(0.5)  # all of them wait for a name
    async with asyncio.timeout(PATIENCE):
        for _ in range(20):
            for path in ("/ip", "/local"):
                assert (await bench.get(f"{bench.data}{path}/x")).status == 200
    assert bench.granted() == ["client_credentials"]  # at a token endpoint by name
    assert not any(task.done() for task in trying)
    for task in trying:
        task.cancel()
    await asyncio.wait(trying)
    server.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(server.wait(), PATIENCE) == 0  # in spite of hanging look-ups
