"""LemonLDAP::NG of the machine's Debian or Ubuntu, unpacked into .venv: nothing is installed.

python -m tests.servers.debian      download and unpack it (once), or say in one line why that can't be
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

PACKAGE: Final = "liblemonldap-ng-portal-perl"
WITH: Final = (PACKAGE, "libstring-random-perl", "libio-string-perl")  # its OpenID provider needs these too
HOME: Final = Path(sys.prefix) / "debian"
DONE: Final = HOME / ".done"
PERL: Final = "/usr/bin/perl"  # the packages' modules in C are made for it
MISSING: Final = f"apt-get offers no {PACKAGE} here"
_NOT_NEEDED: Final = re.compile(r"(?:perl|perl-.*|libperl.*|fonts-.*|libjs-.*)")


@cache
def is_offered() -> bool:
    if DONE.exists():
        return True
    if not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg-deb", PERL))):
        return False
    return subprocess.run(["apt-cache", "show", PACKAGE], capture_output=True, check=False).returncode == 0


def unpacked() -> Path:
    """The folder with its files. Raises CalledProcessError."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not DONE.exists():
            _download()
            DONE.touch()
    return HOME / "root"


def environment() -> dict[str, str]:
    """Of a Perl program that uses it."""
    root = unpacked()
    folders = [root / "usr/share/perl5", *root.glob("usr/lib/*/perl5/*")]
    return {"PERL5LIB": ":".join(map(str, folders)), "SHARE": str(root / "usr/share/lemonldap-ng")}


def _download() -> None:
    folder = HOME / "packages"
    folder.mkdir(exist_ok=True)
    would = _run("apt-get", "install", "-s", "--no-install-recommends", *WITH)
    names = re.findall(r"^Inst (\S+)", would, re.MULTILINE)
    _run(
        "apt-get", "download", "-q", *(name for name in names if not _NOT_NEEDED.fullmatch(name)), cwd=folder
    )
    for package in folder.glob("*.deb"):
        _run("dpkg-deb", "-x", str(package), str(HOME / "root"))
    shutil.rmtree(folder)


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    if is_offered():
        unpacked()
    else:
        print(f"{MISSING}: the tests marked debian are left out")
