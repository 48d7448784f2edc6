"""Start, observe and stop our own child processes. Linux only (/proc)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPO = Path(__file__).parent.parent
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_PATIENCE = 15.0  # seconds until a start counts as failed
STOP_PATIENCE = 5.0  # seconds between asking and killing


class StartError(Exception):
    """The program ended or did not respond before it was ready."""


@contextlib.contextmanager
def running(command: Sequence[str], folder: Path, cpu: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` in `folder`, on `cpu` if one is given; its output goes to `folder`/output."""
    pinned = command if cpu is None else ["taskset", "-c", str(cpu), *command]
    with (folder / "output").open("wb") as output:
        # Its own session: Ctrl-C only reaches this process, which stops everything in order.
        process = subprocess.Popen(
            pinned,
            cwd=REPO,  # so that `python -m proxy` is that of this checkout
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = family_of(process.pid)
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def family_of(pid: int) -> list[int]:
    """The process and all its descendants."""
    family = [pid]
    for member in family:  # grows during the loop
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                family += map(int, children.read_text().split())
    return family


def cpu_seconds(pid: int) -> float:
    """User and system time used so far by the process and its descendants."""
    ticks = 0
    for member in family_of(pid):
        with contextlib.suppress(OSError):
            # The command's name, in parentheses, may contain anything: count the fields after it.
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def resident_mib(pid: int) -> float:
    """VmRSS of the process and its descendants; shared pages count for each."""
    kib = 0
    for member in family_of(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    kib += int(line.split()[1])
    return kib / 1024


def connections_to(port: int) -> int:
    """Established connections from this machine to a local port."""
    established, wanted = "01", f":{port:04X}"
    count = 0
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                count += fields[2].endswith(wanted) and fields[3] == established
    return count


def get(url: str, token: str | None = None) -> tuple[int | None, int]:
    """Status and length of the response to one GET; no status if there is no response."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        length = 0
        while piece := answer.read(1 << 20):
            length += len(piece)
    except (OSError, HTTPException):
        return None, 0
    finally:
        connection.close()
    return answer.status, length


def wait_ready(process: subprocess.Popen[bytes], url: str, folder: Path, *, status: int | None = 200) -> None:
    """Wait until `url` responds with `status` (None: any)."""
    deadline = time.monotonic() + START_PATIENCE
    seen = None
    while time.monotonic() < deadline and process.poll() is None:
        seen = get(url)[0]
        if seen is not None and status in (seen, None):
            return
        time.sleep(0.002)
    what = f"ended with {process.returncode}" if process.poll() is not None else f"not ready (status {seen})"
    last = (folder / "output").read_text(errors="replace").strip().splitlines()[-3:]
    raise StartError(f"{what}: {' / '.join(last) or 'it printed nothing'}")
