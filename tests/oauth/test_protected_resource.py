"""From the URL of an MCP server to its authorization server: RFC 9728, and MCP's own earlier ways."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.config.found import Found
from proxy.demo.serve import running
from proxy.errors import AuthorizationServerError
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.fetch import Reply
from proxy.oauth.protected_resource import challenged, covers
from tests.fakes.mcp import PLACE, mcp_world

INSERTED = f"GET {PLACE}/mcp"
PROBE = "GET /mcp"
ROOT = f"GET {PLACE}"


@pytest.fixture
async def world():
    async with mcp_world() as made:
        yield made


@pytest.fixture
def found(credential, servers, world):
    """What is found for the MCP server, with more keys of its credential."""

    async def find(**fields):
        return await servers.protected_resource(credential(mcp=world.mcp.url, client_id=None, **fields))

    return find


async def error_of(finding):
    with pytest.raises(AuthorizationServerError) as caught:
        await finding
    assert caught.value.__cause__ is None
    return caught.value.error


async def test_metadata_at_the_place_of_the_url_are_enough(found, world):
    world.mcp.documents[f"{PLACE}/mcp"]["scopes_supported"] = ["a", "b c", 7, 'x"y', "d:e"]
    assert await found() == _found(world, scopes=("a", "d:e"))
    assert world.mcp.hits == [INSERTED]


def _found(world, **fields):
    return Found(**{"issuer": world.auth.issuer, "resource": world.mcp.url, **fields})


async def test_else_those_that_the_challenge_names(found, world):
    world.mcp.documents["/where/ever"] = world.mcp.documents.pop(f"{PLACE}/mcp")
    origin = world.mcp.url.removesuffix("/mcp")
    world.mcp.challenge = f'Bearer error="x", scope="a b", resource_metadata="{origin}/where/ever"'
    assert await found() == _found(world, scopes=("a", "b"))
    assert world.mcp.hits == [INSERTED, PROBE, "GET /where/ever"]


async def test_else_those_of_the_origin(found, world):
    document = world.mcp.documents.pop(f"{PLACE}/mcp")
    world.mcp.documents[PLACE] = {**document, "resource": world.mcp.url.removesuffix("/mcp")}
    assert await found() == _found(world, resource=world.mcp.url.removesuffix("/mcp"))
    assert world.mcp.hits == [INSERTED, PROBE, ROOT]


SLASHES = ["", "/"]


@pytest.mark.parametrize("slash", SLASHES)
async def test_else_the_origin_is_the_issuer(found, world, slash):
    """MCP 2025-03-26."""
    origin = world.mcp.url.removesuffix("/mcp")
    document = {"issuer": origin + slash, "token_endpoint": f"{origin}/t"}
    world.mcp.documents = {"/.well-known/oauth-authorization-server": document}
    assert await found() == _found(world, issuer=origin + slash)


@pytest.mark.parametrize("said", SLASHES)
@pytest.mark.parametrize("named", SLASHES)
async def test_an_origin_is_an_issuer_with_and_without_a_slash(found, world, said, named):
    issuer = world.auth.issuer
    world.auth.metadata = {"issuer": issuer + named}
    world.mcp.documents[f"{PLACE}/mcp"]["authorization_servers"] = [issuer + said, "https://other.example"]
    assert await found() == _found(world, issuer=issuer + named)


async def test_metadata_of_another_issuer_are_refused(found, world):
    world.auth.metadata = {"issuer": "https://other.example"}
    assert await error_of(found()) == "issuer_mismatch"


async def test_without_any_metadata_the_endpoints_are_at_the_places_of_old(found, world):
    world.mcp.documents.clear()
    origin = world.mcp.url.removesuffix("/mcp")
    endpoints = (
        ("authorization_endpoint", f"{origin}/authorize"),
        ("token_endpoint", f"{origin}/token"),
        ("registration_endpoint", f"{origin}/register"),
    )
    assert await found() == _found(world, issuer="", endpoints=endpoints)


async def test_a_configured_issuer_needs_no_metadata(found, world):
    world.mcp.documents.clear()
    assert await found(issuer="https://login.example") == _found(world, issuer="https://login.example")
    world.mcp.documents[f"{PLACE}/mcp"] = {"resource": world.mcp.url, "authorization_servers": ["x"]}
    assert await found(issuer="https://login.example") == _found(world, issuer="https://login.example")


async def test_a_place_at_another_origin_is_not_asked(found, world, make_puppet):
    world.mcp.documents.clear()
    async with make_puppet() as elsewhere:
        elsewhere.says("/meta", {"resource": world.mcp.url, "authorization_servers": [world.auth.issuer]})
        for place in (
            f"{elsewhere.url}/meta",
            f"{elsewhere.url}@{world.mcp.url}",
            "file:///etc/passwd",
            "-x",
        ):
            world.mcp.challenge = f'Bearer resource_metadata="{place}"'
            assert (await found()).issuer == ""
        assert elsewhere.hits == []


STRANGE = [
    "https://other.example/mcp",
    "",
    7,
    None,
    "/mcp",
    "{url}/more",
    "{url}x",
    "{url}?x=y",
    "{url}#x",
    "mcp",
]


@pytest.mark.parametrize("resource", STRANGE)
async def test_metadata_of_another_resource_are_refused(found, world, resource):
    if isinstance(resource, str):
        resource = resource.replace("{url}", world.mcp.url)
    world.mcp.documents[f"{PLACE}/mcp"]["resource"] = resource
    assert await error_of(found()) == "resource_mismatch"
    assert world.auth.hits == []


SERVERS = [
    (None, "mcp_no_authorization"),
    ([], "mcp_no_authorization"),
    ("https://login.example", "mcp_no_authorization"),
    (["http://login.example"], "mcp_unsafe_issuer"),
    (["javascript:alert(1)"], "mcp_unsafe_issuer"),
    (["file:///etc/passwd"], "mcp_unsafe_issuer"),
    (["-flag"], "mcp_unsafe_issuer"),
    (["https://login.example?x"], "mcp_unsafe_issuer"),
    ([7], "mcp_unsafe_issuer"),
]


@pytest.mark.parametrize(("servers_", "error"), SERVERS)
async def test_metadata_without_a_safe_server_are_refused(found, world, servers_, error):
    world.mcp.documents[f"{PLACE}/mcp"]["authorization_servers"] = servers_
    assert await error_of(found()) == error


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_trouble_is_not_taken_for_missing_metadata(found, world, status):
    world.mcp.status = status
    assert await error_of(found()) == "mcp_error"
    assert world.mcp.hits == [INSERTED]


ELSEWHERE = [
    web.Response(status=301, headers={"Location": "https://login.example"}),
    web.Response(status=308, headers={"Location": "/moved"}),
    web.Response(status=403),
    web.Response(text="<html>", content_type="text/html"),
    web.json_response(["resource"]),
    web.json_response({}),
]


@pytest.mark.parametrize("response", ELSEWHERE, ids=lambda each: f"{each.status} {each.text}")
async def test_what_is_no_metadata_is_passed_over_and_no_redirect_followed(found, world, response):
    world.mcp.documents[PLACE] = world.mcp.documents[f"{PLACE}/mcp"]
    world.mcp.documents["/moved"] = world.mcp.documents[PLACE]
    world.mcp.documents[f"{PLACE}/mcp"] = response
    assert await found() == _found(world)
    assert world.mcp.hits == [INSERTED, PROBE, ROOT]


async def test_a_dead_mcp_server_is_named_with_the_cause(credential, servers):
    client = credential(mcp="http://127.0.0.1:1/mcp", client_id=None)
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.protected_resource(client)
    assert (caught.value.error, caught.value.outcome) == ("mcp_unreachable", "transient")
    assert "refused" in caught.value.cause_sentence


async def test_a_stream_that_never_ends_does_not_hold_the_search_for_ever(impatient, credential, clock):
    """An MCP server without authorization may open its event stream for the probe."""

    async def stream(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    app = web.Application()
    app.router.add_get("/mcp", stream)
    async with running(app) as url:
        client = credential(mcp=f"{url}/mcp", client_id=None)
        finding = AuthorizationServers(impatient, clock).protected_resource(client)
        assert await error_of(finding) == "mcp_unreachable"


COVERED = [
    ("https://a.example/mcp", True),
    ("https://a.example/mcp/", True),
    ("https://A.example:443/mcp", True),
    ("https://a.example", True),
    ("https://a.example/", True),
    ("https://a.example/mc", False),
    ("https://a.example/mcp/x", False),
    ("https://a.example/MCP", False),
    ("https://a.example:444/mcp", False),
    ("http://a.example/mcp", False),
    ("https://b.example/mcp", False),
    ("https://a.example.b.example/mcp", False),
    ("https://a.example/mcp?", False),
]


@pytest.mark.parametrize(("resource", "is_covered"), COVERED)
def test_a_resource_is_the_server_or_above_it(resource, is_covered):
    assert covers(resource, "https://a.example/mcp") is is_covered


@given(st.text() | st.integers() | st.none())
def test_any_resource_can_be_judged(resource):
    assert covers(resource, "https://a.example/mcp") in {True, False}


CHALLENGES = [
    (['Bearer resource_metadata="https://x/y"'], {"resource_metadata": "https://x/y"}),
    (["Bearer resource_metadata=https://x/y, scope=a"], {"resource_metadata": "https://x/y", "scope": "a"}),
    (['Basic realm="x"', 'bearer Scope="a b"'], {"scope": "a b"}),
    (['Basic realm="x", Bearer scope="a", scope="b"'], {"scope": "a"}),
    (['Bearer x_resource_metadata="https://x/y"'], {}),
    (["Bearer"], {}),
    ([], {}),
    (['Bearer scope="a\\"b"'], {}),
]


@pytest.mark.parametrize(("fields", "expected"), CHALLENGES)
def test_what_a_challenge_says(fields, expected):
    headers = CIMultiDict([("WWW-Authenticate", each) for each in fields])
    assert challenged(Reply(401, headers, b"")) == expected
    assert challenged(Reply(200, headers, b"")) == {}
