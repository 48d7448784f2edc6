"""Recorded sessions of the command line: read from a text file, and played against the real command in a pty.

    # a remark
    $ a command                 started by bash; with a last " &" it runs on until "^C"
    a line of its output        {data}, {admin}, {issuer}, {folder} stand for those of this run
    ...                         any lines, or none
    > something typed           {paste} is the redirect URL, after a login at the last URL that was printed
    [exit 3]                    of the command before; 0 if there is none
    ! action                    of the test: `config`, `log in`, `revoke`
    ^C                          ends the command that runs in the background

In a line, <time>, <version> and <...> stand for a time, a version, and anything. Empty lines, and how many
blanks are between columns, don't count.
"""

import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pexpect

from tests.patience import FOR_CERTAIN

PROGRESS = re.compile("\r\x1b\\[K(?:[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏|/\\\\-] [^\r]*? left)?")
URL = re.compile(r"^https?://\S+$")
STANDS_FOR = {
    "<time>": r"(?:(?:in )?\d+ (?:s|min|h|d)(?: ago)?|(?:\d{4}-\d\d-\d\d )?\d\d:\d\d(?::\d\d)? UTC)",
    "<version>": r"\d+\.\d+\.\d+",
    "<...>": r".*?",
}
COLUMNS = 250


@dataclass
class Step:
    kind: str  # "$", "!", "^C"
    text: str
    lines: list[str] = field(default_factory=list)  # of output, and what is typed, with its "> "
    code: int = 0


def read(path: Path) -> list[Step]:
    steps: list[Step] = []
    for line in path.read_text().splitlines():
        if line.startswith("#") or not line:
            continue
        if line == "^C":
            steps.append(Step("^C", ""))
        elif line.startswith(("$ ", "! ")):
            steps.append(Step(line[0], line[2:]))
        elif line.startswith("[exit "):
            steps[-1].code = int(line[6:-1])
        else:
            steps[-1].lines.append(line)
    return steps


class Session:
    """Plays the steps; blocks, so call it in a thread."""

    def __init__(self, folder, names, act, authorize):
        self._folder = folder
        self._names = names  # what the placeholders stand for
        self._act = act  # an action of the test, by its name
        self._authorize = authorize  # log in at a URL, for the redirect URL
        self._behind = None  # the command in the background
        self._url = ""

    def play(self, steps):
        try:
            for step in steps:
                if step.kind == "!":
                    self._act(step.text)
                elif step.kind == "^C":
                    self._interrupt()
                else:
                    self._run(step)
        finally:
            if self._behind is not None:
                self._behind.close(force=True)

    def _interrupt(self):
        self._behind.kill(signal.SIGINT)
        self._behind.expect(pexpect.EOF)
        self._behind.close()
        assert self._behind.exitstatus == 0, "the command in the background"
        self._behind = None

    def _run(self, step):
        command = step.text.removesuffix(" &")
        process = self._spawn(command)
        said = []
        try:
            self._compare(process, step, said)
            if step.text.endswith(" &"):
                self._behind = process
                return
            rest = PROGRESS.sub("", process.read()).replace("\r\n", "\n")
            assert not rest.strip(), f"not expected: {rest}"
            process.close()
            assert process.exitstatus == step.code, "the exit code"
        except (AssertionError, pexpect.ExceptionPexpect) as error:
            shown = "\n".join(said)
            raise AssertionError(f"$ {step.text}\n{shown}\n{error}") from error

    def _spawn(self, command):
        without = {"COLUMNS", "LINES", "TOKEN_PROXY_CONFIG", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY"}
        environ = {name: value for name, value in os.environ.items() if name not in without}
        path = f"{Path(sys.executable).parent}:{environ['PATH']}"
        process = pexpect.spawn(
            "bash",
            ["--norc", "-c", command],
            cwd=str(self._folder),
            env={**environ, "PATH": path, "TERM": "xterm", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"},
            encoding="utf-8",
            timeout=FOR_CERTAIN,
            dimensions=(50, COLUMNS),
        )
        process.delaybeforesend = None
        return process

    def _compare(self, process, step, said):
        expected = [*step.lines]
        while expected:
            wanted = expected.pop(0)
            if wanted.startswith("> "):
                self._type(process, wanted[2:], said)
            elif wanted == "...":
                if not expected:
                    said += PROGRESS.sub("", process.read()).splitlines()
                    return
                following = self._pattern(expected.pop(0))
                while not following.fullmatch(self._line(process, said)):
                    pass
            else:
                line = self._line(process, said)
                assert self._pattern(wanted).fullmatch(line), f"expected: {wanted}"

    def _line(self, process, said):
        line = ""
        while not line:  # empty ones don't count
            line = process.readline()
            assert line, "its output has ended"
            line = _narrow(PROGRESS.sub("", line))
        said.append(line)
        if URL.match(line):
            self._url = line
        return line

    def _type(self, process, text, said):
        typed = text.replace("{paste}", self._authorize(self._url)) if "{paste}" in text else text
        process.send(f"{typed}\n")
        assert typed in self._line(process, said), "what was typed is echoed"

    def _pattern(self, line):
        for name, value in self._names.items():
            line = line.replace(f"{{{name}}}", value)
        pattern = re.escape(_narrow(line))
        for name, meaning in STANDS_FOR.items():
            pattern = pattern.replace(re.escape(name), meaning)
        return re.compile(pattern)


def _narrow(line):
    return re.sub(r" {2,}", "  ", line).strip()
