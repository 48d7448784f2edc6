"""deploy/nginx with Debian's nginx in front of the real command: the page behind a login, TLS for callers."""

import asyncio
import hashlib
import re
import ssl
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
import trustme
from aiohttp import web
from yarl import URL

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.clients import Client
from proxy.demo.serve import running
from proxy.demo.wiring import free_ports
from tests.deploy.front import NAME, nginx, running_proxy

pytestmark = pytest.mark.privileged

KEY = "a-key-of-the-build-12345"
CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
LIMIT = 60  # seconds
PAGE = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
public_url = "https://localhost:{front}"
state_dir = "{folder}/state"
admin_trusts = {{ header = "X-Remote-User", from = ["127.0.0.1"] }}
"""
CALLS = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
state_dir = "{folder}/state"
allowed_hosts = ["tokens.corp.example"]

[callers.build]
key = "{key}"
"""
REST = """
[credentials.crm]
issuer = "{issuer}"
grant = "{grant}"
client_id = "team"
client_secret = "team-secret"
scopes = ["api"]

[[routes]]
path = "/crm"
upstream = "{upstream}"
credential = "crm"
websocket = true
drop = ["X-Long"]
"""


async def threaded(stack, manager):
    """Enter and leave a blocking context manager without blocking the servers of this loop."""
    value = await asyncio.to_thread(manager.__enter__)
    stack.push_async_exit(lambda *error: asyncio.to_thread(manager.__exit__, *error))
    return value


class Front:
    def __init__(self, url, trust, config):
        self.url, self.trust, self.config = url, trust, config

    def client(self, **options):
        connector = aiohttp.TCPConnector(ssl=self.trust)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(LIMIT), **options)


def oauth2_proxy():
    """Knows people by a cookie, as oauth2-proxy does, and responds like it."""

    async def auth(request):
        if request.cookies.get("_oauth2_proxy") != "alice":
            return web.Response(status=401)
        return web.Response(status=202, headers={"X-Auth-Request-Email": "alice@corp.example"})

    async def sign_in(request):
        return web.Response(text=f"sign in, then {request.headers['X-Auth-Request-Redirect']}")

    app = web.Application()
    app.router.add_get("/oauth2/auth", auth)
    app.router.add_get("/oauth2/sign_in", sign_in)
    return app


@asynccontextmanager
async def in_front(tmp_path, file, text, grant, upstream, changes):
    """nginx with a file of ours, token-proxy, an authorization server, and `upstream`."""
    authority = trustme.CA()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    data, admin, front = free_ports(0, 0, 0)
    callback = f"https://localhost:{front}/callback"
    client = Client(
        "team",
        "team-secret",
        redirect_uris=(callback,),
        grants=("authorization_code", "refresh_token", grant),
    )
    server = AuthorizationServer(clients=(client,), users=("alice",))
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(running(server.application()))
        base = await stack.enter_async_context(running(upstream))
        login = await stack.enter_async_context(running(oauth2_proxy()))
        values = {"folder": tmp_path, "data": data, "admin": admin, "front": front, "key": KEY}
        config = (text + REST).format(**values, issuer=issuer, grant=grant, upstream=base)
        path = await threaded(stack, running_proxy(tmp_path, config))
        places = {
            "data": f"127.0.0.1:{data}",
            "admin": f"127.0.0.1:{admin}",
            "login": login.removeprefix("http://"),
        }
        changed = {old: new.format(**places, front=f"127.0.0.1:{front}") for old, new in changes.items()}
        await threaded(stack, nginx(tmp_path / "nginx", file, authority, changed))
        yield Front(f"https://localhost:{front}", trust, path)


@pytest.fixture
async def page(tmp_path):
    changes = {
        "listen 443 ssl": "listen {front} ssl",
        "127.0.0.1:8081;\n        proxy": "{admin};\n        proxy",
    }
    changes["http://127.0.0.1:4180"] = "http://{login}"
    async with in_front(
        tmp_path, "page.conf", PAGE, "authorization_code", web.Application(), changes
    ) as front:
        yield front


async def test_a_person_of_the_company_logs_in_through_nginx(page):
    async with page.client(cookies={"_oauth2_proxy": "alice"}) as alice:
        async with alice.get(f"{page.url}/login/crm") as form:
            assert form.status == 200
            csrf = CSRF.search(await form.text())[1]
        async with alice.post(
            f"{page.url}/login/crm", data={"csrf": csrf}, headers={"Origin": page.url}
        ) as asked:
            assert asked.status == 200, await asked.text()
            assert asked.url.path == "/authorize"
            at = asked.url
        async with alice.post(at, data={"user": "alice"}) as done:
            assert done.status == 200
            assert str(done.url).startswith(page.url)
        async with alice.get(f"{page.url}/api/status") as status:
            (token,) = (await status.json())["tokens"]
            assert token["state"] == "valid"


