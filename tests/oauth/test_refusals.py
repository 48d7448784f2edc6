"""The subject of an error response: the server, the client, or one account (DESIGN 2.4)."""

from __future__ import annotations

import json

import pytest

from proxy.errors import NO_RESPONSE, AuthorizationServerError
from proxy.oauth import fetch
from proxy.oauth.token_response import parse

HTML = b"<!doctype html><title>Are you a robot?</title>"
ROWS = [  # status, header fields, body, about, refusal
    (400, {}, {"error": "inactive_user"}, "account", True),
    (401, {}, {"error": "invalid_request"}, "account", True),
    (403, {}, {"error": "access_denied"}, "account", True),
    (400, {}, b"", "account", True),
    (403, {"Content-Type": "text/html"}, b"", "account", True),  # an empty page is not HTML
    (400, {}, {"errors": [{"errorType": "invalid_token"}]}, "account", True),
    (403, {"Content-Type": "text/html"}, HTML, "account", False),
    (403, {"Content-Type": "text/plain"}, HTML, "account", False),
    (403, {"Retry-After": "5"}, {"message": "later"}, "server", False),
    (400, {"Retry-After": "5"}, {"error": "invalid_grant"}, "server", False),
    (400, {}, {"error": "temporarily_unavailable"}, "account", False),
    (401, {}, {"error": "invalid_client"}, "client", False),
    (400, {}, {"error": "unauthorized_client"}, "client", False),
    (400, {}, {"error": "unsupported_grant_type"}, "client", False),
    (400, {}, {"error": "invalid_scope"}, "client", False),
    (404, {}, b"", "account", False),
    (429, {}, {"error": "slow_down"}, "server", False),
    (500, {}, {"error": "invalid_grant"}, "server", False),
    (520, {}, HTML, "server", False),
    (200, {}, HTML, "account", False),
]


@pytest.mark.parametrize(("status", "fields", "body", "about", "refusal"), ROWS)
def test_it_is_about(status, fields, body, about, refusal):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(AuthorizationServerError) as caught:
        parse(status, fields, raw)
    assert (caught.value.about, caught.value.refusal) == (about, refusal)


def test_every_call_without_a_response_is_about_the_server():
    assert {name for _, name, _ in fetch._FAILURES} == NO_RESPONSE
    for _, name, reached in fetch._FAILURES:
        error = AuthorizationServerError("transient", name, reached=reached)
        assert (error.about, error.is_lost) == ("server", reached)
