"""The line that says what is waited for."""

import asyncio
import io
import sys

import pexpect
import pytest

from proxy.commands import progress
from tests.patience import FOR_CERTAIN, until


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class ASCIITerminal(Terminal):
    encoding = "ascii"


def frames(stream):
    return [each for each in stream.getvalue().split("\r\x1b[K") if each]


async def test_the_line_is_redrawn_with_the_time_left_and_cleared(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.01)
    stream = Terminal()
    async with progress.progress("waiting for a test", 90.5, stream):
        await until(lambda: len(frames(stream)) > 2)
    assert {each.partition(" ")[2] for each in frames(stream)} <= {
        f"waiting for a test, 1:{seconds:02} left" for seconds in (30, 29, 28, 27)
    }
    assert len({each[0] for each in frames(stream)}) > 1
    assert stream.getvalue().endswith("\r\x1b[K")


async def test_text_is_written_above_it_and_typing_hides_it(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.01)
    stream = Terminal()
    async with progress.progress("waiting", 60, stream) as shown:
        await until(lambda: frames(stream))
        shown.above(lambda line: stream.write(f"{line}\n"))("said")
        assert stream.getvalue().endswith("\r\x1b[Ksaid\n")
        shown.hide()
        hidden = stream.getvalue()
        await asyncio.sleep(0.05)
        assert stream.getvalue() == hidden
        shown.show()
        await until(lambda: stream.getvalue() != hidden)


@pytest.mark.parametrize("columns", ["10", "20"])
async def test_it_never_wraps_and_a_terminal_without_its_signs_has_others(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    stream = ASCIITerminal()
    async with progress.progress("waiting for something long", 60, stream):
        await until(lambda: frames(stream))
    assert all(len(each) < int(columns) and each.isascii() for each in frames(stream))


async def test_without_a_terminal_nothing_is_written():
    async with progress.progress("waiting", 60, None) as shown:
        shown.hide()
        shown.show()


def test_only_a_terminal_that_can_redraw_is_one(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    other, found = io.StringIO(), Terminal()
    assert progress.terminal(None, other, found) is found
    assert progress.terminal(other) is None
    for term in ("dumb", None):
        if term is None:
            monkeypatch.delenv("TERM")
        else:
            monkeypatch.setenv("TERM", term)
        assert progress.terminal(found) is None


async def test_wait_says_on_a_terminal_what_it_waits_for(bench):
    def run():
        process = pexpect.spawn(
            sys.executable,
            ["-m", "proxy", "wait", "--timeout", "60", "-c", str(bench.path)],
            env={"TERM": "xterm", "LC_ALL": "C.UTF-8"},
            encoding="utf-8",
            timeout=FOR_CERTAIN,
            dimensions=(24, 120),
        )
        process.expect(rf"waiting until {bench.config.server.admin} is ready, \d:\d\d left")
        process.sendintr()
        process.expect(pexpect.EOF)
        process.close()
        return process.before, process.exitstatus

    rest, code = await asyncio.to_thread(run)
    assert rest.replace("^C", "").endswith("\r\x1b[K")
    assert code == 130


async def test_without_a_terminal_wait_is_silent(bench):
    done = await bench.call("wait", "--timeout", "0.3")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
