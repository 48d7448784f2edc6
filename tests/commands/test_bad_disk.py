"""A server whose disk fails at a moment of our choice, by what strace makes of its writes, or for real.

What needs no disk goes on, nothing is asked for that could not be saved, what could not be saved is held and
not served, and when the disk is well again all recovers by itself.
"""

import asyncio
import json
import signal
import sqlite3
import subprocess
from contextlib import asynccontextmanager, closing, suppress

import aiohttp
import pytest

from proxy.clock import SystemClock
from proxy.demo.faults import Fault
from proxy.demo.wiring import PERSON
from proxy.oauth.binding import server_of
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.services import open_services
from proxy.store.base import AccountId
from proxy.store.sqlite.store import LOOK_EVERY
from tests.servers.programs import find

PERSONS = AccountId("person", "default")
PATIENCE = 90  # seconds for what takes a few
RECOVERY = 6  # seconds until a repaired disk is noticed and all is as before
FAULTS = [
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("pwrite64", "EDQUOT"),
    ("pwrite64", "EROFS"),
    ("fdatasync", "EIO"),
]

pytestmark = pytest.mark.privileged  # only root may attach strace to a process like ours


class Disk:
    """Makes a system call of a process fail for the length of a block."""

    def __init__(self, pid):
        self._pid = pid
        self._strace = None

    async def fails(self, call, error):
        self._strace = await asyncio.create_subprocess_exec(
            *(find("strace"), "-f", "-p", str(self._pid), "-o", "/dev/null"),
            *("-e", f"trace={call}", "-e", f"inject={call}:error={error}"),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            await self._strace.stderr.readline()  # "Process N attached"

    async def is_well(self):
        if self._strace is not None:
            with suppress(ProcessLookupError):  # it ends with the process
                self._strace.send_signal(signal.SIGINT)
            await self._strace.communicate()
            self._strace = None


@asynccontextmanager
async def running(bench, seconds):
    """A server whose disk can be made to fail, with tokens of this lifetime."""
    bench.edit("[log]", "[limits]\nshutdown = 1\ntoken_wait = 0.5\n\n[log]")
    server = await bench.run()
    disk = Disk(server.pid)
    await give_tokens(bench, seconds)
    try:
        await until(lambda: gets_status(bench, 200))
        yield server, disk
    finally:
        await disk.is_well()


async def give_tokens(bench, seconds):
    """Tokens as from a login, with this lifetime in seconds; the running server adopts them."""
    issued, clock = bench.server.issue("demo-app", PERSON), SystemClock()
    token = Token(
        access_token=Secret(issued["access_token"]),
        refresh_token=Secret(issued["refresh_token"]),
        server=server_of(bench.config.credentials["person"]),
        client_id="demo-app",
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=float(seconds),
    )
    async with open_services(bench.config) as services:
        await services.tokens.adopt(PERSONS, token)


async def until(done, seconds=PATIENCE):
    async with asyncio.timeout(seconds):
        while not await done():
            await asyncio.sleep(0.05)


async def ask(bench):
    async with aiohttp.ClientSession() as session, session.get(f"{bench.data}/demo/x") as response:
        return response.status, await response.json(content_type=None)


async def gets_status(bench, status):
    return (await ask(bench))[0] == status


async def metric(bench, name):
    async with aiohttp.ClientSession() as session, session.get(f"{bench.admin}/metrics") as response:
        lines = (await response.text()).splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"token_proxy_{name} "))
    return float(value)


async def is_one(value):
    return await value == 1


async def is_zero(value):
    return await value == 0


async def is_ready(bench):
    async with aiohttp.ClientSession() as session, session.get(f"{bench.admin}/readyz") as response:
        return "person" not in [reason["credential"] for reason in (await response.json())["reasons"]]


def refreshes(bench):
    return bench.granted().count("refresh_token")


def stored(bench):
    """generation, and whether an intent is open"""
    path = bench.config.server.state_dir / "tokens.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(
            "SELECT generation, intent IS NOT NULL FROM tokens WHERE credential = 'person'"
        ).fetchone()


