"""login on another device (RFC 8628), by the command."""

import asyncio
import os
import pty
import re
import sys

import aiohttp
import pytest

from proxy import qr_code
from proxy.commands import device_login
from proxy.oauth import device
from proxy.oauth.device import DeviceAuthorization
from proxy.secret import Secret
from tests.patience import within

DONE, FAILED, USAGE = 0, 1, 2
CODE = re.compile(r"enter this code: ([A-Z]{4}-[A-Z]{4})")
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
def device_bench(bench):
    bench.edit('grant = "authorization_code"', 'grant = "device_code"')
    return bench


async def decide(bench, said, user="alice"):
    data = {"user_code": CODE.search(said)[1], "user": user}
    async with (
        aiohttp.ClientSession() as browser,
        browser.post(f"{bench.server.issuer}/device", data=data) as page,
    ):
        assert page.status == 200, await page.text()


async def start(bench, *options):
    process = await bench.start("login", "person", "--no-browser", *options, "-c", str(bench.path))
    return process, await process.says("Waiting until")


async def test_a_person_logs_in_without_a_server_and_the_tokens_serve(device_bench):
    process, said = await start(device_bench)
    assert f"{device_bench.server.issuer}/device\n" in said
    assert "user_code=" in said
    assert "\x1b[" not in said  # no terminal: no QR code
    await decide(device_bench, said)
    assert await process.end() == DONE
    assert "logged in: person/default has tokens" in process.out
    async with device_bench.serving():
        assert await device_bench.whose() == "alice"
    assert set(device_bench.granted()) == {DEVICE}


async def test_a_running_server_has_the_tokens_within_a_second(device_bench):
    await device_bench.run()
    process, said = await start(device_bench)
    await decide(device_bench, said)
    assert await process.end() == DONE

    async with within(30):
        while await device_bench.whose() != "alice":
            await asyncio.sleep(0.05)


async def test_the_option_does_it_with_another_grant_too(bench):
    process, said = await start(bench, "--device")
    await decide(bench, said)
    assert await process.end() == DONE
    async with bench.serving():
        assert await bench.whose() == "alice"


async def test_a_declined_login_fails_with_a_sentence(device_bench):
    process, said = await start(device_bench)
    await decide(device_bench, said, "")
    assert await process.end() == FAILED
    assert any("the login was declined" in line for line in process.log)


async def test_ctrl_c_ends_it(device_bench):
    process, _ = await start(device_bench)
    process.signal(2)
    assert await process.end() != DONE
    seen = len(device_bench.server.token_requests)
    await asyncio.sleep(1.5)
    assert len(device_bench.server.token_requests) == seen


async def test_it_does_not_go_with_a_code(device_bench):
    result = await device_bench.call("login", "person", "--device", "--code", "C")
    assert result.exit_code == USAGE


async def test_a_credential_without_logins_is_told(bench):
    result = await bench.call("login", "machine", "--device")
    assert result.exit_code == FAILED
    assert "which has no login" in result.output


def codes(complete="https://login.example/device?user_code=ABCD-EFGH"):
    return DeviceAuthorization(
        Secret("D"), "ABCD-EFGH", "https://login.example/device", complete, lifetime=600, interval=5
    )


def test_a_terminal_gets_a_qr_code_of_the_address_with_the_code_in_it():
    lines = list(device_login.lines_for(codes(), in_colour=True))
    assert qr_code.text(codes().complete_uri) in lines
    assert qr_code.text(codes("").verification_uri) in list(device_login.lines_for(codes(""), in_colour=True))


async def test_on_a_real_terminal_the_qr_code_is_shown(device_bench):
    mine, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "login", "person", "--no-browser", "-c", str(device_bench.path)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=theirs,
        stderr=asyncio.subprocess.DEVNULL,
        env={**environment, "TERM": "xterm"},
    )
    os.close(theirs)
    said = b""
    async with asyncio.timeout(90):
        while b"Waiting until" not in said:
            said += await asyncio.to_thread(os.read, mine, 65536)
        text = said.decode()
        assert "\x1b[97;40m" in text
        assert "█" in text
        await decide(device_bench, text)
        while True:
            try:
                said += await asyncio.to_thread(os.read, mine, 65536)
            except OSError:
                break
        assert await process.wait() == DONE
    os.close(mine)


def test_the_command_polls_as_slowly_as_the_rfc_says_by_default():
    assert (device.INTERVAL, device.SLOW_DOWN) == (5, 5)
