"""`token-proxy login`: the first tokens, by whichever way the redirect can come back.

A running server takes the callback; where none runs and public_url is on this machine, the command listens
there itself; else, and always beside it with --no-browser, the person pastes the redirect URL.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from proxy import tasks
from proxy.admin.app import callback_application
from proxy.commands.tokens import key_of
from proxy.config.address import Address
from proxy.config.model import Config
from proxy.errors import LoginFailed
from proxy.listen import CannotListen, listen
from proxy.oauth.authorize import callback_parameters
from proxy.relay.admission import Hosts
from proxy.state import State, open_state
from proxy.store.base import Key
from proxy.tokens.logins import TIME_TO_LOG_IN, Begun

LINGER: Final = 0.2  # seconds for the browser to get its page before the command ends
Say = Callable[[str], object]


async def exchange_code(
    config: Config,
    credential: str,
    account: str,
    code: str,
    redirect_uri: str | None,
    verifier: str | None,
    say: Say,
) -> int:
    """Raises LoginFailed, StoreError, UnknownAccount."""
    key = key_of(config, credential, account)
    async with open_state(config) as state:
        await state.logins.exchange(key, code, redirect_uri or state.logins.redirect_uri, verifier)
    say(f"logged in: {key} has tokens")
    return 0


async def log_in(config: Config, credential: str, account: str, say: Say, *, open_browser: bool) -> int:
    """Raises LoginFailed, StoreError, UnknownAccount."""
    key = key_of(config, credential, account)
    if config.store.url == "memory:":
        raise LoginFailed("the store is memory:, which no other process shares: log in on the status page")
    async with open_state(config) as state:
        begun = await state.logins.begin(key, browser="")
        async with _callback_listener(state) as callback_comes:
            by_browser = open_browser and callback_comes and webbrowser.open(begun.url)
            _explain(begun, say, by_browser=by_browser)
            await _finish(state, begun, paste=not by_browser, callback_comes=callback_comes)
    say(f"logged in: {key} has tokens")
    return 0


def _explain(begun: Begun, say: Say, *, by_browser: bool) -> None:
    if by_browser:
        say("Your browser shows the login. If it does not, open this URL:")
        say(begun.url)
        return
    say("Open this URL in a browser and log in:")
    say(begun.url)
    say("Then paste here the URL that you are sent to (if this command does not notice by itself):")


async def _finish(state: State, begun: Begun, *, paste: bool, callback_comes: bool) -> None:
    """Wait until the callback has come, or the person has pasted it. Raises LoginFailed."""
    told = tasks.spawn(state.logins.outcome(begun.state), "wait for the callback")
    pasted = (
        tasks.spawn(_pasted(state, callback_comes=callback_comes), "wait for a pasted URL") if paste else None
    )
    waiting = [task for task in (told, pasted) if task is not None]
    try:
        done, _ = await asyncio.wait(waiting, timeout=TIME_TO_LOG_IN, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise LoginFailed("nobody logged in within ten minutes")
        if pasted in done:
            await pasted
            return
        if outcome := await told:
            raise LoginFailed(outcome)
    finally:
        await tasks.cancel(*waiting)


async def _pasted(state: State, *, callback_comes: bool) -> Key:
    while line := await _read_line():
        if line.strip():
            return await state.logins.finish(callback_parameters(line), browser="")
    if callback_comes:
        await asyncio.Event().wait()  # no terminal to paste into: the callback decides
    raise LoginFailed("no redirect URL was given")


def _read_line() -> asyncio.Future[str]:
    """A line of stdin, read in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def tell(text: str) -> None:
        if not line.done():
            line.set_result(text)

    def read() -> None:
        loop.call_soon_threadsafe(tell, sys.stdin.readline())

    threading.Thread(target=read, name="read stdin", daemon=True).start()
    return line


@asynccontextmanager
async def _callback_listener(state: State) -> AsyncIterator[bool]:
    """Listen where the redirect will arrive, unless a server does already. Yields whether it will be noticed."""
    address = state.config.callback_address
    if address is None:
        yield False
        return
    runner = web.AppRunner(callback_application(state, Hosts([address.host])), access_log=None)
    await runner.setup()
    try:
        await listen(runner, Address(address.host, address.port), state.config.server.admin_tls)
    except CannotListen:
        pass  # a server has it: the callback is noticed through the store
    try:
        yield True
        await asyncio.sleep(LINGER)
    finally:
        await runner.cleanup()
