"""Policies and a route's own fields: each fault, with its line and column, and what is understood."""

import pytest

from proxy.config import policy
from proxy.config.route_fields import plain
from proxy.http import fields, message
from proxy.relay import problems

from .conftest import Complaints, Load

START = """\
credentials.crm = { client_id = "app", issuer = "https://login.example" }
[callers.build]
key = { env = "KEY" }
[[routes]]
path = "/x"
upstream = "https://api.example"
credential = "crm"
"""
ENVIRON = {"KEY": "tpk_" + "k" * 43, "TENANT": "acme", "ODD": "a\nb"}
SLASH = 'expected a pattern that begins with /, like "/messages/*" or "/messages/**"'
DECODED = "paths are compared decoded, without parameters and query: expected no %, ;, ? or #"
CHARACTER = "a character that paths do not have: expected * for any segment, or part of one"
EMPTY = "empty segments are not compared: expected no // and no / at the end"
DOTS = "such a path is never relayed: expected no segments . and .."
WHOLE = '** is a whole segment: expected "/messages/*" or "/messages/**"'
PATTERNS = [
    ("/", None),
    ("/**", None),
    ("/messages/**", None),
    ("/messages/*/send", None),
    ("/v1.*/*.json", None),
    ("/**/a/**/b", None),
    ("/ünï cödé", None),
    ("/v1/{id}:cancel", CHARACTER),
    ("/users/{id}", CHARACTER),
    ("/users/[0-9]", CHARACTER),
    ("/users/<id>", CHARACTER),
    ("^/users", SLASH),
    ("messages", SLASH),
    ("*", SLASH),
    ("", SLASH),
    ("/a%20b", DECODED),
    ("/a?b", DECODED),
    ("/a#b", DECODED),
    ("/a;b", DECODED),
    ("/a\\\\b", CHARACTER),
    ("/a\\tb", CHARACTER),
    ("//", EMPTY),
    ("/a/", EMPTY),
    ("/a//b", EMPTY),
    ("/a/../b", DOTS),
    ("/./a", DOTS),
    ("/a**", WHOLE),
    ("/**.json", WHOLE),
    ("/***", WHOLE),
]
COUNTERPART = 'methods are case-sensitive: expected "GET"'
FORWARDED = "expected forwarded = true, which sends X-Forwarded-For, -Proto and -Host"
OWNED = "this field depends on the connection or the request: expected another field"
VALUE = "expected a field's value: visible ASCII characters, with spaces between them only"
NOT_DROPPED = "this field belongs to the connection, not to the caller: expected another field"
PASS = (
    "the token of credential 'crm' goes into Authorization: expected \"replace\", or that its `attach` has "
    "another field"
)
LINES = [  # on line 8
    ('methods = ["GET", "M-SEARCH"]', []),
    ("methods = []", []),
    ('methods = ["get"]', [f"8:12: {COUNTERPART}"]),
    ('methods = ["GET", "FETCH"]', ['8:19: expected a method of HTTP, like "GET"']),
    (
        'methods = ["trace", "CONNECT"]',
        ["8:12: TRACE and CONNECT are never relayed: expected other methods"] * 2,
    ),
    ('methods = "GET"', ['8:11: expected a list: methods = ["…"]']),
    ('allow = "/a"', ['8:9: expected a list: allow = ["…"]']),
    ("allow = [1]", ['8:10: expected a string: "…"']),
    ("deny = []", []),
    ('headers = { Notion-Version = "2022-06-28", X-Tenant = { env = "TENANT" } }', []),
    ("headers = { A = '' }", ["8:17: an empty secret - give one, or leave the key out"]),
    ('headers = { A = "a\\nb" }', [f"8:17: {VALUE}"]),
    ('headers = { A = " a" }', [f"8:17: {VALUE}"]),
    ('headers = { A = "ä" }', [f"8:17: {VALUE}"]),
    ('headers = { A = { env = "ODD" } }', [f"8:17: {VALUE}"]),
    (
        'headers = { A = { env = "NONE" } }',
        ["8:17: the environment variable NONE is not set - set it before token-proxy starts"],
    ),
    ('headers = { "a b" = "x" }', ["8:13: expected the name of a header field, like Token-Proxy-Account"]),
    (
        'headers = { Authorization = "x" }',
        ["8:13: the token goes into Authorization: expected another field"],
    ),
    (
        'headers = { authorization_ = "x" }',
        ["8:13: the token goes into Authorization: expected another field"],
    ),
    ('headers = { X-Forwarded-Host = "x" }', [f"8:13: {FORWARDED}"]),
    ('headers = { x_forwarded_prefix = "x" }', [f"8:13: {FORWARDED}"]),
    ('headers = { Forwarded = "x" }', [f"8:13: {FORWARDED}"]),
    *[
        (f'headers = {{ {name} = "x" }}', [f"8:13: {OWNED}"])
        for name in ("Host", "Content-Length", "transfer_encoding", "Connection", "TE", "Via", "If", "Expect")
    ],
    (
        'headers = { X-A = "1", x_a = "2" }',
        ["8:11: two of these names are the same field to an upstream: expected each field once"],
    ),
    ('drop = ["X-Api-Key", "anthropic-beta"]', []),
    ('drop = "X-Api-Key"', ['8:8: expected a list: drop = ["…"]']),
    ('drop = ["Host", "content_length"]', [f"8:9: {NOT_DROPPED}", f"8:17: {NOT_DROPPED}"]),
    ('caller_authorization = "replace"', []),
    ('caller_authorization = "pass"', [f"8:24: {PASS}"]),
    ('caller_authorization = "drop"', ['8:24: expected "replace" or "pass"']),
]