@pytest.mark.parametrize(("call", "error"), FAULTS)
async def test_without_a_saved_intent_no_refresh_is_sent_and_valid_tokens_are_served(bench, call, error):
    # due at 2 s, so that a busy machine has 8 s left to see the store fail while the token is valid
    bench.edit("[credentials.person]", "[credentials.person]\nrefresh_at = 0.2")
    async with running(bench, 10) as (_, disk):
        assert await metric(bench, "store_writable") == 1
        await disk.fails(call, error)

        async def store_is_said_to_fail():
            assert (await ask(bench))[0] == 200, "the token is valid"
            return await metric(bench, "store_writable") == 0

        await until(store_is_said_to_fail)
        assert await is_ready(bench)
        served = []

        async def has_expired():
            served.append(await ask(bench))
            return served[-1][0] != 200

        await until(has_expired)
        status, problem = served[-1]
        assert (status, problem["type"]) == (503, "urn:token-proxy:problem:token-unavailable")
        assert refreshes(bench) == 0
        assert await metric(bench, "tokens_unsaved") == 0

        await disk.is_well()
        await until(lambda: gets_status(bench, 200), RECOVERY)
        await until(lambda: is_one(metric(bench, "store_writable")), RECOVERY)
        assert refreshes(bench) == 1
        assert bench.server.families_revoked == 0
        assert stored(bench) == (2, 0)


@pytest.mark.parametrize(("call", "error"), FAULTS)
async def test_a_token_that_can_not_be_saved_is_held_and_not_served_until_it_is(bench, call, error):
    rotated, go_on = asyncio.Event(), asyncio.Event()

    async def hold():
        rotated.set()
        await go_on.wait()

    bench.server.script(Fault(wait_after=hold))
    async with running(bench, 2) as (server, disk):
        async with asyncio.timeout(PATIENCE):
            await rotated.wait()
        await disk.fails(call, error)
        go_on.set()
        await until(lambda: is_one(metric(bench, "tokens_unsaved")))
        assert await metric(bench, "store_writable") == 0
        await until(lambda: gets_status(bench, 503))  # the old one has expired; the new one is not served
        await asyncio.sleep(0.7)  # some tries to save it
        assert await gets_status(bench, 503)
        assert refreshes(bench) == 1, "no second one while the first is unsaved"
        assert stored(bench) == (1, 1)

        await disk.is_well()
        await until(lambda: gets_status(bench, 200), RECOVERY)
        assert await metric(bench, "tokens_unsaved") == 0
        assert await metric(bench, "store_writable") == 1
        assert refreshes(bench) == 1
        assert bench.server.families_revoked == 0
        assert stored(bench) == (2, 0)
        server.signal()
        assert await server.end() == 0
    told = [line for line in server.log if '"event": "token_unsaved"' in line]
    assert len(told) == 1
    assert "Traceback" not in "".join(server.log)


@pytest.mark.parametrize("grace", [0, 60])
async def test_a_stop_with_an_unsaved_token_waits_says_what_is_lost_and_the_next_start_asks_again(
    a_bench, grace
):
    async with a_bench(grace=grace) as bench:
        rotated, go_on = asyncio.Event(), asyncio.Event()

        async def hold():
            rotated.set()
            await go_on.wait()

        bench.server.script(Fault(wait_after=hold))
        async with running(bench, 2) as (server, disk):
            async with asyncio.timeout(PATIENCE):
                await rotated.wait()
            await disk.fails("pwrite64", "ENOSPC")
            go_on.set()
            await until(lambda: is_one(metric(bench, "tokens_unsaved")))
            began = asyncio.get_running_loop().time()
            server.signal()
            assert await server.end() == 0
            assert asyncio.get_running_loop().time() - began >= 2.5, "it waits for the disk to be well"
        (lost,) = (json.loads(line) for line in server.log if "is lost" in line)
        assert lost["level"] == "critical"
        assert stored(bench) == (1, 1)

        again = await bench.run()
        if grace:
            await until(lambda: gets_status(bench, 200), RECOVERY)
            assert bench.server.families_revoked == 0
        else:
            await until(lambda: gets_status(bench, 503), RECOVERY)
            _, problem = await ask(bench)
            assert problem["type"] == "urn:token-proxy:problem:login-required"
        assert refreshes(bench) == 2
        again.signal()
        assert await again.end() == 0


