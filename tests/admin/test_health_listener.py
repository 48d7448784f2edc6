"""The health listener: what it responds to, to whom, and what its responses hold."""

import asyncio
import contextlib
import gzip
import json
import re
import socket
import subprocess

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain_metrics

from proxy import startup
from proxy.accept import Acceptor
from proxy.admin import own_errors
from proxy.admin.health_listener import health_runner
from proxy.admin.probes import Probes
from proxy.config.load import load
from proxy.demo.wiring import embedded, free_ports, log_in
from proxy.fd_limits import Descriptors

PATHS = ("/metrics", "/healthz", "/readyz", "/startupz")
PROMETHEUS = {  # what Prometheus 3 sends
    "User-Agent": "Prometheus/3.5.0",
    "Accept": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
KUBE_PROBE = {"User-Agent": "kube-probe/1.33", "Accept": "*/*", "Connection": "close"}
WITH_ACCOUNT = re.compile(r'account="[^"]')


class Watched:
    """A running proxy with a health listener."""

    def __init__(self, config, services, stop):
        self.config = config
        self.services = services
        self.stop = stop
        self.port = config.server.health.port
        self.url = f"http://127.0.0.1:{self.port}"

    async def ask(self, path, method="GET", **headers):
        """Status, fields and body, as they come."""
        async with (
            aiohttp.ClientSession(
                auto_decompress=False, skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent")
            ) as session,
            session.request(method, self.url + path, headers=headers) as response,
        ):
            return response.status, response.headers, await response.read()

    async def raw(self, sent, host="127.0.0.1"):
        """The whole of what comes back until the connection ends."""
        reader, writer = await asyncio.open_connection(host, self.port)
        writer.write(sent)
        async with asyncio.timeout(60):
            received = await reader.read()
        writer.close()
        return received


@pytest.fixture
def a_watched():
    @contextlib.asynccontextmanager
    async def make(more="", host="127.0.0.1", edit=lambda text: text):
        data, admin, health = free_ports(0, 0, 0)
        async with embedded(data, admin) as (_, plain):
            lines = f'[server]\nhealth = "{host}:{health}"\n{more}\n'
            plain.path.write_text(edit(plain.path.read_text().replace("[server]\n", lines)))
            config, stop = load(plain.path).config, asyncio.Event()
            async with startup.serving(config, stop) as services:
                yield Watched(config, services, stop)

    return make


@pytest.fixture
async def watched(a_watched):
    async with a_watched() as made:
        yield made


async def test_probes_are_those_of_the_admin_listener(watched):
    for path in ("/healthz", "/readyz", "/startupz"):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{watched.config.server.admin}{path}") as response,
        ):
            assert (response.status, await response.read()) == ((await watched.ask(path))[::2])
    assert (await watched.ask("/healthz"))[::2] == (200, b"ok")
    assert (await watched.ask("/startupz"))[::2] == (200, b"ok"), "tokens don't matter"


