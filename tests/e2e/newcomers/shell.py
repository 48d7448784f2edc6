"""The terminals of a person who knows the product by its documents alone."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.browser import Browser, Page
from tests.e2e.processes import plain_environment, wait_until
from tests.e2e.proxy_process import REPOSITORY

LIMIT = 90  # seconds; a busy machine is no failure
COMMAND = "#!{python}\nimport sys\nfrom proxy.cli import main\nsys.exit(main())\n"
# Of all processes that the real one would find, those of this person alone: they run in this folder.
PKILL = """#!{python}
import os, re, signal, sys
option, full, pattern = sys.argv[1:]
assert full == "-f"
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        line = open(f"/proc/{{pid}}/cmdline").read().replace("\\0", " ")
        if re.search(pattern, line) and os.readlink(f"/proc/{{pid}}/cwd") == {folder!r}:
            found.append(int(pid))
    except OSError:
        pass
for pid in set(found) - {{os.getpid()}}:
    os.kill(pid, getattr(signal, "SIG" + option[1:]))
sys.exit(not found)
"""
ON_A_PTY = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
CTRL_C = b"\x03"


class Running:
    """A command that goes on, in a terminal of its own or without one."""

    def __init__(self, command: list[str], output: Path, cwd: Path, variables: Mapping[str, str]) -> None:
        self._output = output
        with output.open("wb") as out:
            self._process = subprocess.Popen(
                command, cwd=cwd, env=variables, stdin=subprocess.PIPE, stdout=out, stderr=out
            )

    @property
    def text(self) -> str:
        return self._output.read_text().replace("\r\n", "\n")

    def shows(self, words: str, times: int = 1) -> str:
        """All that it has printed, once that contains the words."""

        def seen() -> bool:
            return self.text.count(words) >= times or self._process.poll() is not None

        wait_until(seen, f"to read {words!r}", LIMIT)
        assert self.text.count(words) >= times, f"no {words!r} in:\n{self.text}"
        return self.text

    def types(self, keys: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(keys)
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        code = self._process.wait(LIMIT)
        if self._process.stdin is not None:
            self._process.stdin.close()
        assert "Traceback" not in self.text, self.text
        return code

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


class Shell:
    """A folder, the variables of one person, and `token-proxy` on the PATH."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        programs = folder.parent / f"{folder.name}.bin"
        for each in (folder, programs):
            each.mkdir()
        for name, text in (("token-proxy", COMMAND), ("pkill", PKILL)):
            (programs / name).write_text(text.format(python=sys.executable, folder=str(folder.resolve())))
            (programs / name).chmod(0o755)
        self.variables = plain_environment(folder, variables)
        self.variables |= {
            "PATH": f"{programs}{os.pathsep}{self.variables['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "COLUMNS": "160",
            "TERM": "dumb",
        }
        self._running: list[Running] = []

    def write(self, name: str, text: str) -> None:
        """Save a file as editors do."""
        (self.folder / f"{name}~").write_text(text)
        (self.folder / f"{name}~").rename(self.folder / name)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text, text
        self.write(name, text.replace(old, new))

    def run(self, line: str, code: int = 0) -> str:
        """Run a command line; what it prints. The exit code must be `code`."""
        typed = self.folder.parent / f"{self.folder.name}.typed"
        typed.write_text(f"{line}\n")
        done = subprocess.run(
            ["sh", str(typed)],
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == code, f"{line}: exit code {done.returncode}, not {code}:\n{done.stdout}"
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    def start(self, line: str, *, terminal: bool = False) -> Running:
        number = len(self._running)
        output = self.folder.parent / f"{self.folder.name}.output-{number}"
        on_a_pty = [sys.executable, "-c", ON_A_PTY] if terminal else []
        program, *words = shlex.split(line)
        command = [*on_a_pty, self.program(program), *words]
        started = Running(command, output, self.folder, self.variables)
        self._running.append(started)
        return started

    def program(self, name: str) -> str:
        """The path of a program of ours; another's name."""
        own = self.folder.parent / f"{self.folder.name}.bin" / name
        return str(own) if own.exists() else name

    def close(self) -> None:
        for each in self._running:
            each.kill()


@contextmanager
def shell(folder: Path, **variables: str) -> Iterator[Shell]:
    made = Shell(folder, **variables)
    try:
        yield made
    finally:
        made.close()


def log_in_at_demo(url: str, browser: Browser | None = None) -> Page:
    """Open the link of a login and press "Continue as alice" at the authorization server; the last page."""
    browser = browser or Browser()
    page = browser.open(url)
    if page.forms[0].buttons[-1][0] != "user":  # our own page, before that of the authorization server
        page = browser.submit(page, page.forms[0])
    (form,) = page.forms
    form.buttons.remove(("user", ""))  # "Refuse"
    return browser.submit(page, form)
