"""An admin listener beyond this machine: for known visitors only."""

import ssl
from contextlib import asynccontextmanager

import aiohttp
import pytest
import trustme
from yarl import URL

from proxy import startup
from proxy.admin import launch
from proxy.config.load import load
from proxy.demo.wiring import embedded, free_ports
from tests.admin.conftest import Browser
from tests.admin.test_sessions import KEY

PAGES = [
    "/",
    "/metrics",
    "/api/status",
    "/login/person",
    "/login/person/anna",
    "/nothing",
    "/callbackx",
    "/launchx",
]
PROBES = [("/healthz", 200), ("/readyz", 503)]
HTML = {"Accept": "text/html,application/xhtml+xml"}
PROXY = "127.0.0.2"


class Beyond:
    """A server whose admin listener has all addresses of this machine, and clients of it."""

    def __init__(self, services, authority):
        self.services = services
        self.config = services.config
        self.authority = authority
        scheme = "https" if self.config.server.admin_tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.config.server.admin.port}"

    @asynccontextmanager
    async def client(self, *, certificate=None, address=None, **options):
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if certificate:
            certificate.configure_cert(context)
        local = (address, 0) if address else None
        async with aiohttp.ClientSession(
            self.url,
            connector=aiohttp.TCPConnector(ssl=context, local_addr=local),
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            **options,
        ) as session:
            yield session

    async def status(self, path, method="GET", **options):
        async with (
            self.client(**options) as client,
            client.request(method, path, allow_redirects=False) as response,
        ):
            await response.read()
            return response.status


@pytest.fixture
def beyond(tmp_path):
    @asynccontextmanager
    async def make(lines, *, tls=True):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        own = authority.issue_cert("127.0.0.1")
        own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
        async with embedded(*free_ports(0, 0)) as (_server, plain):
            port = plain.server.admin.port
            scheme = "https" if tls else "http"
            text = plain.path.read_text().replace(f'admin = "127.0.0.1:{port}"', f'admin = "0.0.0.0:{port}"')
            head = f'[server]\npublic_url = "{scheme}://127.0.0.1:{port}"\n{lines}'
            plain.path.write_text(text.replace("[server]", head).replace("FOLDER", str(tmp_path)))
            async with startup.serving(load(plain.path).config) as services:
                yield Beyond(services, authority)

    return make


TLS = 'admin_tls = { cert = "FOLDER/own.pem", key = "FOLDER/own.pem" }'
CLIENTS = 'admin_tls = { cert = "FOLDER/own.pem", key = "FOLDER/own.pem", client_ca = "FOLDER/ca.pem" }'
WITH_KEY = f'{TLS}\nadmin_key = "{KEY}"'


async def test_an_unknown_visitor_gets_the_probes_alone(beyond):
    async with beyond(WITH_KEY) as server, server.client() as client:
        for path, status in PROBES:
            async with client.get(path) as response:
                assert (path, response.status) == (path, status)
        for path in PAGES:
            for method in ("GET", "HEAD", "OPTIONS"):
                async with client.request(method, path) as response:
                    assert (path, response.status) == (path, 401)
                    assert response.headers["WWW-Authenticate"] == 'Bearer realm="token-proxy"'
                    assert "person" not in await response.text()
        for path in ("/login/person", "/logout/person", "/refresh/person", "/callback", "/launch/x"):
            async with client.post(path, data={"csrf": "0" * 64}, headers={"Origin": server.url}) as response:
                assert (path, response.status) == (path, 401)


async def test_the_help_needs_no_session(beyond):
    async with beyond(WITH_KEY) as server, server.client() as client:
        for path in ("/help", "/help/login-required"):
            for accept in (HTML, {}):
                async with client.get(path, headers=accept) as response:
                    assert response.status == 200
                    assert "Set-Cookie" not in response.headers
        for path in ("/helpx", "/help/../metrics", "/HELP"):
            assert await server.status(path) in {401, 404}


async def test_what_has_a_secret_of_its_own_is_judged_by_that(beyond):
    async with beyond(WITH_KEY) as server:
        for path in ("/callback?state=x&code=y", "/callback/person?state=x&code=y", "/login/person?ticket=x"):
            assert await server.status(path) == 400, path
        assert await server.status(f"/launch/{'x' * 43}") == 403


@pytest.mark.parametrize(
    "path", ["/healthz/", "//healthz", "/healthz%2F..", "/HEALTHZ", "/login/../metrics?ticket=x"]
)
async def test_a_path_that_only_looks_like_an_open_one_is_not(beyond, path):
    async with (
        beyond(WITH_KEY) as server,
        server.client() as client,
        client.get(URL(server.url + path, encoded=True)) as response,
    ):
        assert response.status in {400, 401, 404}
        assert "token_proxy_" not in await response.text()


async def test_a_program_with_the_key_reads_all(beyond):
    async with beyond(WITH_KEY) as server:
        for key, status in ((KEY, 200), (KEY[:-1], 401), ("", 401)):
            headers = {"Authorization": f"Bearer {key}"}
            for path in ("/metrics", "/api/status", "/"):
                assert (await server.status(path, headers=headers), path) == (status, path)


