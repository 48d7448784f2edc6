"""Open a page in the user's browser."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from proxy.commands.hardening import found_umask

# A process of its own, for the umask alone: ours would make the person's downloads private.
_OPEN: Final = """
import signal, sys, webbrowser
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.exit(not webbrowser.open(sys.argv[1]))
"""


def open_url(url: str) -> bool:
    """Without a shell, but as an argument of a program, which every user of the machine can read."""
    return has_browser() and urlsplit(url).scheme in {"http", "https"} and _open(url)


def open_file(path: Path) -> bool:
    return has_browser() and _open(path.as_uri())


def _open(url: str) -> bool:
    command = [sys.executable, "-I", "-c", _OPEN, url]
    try:
        return subprocess.run(command, umask=found_umask(), check=False).returncode == 0  # noqa: S603
    except OSError:
        return False


def has_browser() -> bool:
    """Not without a screen, as `webbrowser` would then start a text browser in the terminal."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")))


@contextmanager
def redirect_file(url: str) -> Iterator[Path]:
    """A page that only our own user can read and that leads to `url`; removed after the block.

    So the URL is in no argument of a program.
    """
    with tempfile.TemporaryDirectory(prefix="token-proxy-") as folder:  # 0700
        path = Path(folder) / "open.html"
        path.touch(0o600)
        path.write_text(
            '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0; url={escape(url)}"><title>token-proxy</title>'
            f'<a href="{escape(url)}">Go on to token-proxy</a>\n'
        )
        yield path
