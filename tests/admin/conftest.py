"""A running proxy with the embedded authorization server and API, and browsers."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from yarl import URL

from proxy import startup
from proxy.admin import launch
from proxy.admin.sessions import Sessions
from proxy.config.load import load
from proxy.demo.wiring import PERSON, embedded, free_ports
from proxy.errors import TokenError
from proxy.http.cookies import BROWSER_COOKIE
from proxy.oauth.token import Token
from proxy.observe.health import Health
from proxy.secret import Secret
from proxy.services import open_services
from proxy.store.base import AccountId

CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


class Browser:
    """A cookie jar that follows no redirect by itself."""

    def __init__(self, url):
        self.url = url
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def get(self, path, **options):
        url = path if path.startswith("http") else self.url + path
        async with self._session.get(url, allow_redirects=False, **options) as response:
            await response.read()
            return response

    async def post(self, path, form, *, origin=None, cookie=""):
        """As a page of `origin` would; the proxy's own if none is named, no Origin at all if it is empty."""
        headers = {"Origin": self.url if origin is None else origin, "Cookie": cookie}
        headers = {name: value for name, value in headers.items() if value}
        async with self._session.post(
            self.url + path, data=form, headers=headers, allow_redirects=False
        ) as response:
            await response.read()
            return response

    def cookie(self):
        """The value by which our pages know it."""
        return self._session.cookie_jar.filter_cookies(URL(self.url))[BROWSER_COOKIE].value

    def cookies(self):
        return {morsel.key: morsel.value for morsel in self._session.cookie_jar}

    async def csrf(self, path="/login/person"):
        return self.csrf_in(await (await self.get(path)).text())

    @staticmethod
    def csrf_in(html):
        return CSRF.search(html)[1]

    async def press(self, path, page=None):
        """Post the form of `page` for `path`, as its button does."""
        return await self.post(path, {"csrf": await self.csrf(page or path)})

    async def approve(self, authorization_url, user=PERSON):
        """Press the authorization server's button; returns the redirect. `user` "": refuse."""
        async with self._session.post(
            authorization_url, data={"user": user}, allow_redirects=False
        ) as response:
            return response.headers["Location"]

    async def log_in(self, path="/login/person"):
        """From the page to the end; the last response."""
        begun = await self.press(path)
        assert begun.status == 303
        return await self.get(await self.approve(begun.headers["Location"]))

    async def close(self):
        await self._session.close()


class World:
    def __init__(self, server, config, services):
        self.server = server
        self.config = config
        self.services = services
        self.data = f"http://{config.server.listen[0]}"
        self.admin = f"http://{config.server.admin}"
        self.browser = Browser(self.admin)
        self._browsers = [self.browser]

    def another_browser(self):
        self._browsers.append(Browser(self.admin))
        return self._browsers[-1]

    async def get(self, path, **options):
        return await self.browser.get(path, **options)

    async def json(self, path):
        return await (await self.get(path)).json()

    async def launched(self, **options):
        """Use a launch link; the cookies as a field's value, as a jar sends some only over https."""
        link = await launch.make(self.config, self.services.store)
        response = await self.get(link.removeprefix(self.config.public_url), **options)
        assert (response.status, response.headers["Location"]) == (303, "/")
        return "; ".join(field.partition(";")[0] for field in response.headers.getall("Set-Cookie"))

    async def minted(self, browser, person=""):
        """A valid CSRF token of this browser, though no page may have shown it one."""
        sessions = Sessions(self.config, self.services.store.derive("session"), self.services.clock)
        await browser.get("/")
        cookie = browser.cookies()[sessions.browser_cookie]
        return sessions.csrf_token(f"{cookie} {person}".strip())

    async def raw(self, head):
        """Send `head` as it is; the status and the whole response."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.config.server.admin.port)
        writer.write(head.encode())
        response = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return int(response.split()[1]), response.decode()

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.config.server.admin.port)

    async def whole(self, request):
        """Send `request` as it is, a byte for each character; status, head and body of the response."""
        reader, writer = await self.connect()
        writer.write(request.encode("latin-1"))
        async with asyncio.timeout(60):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(re.search(r"(?i)content-length: (\d+)", head)[1])
            body = (await reader.readexactly(length)).decode()
        writer.close()
        return int(head.split()[1]), head, body

    def granted(self):
        """The grant types of all token requests."""
        return [request.grant_type for request in self.server.token_requests]

    async def close(self):
        for browser in self._browsers:
            await browser.close()


@pytest.fixture
def a_world():
    """Make a world; `edit` changes the text of its configuration."""

    @asynccontextmanager
    async def make(edit=lambda text: text, **options) -> AsyncIterator[World]:
        async with embedded(*free_ports(0, 0), **options) as (server, plain):
            plain.path.write_text(edit(plain.path.read_text()))
            config = load(plain.path).config
            async with startup.serving(config) as services:
                world = World(server, config, services)
                try:
                    yield world
                finally:
                    await world.close()

    return make


class HandClock:
    """A clock that stands still until it is moved."""

    boot_id = "the only boot"

    def __init__(self):
        self.now = 1_000_000.0
        self.heard = {}

    def wall(self):
        return self.now

    def boot(self):
        return self.now


class House:
    """The services without listeners, on a clock that stands still, and their health."""

    def __init__(self, server, services, clock):
        self.server = server
        self.services = services
        self.clock = clock
        self.health = Health(services)

    def account(self, credential="person", name="default"):
        return self.services.tokens.account(credential, name)

    async def give(self, credential="person", name="default", lifetime=60.0, *, refresh_token=True, **more):
        """Store a token set as a login would."""
        issued = self.server.issue("demo-app", PERSON)
        token = Token(
            access_token=Secret(issued["access_token"]),
            refresh_token=Secret(issued["refresh_token"]) if refresh_token else None,
            server=self.server.issuer,
            client_id=self.services.config.credentials[credential].client_id,
            issued_at=self.clock.now,
            issued_boot=self.clock.now,
            boot_id=self.clock.boot_id,
            lifetime=lifetime,
            **more,
        )
        await self.services.tokens.adopt(AccountId(credential, name), token)

    async def refresh(self, credential="person"):
        """Refresh; the outcome is in the health."""
        with suppress(TokenError):
            await self.services.tokens.refresh_now(self.account(credential))

    async def entry(self, credential="person", name="default"):
        status = await self.health.status()
        return next(
            entry
            for entry in status["tokens"]
            if (entry["credential"], entry["account"]) == (credential, name)
        )


@pytest.fixture
def a_house():
    """Make a house; `edit` changes the text of its configuration."""

    @asynccontextmanager
    async def make(edit=lambda text: text) -> AsyncIterator[House]:
        clock = HandClock()
        async with embedded(8080, 8081, clock=clock) as (server, config):
            config.path.write_text(edit(config.path.read_text()))
            async with open_services(load(config.path).config, clock) as services:
                await services.tokens.start()
                yield House(server, services, clock)

    return make


@pytest.fixture
async def house(a_house):
    async with a_house() as made:
        yield made


@pytest.fixture
async def world(a_world):
    async with a_world() as made:
        yield made


@pytest.fixture
def query_of():
    return lambda url: dict(parse_qsl(urlsplit(url).query))
