"""The first minutes of a newcomer, timed: from a clean clone to a token that was lost and is mended.

    make newcomer          or: .venv/bin/python -m tests.e2e.newcomers.first_minutes

It clones this repository, runs `make demo` there, and does what that prints: a request, whose response says
which token came with it; the end of the login at the authorization server; the request again; and in a
browser, on the status page that is open meanwhile, the button that mends it. It prints the time of each step.
Those are times of the machine: a person also reads.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from playwright.sync_api import Browser, Page, expect

from tests.browsers.stage import PATIENCE, chromium, press, row
from tests.e2e.proxy_process import REPOSITORY

LAST_LINE: Final = "Ctrl-C stops everything."
CURL: Final = re.compile(r"^ +(curl .*)$", re.MULTILINE)
STATUS_PAGE: Final = re.compile(r"(\S+) +status page")
FOREIGN: Final = (
    "TOKEN_PROXY_",
    "PYTHON",
    "VIRTUAL_ENV",
    "MAKE",
    "MFLAGS",
    "COVERAGE",
)  # variables of this run


@dataclass
class Steps:
    """What was done, with its time in seconds."""

    done: list[tuple[str, float]] = field(default_factory=list)
    clicks: int = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.done.append((name, time.monotonic() - begun))

    @property
    def table(self) -> str:
        rows = [*self.done, ("together", sum(seconds for _, seconds in self.done))]
        lines = [f"{seconds:7.1f} s  {name}" for name, seconds in rows]
        return "\n".join([*lines, f"{self.clicks} clicks to mend it"])


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[str]:
    """What a demo prints until it serves; it is stopped after the block as by Ctrl-C, which must be clean."""
    with tempfile.TemporaryFile("w+") as log:
        demo = subprocess.Popen(
            command,
            cwd=folder,
            env={name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            assert demo.stdout is not None
            yield _printed(demo.stdout, log)
        finally:
            os.killpg(demo.pid, signal.SIGINT)
            demo.communicate(timeout=PATIENCE)
        log.seek(0)
        assert "Traceback" not in log.read()


def _printed(output: IO[str], log: IO[str]) -> str:
    lines = []
    for line in output:
        lines.append(line)
        if line.strip() == LAST_LINE:
            return "".join(lines)
    log.seek(0)
    raise AssertionError(f"the demo has ended:\n{''.join(lines)}{log.read()}")


def walk(said: str, browser: Browser, steps: Steps) -> None:
    """Do what the demo has printed."""
    hello, *_, end_the_login, passes, refused = CURL.findall(said)
    with steps.step("a token on the wire, seen by curl"):
        assert _asked(hello)["authorization"].startswith("Bearer access-")
    page = browser.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    with steps.step("the status page is open"):
        page.goto(STATUS_PAGE.findall(said)[0])
        expect(row(page, "person")).to_contain_text("valid")
        expect(page.locator("#live")).to_have_text("live")
    with steps.step("the login is ended at the authorization server"):
        assert _asked(end_the_login) == {"logins_revoked": 1}
    with steps.step("requests are told what to do, and the open page shows it"):
        assert _asked(passes) == {"error": "invalid_token"}
        assert _asked(refused)["login_url"].endswith("/login/person/default")
        expect(row(page, "person")).to_contain_text("refuses the refresh token")
    with steps.step("it is mended from the page"):
        _mend(page, steps)
    with steps.step("a token on the wire again"):
        assert _asked(hello)["hello"] == "alice"
    page.close()


def _mend(page: Page, steps: Steps) -> None:
    press(page, "Reconnect", "person")
    steps.clicks += 1
    for name in ("Continue to the authorization server", "Continue as alice"):
        page.get_by_role("button", name=name).click()
        steps.clicks += 1
    expect(page.get_by_role("heading", name="Logged in")).to_be_visible()


def _asked(curl: str) -> Any:
    """The JSON of the response to a command line as it was printed."""
    line = curl.replace("curl ", "curl -sS ", 1)
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=PATIENCE, check=True)
    return json.loads(done.stdout)


def main() -> None:
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as name, chromium() as browser:
        clone = Path(name) / "token-proxy"
        with steps.step("git clone"):
            subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        begun = time.monotonic()
        with running(["make", "demo"], clone) as said:
            steps.done.append(("make demo: installed, and it serves", time.monotonic() - begun))
            assert ".venv/bin/token-proxy demo --fault" in said, said
            walk(said, browser, steps)
    sys.stdout.write(f"{steps.table}\n")


if __name__ == "__main__":
    main()
