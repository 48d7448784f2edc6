"""demo: what it prints works, and nothing of it is left."""

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import sys

import pytest

from proxy.demo.wiring import embedded, free_ports

CURL = re.compile(r"^ +(curl .*)$", re.MULTILINE)


async def test_the_demo_starts_what_it_prints_works_and_it_leaves_nothing(tmp_path):
    if shutil.which("curl") is None:
        pytest.fail("curl is not installed", pytrace=False)
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "demo"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        async with asyncio.timeout(15):
            said = (await demo.stdout.readuntil(b"Ctrl-C stops everything.\n")).decode()
        commands = CURL.findall(said)
        assert len(commands) == 3
        answers = [await curl(*shlex.split(command)[1:]) for command in commands]
        assert ['"alice"' in answer for answer in answers] == [True, True, False]
        assert '"demo-machine"' in answers[2]
        status_page = re.search(r"(\S+) +status page", said)[1]
        assert "2 accounts, ready" in await curl(status_page)
        assert "token_proxy_build_info" in await curl(f"{status_page}metrics")
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        demo.send_signal(signal.SIGINT)
        _, log = await demo.communicate()
    assert demo.returncode == 0
    assert "Traceback" not in log.decode()
    assert list(tmp_path.iterdir()) == []


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
