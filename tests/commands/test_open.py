"""open, and the link that `run` prints."""

import asyncio
import os
import pty
import re
import stat
import sys

import pytest

from proxy.admin import launch
from proxy.commands import browser as browser_command
from proxy.commands import open as page
from tests.admin.conftest import Browser
from tests.patience import within

LINK = re.compile(r"http://127\.0\.0\.1:\d+/launch/[A-Za-z0-9_-]{43}")
# A browser as a script: it notes its argument and the modes of that file, and goes on to the file's target.
BROWSER = """#!{python}
import os, re, sys, urllib.parse, urllib.request
url = sys.argv[1]
path = urllib.parse.urlsplit(url).path
text = open(path).read()
target = re.search('url=([^"]*)', text)[1]
modes = [oct(os.stat(each).st_mode) for each in (path, os.path.dirname(path))]
open({note!r}, "w").write("\\n".join([url, *modes]))
urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(target)
"""


@pytest.fixture
async def browser(bench):
    opened = Browser(bench.admin)
    yield opened
    await opened.close()


@pytest.fixture
def a_browser(tmp_path, monkeypatch):
    def make(script):
        path, note = tmp_path / "browser", tmp_path / "note"
        path.write_text(script.format(python=sys.executable, note=str(note)))
        path.chmod(0o700)
        monkeypatch.setenv("BROWSER", f"{path} %s")
        return note

    return make


@pytest.fixture
def no_browser(monkeypatch):
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_browser")
async def test_without_a_browser_the_link_is_printed_and_works_once(bench, browser):
    async with bench.serving():
        done = await bench.call("open")
        assert done.exit_code == 0
        link = LINK.search(done.stdout)[0]
        assert (await browser.get(link)).status == 303
        assert (await browser.get(link)).status == 403


async def test_the_browser_opens_a_private_file_and_no_argument_has_the_link(bench, a_browser):
    note = a_browser(BROWSER)
    process = await bench.run()
    done = await bench.start("open", "-c", str(bench.path))
    assert await done.end() == 0, done.log
    assert "opened the page" in done.out
    assert not LINK.search(done.out)
    url, mode, folder = note.read_text().splitlines()
    assert url.startswith("file:///")
    assert "launch" not in url
    assert int(mode, 8) == stat.S_IFREG | 0o600
    assert int(folder, 8) == stat.S_IFDIR | 0o700
    assert not os.path.exists(url.removeprefix("file://")), "it is removed"  # noqa: PTH110, ASYNC240
    process.signal()
    assert await process.end() == 0


async def test_a_browser_that_does_not_load_the_page_leaves_the_user_with_the_link(
    bench, a_browser, monkeypatch
):
    a_browser("#!/bin/sh\nexit 0\n")
    monkeypatch.setattr(page, "LOADING", 0.1)
    async with bench.serving():
        done = await bench.call("open")
    assert done.exit_code == 0
    assert LINK.search(done.stdout)


async def test_without_a_server_there_is_nothing_to_open(bench):
    done = await bench.call("open")
    assert done.exit_code == 1
    assert f"no server runs at {bench.admin}" in done.stderr
    assert "token-proxy run" in done.stderr


async def test_with_a_store_in_memory_no_command_can_make_a_link(bench):
    bench.edit("[log]", '[store]\nurl = "memory:"\n\n[log]')
    async with bench.serving():
        done = await bench.call("open")
    assert done.exit_code == 1
    assert "memory:" in done.stderr
    assert "prints one when it starts on a terminal" in done.stderr


async def test_on_a_terminal_run_prints_a_link(bench, browser):
    bench.edit("[log]", '[store]\nurl = "memory:"\n\n[log]')
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "run", "-c", str(bench.path), stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    said = b""
    try:
        async with within(60):
            while not LINK.search(said.decode(errors="replace")):
                said += await asyncio.to_thread(os.read, ours, 4096)
        link = LINK.search(said.decode(errors="replace"))[0]
        assert (await browser.get(link)).status == 303
    finally:
        process.terminate()
        os.close(ours)
        await process.wait()


async def test_off_a_terminal_run_prints_no_link(bench):
    process = await bench.run()
    process.signal()
    assert await process.end() == 0
    assert not LINK.search(process.out + "".join(process.log))


def test_the_file_for_the_browser_escapes_its_target():
    with browser_command.redirect_file('http://h/"><script>') as path:
        assert "<script>" not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    assert launch.VALID_SAID == "5 minutes"
