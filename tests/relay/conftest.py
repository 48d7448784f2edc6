"""A real relay between a raw socket and a raw upstream that records every byte it gets.

`proxy` is the relay with one route, /up, to `upstream`; tokens come from an authorization server in the same
process. `proxy.ask(bytes)` opens a connection, sends them, and returns all bytes received until its end.
"""

import asyncio
import contextlib
import ssl
from contextlib import AsyncExitStack, asynccontextmanager

import httptools
import pytest
import pytest_asyncio
import trustme
from aiohttp import web

from proxy import generation, listen
from proxy.config.load import load
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.clients import Client
from proxy.demo.serve import running
from proxy.oauth.token import Token
from proxy.relay.server import Listener
from proxy.secret import Secret
from proxy.services import open_services
from proxy.store.base import AccountId

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENCE = 10  # seconds; nothing here should take as long


class Connection:
    """One connection to the upstream: the bytes that came, and the complete requests in them."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.received = b""
        self.behind = b""  # the bytes after a request for an upgrade
        self.requests = 0
        self.ended = asyncio.Event()

    def on_message_complete(self):
        self.requests += 1


class Upstream:
    """`script` holds one response for each request: bytes, or an async function of the connection.

    When it is used up, every response is OK.
    """

    def __init__(self):
        self.script = []
        self.connections = []
        self.port = 0
        self.answered = 0

    @property
    def received(self):
        return [connection.received for connection in self.connections]

    @property
    def requests(self):
        return sum(connection.requests for connection in self.connections)

    async def serve(self, reader, writer):
        connection = Connection(reader, writer)
        self.connections.append(connection)
        with contextlib.suppress(ConnectionError, EOFError, ssl.SSLError):
            await self._converse(connection)
        connection.ended.set()
        writer.close()

    async def _converse(self, connection):
        parser = httptools.HttpRequestParser(connection)
        answered = 0
        while data := await connection.reader.read(65536):
            connection.received += data
            try:
                parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                connection.behind = data[upgrade.args[0] :]
            while answered < connection.requests:
                answered += 1
                self.answered += 1
                answer = self.script.pop(0) if self.script else OK
                if callable(answer):
                    await answer(connection)
                else:
                    connection.writer.write(answer)
                    await connection.writer.drain()
                if connection.writer.is_closing():
                    return


@asynccontextmanager
async def serving(upstream, ssl_context=None, *, host="127.0.0.1", port=0):
    server = await asyncio.start_server(upstream.serve, host, port, ssl=ssl_context)
    upstream.port = server.sockets[0].getsockname()[1]
    upstream.stop = server.close  # to listen
    try:
        yield upstream
    finally:
        server.close()
        for connection in upstream.connections:
            connection.writer.close()


@pytest.fixture
async def upstream():
    async with serving(Upstream()) as served:
        yield served


class Proxy:
    def __init__(self, state, relay, port, server):
        self.state, self.relay, self.port, self.server = state, relay, port, server
        self.runtime = relay.runtimes[0]
        self.tokens = state.tokens
        self.account = state.tokens.account("cred", "default")

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)

    async def ask(self, *pieces, eof=False):
        """All bytes received until the connection ends; the last request should ask for its end."""
        reader, writer = await self.connect()
        for number, piece in enumerate(pieces):
            writer.write(piece)
            await writer.drain()
            if number + 1 < len(pieces):
                await asyncio.sleep(0)
        if eof:
            writer.write_eof()
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()

    def lead_to(self, port):
        """Point the route at another port of this machine."""
        object.__setattr__(self.runtime.route.upstream, "port", port)

    async def get(self, path=b"/up/x", *lines):
        return await self.ask(request(b"GET", path, *lines, b"Connection: close"))

    async def adopt(self, access_token, account="default", credential="cred", **fields):
        """Give the account a token by hand."""
        clock, server = self.state.clock, self.state.config.credentials[credential]
        token = Token(
            access_token=Secret(access_token),
            refresh_token=None,
            server=server.token_endpoint,
            client_id=server.client_id,
            boot_id=clock.boot_id,
            **{"lifetime": 3600.0, "issued_at": clock.wall(), "issued_boot": clock.boot(), **fields},
        )
        await self.tokens.adopt(AccountId(credential, account), token)

    def sample(self, name, **labels):
        return self.state.metrics.registry.get_sample_value(f"token_proxy_{name}", labels) or 0

    def refused(self, ending):
        return self.sample("refused_total", reason=ending)


def request(method, path, *lines, body=b""):
    head = [method + b" " + path + b" HTTP/1.1", b"Host: localhost", *lines, b"", b""]
    return b"\r\n".join(head) + body


def split_answer(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *fields = head.split(b"\r\n")
    return int(status_line.split()[1]), fields, body


CONFIG = """
[server]
state_dir = "{state}"
{server}
[store]
url = "memory:"
[log]
level = "warning"
[credentials.cred]
token_endpoint = "{issuer}/token"
authorization_endpoint = "{issuer}/authorize"
grant = "{grant}"
client_id = "machine"
client_secret = "secret"
{credential}
[[routes]]
path = "/up"
upstream = "{upstream}"
credential = "cred"
{route}
[limits]
{limits}
"""


@asynccontextmanager
async def proxying(
    tmp_path, upstream_url, *, route="", limits="", grant="client_credentials", server="", credential=""
):
    async with AsyncExitStack() as stack:
        issuing = AuthorizationServer(clients=[Client("machine", "secret", grants=("client_credentials",))])
        issuer = await stack.enter_async_context(running(issuing.application()))
        file = tmp_path / "config.toml"
        places = {"state": tmp_path, "issuer": issuer, "upstream": upstream_url}
        more = {"route": route, "limits": limits, "grant": grant, "server": server, "credential": credential}
        file.write_text(CONFIG.format(**places, **more))
        config = load(file).config
        state = await stack.enter_async_context(open_services(config))
        relay = await generation.relay_of(state)
        stack.push_async_callback(relay.close)
        runner = web.ServerRunner(Listener(relay))
        await runner.setup()
        stack.push_async_callback(listen.close, runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        relay.context.lasting.ports.add(site.port)
        relay.start()
        yield Proxy(state, relay, site.port, issuing)


@pytest.fixture
async def proxy(tmp_path, upstream):
    async with proxying(tmp_path, f"http://127.0.0.1:{upstream.port}/base") as made:
        yield made


@pytest.fixture
def make_proxy(tmp_path):
    """`async with make_proxy(url, route=…, limits=…) as proxy`, for other settings than `proxy` has."""
    return lambda *args, **kwargs: proxying(tmp_path, *args, **kwargs)


@pytest.fixture
def tls_authority(tmp_path):
    """The TLS context of an upstream called localhost, and the file of its CA certificate."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    return context, ca


@pytest.fixture
async def tls_upstream(tls_authority):
    context, ca = tls_authority
    served = Upstream()
    served.ca = ca
    async with serving(served, context):
        yield served


@pytest.fixture
def kit():
    """The helpers above, for test modules (a test folder is no package)."""
    import types

    return types.SimpleNamespace(
        request=request, split=split_answer, OK=OK, Upstream=Upstream, serving=serving
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_for_all(tmp_path_factory):
    """The conformance suite's relay: one serves a whole module, in the module's own event loop."""
    from .conformance_sides import conforming

    async with conforming(tmp_path_factory.mktemp("conformance")) as made:
        yield made


@pytest.fixture
def side(one_for_all):
    one_for_all.upstream.forget()  # the leftovers of a failed test
    return one_for_all
