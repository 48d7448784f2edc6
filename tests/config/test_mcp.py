"""`mcp`: what it goes with, and the route that it makes."""

from __future__ import annotations

import pytest

from proxy.commands.described import described
from tests.config.conftest import Complaints, Load

MCP = '[credentials.docs]\nmcp = "https://mcp.example/mcp"\n'
ONLY = 'mcp goes with grant = "authorization_code" or "client_credentials" only: expected one of these'
FAULTS = [  # lines of [credentials.docs], without and with mcp
    (
        'mcp = "http://mcp.example/mcp"',
        "2:7: http would expose secrets to the network: expected https (http on",
    ),
    ('mcp = "https://mcp.example/mcp?x=y"', "2:7: no query allowed in this URL: expected https://host/path"),
    ('mcp = "https://mcp.example/mcp#x"', "2:7: a fragment is not allowed in this URL"),
    ('mcp = "https://me:pw@mcp.example/mcp"', "2:7: user and password are not allowed in this URL"),
    ('mcp = "https://mcp.example/a//b"', "2:7: empty, dot or unencoded segments in the path"),
    ("mcp = 5", '2:7: expected a string: "…"'),
    ('mcp = "-flag"', "2:7: expected a URL: https://host/path"),
    (
        'grant = "refresh_token"\nrefresh_token = "x"\nclient_id = "a"\nmcp = "https://mcp.example"',
        f"5:7: {ONLY}",
    ),
    (
        'mcp = "https://mcp.example"\nclient_secret = { env = "S" }\nissuer = "https://login.example"',
        "1:1: client_id is missing - client_secret is that of a client",
    ),
    (
        'mcp = "https://mcp.example"\nclient_id = "a"\nclient_secret = { env = "S" }',
        "1:1: issuer is missing - else the MCP server chooses where client_secret is sent",
    ),
]


@pytest.mark.parametrize(("lines", "expected"), FAULTS)
def test_a_fault_of_mcp_is_told_once(lines: str, expected: str, complaints: Complaints) -> None:
    (complaint,) = complaints(f"[credentials.docs]\n{lines}\n", {"S": "s"})
    assert complaint.startswith(expected)


GOOD = [
    "",
    'grant = "client_credentials"',
    'client_auth = "client_secret_post"',
    'client_auth = "none"',
    'client_id = "a"',
    'client_id = "a"\nclient_secret = { env = "S" }\nissuer = "https://login.example"',
    'client_id = "a"\nclient_secret = { env = "S" }\ntoken_endpoint = "https://login.example/t"',
    'issuer = "https://login.example"',
    'resource = ["https://mcp.example"]\nscopes = ["a"]',
]


@pytest.mark.parametrize("lines", GOOD)
def test_it_needs_little_else(lines: str, complaints: Complaints) -> None:
    assert complaints(f"{MCP}{lines}\n", {"S": "s"}) == []


def test_it_makes_a_route(load_text: Load) -> None:
    config = load_text(MCP).config
    (route,) = config.routes
    assert (route.name, route.path, str(route.upstream)) == ("docs", "/docs", "https://mcp.example/mcp")
    assert (route.credential, route.account) == ("docs", "default")
    assert config.required("docs")


OWN = '[[routes]]\npath = "/{path}"\nupstream = "https://{host}"\ncredential = "{credential}"\n'


def test_a_route_that_names_the_credential_is_the_only_one(load_text: Load) -> None:
    loaded = load_text(MCP + OWN.format(path="tools", host="mcp.example/mcp", credential="docs"))
    assert [route.name for route in loaded.config.routes] == ["tools"]


TAKEN = ["path = '/docs'", "path = '/docs'\nname = 'x'", "path = '/x'\nname = 'docs'"]


@pytest.mark.parametrize("place", TAKEN)
def test_a_route_in_its_place_is_told_at_the_key(place: str, complaints: Complaints) -> None:
    other = '[credentials.crm]\nclient_id = "a"\nissuer = "https://login.example"\n'
    route = f'[[routes]]\n{place}\nupstream = "https://crm.example"\ncredential = "crm"\n'
    (complaint,) = complaints(MCP + other + route)
    assert complaint == (
        "2:7: its route would be /docs, but another route has that name or path - expected a route of its "
        'own: [[routes]] with credential = "docs"'
    )


def test_a_route_of_a_host_may_have_its_path(load_text: Load) -> None:
    other = '[credentials.crm]\nclient_id = "a"\nissuer = "https://login.example"\n'
    route = '[[routes]]\nname = "x"\nhost = "a.localhost"\n' + OWN.format(
        path="docs", host="crm.example", credential="crm"
    ).removeprefix("[[routes]]\n")
    assert [route.name for route in load_text(MCP + other + route).config.routes] == ["x", "docs"]


def test_callers_may_name_its_route(complaints: Complaints) -> None:
    caller = '[callers.build]\nkey_sha256 = "' + "0" * 64 + '"\nroutes = ["docs"]\n'
    assert complaints(MCP + caller) == []


def test_it_is_used_and_there_is_a_route(load_text: Load) -> None:
    assert load_text(MCP).unused == []


def test_a_registered_client_has_a_callback_of_its_own(load_text: Load) -> None:
    """So that of two authorization servers none gets a code of the other (RFC 9700 section 4.4)."""
    for lines, path in [
        ("", "/callback/docs"),
        ('callback = "own"', "/callback/docs"),
        ('callback = "shared"', "/callback"),
        ('client_id = "a"', "/callback"),
    ]:
        config = load_text(MCP + lines).config
        assert config.redirect_uri(config.credentials["docs"]).endswith(f"8081{path}")


def test_two_servers_with_registered_clients_need_no_advice(load_text: Load) -> None:
    second = MCP.replace("docs", "more").replace("mcp.example", "more.example")
    assert load_text(MCP + second).advice == []
    shared = 'callback = "shared"\n'
    (advice,) = load_text(MCP + shared + second + shared).advice
    assert "share the redirect URI" in advice.message


def test_the_effective_configuration_shows_the_route_and_no_uri_to_register(load_text: Load) -> None:
    lines = list(described(load_text(MCP)))
    assert "# redirect URI of the client that is registered: http://127.0.0.1:8081/callback/docs" in lines
    assert any(line.startswith('path = "/docs"') for line in lines)
    assert not any("found" in line for line in lines)


def test_what_only_the_program_sets_is_no_key(complaints: Complaints) -> None:
    (complaint,) = complaints(MCP + "found = {}")
    assert complaint.startswith("3:1: unknown key 'found'")