# -- real file systems


@pytest.fixture
def small_disk(bench):
    """A file system of 1 MiB of its own, for the store; yields where it is mounted."""
    folder = bench.config.server.state_dir / "small"
    folder.mkdir()
    bench.edit("[log]", '[store]\nurl = "sqlite:small/tokens.db"\n\n[log]')
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)) == 4096:
            pass
    return filler


def read_only(folder):
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


async def test_a_really_full_disk_is_survived_and_recovered_from(bench, small_disk):
    async with running(bench, 3) as (server, _):
        filler = fill(small_disk)
        await until(lambda: is_zero(metric(bench, "store_writable")))
        await until(lambda: gets_status(bench, 503))
        assert refreshes(bench) == 0
        filler.unlink()
        await until(lambda: gets_status(bench, 200), RECOVERY)
        assert refreshes(bench) == 1
        server.signal()
        assert await server.end() == 0


async def test_a_read_only_file_system_is_told_at_the_start_and_left_as_it_is(bench, small_disk):
    await give_tokens(bench, 60)
    before = contents(small_disk)
    read_only(small_disk)
    server = await bench.start("run", "-c", str(bench.path))
    assert await server.end() == 1
    assert contents(small_disk) == before
    assert "tokens.db: it can't be opened: check" in server.log[-1]
    assert "on a read-only file system" in server.log[-1]
    assert "Traceback" not in "".join(server.log)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# -- a file that is damaged or replaced under a running server


async def test_a_file_that_is_damaged_under_it_spares_valid_tokens_and_is_told_what_to_do(bench):
    path = bench.config.server.state_dir / "tokens.db"
    async with running(bench, 60) as (server, _):
        scribble(path)
        refused = await bench.call("token", "person")
        assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
        assert "put a backup in its place" in refused.stderr
        await asyncio.sleep(3 * LOOK_EVERY)
        assert await gets_status(bench, 200)
        assert await is_ready(bench)
        server.signal()
        assert await server.end() == 0
    assert "Traceback" not in "".join(server.log)
    damaged = path.read_bytes()
    again = await bench.start("run", "-c", str(bench.path))
    assert await again.end() == 1
    assert "tokens.db: it is " in again.log[-1]
    assert "put a backup in its place" in again.log[-1]
    assert path.read_bytes() == damaged


def scribble(path):
    """Over the whole file, and over what is in its log."""
    for file in (path, path.with_name("tokens.db-wal")):
        with file.open("r+b") as opened:
            opened.write(b"\xa5" * file.stat().st_size)


async def test_a_backup_put_back_under_it_costs_no_token(bench):
    path = bench.config.server.state_dir / "tokens.db"
    async with running(bench, 2) as (server, _):
        path.with_name("backup").write_bytes(path.read_bytes())
        path.with_name("backup").rename(path)
        await until(lambda: gets_status(bench, 503))
        assert refreshes(bench) == 0, "it could not have been saved where anybody finds it"
        assert await metric(bench, "store_writable") == 0
        server.signal()
        assert await server.end() == 0
    (told,) = (json.loads(line) for line in server.log if '"level": "critical"' in line)
    rescued = path.with_name("tokens.db.rescued")
    assert str(rescued) in told["message"]

    for file in (path, path.with_name("tokens.db-wal"), path.with_name("tokens.db-shm")):
        file.unlink(missing_ok=True)
    rescued.rename(path)
    again = await bench.run()
    await until(lambda: gets_status(bench, 200), RECOVERY)
    assert refreshes(bench) == 1
    again.signal()
    assert await again.end() == 0
