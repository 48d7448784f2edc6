"""No browser is started for an authorization endpoint that is no https URL, whoever names it."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from proxy.demo.serve import running
from proxy.demo.wiring import free_ports
from tests.patience import FOR_CERTAIN

ODD = [
    "javascript:alert(1)",
    "file:///etc/passwd",
    "-flag",
    "--profile=/tmp/x https://login.example/",
    "data:text/html,hello",
    "http://login.example/authorize",
    "https://login.example/\r\nX: y",
    "",
]
CONFIG = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
state_dir = "{folder}"
[credentials.crm]
{server}
client_id = "web"
client_auth = "none"
"""


@pytest.fixture
def log_in(tmp_path):
    """`await log_in(lines of the credential)`: exit code, stderr, and what the browser was started with."""
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {opened}\n')
    browser.chmod(0o700)
    data, admin = free_ports(0, 0)

    async def log_in(server, *options):
        config = tmp_path / "config.toml"
        config.write_text(CONFIG.format(data=data, admin=admin, folder=tmp_path, server=server))
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "login", "crm", *options, "-c", str(config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "BROWSER": f"{browser} %s", "DISPLAY": ":9"},
        )
        try:
            async with asyncio.timeout(FOR_CERTAIN):
                _, err = await command.communicate()
        finally:
            if command.returncode is None:
                command.kill()
                await command.wait()
        return command.returncode, err.decode(), opened.read_text() if opened.exists() else ""

    return log_in


@asynccontextmanager
async def issuer(**metadata):
    app = web.Application()

    async def describe(request):
        url = f"http://{request.host}"
        endpoints = {"authorization_endpoint": f"{url}/authorize", "token_endpoint": f"{url}/token"}
        return web.json_response({"issuer": url, **endpoints, **metadata})

    async def device(_request):
        return web.json_response({"device_code": "d", "user_code": "ABCD-EFGH", "expires_in": 60, **metadata})

    app.router.add_get("/.well-known/oauth-authorization-server", describe)
    app.router.add_post("/device", device)
    async with running(app) as url:
        yield url


@pytest.mark.parametrize("endpoint", ODD)
async def test_one_of_the_metadata(log_in, endpoint):
    async with issuer(authorization_endpoint=endpoint) as url:
        code, said, opened = await log_in(f'issuer = "{url}"')
    assert (code, opened) == (1, ""), said
    assert "authorization_endpoint" in said
    assert "Traceback" not in said
    assert not endpoint or endpoint not in said


@pytest.mark.parametrize("endpoint", [each for each in ODD if each.isprintable()])
async def test_one_of_the_configuration(log_in, endpoint):
    keys = f'authorization_endpoint = "{endpoint}"\ntoken_endpoint = "https://login.example/token"'
    code, said, opened = await log_in(keys)
    assert (code, opened) == (2, ""), said
    assert "authorization_endpoint" in said


@pytest.mark.parametrize("page", ["javascript:alert(1)", "file:///etc/passwd", "-flag"])
async def test_the_page_of_a_login_on_another_device(log_in, page):
    async with issuer(verification_uri=page, verification_uri_complete=page) as url:
        keys = f'issuer = "{url}"\ndevice_authorization_endpoint = "{url}/device"'
        code, said, opened = await log_in(keys, "--device")
    assert (code, opened) == (1, ""), said
    assert page not in said


async def test_the_browser_of_these_tests_is_started_for_a_good_one(log_in, tmp_path):
    """Else they could not fail."""
    async with issuer() as url:
        login = asyncio.create_task(log_in(f'issuer = "{url}"'))
        async with asyncio.timeout(FOR_CERTAIN):
            while not (tmp_path / "opened").exists():
                await asyncio.sleep(0.02)
        login.cancel()
        await asyncio.wait([login])
