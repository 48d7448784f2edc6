"""Links and cookies through a real relay: what a caller receives keeps it in its route.

`two` is a relay with two routes to two upstreams: /up to A, under /v2, and /b to B. Real clients follow A's
links; no request of theirs may reach B.
"""

import asyncio
import shutil
from contextlib import asynccontextmanager

import pytest
import requests

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")
SECOND = """
{options}
[[routes]]
path = "/b"
upstream = "http://127.0.0.1:{port}"
credential = "other"
[credentials.other]
token_endpoint = "http://127.0.0.1:1/token"
grant = "client_credentials"
client_id = "other"
client_secret = "secret"
"""
STEERING = [  # base of A's upstream, A's Location
    ("/v2", b"/b/steal"),
    ("/v2", b"/v2/../b/steal"),
    ("/v2", b"http://@A@/v2/../b/steal"),
    ("/v2", b"../b/steal"),
    ("/v2", b"/v2/%2e%2e/b/steal"),
    ("", b"../b/steal"),
    ("", b"/b/steal"),
    ("", b"/../b/steal"),
    ("", b"..\\b\\steal"),
    ("", b"\\b/steal"),
    ("", b"http:/b/steal"),
    ("", b"http:b/steal"),
    ("", b"/.\t./b/steal"),
    ("", b"//@A@/../b/steal"),
    ("/v2", b"http://localhost:@P@/b/steal"),
    ("/v2", b"http://127.0.0.1:@P@/b/steal"),
    ("/v2", b"http://2130706433:@P@/b/steal"),
    ("/v2", b"http://0x7f.1:@P@/b/steal"),
    ("/v2", b"http://u:p@localhost:@P@/b/steal"),
    ("/v2", b"//LOCALHOST.:@P@/b/steal"),
]


@asynccontextmanager
async def two_routes(make_proxy, upstream, kit, *, base="/v2", options=""):
    other = kit.Upstream()
    async with kit.serving(other):
        route = SECOND.format(options=options, port=other.port)
        async with make_proxy(f"http://127.0.0.1:{upstream.port}{base}", route=route) as proxy:
            await proxy.adopt("tokenofb", credential="other")
            proxy.other = other
            yield proxy


def redirect(location, *lines):
    head = [b"HTTP/1.1 307 Go", b"Location: " + location, *lines, b"Content-Length: 0", b"", b""]
    return b"\r\n".join(head)


@pytest.mark.parametrize(("base", "said"), STEERING)
@pytest.mark.parametrize("client", ["requests", pytest.param("curl", marks=needs_curl)])
async def test_no_redirect_leads_a_caller_into_another_route(make_proxy, upstream, kit, base, said, client):
    async with two_routes(make_proxy, upstream, kit, base=base) as proxy:
        said = said.replace(b"@A@", b"127.0.0.1:%d" % upstream.port).replace(b"@P@", b"%d" % proxy.port)
        upstream.script = [redirect(said)]
        url = f"http://127.0.0.1:{proxy.port}/up/x"
        if client == "curl":
            await curled(url)
        else:
            await asyncio.to_thread(follow, url)
        assert proxy.other.received == []
        assert upstream.requests >= 1


async def curled(url):
    command = CURL, "-s", "-L", "-m", "5", "--noproxy", "*", "-d", "BODY-FOR-A", url
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    await process.wait()


def follow(url):
    with requests.Session() as session:
        session.trust_env = False
        try:
            session.post(url, data="BODY-FOR-A", timeout=5)
        except requests.RequestException:
            return  # an unusable link is as good


async def test_an_app_can_follow_a_redirect_and_keeps_its_cookie(proxy, upstream, kit):
    upstream.script = [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/base/y\r\n"
        b"Set-Cookie: s=1; Domain=127.0.0.1; Path=/base; Secure\r\nContent-Length: 0\r\n\r\n" % upstream.port
    ]
    _, fields, _ = kit.split(await proxy.get())
    assert b"Location: http://localhost/up/y" in fields
    assert b"Set-Cookie: s=1; Path=/up" in fields


