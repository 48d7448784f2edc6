"""Policies and a route's own fields, over real connections: what is refused never goes upstream."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from proxy.demo import faults

from .conftest import proxying

KEY = "tpk_" + "k" * 43
AS_BUILD = b"Token-Proxy-Key: " + KEY.encode()


@pytest.fixture
def make(tmp_path, upstream):
    """`async with make(route, caller=…) as proxy`: lines of the route's table, and of a caller's."""

    @asynccontextmanager
    async def make(route="", caller=None, base="/base", **more):
        url = f"http://127.0.0.1:{upstream.port}{base}"
        tables = "" if caller is None else f'[callers.build]\nkey = "{KEY}"\n{caller}\n'
        async with proxying(tmp_path, url, route=route, limits=tables, **more) as made:
            yield made

    return make


@pytest.fixture
def ask(kit):
    """The status and the problem of a request, in full."""

    async def ask(proxy, method, path, *lines):
        sent = kit.request(method, path, *lines, b"Connection: close")
        status, _, body = kit.split(await proxy.ask(sent))
        return status, json.loads(body) if status >= 400 and body else None

    return ask


READ_ONLY = """
methods = ["GET", "HEAD"]
allow = ["/messages/**", "/labels"]
deny = ["/messages/*/send"]
"""
METHOD = "the route's policy does not permit this method: see its `methods`"
PATH = "the route's policy does not permit this path"
FIELD = "the route's policy does not permit fields that override the method or the path"
REQUESTS = [  # method, path, fields, the detail of the refusal
    (b"GET", b"/up/messages/1", [], None),
    (b"GET", b"/up/messages", [], None),
    (b"GET", b"/up/messages?x=/send", [], None),
    (b"GET", b"/up//messages/1/", [], None),
    (b"GET", b"/up/%256Dessages/1", [], None),
    (b"GET", b"/up/messages;v=1/1", [], None),
    (b"HEAD", b"/up/labels", [], None),
    (b"GET", b"/up/messages/a%2Fb", [], None),
    (b"POST", b"/up/messages/1", [], METHOD),
    (b"OPTIONS", b"/up/messages/1", [], METHOD),
    (b"GET", b"/up", [], PATH),
    (b"GET", b"/up/", [], PATH),
    (b"GET", b"/up/Messages", [], PATH),
    (b"GET", b"/up/drafts", [], PATH),
    (b"GET", b"/up/messages%2F1", [], PATH),
    (b"GET", b"/up/messages/1/send", [], PATH),
    (b"GET", b"/up/messages/1/%73end", [], PATH),
    (b"GET", b"/up/messages/1/%252573end", [], PATH),
    (b"GET", b"/up/messages/1%2Fsend", [], PATH),
    (b"GET", b"/up/messages/1;x/send;y", [], PATH),
    (b"GET", b"/up/messages//1//send//", [], PATH),
    (b"GET", b"/up/messages/1", [b"X-HTTP-Method-Override: DELETE"], FIELD),
    (b"GET", b"/up/messages/1", [b"x_http_method: DELETE"], FIELD),
    (b"GET", b"/up/messages/1", [b"X-METHOD-OVERRIDE: GET"], FIELD),
    (b"GET", b"/up/messages/1", [b"X-Original-URL: /drafts"], FIELD),
    (b"GET", b"/up/messages/1", [b"X_Rewrite_Url: /drafts"], FIELD),
    (b"GET", b"http://localhost/up/drafts", [], PATH),
]


async def test_only_what_the_routes_policy_permits_goes_upstream(make, upstream, ask):
    async with make(READ_ONLY) as proxy:
        passed = 0
        for method, path, lines, detail in REQUESTS:
            status, problem = await ask(proxy, method, path, *lines)
            if detail is None:
                passed += 1
                assert status == 200, path
            else:
                assert (status, problem["detail"]) == (403, detail), path
                assert problem["type"] == "urn:token-proxy:problem:policy-denied"
            assert upstream.requests == passed, path
        assert proxy.refused("policy-denied") == len(REQUESTS) - passed
        assert proxy.sample("requests_total", route="up", method="POST", code="403") == 1


@pytest.mark.parametrize("strip", ["true", "false"])
async def test_patterns_are_below_the_prefix_whether_it_is_sent_or_not(make, upstream, ask, strip):
    async with make(f'allow = ["/a"]\nstrip_path = {strip}') as proxy:
        assert (await ask(proxy, b"GET", b"/up/a"))[0] == 200
        assert (await ask(proxy, b"GET", b"/up/up/a"))[0] == 403
    (received,) = upstream.received
    assert received.startswith(b"GET /base/a " if strip == "true" else b"GET /base/up/a ")


async def test_only_routes_with_patterns_refuse_a_long_path(make, upstream, ask):
    path = b"/up/" + b"a" * 10_000
    for line, status in (('methods = ["GET"]', 200), ('deny = ["/x"]', 403)):
        async with make(line) as proxy:
            assert (await ask(proxy, b"GET", path))[0] == status


async def test_empty_lists_permit_nothing(make, upstream, ask):
    for line, status in (("methods = []", 403), ("allow = []", 403), ("deny = []", 200)):
        async with make(line) as proxy:
            assert (await ask(proxy, b"GET", b"/up/x"))[0] == status
    assert upstream.requests == 1


async def test_the_policy_comes_before_the_account_and_the_token(make, upstream, ask):
    """Nothing is asked of the authorization server, and the missing account is not the reason."""
    async with make('deny = ["/x"]\naccount = { header = "X-Account" }', grant="authorization_code") as proxy:
        status, problem = await ask(proxy, b"GET", b"/up/x")
        assert (status, problem["detail"]) == (403, PATH)
        assert (await ask(proxy, b"GET", b"/up/y"))[0] == 400
    async with make('deny = ["/x"]') as proxy:
        proxy.server.script(faults.NAMED["invalid-client"])
        status, problem = await ask(proxy, b"GET", b"/up/x", b"Expect: nothing")
        assert (status, problem["detail"]) == (403, PATH)
        assert not proxy.server.token_requests


async def test_a_caller_narrows_the_route(make, upstream, ask):
    caller = 'methods = ["GET", "POST"]\nallow = ["/messages/*", "/drafts/**"]'
    async with make(READ_ONLY, caller) as proxy:
        told = [
            await ask(proxy, method, path, AS_BUILD)
            for method, path in (
                (b"GET", b"/up/messages/1"),
                (b"DELETE", b"/up/messages/1"),
                (b"POST", b"/up/messages/1"),
                (b"GET", b"/up/labels"),
                (b"GET", b"/up/drafts/1"),
                (b"GET", b"/up/messages/1/2"),
            )
        ]
    assert [problem and problem["detail"].split("'")[0] for _, problem in told] == [
        None,
        "the route",
        "the route",
        "the caller",
        "the route",
        "the caller",
    ]
    assert upstream.requests == 1


async def test_a_caller_that_may_not_use_the_route_is_told_that_first(make, upstream, ask):
    async with make('deny = ["/x"]', 'routes = []\ndeny = ["/x"]') as proxy:
        _, problem = await ask(proxy, b"GET", b"/up/x", AS_BUILD)
        assert problem["type"].endswith(":caller-denied")
        assert (await ask(proxy, b"GET", b"/up/x"))[1]["type"].endswith(":caller-unknown")


DESTINATIONS = [  # Destination of a COPY, the status
    (b"/up/files/b", 200),
    (b"http://localhost/up/files/b", 200),
    (b"/up/secret/b", 403),
    (b"http://localhost/up/secret/b", 403),
    (b"/up/files/%2e%2e/secret", 400),  # a 400 before
    (b"/other/files/b", 403),
    (b"files/b", 403),
    (b"//localhost/up/files/b", 403),
    (b"https://elsewhere.example/up/files/b", 403),  # it may be the upstream's own name
]


@pytest.mark.parametrize(("destination", "expected"), DESTINATIONS)
async def test_what_webdav_writes_to_is_judged_too(make, upstream, ask, destination, expected):
    async with make('allow = ["/files/**"]') as proxy:
        status, problem = await ask(proxy, b"COPY", b"/up/files/a", b"Destination: " + destination)
        assert status == expected, problem
        assert upstream.requests == (expected == 200)


OWN_FIELDS = """
headers = { Notion-Version = "2022-06-28", X-Tenant = "acme" }
drop = ["X-Api-Key", "anthropic-beta"]
"""


def fields_received(upstream):
    """The field lines of each request; none has a body."""
    heads = b"".join(upstream.received).split(b"\r\n\r\n")
    return [head.split(b"\r\n")[1:] for head in heads if head]


async def test_a_route_sets_and_drops_fields(make, upstream):
    async with make(OWN_FIELDS) as proxy:
        await proxy.get(b"/up/x", b"A: 1")
        await proxy.get(
            b"/up/x",
            b"notion-version: 1999",
            b"Notion_Version: 1998",
            b"X-Tenant: other",
            b"X-API-KEY: dummy",
            b"x_api_key: dummy",
            b"Anthropic-Beta: x",
            b"A: 1",
            b"X-Api-Key-Id: stays",
        )
    plain, full = fields_received(upstream)
    ours = [b"Notion-Version: 2022-06-28", b"X-Tenant: acme"]
    assert plain[1:4] == [b"A: 1", *ours]
    assert full[1:5] == [b"A: 1", b"X-Api-Key-Id: stays", *ours]
    assert [line.partition(b":")[0] for line in full[5:]] == [b"Authorization", b"Via"]


async def test_requests_with_the_same_head_do_not_share_changes(make, upstream):
    """Parsed heads are shared: what one route adds to a request must not show in the next."""
    async with make('headers = { X-Tenant = "acme" }') as proxy:
        for _ in range(3):
            await proxy.get(b"/up/x", b"A: 1")
    counts = [lines.count(b"X-Tenant: acme") for lines in fields_received(upstream)]
    assert counts == [1, 1, 1]


async def test_own_fields_do_not_come_in_as_trailers_either(make, upstream, kit):
    route = (
        'headers = { X-Tenant = "acme" }\ndrop = ["X-Api-Key"]\nmethods = ["POST"]\nallow = ["/**"]\n'
        'account = { header = "X-Account" }'
    )
    async with make(route, grant="authorization_code") as proxy:
        await proxy.adopt("token", "alice")
        trailers = b"\r\n".join(
            [
                *(b"X-Tenant: other", b"X_Api_Key: dummy", b"X-Account: bob"),
                *(b"X-HTTP-Method-Override: DELETE", b"X-Original-Url: /y", b"Digest: stays", b"", b""),
            ]
        )
        lines = b"Transfer-Encoding: chunked", b"X-Account: alice", b"Connection: close"
        sent = kit.request(b"POST", b"/up/x", *lines, body=b"2\r\nhi\r\n0\r\n" + trailers)
        assert b" 200 " in await proxy.ask(sent)
        await asyncio.sleep(0)
    (received,) = upstream.received
    assert received.endswith(b"\r\n2\r\nhi\r\n0\r\nDigest: stays\r\n\r\n")


async def test_a_route_without_such_keys_forwards_all_of_it(make, upstream, ask):
    lines = b"X-HTTP-Method-Override: DELETE", b"X-Original-URL: /y", b"X-Api-Key: k", b"x_http_method: PUT"
    async with make() as proxy:
        assert (await ask(proxy, b"POST", b"/up/x%2Fy", *lines))[0] == 200
        assert proxy.runtime.policy is None
        assert proxy.runtime.own_fields is None
    (received,) = fields_received(upstream)
    assert set(lines) <= set(received)