@pytest.mark.parametrize(("pattern", "sentence"), PATTERNS)
def test_patterns(pattern: str, sentence: str | None, complaints: Complaints) -> None:
    for key in ("allow", "deny"):
        found = complaints(f'{START}{key} = ["/a", "{pattern}"]', ENVIRON)
        place = {"allow": "8:16", "deny": "8:15"}[key]
        assert found == ([] if sentence is None else [f"{place}: {sentence}"])


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_a_line_of_a_route(line: str, expected: list[str], complaints: Complaints) -> None:
    found = complaints(START + line, ENVIRON)
    assert [each.partition(": ")[2] for each in found] == [each.partition(": ")[2] for each in expected]
    assert set(found) >= set(expected)


def test_a_callers_policy_has_the_same_keys_and_faults(complaints: Complaints, load_text: Load) -> None:
    caller = 'methods = ["get"]\nallow = ["a"]\ndeny = ["/**x"]\n'
    text = START.replace("[[routes]]", f"{caller}[[routes]]")
    assert complaints(text, ENVIRON) == [f"4:12: {COUNTERPART}", f"5:10: {SLASH}", f"6:9: {WHOLE}"]
    text = text.replace("get", "GET").replace('"a"', '"/a"').replace("/**x", "/**")
    caller_table = load_text(text, ENVIRON).config.callers["build"]
    assert (caller_table.methods, caller_table.allow, caller_table.deny) == (("GET",), ("/a",), ("/**",))


def test_the_account_field_is_the_callers(complaints: Complaints) -> None:
    lines = 'account = { header = "X-Account" }\nheaders = { x_account = "a" }'
    assert complaints(START + lines, ENVIRON) == [
        "9:11: callers name the account in X-Account: expected other fields"
    ]


def test_without_the_keys_a_route_permits_everything(load_text: Load) -> None:
    (route,) = load_text(START, ENVIRON).config.routes
    assert (route.methods, route.allow, route.deny, route.headers, route.drop) == (None, None, None, {}, ())


def test_values_of_fields_are_secrets(load_text: Load, complaints: Complaints) -> None:
    (route,) = load_text(START + 'headers = { X-Tenant = { env = "TENANT" } }', ENVIRON).config.routes
    assert route.headers["X-Tenant"].reveal() == "acme"
    assert "acme" not in repr(route)


def test_a_fault_does_not_show_the_value_of_a_field(load_text: Load) -> None:
    from proxy.errors import ConfigError

    with pytest.raises(ConfigError) as failure:
        load_text(START + 'headers = { Host = "hunter2", B = "hunter2 " }', ENVIRON)
    assert "hunter2" not in str(failure.value)
    assert "Host" in str(failure.value)


WARNED = [
    ('allow = ["/x/messages"]', ["8:10"]),
    ('deny = ["/x", "/x/**", "/xy", "/**"]', ["8:9", "8:15"]),
]


@pytest.mark.parametrize(("line", "places"), WARNED)
def test_patterns_that_repeat_the_routes_path_are_warned_about(
    line: str, places: list[str], load_text: Load
) -> None:
    warnings = load_text(START + line, ENVIRON).warnings
    assert [f"{each.line}:{each.column}" for each in warnings] == places
    for each in warnings:
        assert each.message == "patterns are compared below the route's path: did you mean it without /x?"


def test_a_literal_value_of_a_field_that_looks_secret_is_warned_about(load_text: Load) -> None:
    line = 'headers = { X-Version = "1", X-Api-Key = "hunter2", Cookie = { env = "TENANT" } }'
    (warning,) = load_text(START + line, ENVIRON).warnings
    assert (warning.line, warning.column) == (8, line.index('"hunter2"') + 1)
    assert "a secret in the configuration file itself" in warning.message
    assert "hunter2" not in warning.render("config.toml")


def test_the_methods_are_those_that_are_relayed() -> None:
    assert {name.encode() for name in policy.METHODS} == message.METHODS - problems.REFUSED_METHODS
    assert {name.encode() for name in policy.NEVER} == problems.REFUSED_METHODS


@pytest.mark.parametrize("name", ["X-Api-Key", "x_api_key", "_X-Api_Key-", "-", "Host_"])
def test_names_are_compared_as_on_the_data_path(name: str) -> None:
    assert plain(name).encode() == fields.plain(name.encode())