async def test_a_redirect_elsewhere_is_passed_on_and_not_followed(proxy, upstream, kit):
    upstream.script = [b"HTTP/1.1 307 Go\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n"]
    status, fields, _ = kit.split(await proxy.get())
    assert status == 307
    assert b"Location: https://evil.example/" in fields
    assert upstream.requests == 1


@pytest.mark.parametrize("client", ["requests", pytest.param("curl", marks=needs_curl)])
@pytest.mark.parametrize("said", [b"/v2/y?page=2", b"y?page=2", b"//@A@/v2/y?page=2", b"./z/../y?page=2"])
async def test_an_ordinary_redirect_is_followed_with_the_token(make_proxy, upstream, kit, said, client):
    async with two_routes(make_proxy, upstream, kit) as proxy:
        upstream.script = [redirect(said.replace(b"@A@", b"127.0.0.1:%d" % upstream.port))]
        url = f"http://127.0.0.1:{proxy.port}/up/x"
        await (curled(url) if client == "curl" else asyncio.to_thread(follow, url))
        received = b"".join(upstream.received)
        assert received.count(b"POST /v2/") == 2
        assert b"POST /v2/y?page=2 HTTP/1.1" in received
        assert received.count(b"\r\nAuthorization: Bearer ") == 2
        assert received.endswith(b"BODY-FOR-A")


async def test_a_dropped_link_is_logged_with_its_route_and_without_its_text(proxy, upstream, kit, caplog):
    own = b"http://localhost:%d/secret-path" % proxy.port
    lines = [b"HTTP/1.1 200 OK", b"Location: " + own, b"Link: </base/y>; rel=next, <" + own + b">; rel=last"]
    upstream.script = [b"\r\n".join([*lines, b"Content-Length: 0", b"", b""])]
    _, fields, _ = kit.split(await proxy.get())
    assert [field for field in fields if field.startswith(b"L")] == [b"Link: </up/y>; rel=next"]
    (record,) = [record for record in caplog.records if getattr(record, "event", "") == "link_dropped"]
    assert record.route == "up"
    assert "secret-path" not in caplog.text


async def test_the_next_page_is_got_through_the_proxy(proxy, upstream):
    """As with GitHub's pages: `Link` with the upstream's absolute URL (requests reads it itself)."""
    link = b'<http://127.0.0.1:%d/base/x?page=2>; rel="next", <http://127.0.0.1:%d/base/x?page=9>; rel="last"'
    head = b"HTTP/1.1 200 OK\r\nLink: " + link % (upstream.port, upstream.port)
    upstream.script = [head + b"\r\nContent-Length: 0\r\n\r\n"]

    def get_both():
        first = requests.get(f"http://127.0.0.1:{proxy.port}/up/x", timeout=5)
        return first.links, requests.get(first.links["next"]["url"], timeout=5).status_code

    links, status = await asyncio.to_thread(get_both)
    assert links["last"]["url"] == f"http://127.0.0.1:{proxy.port}/up/x?page=9"
    assert status == 200
    assert b"GET /base/x?page=2 HTTP/1.1" in b"".join(upstream.received)


async def test_links_and_cookies_of_interim_and_switching_responses_are_rewritten_too(
    make_proxy, upstream, kit
):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}/base", route="websocket = true") as proxy:
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </base/style.css>; rel=preload\r\n\r\n"
        upstream.script = [hints + kit.OK]
        answer = await proxy.get()
        assert b"\r\nLink: </up/style.css>; rel=preload\r\n" in answer

        async def switch(connection):
            fields = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSet-Cookie: s=1; Path=/"
            connection.writer.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n\r\n" % fields)
            connection.writer.close()

        upstream.script = [switch]
        asked = kit.request(b"GET", b"/up/ws", b"Connection: Upgrade", b"Upgrade: websocket")
        assert b"\r\nSet-Cookie: s=1; Path=/up\r\n" in await proxy.ask(asked)


# -- cookies


def jar_of(proxy, *paths):
    """One session of requests, as in an app: GET these paths in sequence."""
    with requests.Session() as session:
        session.trust_env = False
        for path in paths:
            session.get(f"http://127.0.0.1:{proxy.port}{path}", timeout=5)


