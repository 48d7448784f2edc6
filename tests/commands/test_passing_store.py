"""A store that does not last: whoever logs in, starts a server or checks a configuration is told."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from proxy.store.sqlite.mounts import mount_of
from tests.commands.test_login import VERIFIER, code_for

SHM = Path("/dev/shm")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/shm is Linux's, a tmpfs everywhere")


@pytest.fixture
def passing(bench):
    """The state of a server on a tmpfs."""
    assert mount_of(SHM).kind == "tmpfs"
    folder = Path(tempfile.mkdtemp(dir=SHM))
    bench.edit(f'state_dir = "{bench.config.server.state_dir}"', f'state_dir = "{folder}"')
    yield folder
    shutil.rmtree(folder)


async def test_a_store_on_a_tmpfs_is_warned_of(bench, passing):
    warning = f"the token store {passing}/tokens.db is on tmpfs at {SHM}, which is in memory"
    done = await bench.call("check")
    assert done.exit_code == 0
    assert f"warning: {warning}" in done.stderr
    server = await bench.run()
    server.signal()
    assert await server.end() == 0
    (event,) = [each for each in map(json.loads, server.log) if each["event"] == "store_not_lasting"]
    assert event["level"] == "warning"
    assert event["message"].startswith(warning)
    assert f"mount a volume at {passing}" in event["message"]


async def test_a_login_says_that_it_will_be_lost(bench, passing):
    code = await code_for(bench)
    done = await bench.call("login", "person", "--code", code, "--code-verifier", VERIFIER)
    assert done.exit_code == 0
    assert f"warning: the token store {passing}/tokens.db is on tmpfs" in done.stdout


async def test_a_check_elsewhere_does_not_look_at_this_machine(bench, passing):
    assert "tmpfs" not in (await bench.call("check", "--no-secrets")).stderr
    assert passing.is_dir()
