"""The commands against the embedded authorization server: most in this process, a few as processes."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner

from proxy import startup
from proxy.cli import main
from proxy.config.load import load
from proxy.demo.serve import running
from proxy.demo.wiring import PERSON, embedded, free_ports, log_in

SLOW_ROUTE = """
[[routes]]
path = "/slow"
upstream = "{url}"
credential = "machine"
"""
PATIENCE = 90  # seconds until a process has done what it was started for


class Process:
    """A command as a process; its stderr is its log."""

    def __init__(self, process):
        self._process = process
        self.pid = process.pid
        self.log = []

    async def until(self, word):
        """Read the log until a line holds `word`; return the line."""
        async with asyncio.timeout(PATIENCE):
            async for line in self._process.stderr:
                self.log.append(line.decode())
                if word in self.log[-1]:
                    return self.log[-1]
        raise AssertionError(f"it ended without {word!r}: {''.join(self.log)}")

    async def says(self, word):
        """As `until`, for stdout: everything up to and including that line."""
        said = ""
        async with asyncio.timeout(PATIENCE):
            async for line in self._process.stdout:
                said += line.decode()
                if word in said:
                    return said
        raise AssertionError(f"it ended without saying {word!r}: {said}")

    def signal(self, number=signal.SIGTERM):
        self._process.send_signal(number)

    @property
    def has_ended(self):
        return self._process.returncode is not None

    async def end(self):
        """Wait for the end; the exit code."""
        async with asyncio.timeout(PATIENCE):
            out, err = await self._process.communicate()
        self.log += err.decode().splitlines(keepends=True)
        self.out = out.decode()
        return self._process.returncode

    async def kill(self):
        if self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()

    def events(self):
        return [json.loads(line)["event"] for line in self.log]


class Bench:
    """A configuration on disk, its authorization server, and ways to call commands."""

    def __init__(self, server, config):
        self.server = server
        self.config = config
        self.path = config.path
        self.data = f"http://{config.server.listen[0]}"
        self.admin = f"http://{config.server.admin}"
        self._processes = []

    def edit(self, old, new):
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))
        self.config = load(self.path).config

    async def call(self, name, *arguments):
        """Run a command in a thread of this process, as this loop serves the other side."""
        return await asyncio.to_thread(
            CliRunner().invoke, main, [name, *arguments, "-c", str(self.path)], catch_exceptions=False
        )

    async def start(self, *arguments, files=None, **environment):
        """Start a command as a process. `files`: its limits of open files, soft and hard; one for both."""
        limited = []
        if files:
            soft, hard = files if isinstance(files, tuple) else (files, files)
            limited = ["sh", "-c", f'ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$@"', "sh"]
        process = await asyncio.create_subprocess_exec(
            *(*limited, sys.executable, "-m", "proxy", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
        )
        self._processes.append(Process(process))
        return self._processes[-1]

    async def run(self, files=None):
        """Start a server and wait until it is ready."""
        process = await self.start("run", "-c", str(self.path), files=files)
        await process.until('"event": "start"')
        return process

    def serving(self):
        """A server of this configuration in this process."""
        return startup.serving(self.config)

    async def log_in(self):
        """Get the first tokens, with a server's help."""
        async with self.serving() as services:
            await log_in(services)

    async def authorize(self, url, user=PERSON):
        """Press the authorization server's button; returns the redirect."""
        async with (
            aiohttp.ClientSession() as browser,
            browser.post(url, data={"user": user}, allow_redirects=False) as response,
        ):
            return response.headers["Location"]

    async def get(self, url):
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            await response.read()
            return response

    async def whose(self, path="/demo/x"):
        """The subject whose token is attached to a request; None if there is none."""
        response = await self.get(self.data + path)
        return (await response.json())["hello"] if response.status == 200 else None

    def granted(self):
        """The grant types of all token requests."""
        return [request.grant_type for request in self.server.token_requests]

    async def close(self):
        for process in self._processes:
            await process.kill()


@pytest.fixture
def a_bench():
    @asynccontextmanager
    async def make(**options):
        async with embedded(*free_ports(0, 0), **options) as (server, config):
            bench = Bench(server, config)
            bench.edit('format = "text"', 'format = "json"')
            try:
                yield bench
            finally:
                await bench.close()

    return make


@pytest.fixture
async def bench(a_bench):
    async with a_bench() as made:
        yield made


class SlowUpstream:
    """Responds when it is released."""

    def __init__(self):
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    def application(self):
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        return app

    async def _answer(self, _request):
        self.asked.set()
        await self.may_answer.wait()
        return web.Response(text="at last")


@pytest.fixture
async def slow(bench):
    """A route to an upstream that responds when it is released."""
    upstream = SlowUpstream()
    async with running(upstream.application()) as url:
        bench.path.write_text(bench.path.read_text() + SLOW_ROUTE.format(url=url))
        yield upstream
        upstream.may_answer.set()