SET = [  # cookies that A sets; a session that goes on to B must not send them there
    b"sid=A; Path=/",
    b"session=ATTACKER; Path=/b",
    b"session=ATTACKER; Path=/v2/../b",
    b"session=ATTACKER; Domain=127.0.0.1; Path=/b; Path=/",
    b"sid=A",
    b'sid=A; Path="/b"',
]


@pytest.mark.parametrize("strip", ["true", "false"])
@pytest.mark.parametrize("path", ["/up", "/up?x", "/up/x"])
@pytest.mark.parametrize("cookie", SET)
async def test_no_cookie_of_one_route_reaches_another(make_proxy, upstream, kit, strip, path, cookie):
    async with two_routes(make_proxy, upstream, kit, options=f"strip_path = {strip}") as proxy:
        upstream.script = [b"HTTP/1.1 200 OK\r\nSet-Cookie: %b\r\nContent-Length: 0\r\n\r\n" % cookie]
        await asyncio.to_thread(jar_of, proxy, path, "/b", "/b/x", "/up/x")
        assert proxy.other.requests == 2
        assert b"cookie" not in b"".join(proxy.other.received).lower()
        came_back = b"".join(upstream.received).count(b"Cookie: sid=A")
        assert came_back == (1 if cookie in {SET[0], SET[4], SET[5]} else 0)


async def test_the_admin_pages_cookie_passes_neither_way(proxy, upstream, kit):
    name = b"token_proxy_browser"
    upstream.script = [
        b"HTTP/1.1 200 OK\r\nSet-Cookie: %b=EVIL; Path=/; HttpOnly\r\nContent-Length: 0\r\n\r\n" % name
    ]
    cookie = b"Cookie: a=1; %b=SECRET; s=1" % name
    answer = await proxy.get(b"/up/x", cookie, b"Cookie: %b=SECRET" % name)
    assert name not in answer
    (received,) = upstream.received
    assert name not in received
    assert received.count(b"\r\nCookie:") == 1
    assert b"\r\nCookie: a=1; s=1\r\n" in received


# -- fields that apply to a whole host


HSTS = b"Strict-Transport-Security: max-age=63072000"
CLEAR = b'Clear-Site-Data: "*"'


@pytest.mark.parametrize(
    ("host", "passes"),
    [(b"localhost", False), (b"[::1]:80", False), (b"crm.localhost", False), (b"proxy.example", True)],
)
async def test_an_upstreams_site_wide_fields_do_not_reach_localhost(make_proxy, upstream, kit, host, passes):
    url = f"http://127.0.0.1:{upstream.port}"
    more = f'host = "{host.decode()}"' if b"[" not in host and host != b"localhost" else ""
    async with make_proxy(url, route=more) as proxy:
        upstream.script = [
            b"\r\n".join([b"HTTP/1.1 200 OK", b"A: 1", HSTS, CLEAR, b"Content-Length: 0", b"", b""])
        ]
        asked = b"GET /up/x HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host
        _, fields, _ = kit.split(await proxy.ask(asked))
        assert ((HSTS in fields), (CLEAR in fields), b"A: 1" in fields) == (passes, passes, True)


# -- towards the upstream


async def test_the_account_field_is_not_forwarded(make_proxy, upstream, kit):
    route = 'account = { header = "Token-Proxy-Account" }'
    url = f"http://127.0.0.1:{upstream.port}"
    async with make_proxy(url, route=route, grant="authorization_code") as proxy:
        await proxy.adopt("tokenofalice", account="alice")
        answer = await proxy.get(b"/up/x", b"A: 1", b"token-proxy-account: alice", b"B: 2")
        assert answer.startswith(b"HTTP/1.1 200")
        (received,) = upstream.received
        assert b"alice" not in received.replace(b"tokenofalice", b"")
        assert b"\r\nA: 1\r\nB: 2\r\n" in received


