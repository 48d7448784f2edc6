"""Described logins by the real command, against servers that behave as their documentation says."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from proxy.demo.serve import running
from tests.fakes.two_step import GitHubApp, Tableau, Toast, Veeva
from tests.fakes.two_step.base import TwoStep

from .processes import free_port, wait_until
from .proxy_process import Proxy

LIFETIME = 6  # seconds: a test sees several logins
CONFIG = """
[server]
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
state_dir = "{folder}/state"
[credentials.x]
{table}
[[routes]]
path = "/x"
upstream = "{url}/api/v1/resource"
credential = "x"
"""
Start = Callable[[type[TwoStep]], tuple[TwoStep, Proxy]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Serve one in a thread, and configure a proxy with the route /x to its API."""
    loop = asyncio.new_event_loop()
    ended, made = asyncio.Event(), []
    threads = []

    def start(kind: type[TwoStep]) -> tuple[TwoStep, Proxy]:
        server = kind(lifetime=LIFETIME)
        ready = threading.Event()
        urls: list[str] = []

        async def serve() -> None:
            async with running(server.application()) as url:
                urls.append(url)
                ready.set()
                await ended.wait()

        threads.append(threading.Thread(target=loop.run_until_complete, args=(serve(),)))
        threads[-1].start()
        assert ready.wait(90)
        port, admin = free_port(), free_port()
        proxy = Proxy(tmp_path, port, admin, f"http://127.0.0.1:{admin}", server.environment)
        table = server.configuration(urls[0])
        # two of them do not say how long their tokens live
        table = re.sub(r"access_token_lifetime = \d+", f"access_token_lifetime = {LIFETIME}", table)
        text = CONFIG.format(port=port, admin=admin, folder=tmp_path, table=table, url=urls[0])
        proxy.config.write_text(text)
        made.append(proxy)
        return server, proxy

    yield start
    for proxy in made:
        proxy.stop()
    loop.call_soon_threadsafe(ended.set)
    for thread in threads:
        thread.join()
    loop.close()


def call(proxy: Proxy) -> int:
    return requests.get(f"http://127.0.0.1:{proxy.data_port}/x/thing", timeout=60).status_code


@pytest.mark.parametrize("kind", [GitHubApp, Tableau, Toast, Veeva])
def test_requests_across_expiries_a_restart_the_commands_and_a_logout(
    start: Start, kind: type[TwoStep]
) -> None:
    server, proxy = start(kind)
    assert proxy.run("check").returncode == 0
    proxy.start()
    wait_until(lambda: call(proxy) == 200 and server.logins >= 3, "two renewals")
    assert call(proxy) == 200
    printed = proxy.run("token", "x")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert server.active(printed.stdout.strip())
    shown = json.loads(proxy.run("status", "--json").stdout)
    (token,) = shown["tokens"]
    assert (token["state"] in {"valid", "stale"}, token["login_url"]) == (True, None)
    metrics = requests.get(f"http://127.0.0.1:{proxy.admin_port}/metrics", timeout=60).text
    assert 'token_proxy_token_refreshes_total{credential="x",outcome="success"}' in metrics
    assert requests.get(f"http://127.0.0.1:{proxy.admin_port}/readyz", timeout=60).status_code == 200
    done = proxy.run("logout", "x")
    assert done.returncode == 0, done.stderr
    assert call(proxy) == 200  # logged in anew
    proxy.stop()
    proxy.start()
    assert call(proxy) == 200
    for secret in server.environment.values():
        assert secret not in proxy.log()


def test_a_corrected_secret_is_taken_up_without_a_restart(start: Start, tmp_path: Path) -> None:
    server, proxy = start(Toast)
    file = tmp_path / "toast-secret"
    file.write_text("a-wrong-one\n")
    text = proxy.config.read_text()
    assert '{ env = "TOAST_SECRET" }' in text
    proxy.config.write_text(text.replace('{ env = "TOAST_SECRET" }', '{ file = "toast-secret" }'))
    proxy.start()
    assert call(proxy) == 503
    file.write_text(server.environment["TOAST_SECRET"] + "\n")
    wait_until(lambda: call(proxy) == 200, "the new secret to be used")


def test_a_refused_login_says_what_to_check_to_callers_and_people(start: Start) -> None:
    server, proxy = start(Toast)
    proxy.environment = {**server.environment, "TOAST_SECRET": "a-wrong-one"}
    proxy.start()
    response = requests.get(f"http://127.0.0.1:{proxy.data_port}/x/thing", timeout=60)
    assert response.status_code == 503
    assert response.json()["type"] == "urn:token-proxy:problem:credential-misconfigured"
    assert "check the secrets in step 1 of credentials.x.steps" in response.json()["detail"]
    assert proxy.run("status").returncode == 1
    printed = proxy.run("token", "x")
    assert (printed.returncode, printed.stdout) == (1, "")
    assert "step 1" in printed.stderr
    assert "a-wrong-one" not in proxy.log() + printed.stderr + response.text
