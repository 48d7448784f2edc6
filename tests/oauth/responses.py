"""Answers of token endpoints, as servers and what stands before them really give them."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

GOOD: dict[str, Any] = {"access_token": "AT-1", "token_type": "Bearer", "expires_in": 3600}
REFUSED = ("transient", "misconfigured", "login_required")


@dataclass(frozen=True)
class Given:
    """What is taken from a good answer; the refresh token None: the old one stays."""

    access_token: str = "AT-1"
    lifetime: float | None = 3600.0
    refresh_token: str | None = None
    refresh_lifetime: float | None = None
    scope: str = ""


@dataclass(frozen=True)
class Row:
    """An answer, and what it comes to: a Given, or outcome and error."""

    name: str
    comes_to: Given | tuple[str, str]
    body: bytes | dict[str, Any] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()

    @property
    def fields(self) -> dict[str, str]:
        return {"Content-Type": "application/json", **self.headers}


def good(**members: Any) -> dict[str, Any]:
    """A good answer but for these members; None leaves one out."""
    return {name: value for name, value in {**GOOD, **members}.items() if value is not None}


def spelt(text: str) -> bytes:
    """A good answer with one more member, spelt out."""
    return (json.dumps(GOOD)[:-1] + f", {text}}}").encode()


HTML = b"<!doctype html><title>Sign in to Wi-Fi</title>"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
GZIP = {"Content-Encoding": "gzip"}
NOT_JSON = ("transient", "not_json")
NO_TOKEN = ("transient", "no_access_token")
WRONG_TYPE = ("misconfigured", "token_type")

ROWS = [
    # the status decides
    Row("429 with JSON and no error", ("transient", "http_429"), {"message": "rate limited"}, 429),
    Row("429 with a token", ("transient", "http_429"), good(), 429),
    Row("408", ("transient", "http_408"), b"", 408),
    Row("425", ("transient", "http_425"), b"", 425),
    Row("403 with JSON and no error", ("transient", "http_403"), {"message": "forbidden by WAF"}, 403),
    Row("403 with HTML", ("transient", "http_403"), HTML, 403, {"Content-Type": "text/html"}),
    Row("404", ("transient", "http_404"), b"not found", 404),
    Row("401 with an empty body", ("transient", "http_401"), b"", 401),
    Row("500 that says invalid_grant", ("transient", "http_500"), {"error": "invalid_grant"}, 500),
    Row("503 with HTML", ("transient", "http_503"), HTML, 503, {"Content-Type": "text/html"}),
    Row("a status that nobody registered", ("transient", "other"), b"", 599),
    Row("201 with a token", ("transient", "http_201"), good(), 201),
    Row("302", ("misconfigured", "redirect"), good(), 302, {"Location": "https://login.example/"}),
    Row("307", ("misconfigured", "redirect"), b"", 307, {"Location": "https://evil.example/token"}),
    # errors by name
    Row("invalid_grant", ("login_required", "invalid_grant"), {"error": "invalid_grant"}, 400),
    Row("invalid_grant with 401", ("login_required", "invalid_grant"), {"error": "invalid_grant"}, 401),
    Row("invalid_client", ("misconfigured", "invalid_client"), {"error": "invalid_client"}, 401),
    Row("invalid_request", ("misconfigured", "invalid_request"), {"error": "invalid_request"}, 400),
    Row("invalid_scope", ("misconfigured", "invalid_scope"), {"error": "invalid_scope"}, 400),
    Row("invalid_target", ("misconfigured", "invalid_target"), {"error": "invalid_target"}, 400),
    Row(
        "unauthorized_client", ("misconfigured", "unauthorized_client"), {"error": "unauthorized_client"}, 400
    ),
    Row(
        "unsupported_grant_type",
        ("misconfigured", "unsupported_grant_type"),
        {"error": "unsupported_grant_type"},
        400,
    ),
    Row(
        "temporarily_unavailable",
        ("transient", "temporarily_unavailable"),
        {"error": "temporarily_unavailable"},
        400,
    ),
    Row("an error that nobody knows", ("transient", "other"), {"error": "<script>alert(1)</script>"}, 400),
    Row("an error that is an object", ("transient", "other"), {"error": {"code": 190}}, 400),
    Row("a GitHub error with 200", ("login_required", "bad_refresh_token"), {"error": "bad_refresh_token"}),
    Row(
        "a Slack error with 200", ("login_required", "token_revoked"), {"ok": False, "error": "token_revoked"}
    ),
    Row(
        "a Microsoft error",
        ("login_required", "interaction_required"),
        {"error": "interaction_required"},
        400,
    ),
    # bodies
    Row("HTML with 200", NOT_JSON, HTML, 200, {"Content-Type": "text/html"}),
    Row("nothing", NOT_JSON, b""),
    Row("an empty object", NO_TOKEN, b"{}"),
    Row("a list", NOT_JSON, b"[]"),
    Row("null", NOT_JSON, b"null"),
    Row("a string", NOT_JSON, b'"AT-1"'),
    Row("truncated", NOT_JSON, json.dumps(GOOD).encode()[:-2]),
    Row("more after the end", NOT_JSON, json.dumps(GOOD).encode() * 2),
    Row("a name that stands twice", NOT_JSON, spelt('"access_token": "AT-2"')),
    Row("a byte order mark", Given(), b"\xef\xbb\xbf" + json.dumps(GOOD).encode()),
    Row("UTF-16", NOT_JSON, json.dumps(GOOD).encode("utf-16")),
    Row("bytes that are no UTF-8", NOT_JSON, b'{"access_token": "\xff"}'),
    Row("NaN", NOT_JSON, b'{"access_token": "AT-1", "token_type": "Bearer", "expires_in": NaN}'),
    Row("a million brackets", ("transient", "too_large"), b"[" * 1_000_000),
    Row("many brackets within the limit", NOT_JSON, b"[" * 200_000),
    Row("a number of 5000 digits", NOT_JSON, spelt('"x": ' + "9" * 5000)),
    Row("one megabyte", ("transient", "too_large"), good(padding="x" * 1_000_000)),
    Row("gzip", Given(), gzip.compress(json.dumps(GOOD).encode()), 200, GZIP),
    Row(
        "gzip that unfolds to a gigabyte", ("transient", "too_large"), gzip.compress(b" " * 10**7), 200, GZIP
    ),
    Row("gzip that is none", NOT_JSON, json.dumps(GOOD).encode(), 200, GZIP),
    Row("gzip cut off", NOT_JSON, gzip.compress(json.dumps(GOOD).encode())[:-20], 200, GZIP),
    Row("an encoding that we did not ask for", NOT_JSON, b"\x1b\x0f\x00", 200, {"Content-Encoding": "br"}),
    Row("JSON called text/plain", Given(), good(), 200, {"Content-Type": "text/plain"}),
    Row("a form", Given(), b"access_token=AT-1&token_type=bearer&expires_in=3600", 200, FORM),
    Row(
        "a form with an error", ("login_required", "bad_refresh_token"), b"error=bad_refresh_token", 200, FORM
    ),
    Row("a form that is none", NOT_JSON, b"%%%", 200, FORM),
    Row("a form called text/plain", NOT_JSON, b"access_token=AT-1", 200, {"Content-Type": "text/plain"}),
    # the access token
    Row("no access_token", NO_TOKEN, good(access_token=None)),
    Row("access_token null", NO_TOKEN, b'{"access_token": null, "token_type": "Bearer"}'),
    Row("access_token empty", NO_TOKEN, good(access_token="")),
    Row("access_token a number", NO_TOKEN, good(access_token=123)),
    Row("access_token with a line break", NO_TOKEN, good(access_token="A\r\nX: y")),
    Row("access_token with NUL", NO_TOKEN, good(access_token="A\0B")),
    Row("access_token with a space", NO_TOKEN, good(access_token="A B")),
    Row("access_token beyond ASCII", NO_TOKEN, good(access_token="é")),
    Row("access_token of 64 KB", NO_TOKEN, good(access_token="a" * 65536)),
    Row("access_token of 32 KB", Given("a" * 32768), good(access_token="a" * 32768)),
    # its type
    Row("token_type bearer", Given(), good(token_type="bearer")),
    Row("token_type BEARER", Given(), good(token_type="BEARER")),
    Row("token_type missing", WRONG_TYPE, good(token_type=None)),
    Row("token_type mac", WRONG_TYPE, good(token_type="mac")),
    Row("token_type DPoP", WRONG_TYPE, good(token_type="DPoP")),
    Row("token_type a list", WRONG_TYPE, good(token_type=["Bearer"])),
    # its life
    *(
        Row(
            f"expires_in {text}",
            Given(lifetime=lifetime),
            spelt(f'"expires_in": {text}').replace(b'"expires_in": 3600, ', b""),
        )
        for text, lifetime in [
            ("60", 60.0),
            ('"3600"', 3600.0),
            ('"3600.5"', 3600.5),
            ("59.5", 59.5),
            ("0", None),
            ("-1", None),
            ("null", None),
            ("true", None),
            ("[]", None),
            ('"soon"', None),
            ('"NaN"', None),
            ("1e400", None),
            ("9000000000000000", None),
            ("604800000", 604800.0),  # in milliseconds, for more than ten years of seconds is nothing
        ]
    ),
    Row("expires_in missing", Given(lifetime=None), good(expires_in=None)),
    Row("expires_at is not believed", Given(lifetime=None), good(expires_in=None, expires_at=1_900_000_000)),
    Row("members that mean nothing to us", Given(), good(ext_expires_in=7200, refresh_in=1800, not_before=1)),
    Row("an empty error beside a token", Given(), good(error="")),
    # the refresh token
    Row("a new refresh token", Given(refresh_token="RT-1"), good(refresh_token="RT-1")),
    Row("refresh_token null", Given(), spelt('"refresh_token": null')),
    Row("refresh_token empty", Given(), good(refresh_token="")),
    Row("refresh_token a number", Given(), good(refresh_token=7)),
    Row("refresh_token with a space and more", Given(refresh_token="R T+é%"), good(refresh_token="R T+é%")),
    Row("refresh_token of half a character", Given(), spelt(r'"refresh_token": "\ud800"')),
    Row("refresh_expires_in", Given(refresh_lifetime=86400.0), good(refresh_expires_in=86400)),
    Row(
        "x_refresh_token_expires_in",
        Given(refresh_lifetime=86400.0),
        good(x_refresh_token_expires_in="86400"),
    ),
    Row("refresh_expires_in 0", Given(), good(refresh_expires_in=0)),
    # scope
    Row("scope", Given(scope="api mail"), good(scope="api mail")),
    Row("scope as a list", Given(scope="api mail"), good(scope=["api", "mail"])),
    Row("scope with a line break", Given(), good(scope="api\r\nmail")),
    Row("scope of half a character", Given(), spelt(r'"scope": "\ud800"')),
]
