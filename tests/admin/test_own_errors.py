"""Errors on the admin listener are ours: our fields, our words, and not a byte of the request."""

import pytest

from tests.admin.test_access import HEADERS

CANARY = "CANARY"
HOST = "Host: localhost\r\n"
ERRORS = [  # a request, and the status of its response
    (f"{CANARY}\r\n\r\n", 400),
    (f"{CANARY} / HTTP/1.1\r\n{HOST}\r\n", 400),
    (f"GET /{CANARY} HTTP/9.9\r\n{HOST}\r\n", 400),
    (f"GET {CANARY} HTTP/1.1\r\n{HOST}\r\n", 400),
    (f"GET http://{CANARY}@[::1 HTTP/1.1\r\n{HOST}\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}{CANARY}\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}X: \x00{CANARY}\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}X : {CANARY}\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}X: 1\r\n {CANARY}\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}Content-Length: {CANARY}\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}Content-Length: 1\r\nTransfer-Encoding: chunked\r\nX: {CANARY}\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}Transfer-Encoding: {CANARY}\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}Sec-WebSocket-Key1: {CANARY}\r\n\r\n", 400),
    (f"GET / HTTP/1.1\r\n{HOST}Host: {CANARY}\r\n\r\n", 400),
    (f"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{CANARY}", 400),
    (f"\x16\x03\x01\x02\x00\x01{CANARY}\r\n\r\n", 400),
    (f"GET /callback?code={CANARY}{'c' * 40_000} HTTP/1.1\r\n{HOST}\r\n", 431),
    (f"GET / HTTP/1.1\r\n{HOST}Cookie: {CANARY}={'c' * 40_000}\r\n\r\n", 431),
    (f"GET / HTTP/1.1\r\n{HOST}" + f"Cookie: {CANARY}{'c' * 30_000}\r\n" * 6 + "\r\n", 431),
    (f"GET / HTTP/1.1\r\n{HOST}{CANARY}{'n' * 40_000}: x\r\n\r\n", 431),
    (f"GET / HTTP/1.1\r\n{HOST}" + f"X: {CANARY}\r\n" * 300 + "\r\n", 400),
    (f"GET /{CANARY} HTTP/1.1\r\n{HOST}\r\n", 404),
    (f"GET /%{CANARY} HTTP/1.1\r\n{HOST}\r\n", 404),
    (f"GET /login/{CANARY} HTTP/1.1\r\n{HOST}\r\n", 404),
    (f"GET /\xff{CANARY} HTTP/1.1\r\n{HOST}\r\n", 400),
    (f"CONNECT {CANARY} HTTP/1.1\r\n{HOST}\r\n", 404),
    (f"OPTIONS * HTTP/1.1\r\n{HOST}X: {CANARY}\r\n\r\n", 404),
    (f"DELETE /?{CANARY} HTTP/1.1\r\n{HOST}\r\n", 405),
    (f"POST /metrics?{CANARY} HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n", 405),
    (f"GET / HTTP/1.1\r\n{HOST}Expect: {CANARY}\r\n\r\n", 417),
    (f"GET / HTTP/1.1\r\n{HOST}Expect: {CANARY}\xaa\r\n\r\n", 417),
    (f"GET / HTTP/1.1\r\n{HOST}Accept: text/html\r\nExpect: {CANARY}\r\n\r\n", 417),
    (f"GET / HTTP/1.1\r\nHost: {CANARY}\r\n\r\n", 421),
    (f"GET /callback?state={CANARY}&code={CANARY} HTTP/1.1\r\n{HOST}\r\n", 400),
]


def fields_of(response):
    return dict(line.split(": ", 1) for line in response.split("\r\n")[1:] if line)


@pytest.mark.parametrize(("request_", "status"), ERRORS)
async def test_an_error_is_ours_and_quotes_nothing(world, caplog, request_, status):
    given, head, body = await world.whole(request_)
    assert given == status
    assert head.startswith("HTTP/1.1 ")
    fields = fields_of(head)
    assert fields.items() >= HEADERS.items()
    assert "default-src 'none'" in fields["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in fields["Content-Security-Policy"]
    assert "Server" not in fields
    assert CANARY not in head + body
    assert "aiohttp" not in (head + body).lower()
    assert body.strip()
    assert CANARY not in caplog.text
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(("size", "count"), [(10_000, 1), (25_000, 4)])
async def test_cookies_of_the_other_ports_of_this_host_do_no_harm(world, size, count):
    cookies = f"Cookie: {'c' * size}\r\n" * count
    for target, status in (
        ("/", 200),
        ("/login/person", 200),
        (f"/callback?state=s&code={'c' * 20_000}", 400),
    ):
        host = f"Host: {world.config.server.admin}\r\n"
        given, _, body = await world.whole(f"GET {target} HTTP/1.1\r\n{host}{cookies}\r\n")
        assert given == status
        assert "<main" in body


async def test_a_browser_gets_a_page_and_a_program_a_line(world):
    request = f"GET /nothing HTTP/1.1\r\n{HOST}Accept: {{}}\r\n\r\n"
    for accept, kind in (("text/html,*/*", "text/html"), ("*/*", "text/plain")):
        status, head, body = await world.whole(request.format(accept))
        assert status == 404
        assert fields_of(head)["Content-Type"] == f"{kind}; charset=utf-8"
        assert "There is no such page here." in body
        assert ("<" in body) == (kind == "text/html")


async def test_an_error_keeps_the_fields_that_help(world):
    _, head, _ = await world.whole(f"DELETE / HTTP/1.1\r\n{HOST}\r\n")
    assert fields_of(head)["Allow"] == "GET,HEAD"


async def test_a_bug_outside_of_the_pages_is_logged_and_quotes_nothing(world, caplog, monkeypatch):
    from proxy.admin import own_errors

    def broken(*_):
        raise RuntimeError("unexpected")

    monkeypatch.setattr(own_errors, "_response", broken)
    status, head, body = await world.whole(f"GET /{CANARY} HTTP/1.1\r\n{HOST}\r\n")
    assert status == 500
    assert fields_of(head).items() >= HEADERS.items()
    assert CANARY not in head + body
    assert "the admin listener failed" in [record.getMessage() for record in caplog.records]
