"""Access by Host, Origin and CSRF token."""

import asyncio
from urllib.parse import urlsplit

import pytest

from proxy.admin import forms
from proxy.admin.access import origin_of
from proxy.relay.problems import HOST_REFUSED

PATHS = ("/", "/login/person", "/callback", "/api/status", "/metrics", "/healthz", "/readyz", "/nothing")
OWN_HOSTS = ("127.0.0.1", "127.0.0.1:8081", "localhost", "LOCALHOST:1", "[::1]:8081", "tokens.example")
FOREIGN_HOSTS = (
    "evil.com",
    "localhost.evil.com",
    "127.0.0.1.nip.io",
    "LOCALHOST.",
    "127.1",
    "0.0.0.0",
    "[::ffff:127.0.0.1]",
    "",
    "localhost@evil.com",
    "localhost:8081:1",
    "[::1",
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@pytest.fixture
async def world(a_world):
    async with a_world(
        lambda text: text.replace("[server]", '[server]\nallowed_hosts = ["tokens.example"]')
    ) as made:
        yield made


async def test_the_admin_listener_accepts_its_own_host_names_only(world):
    for host in OWN_HOSTS:
        assert (await world.raw(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"))[0] == 200, host
    for host in FOREIGN_HOSTS:
        assert (await world.raw(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"))[
            0
        ] == HOST_REFUSED.status, host
    assert world.services.metrics.refused.labels(HOST_REFUSED.ending)._value.get() == len(FOREIGN_HOSTS)


@pytest.mark.parametrize("path", PATHS)
async def test_a_foreign_host_is_refused_on_every_path(world, path):
    status, response = await world.raw(f"GET {path} HTTP/1.1\r\nHost: evil.com\r\n\r\n")
    assert status == 421
    assert "Set-Cookie" not in response


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /healthz HTTP/1.0\r\n\r\n", 421),
        ("GET http://evil.com/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 421),
        ("GET http://localhost/healthz HTTP/1.1\r\nHost: evil.com\r\n\r\n", 421),
        ("GET http://localhost@evil.com/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 421),
        ("GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET //evil.com/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    ],
)
async def test_one_host_and_the_target_agrees_with_it(world, head, status):
    assert (await world.raw(head))[0] == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/login/person", 307),
        ("GET", "/login/person?moved=1", 200),
        ("GET", "/login/person?moved=1&ticket=x", 400),
        ("GET", "/callback", 400),
        ("GET", "/api/status", 200),
        ("GET", "/metrics", 200),
        ("GET", "/readyz", 503),
        ("GET", "/nothing", 404),
        ("GET", "/login/nobody", 404),
        ("DELETE", "/", 405),
        ("POST", "/login/person", 403),
    ],
)
async def test_every_response_forbids_scripts_frames_and_caching_and_has_no_version(
    world, method, path, status
):
    given, response = await world.raw(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert given == status
    fields = dict(line.split(": ", 1) for line in response.split("\r\n")[1:] if line)
    assert fields.items() >= HEADERS.items()
    policy = fields["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    assert "Server" not in fields


async def test_a_bug_is_a_plain_page_with_the_same_headers_and_a_log_line_without_the_errors_text(
    world, caplog, monkeypatch
):
    async def broken(*_):
        raise ValueError("a secret that some library repeats")

    monkeypatch.setattr(world.services.logins, "finish", broken)
    response = await world.get("/callback?state=x&code=y")
    assert response.status == 500
    assert "a secret" not in await response.text()
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "an admin page failed"
    ]


@pytest.mark.parametrize("action", ["login", "refresh", "logout"])
@pytest.mark.parametrize("origin", ["http://evil.com", "null", "", "http://127.0.0.1", "https://localhost:1"])
async def test_a_post_from_another_origin_does_nothing(world, action, origin):
    await world.browser.log_in()
    before = world.granted()
    form = {"csrf": await world.browser.csrf()}
    response = await world.browser.post(f"/{action}/person", form, origin=origin)
    assert response.status == 403
    assert world.granted() == before
    assert (await world.json("/api/status"))["counts"]["person"] == {"valid": 1}


@pytest.mark.parametrize("action", ["login", "refresh", "logout"])
async def test_a_post_without_our_token_or_with_another_browsers_does_nothing(world, action):
    await world.browser.log_in()
    before = world.granted()
    mine, theirs = await world.browser.csrf(), await world.another_browser().csrf()
    for form in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": theirs}, {"csrf": "\N{SNOWMAN}"}):
        assert (await world.browser.post(f"/{action}/person", form)).status == 403, form
    assert (await world.another_browser().post(f"/{action}/person", {"csrf": mine})).status == 403
    assert world.granted() == before
    assert (await world.json("/api/status"))["counts"]["person"] == {"valid": 1}


async def test_each_page_has_a_token_of_its_own_and_all_of_them_count(world):
    tokens = [
        await world.browser.csrf(page) for page in ("/login/person", "/login/person", "/login/person/x")
    ]
    assert len(set(tokens)) == 3
    for csrf in tokens:
        assert (await world.browser.post("/login/person", {"csrf": csrf})).status == 303
    mixed = tokens[0][:32] + tokens[1][32:]
    for csrf in (mixed, tokens[0][:32], tokens[0][:-1], tokens[0] + "0"):
        assert (await world.browser.post("/login/person", {"csrf": csrf})).status == 403


async def test_a_form_is_small(world):
    form = {"csrf": await world.browser.csrf(), "more": "x" * 20_000}
    assert (await world.browser.post("/refresh/person", form)).status == 413


async def test_a_form_that_does_not_arrive_times_out(world, monkeypatch):
    monkeypatch.setattr(forms, "FORM_TIME", 0.1)
    host, port = urlsplit(world.admin).hostname, urlsplit(world.admin).port
    page = await world.browser.get("/login/person")
    head = (
        f"POST /login/person HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {world.admin}\r\n"
        f"Cookie: token_proxy_browser={page.cookies['token_proxy_browser'].value}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ncsrf="
    )
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head.encode())
    response = await asyncio.wait_for(reader.readline(), 10)
    assert response.startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_the_cookie_is_for_us_alone_and_kept(world):
    first = await world.get("/")
    field = first.headers["Set-Cookie"]
    assert "HttpOnly" in field
    assert "SameSite=Lax" in field
    assert (await world.get("/login/person")).headers["Set-Cookie"] == field


async def test_a_cookie_that_is_not_ours_is_replaced(world):
    response = await world.get("/", cookies={"token_proxy_browser": "fixed-by-somebody"})
    assert "fixed" not in response.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
        ("https://Tokens.Example", "https://tokens.example"),
        ("https://tokens.example:443", "https://tokens.example"),
        ("http://tokens.example:443", "http://tokens.example:443"),
        ("http://[::1]:8081/", "http://[::1]:8081"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url, origin):
    assert origin_of(url) == origin
