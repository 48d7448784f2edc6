import asyncio
import sys
from pathlib import Path

import pytest

SCRIPT = """
import ctypes, os, resource
from proxy.commands.hardening import keep_to_ourselves
keep_to_ourselves()
PR_GET_DUMPABLE = 3
dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
print(os.umask(0), resource.getrlimit(resource.RLIMIT_CORE), dumpable)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2)")
async def test_a_hardened_process_dumps_no_core_and_cannot_be_attached_to():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == f"{0o077} (0, 0) 0"


def core_limits(pid):
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[4:6] for line in lines if line.startswith("Max core file size"))


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="proc(5)")
async def test_a_server_is_hardened(bench):
    server = await bench.run()
    assert core_limits(server.pid) == ["0", "0"]
    for path in bench.path.parent.iterdir():
        if path.name not in {"config.toml", "secret"}:  # the test's own
            assert path.stat().st_mode & 0o077 == 0, path
