"""The audit log of the real command: rotation under load, SIGTERM, a full disk, logins and logouts."""

import asyncio
import json
import os
import resource
import signal
import stat
import sys

import aiohttp
import pytest

from proxy.observe import logs
from tests.patience import until

PATIENCE = 60


@pytest.fixture
async def audited(bench):
    """A bench whose server writes an audit log, beside the configuration."""
    bench.edit("[log]", '[log]\naudit = "audit.log"')
    bench.audit = bench.path.parent / "audit.log"
    return bench


def lines(*paths):
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


async def metric(bench, outcome):
    text = await fetched(f"{bench.admin}/metrics")
    name = f'token_proxy_sink_writes_total{{outcome="{outcome}",sink="audit"}} '
    return next(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


async def test_a_rotation_under_load_loses_no_line_and_neither_does_a_stop(audited):
    server = await audited.run()
    sent = 0

    async def ask(session, requests):
        nonlocal sent
        for _ in range(requests):
            async with session.get(f"{audited.data}/machine/x?number={sent}") as response:
                assert response.status == 200
            sent += 1

    files = []
    async with aiohttp.ClientSession() as session:
        for rotation in range(5):
            asking = asyncio.gather(*(ask(session, 40) for _ in range(4)))
            await until(lambda: audited.audit.exists() and audited.audit.stat().st_size > 1000)
            files.append(audited.audit.rename(audited.audit.with_suffix(f".log.{rotation}")))
            server.signal(signal.SIGHUP)
            await asking
        await until(audited.audit.exists)
        await ask(session, 20)
    server.signal(signal.SIGTERM)
    assert await server.end() == 0
    assert stat.S_IMODE(audited.audit.stat().st_mode) == 0o600
    requests = [line for line in lines(*files, audited.audit) if line["event"] == "request"]
    assert len(requests) == sent == 820
    assert {line["decision"] for line in requests} == {"allowed"}
    assert {line["path"] for line in requests} == {"/machine/x"}


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit(2)")
async def test_with_audit_required_a_full_disk_refuses_requests_until_there_is_room(audited):
    audited.edit('audit = "audit.log"', 'audit = "audit.log"\naudit_required = true')
    server = await audited.run()
    await until_status(audited, 200)
    hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (audited.audit.stat().st_size, hard))
    refused = await until_status(audited, 503)
    assert refused["type"] == "urn:token-proxy:problem:overloaded"
    assert "audit" in refused["detail"]
    assert (await audited.get(f"{audited.admin}/healthz")).status == 200
    assert await metric(audited, "failure") >= 1
    told = json.loads(await server.until('"audit_failed"'))
    assert (told["level"], told["cause"], told["file"]) == ("error", "File too large", str(audited.audit))
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))
    await until_status(audited, 200)
    assert await metric(audited, "dropped") == 0
    server.signal(signal.SIGTERM)
    assert await server.end() == 0
    found = lines(audited.audit)
    assert {line["decision"] for line in found if line["event"] == "request"} == {"allowed", "overloaded"}


async def until_status(bench, status):
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
        while True:
            async with session.get(f"{bench.data}/machine/x") as response:
                body = await response.json()
                if response.status == status:
                    return body
            await asyncio.sleep(0.02)


async def test_a_log_that_can_not_be_opened_is_a_fault_where_it_is_required(audited):
    audited.edit('audit = "audit.log"', 'audit = "nowhere/audit.log"\naudit_required = true')
    server = await audited.start("run", "-c", str(audited.path))
    assert await server.end() == 2
    said = "".join(server.log)
    assert "no such file or directory" in said
    assert "config.toml:" in said


async def test_a_log_that_can_not_be_opened_is_a_warning_where_it_is_not(audited):
    audited.edit('audit = "audit.log"', 'audit = "nowhere/audit.log"')
    server = await audited.start("run", "-c", str(audited.path))
    told = json.loads(await server.until('"audit_unusable"'))
    assert told["level"] == "warning"
    await server.until('"event": "start"')
    await until_status(audited, 200)
    server.signal(signal.SIGTERM)
    assert await server.end() == 0


async def test_a_reload_begins_and_ends_it(bench):
    audit = bench.path.parent / "audit.log"
    server = await bench.run()
    bench.edit("[log]", f'[log]\naudit = "{audit}"')
    server.signal(signal.SIGHUP)
    await until(audit.exists)
    await until_status(bench, 200)
    await until(lambda: lines(audit))
    assert await metric(bench, "success") == 1
    bench.edit(f'[log]\naudit = "{audit}"', "[log]")
    server.signal(signal.SIGHUP)
    async with asyncio.timeout(PATIENCE):
        while "sink_writes" in await fetched(f"{bench.admin}/metrics"):
            await asyncio.sleep(0.05)
    written = lines(audit)
    await until_status(bench, 200)
    server.signal(signal.SIGTERM)
    assert await server.end() == 0
    assert lines(audit) == written


async def fetched(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


async def test_standard_output_gets_the_lines(audited):
    audited.edit('audit = "audit.log"', 'audit = "-"')
    server = await audited.run()
    await until_status(audited, 200)
    server.signal(signal.SIGTERM)
    assert await server.end() == 0
    assert any(json.loads(line)["decision"] == "allowed" for line in server.out.splitlines())


@pytest.mark.parametrize("level", ["info", "error"])
async def test_logins_and_logouts_are_in_it_at_every_level_of_the_other_log(audited, level):
    audited.edit('format = "json"', f'format = "json"\nlevel = "{level}"')
    logs.set_up(audited.config.log)
    await audited.log_in()  # by a server's page
    result = await audited.call("logout", "person")
    assert result.exit_code == 0, result.output
    found = [(line["event"], line["credential"], line["account"]) for line in lines(audited.audit)]
    assert found == [("login", "person", "default"), ("logout", "person", "default")]


async def test_a_command_is_refused_if_the_log_is_required_and_can_not_be_opened(audited):
    await audited.log_in()
    audited.edit('audit = "audit.log"', 'audit = "nowhere/audit.log"\naudit_required = true')
    result = await audited.call("logout", "person")
    assert result.exit_code == 1
    assert "log.audit is required, but" in result.output


async def test_a_pipe_that_is_not_read_stops_neither_requests_nor_the_shutdown(audited):
    os.mkfifo(audited.audit)
    reader = os.open(audited.audit, os.O_RDONLY | os.O_NONBLOCK)
    try:
        server = await audited.run()
        async with aiohttp.ClientSession() as session:
            for _ in range(150):
                async with session.get(f"{audited.data}/machine/{'x' * 900}") as response:
                    assert response.status == 200
        server.signal(signal.SIGTERM)
        assert await server.end() == 0
    finally:
        os.close(reader)