FAKED = [
    b"X-Forwarded-For: 6.6.6.6",
    b"X-Forwarded-Host: evil.example",
    b"x_forwarded_proto: https",
    b"Forwarded: for=6.6.6.6",
]


async def test_forwarding_fields_are_ours_if_the_route_enables_them(make_proxy, upstream, kit):
    url = f"http://127.0.0.1:{upstream.port}"
    async with make_proxy(url, route="forwarded = true") as proxy:
        await proxy.get(b"/up/x", *FAKED)
        (received,) = upstream.received
        lines = [line for line in received.split(b"\r\n") if b"orwarded" in line]
        ours = [b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: localhost"]
        assert lines == ours
        assert b"6.6.6.6" not in received


async def test_by_default_there_are_no_forwarding_fields(proxy, upstream):
    await proxy.get(b"/up/x", *FAKED)
    (received,) = upstream.received
    assert b"orwarded" not in received


async def test_a_caller_of_http_1_0_without_a_host_is_forwarded_without_one(make_proxy, upstream):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="forwarded = true") as proxy:
        await proxy.ask(b"GET /up/x HTTP/1.0\r\n\r\n")
        (received,) = upstream.received
        assert b"\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n" in received
        assert b"X-Forwarded-Host" not in received


# -- WebDAV


class Dav:
    """COPY and MOVE of RFC 4918 section 9.8.5: the destination must be on this server."""

    def __init__(self, port):
        self.own = b"http://127.0.0.1:%d/" % port
        self.files = {b"/base/a": b"content"}

    async def __call__(self, connection):
        head = connection.received.rpartition(b"\r\n\r\n")[0].rpartition(b"\r\n\r\n")[2]
        line, *fields = head.split(b"\r\n")
        method, path, _ = line.split(b" ")
        said = {name.lower(): value.strip() for name, _, value in (field.partition(b":") for field in fields)}
        connection.writer.write(self._respond(method, path, said[b"destination"], said.get(b"if", b"")))

    def _respond(self, method, path, destination, conditions):
        if not destination.startswith((self.own, b"/base/")):
            return b"HTTP/1.1 502 Another server\r\nContent-Length: 0\r\n\r\n"
        if conditions and not conditions.startswith(b"<" + self.own + b"base/"):
            return b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
        self.files[destination.removeprefix(self.own[:-1])] = self.files[path]
        if method == b"MOVE":
            del self.files[path]
        return b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("method", [b"COPY", b"MOVE"])
@pytest.mark.parametrize("destination", [b"http://localhost:%d/up/b", b"/up/b"])
async def test_webdav_copies_and_moves_within_a_route(proxy, upstream, kit, method, destination):
    dav = Dav(upstream.port)
    upstream.script = [dav]
    here = b"localhost:%d" % proxy.port
    destination = destination.replace(b"%d", b"%d" % proxy.port)
    locked = b"If: <http://%b/up/b> (<urn:uuid:181d4fae>)" % here
    lines = [b"Host: " + here, b"Destination: " + destination, locked, b"Connection: close"]
    asked = b"\r\n".join([method + b" /up/a HTTP/1.1", *lines, b"", b""])
    status, _, _ = kit.split(await proxy.ask(asked))
    assert status == 201
    assert dav.files == ({b"/base/a": b"content"} if method == b"COPY" else {}) | {b"/base/b": b"content"}


@pytest.mark.parametrize(
    "destination", [b"http://localhost:%d/b/x", b"http://127.0.0.1:%d/b/x", b"/b/x", b"/up/../b/x"]
)
async def test_a_destination_in_another_route_is_refused(make_proxy, upstream, kit, destination):
    async with two_routes(make_proxy, upstream, kit) as proxy:
        destination = destination.replace(b"%d", b"%d" % proxy.port)
        lines = [b"Host: localhost:%d" % proxy.port, b"Destination: " + destination, b"Connection: close"]
        asked = b"\r\n".join([b"COPY /up/a HTTP/1.1", *lines, b"", b""])
        status, _, body = kit.split(await proxy.ask(asked))
        assert status == 400
        assert b"bad-request" in body
        assert upstream.received == []
