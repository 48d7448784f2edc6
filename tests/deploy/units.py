"""Unit files, and the sandbox that one describes, as far as it can be had without systemd."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.servers import programs

DEPLOY = Path(__file__).parents[2] / "deploy"
MDWE = "import ctypes, os, sys; {check}; os.execvp(sys.argv[1], sys.argv[1:])".format(
    check="assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0, 'expected Linux 6.3 or later'"  # PR_SET_MDWE
)


def settings(unit: Path) -> dict[str, list[str]]:
    """The values of each key, whatever its section."""
    found = defaultdict[str, list[str]](list)
    for line in unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[key].append(value)
    return found


def members(sets: list[str]) -> set[str]:
    """The system calls in sets like @network-io, and in the sets that those hold."""
    calls: set[str] = set()
    done: set[str] = set()
    while sets:
        name = sets.pop()
        if name in done:
            continue
        done.add(name)
        if not name.startswith("@"):
            calls.add(name)
            continue
        shown = subprocess.run(
            [programs.find("systemd-analyze"), "--no-pager", "syscall-filter", name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        lines = (line.strip() for line in shown.splitlines()[1:])
        sets += [line for line in lines if line and not line.startswith("#")]
    return calls


def allowed_calls(unit: Path) -> set[str]:
    """What SystemCallFilter= permits; what is always permitted too."""
    calls = members(["@default"])
    for value in settings(unit)["SystemCallFilter"]:
        named = members(value.removeprefix("~").split())
        calls = calls - named if value.startswith("~") else calls | named
    return calls


def confined(unit: Path, report: Path) -> list[str]:
    """The beginning of a command line, whose rest runs as if in the unit.

    System calls that the unit does not permit fail as they would there, and are written to `report`, as is
    each socket() for its family. No memory can be made executable, if the unit says so.
    """
    allowed = ",".join(f"?{name}" for name in sorted(allowed_calls(unit)))
    traced = ",".join(f"?{name}" for name in sorted(allowed_calls(unit) - {"socket"}))
    strace = [programs.find("strace"), "-D", "-f", "-qqq", "--seccomp-bpf", "-o", str(report)]
    strace += ["-e", "signal=none", "-e", f"trace=!{traced}", "-e", f"inject=!{allowed}:error=EPERM"]
    mdwe = [sys.executable, "-c", MDWE] if settings(unit)["MemoryDenyWriteExecute"] == ["yes"] else []
    return [*strace, *mdwe]
