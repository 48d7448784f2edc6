"""`login --device` for a credential with `mcp`: a client for that is registered, and its tokens serve."""

from __future__ import annotations

import asyncio
import os
import sys

import aiohttp

from proxy.demo.wiring import free_ports
from tests.commands.test_device_login import CODE, DEVICE
from tests.fakes.mcp import mcp_world
from tests.patience import FOR_CERTAIN, until

CONFIG = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
state_dir = "{folder}"
[credentials.docs]
mcp = "{url}"
"""


async def started(*arguments):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


async def log_in_on_device(config, world):
    """The output of the command; a person enters the code that it shows."""
    command = await started("login", "docs", "--device", "--no-browser", "-c", str(config))
    said = b""
    async with asyncio.timeout(FOR_CERTAIN):
        while b"Waiting until" not in said:
            line = await command.stdout.readline()
            assert line, (await command.communicate())[1].decode()
            said += line
        data = {"user_code": CODE.search(said.decode())[1], "user": "alice"}
        async with (
            aiohttp.ClientSession() as browser,
            browser.post(f"{world.auth.issuer}/device", data=data) as page,
        ):
            assert page.status == 200, await page.text()
        out, err = await command.communicate()
    assert command.returncode == 0, err.decode()
    return (said + out).decode()


async def test_a_client_is_registered_for_it_and_another_for_the_browser(tmp_path):
    data, admin = free_ports(0, 0)
    config = tmp_path / "config.toml"
    async with mcp_world() as world:
        config.write_text(CONFIG.format(data=data, admin=admin, folder=tmp_path, url=world.mcp.url))
        for _ in range(2):
            assert "logged in: docs/default has tokens" in await log_in_on_device(config, world)
        (asked,) = world.auth.registrations  # one client for both logins
        assert asked["grant_types"] == [DEVICE, "refresh_token"]
        assert "redirect_uris" not in asked
        server = await started("run", "-c", str(config))
        try:
            async with aiohttp.ClientSession() as session:

                async def get():
                    async with session.get(f"http://127.0.0.1:{data}/docs") as response:
                        return response.status, await response.text()

                async def serves():
                    try:
                        return await get()
                    except aiohttp.ClientConnectionError:
                        return None

                async with asyncio.timeout(FOR_CERTAIN):
                    while (got := await serves()) is None:
                        await asyncio.sleep(0.05)
                assert got == (200, '{"subject": "alice"}')
                async with session.get(f"http://127.0.0.1:{admin}/api/status") as response:
                    (token,) = (await response.json())["tokens"]
                    assert token["state"] == "valid"
        finally:
            server.terminate()
            await server.communicate()
        world.auth.hits.clear()
        browser_login = await started("login", "docs", "--no-browser", "-c", str(config))
        await until(lambda: len(world.auth.registrations) == 2)  # what the browser is sent to needs another
        browser_login.terminate()
        await browser_login.communicate()
        assert world.auth.registrations[1]["grant_types"] == ["authorization_code", "refresh_token"]
