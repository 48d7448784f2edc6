"""`token-proxy demo`: the printed commands work, and no files are left."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import sys
from contextlib import asynccontextmanager

import pytest

from proxy.commands.demo import typed
from proxy.demo.wiring import embedded, free_ports

CURL = re.compile(r"^ +(curl .*)$", re.MULTILINE)


@asynccontextmanager
async def demo(tmp_path, *options):
    """The output of a demo that serves, and the process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "demo", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        async with asyncio.timeout(60):
            said = (await process.stdout.readuntil(b"Ctrl-C stops everything.\n")).decode()
        yield said, process
    finally:
        process.send_signal(signal.SIGINT)
        process.log = (await process.communicate())[1].decode()


async def test_the_demo_starts_what_it_prints_works_and_it_leaves_nothing(tmp_path):
    if shutil.which("curl") is None:
        pytest.fail("curl is not installed", pytrace=False)
    async with demo(tmp_path) as (said, process):
        commands = CURL.findall(said)
        assert len(commands) == 6
        responses = [await curl(*shlex.split(command)[1:]) for command in commands[:3]]
        assert ['"alice"' in response for response in responses] == [True, True, False]
        assert '"demo-machine"' in responses[2]
        assert all(json.loads(each)["authorization"].startswith("Bearer access-") for each in responses)
        status_page = re.search(r"(\S+) +status page", said)[1]
        assert "All 2 accounts work" in await curl(status_page)
        assert "token_proxy_build_info" in await curl(f"{status_page}metrics")
        assert len(list(tmp_path.iterdir())) == 1
        assert f"{sys.executable} -m proxy demo --list-faults" in said, "as it was typed"

        # the login ends at the authorization server: the next response and the status say what to do
        ended, passed, refused = [
            json.loads(await curl(*shlex.split(command, comments=True)[1:])) for command in commands[3:]
        ]
        assert (ended, passed) == ({"logins_revoked": 1}, {"error": "invalid_token"})
        assert refused["login_url"] == f"{status_page}login/person/default"
        entries = json.loads(await curl(f"{status_page}api/status"))["tokens"]
        assert [(entry["credential"], entry["state"]) for entry in entries if entry["needs_attention"]] == [
            ("person", "login_required")
        ]
    assert process.returncode == 0
    assert "Traceback" not in process.log
    assert list(tmp_path.iterdir()) == []


def test_the_command_is_named_as_it_can_be_typed(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "token-proxy"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert typed("bin/token-proxy") == "bin/token-proxy"
    monkeypatch.setenv("PATH", str(program.parent))
    assert typed(str(program)) == typed("bin/token-proxy") == "token-proxy"
    other = tmp_path / "other" / "token-proxy"
    assert typed(str(other)) == str(other), "the one that is found is another"
    assert typed("/site/proxy/__main__.py") == f"{sys.executable} -m proxy"


async def test_a_scripted_fault_is_printed_and_takes_effect(tmp_path):
    options = ("--lifetime", "2", "--fault", "html:1,revoke-family:1@0-60", "--fault", "outage")
    async with demo(tmp_path, *options) as (said, process):
        assert "live for 2 seconds and every refresh token works once;" in said
        assert "html: 200 with an HTML page (once)" in said
        assert "revoke-family: revokes the login, access tokens included (once until second 60)" in said
        status_page = re.search(r"(\S+) +status page", said)[1]
        async with asyncio.timeout(60):
            while "login_required" not in await curl(f"{status_page}api/status"):
                await asyncio.sleep(0.1)
        assert "demo-machine" in await curl(CURL.findall(said)[2].removeprefix("curl ")), "refreshes only"
    assert process.returncode == 0
    assert "refuses the refresh token" in process.log


async def test_within_the_grace_a_lost_response_is_repeated(tmp_path):
    options = ("--lifetime", "2", "--grace", "30", "--fault", "drop-after-commit:1")
    async with demo(tmp_path, *options) as (said, process):
        assert "or again within 30 seconds" in said
        status_page = re.search(r"(\S+) +status page", said)[1]
        async with asyncio.timeout(60):
            while '"generation":3' not in (await curl(f"{status_page}api/status")).replace(" ", ""):
                await asyncio.sleep(0.1)
    assert "refuses" not in process.log


async def test_without_rotation_it_says_so(tmp_path):
    async with demo(tmp_path, "--no-rotation") as (said, _):
        assert "the refresh token stays;" in said
        assert "--list-faults" in said


async def curl(*arguments):
    process = await asyncio.create_subprocess_exec("curl", "-sS", *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_the_folder_is_the_owners_alone():
    async with embedded(1, 2) as (_, config):
        assert config.path.parent.stat().st_mode & 0o077 == 0
    assert not config.path.exists()


def test_a_port_that_is_taken_is_replaced_by_a_free_one():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        preferred = taken.getsockname()[1]
        assert free_ports(preferred) != [preferred]
    assert free_ports(preferred) == [preferred]


def test_no_port_comes_twice():
    assert len(set(free_ports(*[0] * 500))) == 500
