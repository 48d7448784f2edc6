"""Hands a notification to a program, or posts it to a URL. Success is exit code 0, or a 2xx response."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from proxy.config.address import Egress, is_loopback
from proxy.config.lookups import PASSED, Command
from proxy.config.notify import Notify
from proxy.errors import ProxyError
from proxy.oauth.fetch import FAILURES, USER_AGENT, Resolver, failure_of, through, tls_context
from proxy.secret import Secret

LIMIT: Final = 10.0  # seconds for a program, or for a whole response
CONNECT: Final = 5.0  # seconds of these for a look-up, and for a connection
AFTER_KILL: Final = 1.0  # seconds for a killed program to end; one that waits for a disk may not


class NotDelivered(ProxyError):
    """`error`: a code of a fixed list. `status`: of the response, or the exit code; None: there was none."""

    def __init__(self, error: str, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.error = error
        self.status = status


async def deliver(settings: Notify, egress: Egress | None, environ: Mapping[str, str], body: bytes) -> None:
    """`body`: JSON, less than a pipe takes at once. `egress`: the proxy to other machines.

    Raises NotDelivered.
    """
    if settings.command is not None:
        await run(settings.command, environ, body)
    elif settings.url is not None:
        await post(settings.url, egress, body)


async def run(command: Command, environ: Mapping[str, str], body: bytes) -> None:
    """Run a program with `body` on its stdin. What it starts and leaves behind ends with it.

    Its output is not read. Raises NotDelivered.
    """
    kept = {name: value for name, value in environ.items() if PASSED.fullmatch(name)}
    process = await _started(command, kept, body)
    try:
        async with asyncio.timeout(LIMIT):
            code = await process.wait()
    except TimeoutError:
        raise NotDelivered("timeout", f"{command} took longer than {LIMIT:.0f} s") from None
    finally:
        await _end(process)
    if code > 0:
        raise NotDelivered("exit_code", f"{command} ended with exit code {code}", code)
    if code < 0:
        raise NotDelivered("signal", f"{command} was ended by signal {-code}", code)


async def _started(command: Command, environ: Mapping[str, str], body: bytes) -> asyncio.subprocess.Process:
    """Raises NotDelivered."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            pipe.write(body)  # the pipe takes all of it, whether the program reads or not
        return await asyncio.create_subprocess_exec(
            *command.argv,
            cwd=command.folder,
            env=dict(environ),
            stdin=reading,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a process group of its own
        )
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise NotDelivered("not_started", f"{command} can't be started ({reason})") from None
    finally:
        os.close(reading)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process group: also children that the program has left behind."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: all of them are zombies
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(AFTER_KILL):
            await process.wait()


async def post(url: Secret, egress: Egress | None, body: bytes) -> None:
    """POST `body`. No redirect is followed, and nothing of the response is read but its status.

    Raises NotDelivered.
    """
    try:
        status = await _status_of(url, egress, body)
    except FAILURES as error:
        code, _, cause = failure_of(error)
        failure = NotDelivered(code, f"the URL can't be reached: {cause.sentence}")
    else:
        if 200 <= status < 300:
            return
        failure = NotDelivered("http_status", f"the URL's server responds with status {status}", status)
    raise failure  # outside `except`, without a cause: aiohttp's errors name the URL


async def _status_of(url: Secret, egress: Egress | None, body: bytes) -> int:
    parts = urlsplit(url.reveal())
    is_tls = parts.scheme == "https"
    is_far = is_tls and not is_loopback(parts.hostname or "")
    context = await asyncio.to_thread(tls_context, None) if is_tls else True
    async with (
        aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            connector=aiohttp.TCPConnector(
                force_close=True, resolver=Resolver(lambda: CONNECT), use_dns_cache=False
            ),
            timeout=aiohttp.ClientTimeout(total=LIMIT, sock_connect=CONNECT),
        ) as session,
        session.post(
            URL(url.reveal()),
            data=body,
            headers={"User-Agent": USER_AGENT, "Content-Type": "application/json"},
            allow_redirects=False,
            ssl=context,
            **(through(egress) if is_far and egress else {}),
        ) as response,
    ):
        return response.status