async def test_a_person_signs_in_and_comes_back_to_the_page(beyond):
    async with beyond(WITH_KEY) as server, server.client(headers=HTML) as client:
        async with client.get("/login/person/anna") as response:
            assert response.status == 401
            page = await response.text()
        assert 'name="next" value="/login/person/anna"' in page
        form = {"csrf": Browser.csrf_in(page), "key": KEY, "next": "/login/person/anna"}
        async with client.post("/sign-in", data=form, headers={"Origin": server.url}) as response:
            assert (response.status, response.url.path) == (200, "/login/person/anna")
            page = await response.text()
        form = {"csrf": Browser.csrf_in(page)}
        async with client.post(
            "/login/person/anna", data=form, headers={"Origin": server.url}, allow_redirects=False
        ) as response:
            assert response.status == 303


async def test_a_launch_link_works_from_elsewhere(beyond):
    async with beyond(WITH_KEY) as server, server.client() as client:
        link = await launch.make(server.config, server.services.store)
        async with client.get(link) as response:
            assert (response.status, response.url.path) == (200, "/")


async def test_a_client_certificate_is_enough_where_it_is_required(beyond):
    async with beyond(CLIENTS) as server:
        mine = server.authority.issue_cert("ann@example.com")
        assert await server.status("/metrics", certificate=mine) == 200
        with pytest.raises(aiohttp.ClientError):
            await server.status("/healthz")
        with pytest.raises(aiohttp.ClientError):
            await server.status("/healthz", certificate=trustme.CA().issue_cert("ann@example.com"))


async def test_a_client_certificate_is_optional_beside_a_key(beyond):
    async with beyond(f'{CLIENTS}\nadmin_key = "{KEY}"') as server:
        mine = server.authority.issue_cert("ann@example.com")
        assert await server.status("/metrics", certificate=mine) == 200
        assert await server.status("/metrics") == 401
        assert await server.status("/metrics", headers={"Authorization": f"Bearer {KEY}"}) == 200
        with pytest.raises(aiohttp.ClientError):
            await server.status("/healthz", certificate=trustme.CA().issue_cert("ann@example.com"))


async def test_a_page_with_a_certificate_still_needs_our_form(beyond):
    async with beyond(CLIENTS) as server:
        mine = server.authority.issue_cert("ann@example.com")
        async with server.client(certificate=mine) as client:
            async with client.get("/login/person") as response:
                form = {"csrf": Browser.csrf_in(await response.text())}
            for origin, status in (("https://evil.example", 403), (server.url, 303)):
                headers = {"Origin": origin}
                async with client.post(
                    "/login/person", data=form, headers=headers, allow_redirects=False
                ) as response:
                    assert response.status == status
        other = server.authority.issue_cert("bob@example.com")
        async with (
            server.client(certificate=other) as client,
            client.post("/login/person", data=form, headers={"Origin": server.url}) as response,
        ):
            assert response.status == 403


async def test_without_tls_only_the_proxy_in_front_is_served(beyond):
    trusts = f'admin_trusts = {{ header = "X-Remote-User", from = ["{PROXY}"] }}\nadmin_key = "{KEY}"'
    async with beyond(trusts, tls=False) as server:
        named = {"X-Remote-User": "ann"}
        assert await server.status("/metrics", address=PROXY, headers=named) == 200
        assert await server.status("/metrics", address=PROXY) == 401
        bearer = {"Authorization": f"Bearer {KEY}"}
        assert await server.status("/metrics", address=PROXY, headers=bearer) == 200
        for headers in (named, bearer, {}):
            for path in ("/metrics", "/sign-in", "/launch/x", "/callback"):
                assert await server.status(path, headers=headers) == 403, "the key would pass in clear"
        for path, status in PROBES:
            assert await server.status(path) == status


async def test_our_own_user_is_nobody_on_a_listener_that_others_reach(beyond):
    async with beyond(WITH_KEY) as server:
        assert await server.status("/") == 401


async def test_no_key_is_asked_for_where_there_is_none(beyond):
    lines = f'{CLIENTS}\nadmin_trusts = {{ header = "X-Remote-User", from = ["{PROXY}"] }}'
    async with beyond(lines) as server, server.client() as client:
        for headers in ({}, HTML):
            async with client.get("/", headers=headers) as response:
                assert response.status == 403
                assert "WWW-Authenticate" not in response.headers
                assert "admin key" not in await response.text()


async def test_an_unknown_visitor_learns_no_name_of_a_credential(beyond):
    async with beyond(WITH_KEY) as server, server.client() as client:
        seen = set()
        for place in ("person", "person/anna", "no-such", "no-such/anna", "person/%00"):
            async with client.get(f"/login/{place}?ticket={'x' * 43}") as response:
                seen.add((response.status, await response.text()))
            assert await server.status(f"/login/{place}?ticket=x", method="HEAD") == 405
        assert len(seen) == 1
