"""token-proxy as users run it, with a real authorization server and ours, and a browser that a test drives.

The browser is the distribution's Chromium, driven by Playwright's synchronous API; our authorization server
runs on an event loop of its own, in a thread beside it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.clients import DEVICE_CODE, Client
from proxy.demo.serve import running
from proxy.demo.wiring import free_ports
from tests.browsers import browsers
from tests.e2e.proxy_process import Proxy

T = TypeVar("T")

PATIENCE: Final = 60.0  # seconds, for what happens
GRANTS: Final = ("authorization_code", "refresh_token", "client_credentials", DEVICE_CODE)
CHROMIUM: Final = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-lcd-text"]
SERVER: Final = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
public_url = "http://127.0.0.1:{admin}"
state_dir = {state}
"""
expect.set_options(timeout=PATIENCE * 1000)


class Background:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @contextmanager
    def entered(self, context: AbstractAsyncContextManager[T]) -> Iterator[T]:
        yield self._run(context.__aenter__())
        self._run(context.__aexit__(None, None, None))

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass
class Stage:
    proxy: Proxy
    servers: dict[str, AuthorizationServer]
    browser: Browser

    @property
    def url(self) -> str:
        return self.proxy.public_url

    def entry(self, credential: str, account: str = "default") -> dict[str, Any]:
        """The account in /api/status."""
        tokens = requests.get(f"{self.url}/api/status", timeout=PATIENCE).json()["tokens"]
        found = (e for e in tokens if (e["credential"], e["account"]) == (credential, account))
        return dict(next(found))

    @contextmanager
    def context(self, **options: Any) -> Iterator[BrowserContext]:
        """A person's browser, which nothing else shares cookies with."""
        context = self.browser.new_context(**options)
        context.set_default_timeout(PATIENCE * 1000)
        try:
            yield context
        finally:
            context.close()

    @contextmanager
    def page(self, path: str = "/", **options: Any) -> Iterator[Page]:
        with self.context(**options) as context:
            page = context.new_page()
            page.goto(self.url + path)
            yield page


def client(client_id: str, admin: int) -> Client:
    uris = (f"http://127.0.0.1:{admin}/callback",)
    return Client(client_id, "secret", redirect_uris=uris, grants=GRANTS)


def credential(name: str, issuer: str, grant: str = "authorization_code", more: str = "") -> str:
    """A table of a configuration; the client of our own server is called as the credential."""
    return f"""
[credentials.{name}]
issuer = {json.dumps(issuer)}
grant = "{grant}"
client_id = "{name}"
client_secret = "secret"
{more}"""


def route(credential: str, name: str = "", more: str = "") -> str:
    return f"""
[[routes]]
path = "/{name or credential}"
upstream = "http://127.0.0.1:9"
credential = "{credential}"
{more}"""


@contextmanager
def our_server(
    background: Background, admin: int, *names: str, lifetime: int = 3600, users: tuple[str, ...] = ("alice",)
) -> Iterator[AuthorizationServer]:
    """One with these clients. `lifetime`: of access tokens, in seconds."""
    server = AuthorizationServer(
        clients=[client(name, admin) for name in names], users=users, access_token_lifetime=lifetime
    )
    with background.entered(running(server.application())):
        yield server


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browsers.program("chromium"), args=CHROMIUM)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(folder: Path, ports: tuple[int, int], config: str, environment: dict[str, str]) -> Iterator[Proxy]:
    """The real command, with this configuration."""
    data, admin = ports
    proxy = Proxy(folder, data, admin, f"http://127.0.0.1:{admin}", environment)
    head = SERVER.format(data=data, admin=admin, state=json.dumps(str(proxy.state)))
    proxy.config.write_text(head + config)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def two_ports() -> tuple[int, int]:
    data, admin = free_ports(0, 0)
    return data, admin


def row(page: Page, credential: str, account: str = "default") -> Any:
    return page.locator(f'[id="row-{credential}/{account}"]')


def press(page: Page, button: str, credential: str, account: str = "default") -> None:
    """A button or link of a row, by the name that a screen reader says."""
    where = f"{credential}/{account}"
    names = (f'[aria-label="{button} {where}"]', f'[aria-label="{button}: {where}"]')
    row(page, credential, account).locator(", ".join(names)).click()
