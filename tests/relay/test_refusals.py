"""Our own responses: each case of the contract, with nothing sent upstream."""

import asyncio
import json

import pytest

LINE = b"GET /up HTTP/1.1\r\nHost: localhost\r\n"
REFUSED = {  # name -> raw request, status, ending, whether the connection ends
    "malformed": (b"GET /up HTTP/1.1\r\nHost : localhost\r\n\r\n", 400, "bad-request", True),
    "both framings": (
        LINE + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad-request",
        True,
    ),
    "dot segments": (b"GET /up/%2e%2e/x HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad-request", True),
    "broken chunk": (
        b"POST /up HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
        "bad-request",
        True,
    ),
    "large field": (
        b"GET /up HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 33000 + b"\r\n\r\n",
        431,
        "header-too-large",
        True,
    ),
    "endless header": (
        b"GET /up HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 140000,
        431,
        "header-too-large",
        True,
    ),
    "TRACE": (b"TRACE /up HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method-refused", True),
    "CONNECT": (b"CONNECT up:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "method-refused", True),
    "unknown method": (b"FOO /up HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, "method-refused", True),
    "foreign Host": (b"GET /up HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, "host-refused", False),
    "lookalike Host": (
        b"GET /up HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n",
        421,
        "host-refused",
        False,
    ),
    "short address": (b"GET /up HTTP/1.1\r\nHost: 127.1\r\n\r\n", 421, "host-refused", False),
    "trailing dot": (b"GET /up HTTP/1.1\r\nHost: LOCALHOST.\r\n\r\n", 421, "host-refused", False),
    "mapped address": (b"GET /up HTTP/1.1\r\nHost: [::ffff:127.0.0.1]\r\n\r\n", 421, "host-refused", False),
    "any address": (b"GET /up HTTP/1.1\r\nHost: 0.0.0.0\r\n\r\n", 421, "host-refused", False),
    "empty Host": (b"GET /up HTTP/1.1\r\nHost:\r\n\r\n", 421, "host-refused", False),
    "absolute form": (
        b"GET http://evil.example/up HTTP/1.1\r\nHost: localhost\r\n\r\n",
        421,
        "host-refused",
        False,
    ),
    "foreign Origin": (
        b"GET /up HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n",
        403,
        "browser-refused",
        False,
    ),
    "null Origin": (
        b"GET /up HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n",
        403,
        "browser-refused",
        False,
    ),
    "cross-site": (
        b"GET /up HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n",
        403,
        "browser-refused",
        False,
    ),
    "same-site": (
        b"GET /up HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-site\r\n\r\n",
        403,
        "browser-refused",
        False,
    ),
    "an image": (
        b"GET /up HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Mode: no-cors\r\n\r\n",
        403,
        "browser-refused",
        False,
    ),
    "a click": (
        b"GET /up HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Mode: navigate\r\n\r\n",
        403,
        "browser-refused",
        False,
    ),
    "no route": (b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "no-route", False),
    "a longer name": (b"GET /upx HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "no-route", False),
    "an encoded slash": (b"GET /up%2Fx HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "no-route", False),
    "an asterisk": (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad-request", True),
    "odd hops": (
        b"OPTIONS /up HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: -1\r\n\r\n",
        400,
        "bad-request",
        True,
    ),
    "expectation": (
        b"POST /up HTTP/1.1\r\nHost: localhost\r\nExpect: 200-maybe\r\nContent-Length: 300\r\n\r\n",
        417,
        "expectation-failed",
        True,
    ),
}
BEHIND = b"GET /up/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_request_gets_our_response(proxy, upstream, kit, name):
    raw, status, ending, closes = REFUSED[name]
    before = proxy.refused(ending)
    answer = await proxy.ask(raw if closes else raw.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    seen, fields, body = kit.split(answer)
    document = json.loads(body)
    assert (seen, document["status"]) == (status, status)
    assert document["type"] == f"urn:token-proxy:problem:{ending}"
    assert document["documentation"] == f"{proxy.relay.context.public_url}/help/{ending}"
    assert b"Content-Length: %d" % len(body) in fields
    assert b"Content-Type: application/problem+json" in fields
    assert any(field.startswith(b"Proxy-Status: token-proxy; error=") for field in fields)
    assert proxy.refused(ending) == before + 1
    assert upstream.requests == 0


@pytest.mark.parametrize("name", [name for name, row in REFUSED.items() if row[3]])
async def test_nothing_after_a_refused_message_is_read_as_a_request(proxy, upstream, name):
    answer = await proxy.ask(REFUSED[name][0] + BEHIND)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert upstream.requests == 0


async def test_the_connection_goes_on_after_a_refusal_that_is_only_about_the_request(proxy, kit):
    answer = await proxy.ask(
        kit.request(b"GET", b"/other") + kit.request(b"GET", b"/up", b"Connection: close")
    )
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"\r\n\r\nok")


ALLOWED = [
    [b"Host: LOCALHOST:9"],
    [b"Host: [::1]:80"],
    [b"Host: 127.0.0.1"],
    [b"Host: localhost", b"Origin: http://localhost"],
    [b"Host: localhost", b"Sec-Fetch-Mode: cors"],
    [b"Host: localhost", b"Via: 1.1 token-proxy-deadbeef"],
]


@pytest.mark.parametrize("lines", ALLOWED)
async def test_programs_and_our_own_names_pass(proxy, lines):
    answer = await proxy.ask(b"\r\n".join([b"GET /up HTTP/1.1", *lines, b"Connection: close", b"", b""]))
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_request_that_returns_to_the_proxy_is_a_loop(make_proxy, upstream, kit):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}") as proxy:
        proxy.lead_to(proxy.port)
        proxy.runtime.base = b"/up"
        assert (await proxy.get()).startswith(b"HTTP/1.1 508 ")


async def test_an_account_comes_from_the_field_that_the_route_names(make_proxy, upstream, kit):
    url = f"http://127.0.0.1:{upstream.port}"
    route = 'account = { header = "X-Account" }'
    async with make_proxy(url, route=route, grant="authorization_code") as proxy:
        for value in ([], [b"X-Account: a/b"], [b"X-Account: "], [b"X-Account: a", b"X-Account: b"]):
            status, _, body = kit.split(await proxy.get(b"/up", *value))
            assert (status, json.loads(body)["type"]) == (400, "urn:token-proxy:problem:account-invalid")
        assert upstream.requests == 0


async def test_an_endless_header_times_out(make_proxy, upstream):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="header_time = 0.3") as proxy:
        reader, writer = await proxy.connect()
        writer.write(b"GET /up HTTP/1.1\r\nHost: loc")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_too_many_connections_are_turned_away(make_proxy, upstream, kit):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="connections = 2") as proxy:
        kept = [await proxy.connect() for _ in range(2)]
        for reader, writer in kept:
            writer.write(kit.request(b"GET", b"/up"))
            assert await reader.readexactly(len(kit.OK)) == kit.OK
        status, fields, body = kit.split(await proxy.get())
        assert (status, json.loads(body)["type"]) == (503, "urn:token-proxy:problem:overloaded")
        assert b"Retry-After: 1" in fields
        for _, writer in kept:
            writer.close()


async def test_head_gets_no_body_from_us_either(proxy, kit):
    answer = await proxy.ask(kit.request(b"HEAD", b"/other", b"Connection: close"))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"\r\n\r\n")


HEADS = [b"HEAD /up HTTP/1.1\r\nHost : a\r\n\r\n", b"HEAD /up HTTP/1.1\r\nX: " + b"x" * 140_000]


@pytest.mark.parametrize("raw", HEADS)
async def test_head_gets_no_body_even_if_its_header_is_refused(proxy, raw):
    assert (await proxy.ask(raw)).partition(b"\r\n\r\n")[2] == b""


async def test_a_refusal_without_a_route_is_logged(make_proxy, upstream, kit):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}") as proxy:
        told = []
        proxy.relay.context.log.refused = told.append
        await proxy.get(b"/other")
        await proxy.ask(REFUSED["malformed"][0])
        await proxy.ask(REFUSED["expectation"][0])  # it has a route, and so a line of its own
        assert told == ["no-route", "bad-request"]
