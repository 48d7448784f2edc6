"""A short `make soak`: it finds no fault, and it finds one that is made."""

import os
import subprocess
import sys

import pytest

from .memory import reads_memory
from .proxy_process import REPOSITORY

pytestmark = reads_memory

SOAK = REPOSITORY / "bench" / "soak"
SIZE = ["--streams", "50", "--seconds", "2"]
LIMIT = 90  # seconds


def soak(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{SOAK.parent}:{SOAK}:{REPOSITORY}"}
    return subprocess.run(
        [sys.executable, script, *(options or SIZE)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_fifty_streams_lose_nothing() -> None:
    done = soak(str(SOAK / "run.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "events: 100 through the proxy, 100 direct\nfaults: 0; direct: 0\n" in done.stdout


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        ("range(0, count, 2)", "lost 50"),
        ("[0, *range(count)]", "repeated or reordered 50"),
    ],
)
def test_a_fault_is_found_and_reported(tmp_path, sent: str, fault: str) -> None:
    """The same with an upstream that sends other bytes."""
    wrong = (SOAK / "upstream.py").read_text().replace("range(count)", sent)
    (tmp_path / "upstream.py").write_text(wrong)
    (tmp_path / "run.py").write_text((SOAK / "run.py").read_text())
    done = soak(str(tmp_path / "run.py"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"faults: {fault}; direct: {fault}\n" in done.stdout


def test_a_server_that_is_down_for_a_few_seconds_gets_few_requests_and_recovers() -> None:
    done = soak(str(SOAK / "outage.py"), "--seconds", "8", "--life", "5", "--back", "6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'unavailable'" in done.stdout


BURSTS = ["--seconds", "10", "--callers", "40", "80", "--pause", "0.1", "0.3", "--growth", "0.5"]
PAUSED = "time.sleep(chance.uniform(*options.pause))"
KEEPS = f'wrong.kept = [*getattr(wrong, "kept", []), *map(connected, [ours.port] * 2)]\n        {PAUSED}'
COUNTING = """import itertools
import socket

COUNT = itertools.count()


def connected(port):
    return socket.create_connection(("127.0.0.1", port))


import place
"""


def test_bursts_leave_nothing_behind() -> None:
    done = soak(str(SOAK / "bursts.py"), *BURSTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nfaults: none\nflat over " in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        (PAUSED, KEEPS, "files grew"),  # two callers of each burst stay
        (
            "proc.resident_mib(ours.pid)",
            "proc.resident_mib(ours.pid) + 100 * next(COUNT)",
            "memory in MiB grew",
        ),
        ('path="/soak"', 'path="/elsewhere"', "responses were wrong"),
    ],
)
def test_a_fault_in_bursts_is_found_and_reported(tmp_path, right: str, wrong: str, fault: str) -> None:
    script = (SOAK / "bursts.py").read_text()
    assert right in script
    sabotaged = script.replace(right, wrong).replace("import place\n", COUNTING)
    (tmp_path / "bursts.py").write_text(sabotaged)
    done = soak(str(tmp_path / "bursts.py"), *BURSTS)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"FAULT: {fault}\n" in done.stdout
