"""`token-proxy open`: open the page of a running server with a launch link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.admin import launch
from proxy.commands import browser
from proxy.commands.running_server import is_serving
from proxy.commands.tokens import NothingKept
from proxy.config.model import Config
from proxy.errors import ProxyError
from proxy.hosts import is_localhost
from proxy.services import open_services
from proxy.store.base import Store

LOADING: Final = 30.0  # seconds for a browser to start and load the page
POLL_EVERY: Final = 0.25  # seconds
Say = Callable[[str], object]


class NoServer(ProxyError):
    """There is no page to open."""


async def open_page(config: Config, say: Say) -> int:
    """Raises NothingKept, NoServer, StoreError."""
    if config.store.is_memory:
        raise NothingKept(
            "the store is memory:, which no other process shares, so this command can't make a link: "
            "`token-proxy run` prints one when it starts on a terminal"
        )
    if is_localhost(config.public_host) and not await is_serving(config):
        raise NoServer(f"no server runs at {config.public_url}: start one with `token-proxy run`")
    async with open_services(config) as services:
        link = await launch.make(config, services.store)
        if await _open(services.store, link):
            say("opened the page in the browser")
        else:
            say(f"Open this link within {launch.VALID_SAID}; it works once:")
            say(link)
    return 0


async def _open(store: Store, link: str) -> bool:
    """Whether the browser has loaded the page."""
    with browser.redirect_file(link) as file:
        if not await asyncio.to_thread(browser.open_file, file):
            return False
        try:
            async with asyncio.timeout(LOADING):
                while not await launch.was_used(store, link):  # noqa: ASYNC110 (by another process)
                    await asyncio.sleep(POLL_EVERY)
        except TimeoutError:
            return False
    return True
