"""Real responses of token endpoints, and of the components in front of them."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

GOOD: dict[str, Any] = {"access_token": "AT-1", "token_type": "Bearer", "expires_in": 3600}
REFUSED = ("transient", "misconfigured", "login_required")


@dataclass(frozen=True)
class Given:
    """The expected tokens of a response; refresh token None: the old one stays."""

    access_token: str | None = "AT-1"  # None: it can't be attached, as `refusal` says
    lifetime: float | None = 3600.0
    refresh_token: str | None = None
    refresh_lifetime: float | None = None
    scope: str = ""
    odd: str = ""  # the logged deviations: codes, space separated
    refusal: str = ""


@dataclass(frozen=True)
class Row:
    """A response, and its expected result: a Given, or outcome and error."""

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
    """A valid response with these members changed; None removes one."""
    return {name: value for name, value in {**GOOD, **members}.items() if value is not None}


def spelt(text: str) -> bytes:
    """A valid response with one more member, as raw JSON."""
    return (json.dumps(GOOD)[:-1] + f", {text}}}").encode()


def kept(refusal: str, odd: str = "") -> Given:
    """The refresh token is saved, although nothing can be attached."""
    return Given(None, refresh_token="RT-1", refusal=refusal, odd=odd)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


JSON = json.dumps(GOOD).encode()
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
    *(
        Row(f"{status} with a token", Given(odd="status"), good(), status)
        for status in (201, 202, 203, 206, 226, 299)
    ),
    Row("204 with nothing", NOT_JSON, b"", 204),
    Row("201 with a page", NOT_JSON, HTML, 201),
    Row("400 with a token", ("transient", "http_400"), good(), 400),
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
    Row("more after the end", Given(odd="surrounded"), JSON * 2),
    Row("a warning before it", Given(odd="surrounded"), b"<b>Notice</b>: x on line 7\n" + JSON),
    Row("a prefix against script inclusion", Given(odd="surrounded"), b")]}',\n" + JSON),
    Row("a page with an object in a script", NOT_JSON, b"<script>var a = {};" + JSON + b"</script>"),
    Row("cut off behind an inner object", NOT_JSON, b'{"x": {"access_token": "AT-2"}, "refresh_tok'),
    Row("cut off in the middle of a token", NOT_JSON, b'{"access_token": "AT-1", "refresh_token": "RT'),
    Row(
        "an access token twice", Given("AT-2", odd="repeated repeated_token"), spelt('"access_token": "AT-2"')
    ),
    Row("an access token twice, alike", Given(), spelt('"access_token": "AT-1"')),
    Row(
        "an access token twice, then null",
        Given(odd="repeated repeated_token"),
        spelt('"access_token": null'),
    ),
    Row(
        "a refresh token twice",
        Given(refresh_token="RT-2", odd="repeated repeated_token"),
        spelt('"refresh_token": "RT-1", "refresh_token": "RT-2"'),
    ),
    Row("another name twice", Given(odd="repeated"), spelt('"x": 1, "x": [2]')),
    Row("a name twice further in", Given(), spelt('"x": {"access_token": "a", "access_token": "b"}')),
    Row("a byte order mark", Given(odd="byte_order_mark"), b"\xef\xbb\xbf" + JSON),
    *(
        Row(f"in {charset}", Given(odd="charset"), JSON.decode().encode(charset))
        for charset in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")
    ),
    Row("a name in Latin-1", Given(odd="charset"), JSON[:-1] + b', "name": "Andr\xe9"}'),
    Row(
        "a name in Latin-1, as declared",
        Given(odd="charset"),
        JSON[:-1] + b', "name": "Andr\xe9"}',
        200,
        {"Content-Type": "application/json; charset=ISO-8859-1"},
    ),
    Row("an access token in Latin-1", NO_TOKEN, b'{"access_token": "\xff"}'),
    Row("NUL behind it", Given(odd="padding"), JSON + b"\0"),
    Row("NUL before it", Given(odd="padding"), b"\0" + JSON),
    Row("NULs and line breaks around it", Given(odd="padding"), b"\r\n \0\0" + JSON + b"\n\0\0\n"),
    Row("white space around it", Given(), b"\r\n \t" + JSON + b"\n\n"),
    *(
        Row(f"{name} in a member that we don't read", Given(odd="number"), spelt(f'"x": {name}'))
        for name in ("NaN", "Infinity", "-Infinity", "[{}, NaN]", "9" * 5000)
    ),
    Row(
        "NaN for its life",
        Given(lifetime=None, odd="number"),
        b'{"access_token": "AT-1", "token_type": "Bearer", "expires_in": NaN}',
    ),
    Row("in a list", Given(odd="nested"), b"[" + JSON + b"]"),
    Row("in data", Given(odd="nested"), {"data": good(), "message": "success"}),
    Row("data that holds no token", NO_TOKEN, {"data": {"x": 1}}),
    Row("two in a list", NOT_JSON, b"[" + JSON + b"," + JSON + b"]"),
    Row("a million brackets", ("transient", "too_large"), b"[" * 1_000_000),
    Row("many brackets within the limit", NOT_JSON, b"[" * 200_000),
    Row("one megabyte", ("transient", "too_large"), good(padding="x" * 1_000_000)),
    Row("gzip", Given(odd="compression"), gzip.compress(JSON), 200, GZIP),
    Row("gzip that nothing says", Given(odd="compression"), gzip.compress(JSON)),
    Row("gzip twice", Given(odd="compression"), gzip.compress(gzip.compress(JSON)), 200, GZIP),
    Row("gzip thrice", NOT_JSON, gzip.compress(gzip.compress(gzip.compress(JSON)))),
    Row("deflate", Given(odd="compression"), zlib.compress(JSON), 200, {"Content-Encoding": "deflate"}),
    Row("deflate that nothing says", Given(odd="compression"), zlib.compress(JSON)),
    Row(
        "deflate as some write it",
        Given(odd="compression"),
        raw_deflate(JSON),
        200,
        {"Content-Encoding": "deflate"},
    ),
    Row("said to be deflate", Given(odd="compression"), JSON, 200, {"Content-Encoding": "deflate"}),
    Row("deflate that unfolds to a gigabyte", ("transient", "too_large"), zlib.compress(b" " * 10**7)),
    Row(
        "gzip that unfolds to a gigabyte", ("transient", "too_large"), gzip.compress(b" " * 10**7), 200, GZIP
    ),
    Row("gzip that is none", Given(odd="compression"), JSON, 200, GZIP),
    Row("gzip cut off", NOT_JSON, gzip.compress(JSON)[:-20], 200, GZIP),
    Row("gzip without its checksum", Given(odd="compression"), gzip.compress(JSON)[:-8], 200, GZIP),
    Row("an encoding that we did not ask for", NOT_JSON, b"\x1b\x0f\x00", 200, {"Content-Encoding": "br"}),
    Row("JSON called text/plain", Given(), good(), 200, {"Content-Type": "text/plain"}),
    Row("a form", Given(), b"access_token=AT-1&token_type=bearer&expires_in=3600", 200, FORM),
    Row(
        "a form with an error", ("login_required", "bad_refresh_token"), b"error=bad_refresh_token", 200, FORM
    ),
    Row("a form that is none", NOT_JSON, b"%%%", 200, FORM),
    *(
        Row(
            f"a form called {kind}",
            Given(refresh_token="R T+é", odd="form"),
            b"access_token=AT-1&token_type=bearer&refresh_token=R+T%2B%C3%A9&expires_in=3600&scope=",
            200,
            {"Content-Type": kind},
        )
        for kind in ("text/plain", "text/html", "application/json", "")
    ),
    Row(
        "a form with Latin-1 in it",
        Given(refresh_token="é"),
        b"access_token=AT-1&token_type=bearer&expires_in=3600&refresh_token=%E9",
        200,
        FORM,
    ),
    Row(
        "a form called text/plain with an error",
        ("login_required", "bad_refresh_token"),
        b"error=bad_refresh_token",
        200,
        {"Content-Type": "text/plain"},
    ),
    Row(
        "a form with a line break behind it",
        Given(),
        b"access_token=AT-1&token_type=bearer&expires_in=3600\n",
        200,
        FORM,
    ),
    Row(
        "a page with a token in a link",
        NOT_JSON,
        b'<a href="/?a=1&access_token=AT-1">',
        200,
        {"Content-Type": "text/html"},
    ),
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
    *(
        Row(
            f"access_token {name} beside a refresh token",
            kept("no_access_token", "no_access_token"),
            good(access_token=value, refresh_token="RT-1"),
        )
        for name, value in [
            ("missing", None),
            ("with a line break", "A\nB"),
            ("with a space", "A B"),
            ("empty", ""),
            ("a number", 7),
            ("beyond ASCII", "é"),
        ]
    ),
    Row(
        "no access_token and an error beside a refresh token",
        kept("invalid_client", "error no_access_token"),
        {"refresh_token": "RT-1", "error": "invalid_client"},
    ),
    *(
        Row(f"access_token with {name} around it", Given(odd="token_padding"), good(access_token=value))
        for name, value in [("a line break", "AT-1\n"), ("white space", " \tAT-1\r\n "), ("a NUL", "AT-1\0")]
    ),
    # its type
    Row("token_type bearer", Given(), good(token_type="bearer")),
    Row("token_type BEARER", Given(), good(token_type="BEARER")),
    Row("token_type missing", Given(odd="no_token_type"), good(token_type=None)),
    Row("token_type empty", Given(odd="no_token_type"), good(token_type="")),
    Row("token_type a number", Given(odd="no_token_type"), good(token_type=7)),
    Row("token_type with white space", Given(), good(token_type="Bearer ")),
    Row("token_type bot", Given(odd="token_type"), good(token_type="bot")),
    Row("token_type Bearer Token", Given(odd="token_type"), good(token_type="Bearer Token")),
    Row("token_type a list", Given(), good(token_type=["Bearer"])),
    *(Row(f"token_type {name}", WRONG_TYPE, good(token_type=name)) for name in ("mac", "DPoP", "PoP", "N_A")),
    *(
        Row(
            f"token_type {name} beside a refresh token",
            kept("token_type"),
            good(token_type=name, refresh_token="RT-1"),
        )
        for name in ("mac", "DPoP", "pop", "N_A", ["DPoP"])
    ),
    Row(
        "token_type N_A of an access token",
        Given(),
        good(token_type="N_A", issued_token_type="urn:ietf:params:oauth:token-type:access_token"),
    ),
    Row(
        "token_type N_A of a refresh token",
        WRONG_TYPE,
        good(token_type="N_A", issued_token_type="urn:ietf:params:oauth:token-type:refresh_token"),
    ),
    # its lifetime
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
            ("604800000", 604800.0),  # in milliseconds, since more than ten years is no lifetime
        ]
    ),
    Row("expires_in missing", Given(lifetime=None), good(expires_in=None)),
    *(
        Row(
            f"{name} where expires_in is {given}",
            Given(lifetime=1800.0),
            good(expires_in=given, **{name: value}),
            200,
            {"Date": "Fri, 15 Jan 2027 08:00:00 GMT"},
        )
        for given in (None, "", 0)
        for name, value in [
            ("expires_at", 1_800_001_800),
            ("expires_at", 1_800_001_800_000),
            ("expires_at", "2027-01-15T08:30:00Z"),
            ("expires_on", "1800001800"),
        ]
    ),
    Row("expires_in counts, not expires_at", Given(), good(expires_at=4_000_000_000)),
    Row("members that mean nothing to us", Given(), good(ext_expires_in=7200, refresh_in=1800, not_before=1)),
    *(
        Row(f"error {value!r} beside a token", Given(), good() | {"error": value})
        for value in ("", None, 0, [])
    ),
    *(
        Row(f"error {value!r} beside a token", Given(odd="error"), good(error=value))
        for value in ("none", "invalid_grant", {"code": "ok"}, 1)
    ),
    Row("ok false beside a token", Given(odd="error"), good(ok=False)),
    Row("ok false", ("transient", "other"), {"ok": False}),
    # the refresh token
    Row("a new refresh token", Given(refresh_token="RT-1"), good(refresh_token="RT-1")),
    Row("refresh_token null", Given(), spelt('"refresh_token": null')),
    Row("refresh_token empty", Given(), good(refresh_token="")),
    Row("refresh_token a number", Given(), good(refresh_token=7)),
    Row(
        "refresh_token with a line break behind it",
        Given(refresh_token="RT-1", odd="token_padding"),
        good(refresh_token="RT-1\n"),
    ),
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