async def test_a_stranger_reaches_the_login_of_the_company_and_nothing_else(page):
    spoofed = {"X-Remote-User": "alice@corp.example", "X_Remote_User": "alice@corp.example"}
    async with page.client(headers=spoofed) as stranger:
        for path in ("/", "/login/crm", "/metrics", "/api/status"):
            async with stranger.get(f"{page.url}{path}") as response:
                assert response.status == 403
                assert await response.text() == f"sign in, then {path}"
        async with stranger.post(f"{page.url}/logout/crm", data={}, headers={"Origin": page.url}) as response:
            assert response.status == 403
        async with stranger.get(f"{page.url}/oauth2/auth") as response:
            assert response.status == 404, "internal"


async def test_a_name_that_the_browser_sends_is_replaced(page):
    """A form of alice's is good for nobody else: each request of hers claims to be another person's."""
    async with page.client(cookies={"_oauth2_proxy": "alice"}) as alice:
        async with alice.get(f"{page.url}/login/crm", headers={"X-Remote-User": "mallory"}) as form:
            csrf = CSRF.search(await form.text())[1]
        headers = {"Origin": page.url, "X-Remote-User": "somebody-else"}
        async with alice.post(
            f"{page.url}/login/crm", data={"csrf": csrf}, headers=headers, allow_redirects=False
        ) as begun:
            assert begun.status in {302, 303}, await begun.text()


def upstream(released):
    """Event streams, WebSocket, and what has become of a body."""

    async def events(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await released.wait()
        await response.write(b"data: last\n\n")
        return response

    async def echo(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data[::-1])
        return socket

    async def digest(request):
        body, first = hashlib.sha256(), True
        async for chunk in request.content.iter_any():
            if first:
                released.set()
            first = False
            body.update(chunk)
        large = {f"X-Large-{number}": "y" * 8000 for number in range(8)}
        return web.json_response({"digest": body.hexdigest(), "path": request.raw_path}, headers=large)

    app = web.Application(client_max_size=0)
    app.router.add_get("/events", events)
    app.router.add_get("/socket", echo)
    app.router.add_route("*", "/{path:.*}", digest)
    return app


@pytest.fixture
def released():
    return asyncio.Event()


@pytest.fixture
async def calls(tmp_path, released):
    changes = {"listen 8443 ssl": "listen {front} ssl", "server 127.0.0.1:8080;": "server {data};"}
    async with in_front(
        tmp_path, "tls.conf", CALLS, "client_credentials", upstream(released), changes
    ) as front:
        yield front


async def test_events_pass_as_they_are_sent(calls, released):
    async with (
        calls.client(headers={"Token-Proxy-Key": KEY}) as caller,
        caller.get(f"{calls.url}/crm/events") as response,
    ):
        assert response.status == 200
        assert await response.content.readline() == b"data: first\n"
        assert not released.is_set(), "the stream is open, and its first event is here"
        released.set()
        assert b"last" in await response.content.read()


async def test_a_body_passes_while_it_is_sent_and_whole(calls, released):
    block = bytes(range(256)) * 256

    async def body():
        yield block
        async with asyncio.timeout(LIMIT):
            await released.wait()  # the upstream has the beginning of a body that has no end yet
        for _ in range(64):
            yield block

    headers = {"Authorization": f"Bearer {KEY}", "X-Long": "x" * 30_000}  # for token-proxy alone
    async with calls.client(headers=headers) as caller:
        target = f"{calls.url}/crm//a%2Fb/%7Ec;d?x=%20&y"
        async with caller.post(URL(target, encoded=True), data=body()) as response:
            assert response.status == 200
            got = await response.json()
    assert got == {"digest": hashlib.sha256(block * 65).hexdigest(), "path": "//a%2Fb/%7Ec;d?x=%20&y"}


async def test_websocket_passes(calls):
    async with (
        calls.client(headers={"Token-Proxy-Key": KEY}) as caller,
        caller.ws_connect(f"{calls.url}/crm/socket") as socket,
    ):
        for size in (1, 200_000):
            await socket.send_bytes(b"a" * size + b"z")
            message = await socket.receive(LIMIT)
            assert message.data == b"z" + b"a" * size


async def test_without_a_key_nothing_passes(calls):
    async with calls.client() as stranger:
        async with stranger.get(f"{calls.url}/crm/x") as response:
            assert response.status == 401
            assert (await response.json())["type"] == "urn:token-proxy:problem:caller-unknown"
        async with stranger.get(
            f"{calls.url}/crm/x", headers={"Host": NAME, "Token-Proxy-Key": KEY}
        ) as named:
            assert named.status == 200
        async with stranger.get(
            f"{calls.url}/crm/x", headers={"Host": "evil.example", "Token-Proxy-Key": KEY}
        ) as other:
            assert other.status == 421