async def test_readyz_tells_which_account_is_missing(watched):
    status, fields, body = await watched.ask("/readyz")
    reasons = [{"credential": "person", "account": "default", "state": "absent"}]
    assert (status, json.loads(body)) == (503, {"ready": False, "reasons": reasons})
    assert fields["Content-Type"] == "application/json; charset=utf-8"
    await log_in(watched.services)
    status, _, body = await watched.ask("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "reasons": []})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
async def test_other_methods_are_refused_with_the_ones_that_work(watched, method):
    for path in PATHS:
        status, fields, body = await watched.ask(path, method)
        assert (status, fields["Allow"]) == (405, "GET, HEAD"), path
        assert body == b"This page can't be used with that method.\n"


OTHER_PATHS = [
    "/",
    "/api/status",
    "/login/person",
    "/callback?code=x&state=y",
    "/sign-in",
    "/launch/x",
    "/healthz/",
    "//healthz",
    "/HEALTHZ",
    "/metrics/x",
    "/quitquitquit",
    "/.token-proxy/token/person",
    "/demo/x",
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
async def test_there_is_nothing_else(watched, method, accept):
    for path in OTHER_PATHS:
        status, fields, body = await watched.ask(path, method, Accept=accept)
        assert (status, body) == (404, b"There is no such page here.\n"), path
        assert fields["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_response_sets_a_cookie_or_names_a_program(watched, method):
    for path in [*PATHS, "/nowhere"]:
        _, fields, _ = await watched.ask(path, method)
        assert not {"Set-Cookie", "Server", "Location"} & fields.keys(), path
        assert own_errors.HEADERS.items() <= dict(fields).items(), path


HOSTS = ("10.0.0.9:9102", "anything.example", "127.0.0.1", "[::1]:1", "a b", "", "\xff")


@pytest.mark.parametrize("path", PATHS)
async def test_any_host_will_do(watched, path):
    for host in HOSTS:
        sent = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        status = int((await watched.raw(sent.encode("latin-1"))).split()[1])
        assert status == (503 if path == "/readyz" else 200), host


@pytest.mark.parametrize(
    "fields",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"sec-fetch-site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
async def test_requests_of_web_pages_are_refused(watched, fields):
    for path in [*PATHS, "/nowhere"]:
        status, got, body = await watched.ask(path, **fields)
        assert (status, body) == (403, b"Requests of web pages are refused here.\n"), path
        assert "Access-Control-Allow-Origin" not in got


async def test_a_refused_page_is_counted(watched):
    before = watched.services.metrics.registry.get_sample_value(
        "token_proxy_refused_total", {"reason": "browser-refused"}
    )
    await watched.ask("/metrics", Origin="https://evil.example")
    text = (await watched.ask("/metrics"))[2].decode()
    assert f'token_proxy_refused_total{{reason="browser-refused"}} {(before or 0) + 1}' in text


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_the_body(watched, path):
    got, head = await watched.ask(path), await watched.ask(path, "HEAD")
    assert head[0] == got[0]
    assert head[2] == b""
    assert head[1]["Content-Type"] == got[1]["Content-Type"]
    if path != "/metrics":  # which counts itself
        assert head[1]["Content-Length"] == str(len(got[2]))


@pytest.mark.parametrize("path", PATHS)
async def test_probes_of_kubernetes_are_answered_and_their_connections_end(watched, path):
    fields = "".join(f"{name}: {value}\r\n" for name, value in KUBE_PROBE.items())
    sent = f"GET {path} HTTP/1.1\r\nHost: 10.244.0.7:9102\r\n{fields}\r\n"
    head, _, body = (await watched.raw(sent.encode())).partition(b"\r\n\r\n")
    assert head.split()[1] == (b"503" if path == "/readyz" else b"200")
    assert len(body) == int(re.search(rb"Content-Length: (\d+)", head)[1])


@pytest.mark.parametrize("path", PATHS)
async def test_probes_by_http_1_0_are_answered(watched, path):
    """Of load balancers: without a Host, and without keep-alive."""
    head, _, body = (await watched.raw(f"GET {path} HTTP/1.0\r\n\r\n".encode())).partition(b"\r\n\r\n")
    assert head.split()[1] == (b"503" if path == "/readyz" else b"200")
    assert body


async def test_a_connection_serves_several_probes(watched):
    probe = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /startupz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert (await watched.raw(probe * 3 + last)).count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET http://any.example/healthz HTTP/1.1\r\nHost: any.example\r\n", 200),
        (b"GET /healthz?verbose&exclude=etcd HTTP/1.1\r\nHost: x\r\n", 200),
        (b"GET /health%7A HTTP/1.1\r\nHost: x\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n", 404),
        (b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\n", 404),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: the-spanish-inquisition\r\n", 417),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n", 200),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n", 404),
        (b"nonsense\r\n", 400),
        (b"GET /" + b"a" * 200_000, 431),
    ],
)
async def test_odd_requests(watched, sent, status, caplog):
    body = b"0\r\n\r\n" if b"chunked" in sent else b""
    received = await watched.raw(sent + b"Connection: close\r\n\r\n" + body)
    assert int(received.split()[1]) == status
    assert b"aiohttp" not in received
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# /metrics


async def test_a_scrape_of_prometheus(watched):
    await log_in(watched.services)
    status, fields, body = await watched.ask("/metrics", **PROMETHEUS)
    assert (status, fields["Content-Encoding"], fields.getall("Vary")) == (
        200,
        "gzip",
        ["Accept, Accept-Encoding"],
    )
    assert fields["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = {family.name: family for family in openmetrics(gzip.decompress(body).decode())}
    states = {
        (each.labels["credential"], each.labels["account"]): each.labels["state"]
        for each in families["token_proxy_token_state"].samples
        if each.value
    }
    assert states["person", "default"] == "valid"


@pytest.mark.parametrize(
    ("accept", "encoding", "content_type"),
    [
        (None, None, "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "identity", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "deflate, br", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html,*/*", "gzip;q=1.0", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=abc;escaping=", "", "application/openmetrics-text"),
        ("Application/OpenMetrics-Text", "GZIP", "application/openmetrics-text"),
    ],
)
async def test_formats_of_the_metrics(watched, accept, encoding, content_type):
    fields = {"Accept": accept, "Accept-Encoding": encoding}
    status, got, body = await watched.ask("/metrics", **{k: v for k, v in fields.items() if v is not None})
    assert status == 200
    assert got["Content-Type"].startswith(content_type)
    assert ("Content-Encoding" in got) == ("gzip" in (encoding or "").lower())
    text = (gzip.decompress(body) if "Content-Encoding" in got else body).decode()
    parse = openmetrics if "openmetrics" in content_type else plain_metrics
    assert "token_proxy_build_info" in {family.name for family in parse(text)}


async def test_without_accounts_no_account_is_named(a_watched):
    async with a_watched("health_accounts = false") as watched:
        await log_in(watched.services)
        await watched.services.tokens.start()
        text = (await watched.ask("/metrics"))[2].decode()
        assert not WITH_ACCOUNT.search(text)
        assert "token_proxy_login_required" not in text
        assert "token_proxy_build_info" in text
        assert 'token_proxy_requests_in_flight{route="demo"}' in text
        assert "default" not in text
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{watched.config.server.admin}/metrics") as response,
        ):
            assert WITH_ACCOUNT.search(await response.text()), "the admin listener names them"


TWO_ACCOUNTS = """
[[routes]]
path = "/{name}"
upstream = "http://127.0.0.1:9"
credential = "person"
account = "{name}"
"""


async def test_without_accounts_readyz_names_the_credential_only(a_watched):
    more = "".join(TWO_ACCOUNTS.format(name=name) for name in ("alice", "bob"))
    async with a_watched("health_accounts = false", edit=lambda text: text + more) as watched:
        status, _, body = await watched.ask("/readyz")
    assert (status, json.loads(body)) == (
        503,
        {"ready": False, "reasons": [{"credential": "person", "state": "absent"}]},
    )


# its life


async def test_while_the_store_can_not_be_reached_probes_are_told_that_it_is_starting(tmp_path):
    """A PostgreSQL that accepts connections and says nothing."""
    (health,) = free_ports(0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://user@127.0.0.1:{silent.getsockname()[1]}/db"
        (tmp_path / "config.toml").write_text(
            f'[server]\nhealth = "127.0.0.1:{health}"\nlisten = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\n'
            f'[store]\nurl = "{url}"\nkey = "{"A" * 43}="\n'
        )
        stop = asyncio.Event()
        config = load(tmp_path / "config.toml").config
        watched = Watched(config, None, stop)
        starting = asyncio.create_task(startup.serving(config, stop).__aenter__())
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    assert (await watched.ask("/startupz"))[::2] == (503, b"starting")
                    break
                await asyncio.sleep(0.01)
        assert (await watched.ask("/healthz"))[::2] == (200, b"ok")
        assert (await watched.ask("/metrics"))[::2] == (503, b"starting")
        status, _, body = await watched.ask("/readyz")
        assert (status, json.loads(body)) == (503, {"ready": False, "reasons": [{"state": "starting"}]})
        assert not starting.done()
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting


# /quitquitquit

QUIT = "quit = true"


async def test_a_program_on_this_machine_may_end_the_process(a_watched):
    async with a_watched(QUIT) as watched:
        assert not watched.stop.is_set()
        assert (await watched.ask("/quitquitquit", "POST"))[::2] == (200, b"stopping")
        assert watched.stop.is_set()
        assert (await watched.ask("/quitquitquit", "POST"))[::2] == (200, b"stopping"), "once more"


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.2", "::1"])
async def test_a_local_peer_is_loopback_in_each_spelling(a_watched, peer):
    """On a socket for both versions of IP, as a service manager opens them, 127.0.0.1 is ::ffff:127.0.0.1."""
    async with a_watched(QUIT) as watched:
        runner = health_runner(watched.config, Probes(), Descriptors(0, 4), watched.stop)
        await runner.setup()
        both = socket.socket(socket.AF_INET6)
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::", 0))
        acceptor = Acceptor(runner.server, [both], 4, {})
        watched.port = both.getsockname()[1]
        try:
            sent = b"POST /quitquitquit HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            assert (await watched.raw(sent, peer)).split()[1] == b"200"
            assert watched.stop.is_set()
        finally:
            acceptor.close()
            await runner.cleanup()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
async def test_only_a_post_ends_it(a_watched, method):
    async with a_watched(QUIT) as watched:
        status, fields, _ = await watched.ask("/quitquitquit", method)
        assert (status, fields["Allow"]) == (405, "POST")
        assert not watched.stop.is_set()


@pytest.mark.parametrize("field", ["Origin", "Sec-Fetch-Site"])
async def test_no_web_page_ends_it(a_watched, field):
    async with a_watched(QUIT) as watched:
        assert (await watched.ask("/quitquitquit", "POST", **{field: "null"}))[0] == 403
        assert not watched.stop.is_set()


async def test_nobody_may_end_it_unless_it_is_configured(watched):
    assert (await watched.ask("/quitquitquit", "POST"))[0] == 404
    assert not watched.stop.is_set()


async def test_on_a_unix_socket_the_peer_is_of_this_machine(tmp_path):
    async with embedded(*free_ports(0, 0)) as (_, plain):
        path = tmp_path / "health.sock"
        lines = f'[server]\nhealth = "unix:{path}"\nquit = true\n'
        plain.path.write_text(plain.path.read_text().replace("[server]\n", lines))
        stop = asyncio.Event()
        async with (
            startup.serving(load(plain.path).config, stop),
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        ):
            assert path.stat().st_mode & 0o777 == 0o600
            async with session.get("http://x/startupz") as response:
                assert response.status == 200
            async with session.post("http://x/quitquitquit") as response:
                assert response.status == 200
            assert stop.is_set()
    assert not path.exists()


async def test_curl_i(watched):
    run = await asyncio.to_thread(
        subprocess.run,
        ["curl", "-sSI", f"{watched.url}/healthz"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout.startswith("HTTP/1.1 200 OK")
