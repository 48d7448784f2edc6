"""The health listener of a process: first to open, last to close, and a way to end it."""

import asyncio
import json
import signal

import aiohttp
import pytest

from proxy.demo.wiring import free_ports
from proxy.signals import SAME_SIGNAL

DONE = 0


def with_health(bench):
    (port,) = free_ports(0)
    bench.edit("[server]\n", f'[server]\nhealth = "0.0.0.0:{port}"\nquit = true\n')
    return f"http://127.0.0.1:{port}"


async def ask(url, method="GET"):
    async with aiohttp.ClientSession() as session, session.request(method, url) as response:
        return response.status, await response.text()


async def busy(bench, slow):
    """A server with a request in flight."""
    server = await bench.run()
    request = asyncio.create_task(bench.get(f"{bench.data}/slow/x"))
    await slow.asked.wait()
    return server, request


async def test_it_is_the_first_to_open(bench):
    health = with_health(bench)
    server = await bench.run()
    opened = [json.loads(line)["listen"] for line in server.log if '"listen"' in line]
    assert opened == [
        health.replace("127.0.0.1", "0.0.0.0").removeprefix("http://"),
        str(bench.config.server.admin),
        str(bench.config.server.listen[0]),
    ]


@pytest.mark.parametrize("by_signal", [True, False])
async def test_probes_during_a_drain_are_answered_until_its_end(bench, slow, by_signal):
    health = with_health(bench)
    server, request = await busy(bench, slow)
    if by_signal:
        server.signal(signal.SIGTERM)
        await server.until("stopping on SIGTERM")
    else:
        assert await ask(f"{health}/quitquitquit", "POST") == (200, "stopping")
        await server.until("stopping on POST /quitquitquit")
    while (await ask(f"{health}/readyz"))[0] != 503 or "draining" not in (await ask(f"{health}/readyz"))[1]:
        await asyncio.sleep(0.01)
    drains = '{"ready": false, "reasons": [{"state": "draining"}]}'
    assert await ask(f"{health}/readyz") == (503, drains)
    assert await ask(f"{bench.admin}/readyz") == (503, drains)
    for url in (health, bench.admin):
        assert await ask(f"{url}/healthz") == (200, "ok")
        assert await ask(f"{url}/startupz") == (200, "ok")
        assert "token_proxy_requests_in_flight" in (await ask(f"{url}/metrics"))[1]
    slow.may_answer.set()
    response = await request
    assert (response.status, await response.text()) == (200, "at last")
    assert await server.end() == DONE
    assert server.events()[-1] == "stop"
    assert "Traceback" not in "".join(server.log)


MORE = """
[credentials.another]
authorization_endpoint = "https://login.example/authorize"
token_endpoint = "https://login.example/token"
client_id = "x"
client_auth = "none"

[[routes]]
path = "/another"
upstream = "https://api.example"
credential = "another"
"""


async def test_it_outlives_reloads_and_tells_of_the_new_configuration(bench):
    health = with_health(bench)
    await bench.log_in()
    server = await bench.run()
    async with aiohttp.ClientSession() as session:

        async def reasons():
            async with session.get(f"{health}/readyz") as response:
                return [each["credential"] for each in (await response.json())["reasons"]]

        assert await reasons() == []
        bench.path.write_text(bench.path.read_text() + MORE)
        server.signal(signal.SIGHUP)
        async with asyncio.timeout(90):
            while await reasons() != ["another"]:
                await asyncio.sleep(0.05)
        async with session.get(f"{health}/metrics") as response:
            assert 'route="another"' in await response.text()
        assert len(session.connector._conns) == 1, "the connection of before"
    assert await ask(f"{health}/startupz") == (200, "ok")


async def test_the_end_on_request_may_be_followed_by_signals(bench, slow):
    """As Kubernetes sends them at the end of a pod: the first goes on with the drain, the second ends it."""
    health = with_health(bench)
    server, request = await busy(bench, slow)
    await ask(f"{health}/quitquitquit", "POST")
    await server.until("stopping on POST /quitquitquit")
    server.signal(signal.SIGTERM)
    await server.until("stopping on SIGTERM")
    await asyncio.sleep(SAME_SIGNAL + 0.2)
    assert not request.done()
    server.signal(signal.SIGTERM)
    assert await server.end() == -signal.SIGTERM
    with pytest.raises(OSError):
        await request
