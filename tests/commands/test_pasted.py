"""Lines that are typed or pasted on a terminal."""

import asyncio
import os
import signal
import sys
import termios
from itertools import pairwise

import pexpect
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands.pasted import LONGEST, Line
from proxy.demo.serve import running
from tests.patience import FOR_CERTAIN, until

DONE, INTERRUPTED = 0, 130
TEXT = st.text(st.characters(codec="utf-8", min_codepoint=0x20).filter(lambda each: each != "\x7f"))


@given(lines=st.lists(TEXT), cuts=st.lists(st.integers(0, 500)))
def test_what_is_typed_arrives_as_lines_however_it_is_cut(lines, cuts):
    data, line, taken, echoed = "".join(f"{each}\r" for each in lines).encode(), Line(), [], b""
    ends = sorted({min(each, len(data)) for each in cuts} | {0, len(data)})
    for start, end in pairwise(ends):
        echo, finished = line.take(data[start:end])
        taken += finished
        echoed += echo
    assert taken == [f"{each}\n" for each in lines]
    assert echoed == data.replace(b"\r", b"\n")


@given(st.binary(), st.binary())
def test_no_key_is_unexpected_and_none_but_text_is_echoed(first, second):
    line = Line()
    for data in (first, second):
        echo, _ = line.take(data)
        assert set(echo) - {ord("\n"), ord("\b")} <= set(range(0x20, 0x100)) - {0x7F}


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (b"ab\x7f\x08c\n", ["c\n"]),
        ("aé€\x7f\n".encode(), ["aé\n"]),
        ("é\x7f\x7fb\n".encode(), ["b\n"]),
        ("a😀\x7f\n".encode(), ["a\n"]),
        (b"a\xff\x7fb\n", ["ab\n"]),
        (b"wrong\x15right\n", ["right\n"]),
        (b"\x1b[200~pasted\x1b[201~\n", ["pasted\n"]),
        (b"a\x1b[D\x1bOAb\n", ["ab\n"]),
        (b"a\tb\x00\n", ["ab\n"]),
        (b"\n\r", ["\n", "\n"]),
        (b"x\x04y\n", ["xy\n"]),
    ],
)
def test_keys_edit_the_line(keys, lines):
    line = Line()
    assert line.take(keys)[1] == lines
    assert not line.has_ended


def test_ctrl_d_on_an_empty_line_ends_it():
    line = Line()
    line.take(b"\x04")
    assert line.has_ended


def test_a_line_has_an_end():
    line = Line()
    for _ in range(3):
        line.take(b"x" * LONGEST)
    assert line.take(b"\n")[1] == ["x" * LONGEST + "\n"]


class Typist:
    """`login` on a terminal of 80 columns. All calls block: call them in a thread."""

    def __init__(self, bench, program=None, arguments=None, echo=True):
        command = ["-m", "proxy", "login", "person", "--no-browser", "-c", str(bench.path)]
        self.process = pexpect.spawn(
            program or sys.executable,
            arguments or command,
            encoding="utf-8",
            timeout=FOR_CERTAIN,
            dimensions=(24, 80),
            echo=echo,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
        )
        self.process.delaybeforesend = None
        self.before = termios.tcgetattr(self.process.child_fd)

    def url(self):
        """The URL to log in at, when the command is ready to read."""
        self.process.expect(r"(http://\S+/authorize\S+)\r\n")
        found = self.process.match[1]
        self.process.expect("waiting for the login, 9:5")
        return found

    def end(self):
        """The exit code, or the signal, and whether the settings of the terminal are as before."""
        self.process.expect(pexpect.EOF)
        after = termios.tcgetattr(self.process.child_fd)
        self.process.close()
        return self.process.exitstatus, self.process.signalstatus, after == self.before


@pytest.fixture
async def stranger(bench):
    """Another program has the port of the callback: the URL must be pasted."""
    async with running(web.Application(), port=bench.config.server.admin.port):
        yield


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("length", [100, 10_000])
async def test_a_redirect_url_of_any_length_can_be_pasted(bench, length):
    typist = await asyncio.to_thread(Typist, bench)
    callback = await bench.authorize(await asyncio.to_thread(typist.url))
    await asyncio.to_thread(typist.process.send, "wrong\n")
    await asyncio.to_thread(typist.process.expect, "That is not the redirect URL of this login")
    long = callback.replace("?", f"?session_state={'x' * length}&", 1)  # what is cut off is the code
    await asyncio.to_thread(typist.process.send, f"{long}\n")
    await asyncio.to_thread(typist.process.expect, "logged in: person/default has tokens")
    assert await asyncio.to_thread(typist.end) == (DONE, None, True)


@pytest.mark.usefixtures("stranger")
async def test_a_terminal_that_did_not_echo_does_not(bench):
    """As of an editor, which shows what was typed itself."""
    typist = await asyncio.to_thread(Typist, bench, echo=False)
    callback = await bench.authorize(await asyncio.to_thread(typist.url))
    await asyncio.to_thread(typist.process.send, f"{callback}\n")
    await asyncio.to_thread(typist.process.expect, "logged in: person/default has tokens")
    assert "code=" not in typist.process.before
    assert await asyncio.to_thread(typist.end) == (DONE, None, True)


@pytest.mark.usefixtures("stranger")
async def test_the_terminal_is_as_before_on_every_way_out(bench):
    for way, code, number in [
        (lambda typist: typist.process.sendintr(), INTERRUPTED, None),
        (lambda typist: typist.process.send("half a line\x03"), INTERRUPTED, None),
        (lambda typist: typist.process.sendeof(), 1, None),
        (lambda typist: typist.process.kill(signal.SIGTERM), None, signal.SIGTERM),
        (lambda typist: typist.process.kill(signal.SIGQUIT), None, signal.SIGQUIT),
    ]:
        typist = await asyncio.to_thread(Typist, bench)
        await asyncio.to_thread(typist.url)
        assert termios.tcgetattr(typist.process.child_fd) != typist.before
        await asyncio.to_thread(way, typist)
        assert await asyncio.to_thread(typist.end) == (code, number, True)


@pytest.mark.usefixtures("stranger")
async def test_while_it_is_stopped_the_terminal_is_as_before(bench):
    typist = await asyncio.to_thread(Typist, bench)
    await asyncio.to_thread(typist.url)
    typist.process.kill(signal.SIGTSTP)

    await until(lambda: termios.tcgetattr(typist.process.child_fd) == typist.before)
    typist.process.kill(signal.SIGCONT)
    await until(lambda: termios.tcgetattr(typist.process.child_fd) != typist.before)
    await asyncio.to_thread(typist.process.sendintr)
    assert await asyncio.to_thread(typist.end) == (INTERRUPTED, None, True)


@pytest.mark.skipif(
    sys.platform == "darwin", reason="bash 3.2 has no job control without a shell of a person"
)
async def test_in_the_background_it_waits_for_the_callback_and_is_not_stopped(bench):
    script = (
        f"set -m; {sys.executable} -m proxy login person --no-browser -c {bench.path} & echo pid $!; wait"
    )
    typist = await asyncio.to_thread(Typist, bench, "bash", ["--norc", "-c", script])
    await asyncio.to_thread(typist.process.expect, r"pid (\d+)")
    pid = int(typist.process.match[1])
    await asyncio.to_thread(typist.url)
    assert termios.tcgetattr(typist.process.child_fd) == typist.before
    os.kill(pid, signal.SIGINT)
    await asyncio.to_thread(typist.process.expect, pexpect.EOF)
    typist.process.close()
