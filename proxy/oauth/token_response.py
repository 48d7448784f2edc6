"""A token endpoint's answer: status, header fields, bytes -> Answer, or AuthorizationServerError. Pure.

Refused is what a client library is tempted to accept and must not: a 429 whose JSON has no "error", a
login page with status 200, an access token with a line break in it. Whatever raises here leaves the
stored token as it was. What is merely odd beside a good access token (an `expires_in` that is no number)
is set aside instead: after a rotation, refusing the answer would lose the new refresh token.

No error raised here has a cause: a JSONDecodeError carries the whole body, tokens included.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from proxy.errors import CLIENT_ERRORS, TRY_LATER, AuthorizationServerError, Outcome
from proxy.oauth import expires_in
from proxy.secret import Secret

MAX_ANSWER: Final = 256 * 1024  # bytes; the largest tokens seen are a few KiB
MAX_TOKEN: Final = 32 * 1024  # characters; more does not fit into a header field, here or at an upstream
MAX_RETRY_AFTER: Final = 300.0  # seconds; a longer pause would hide a server that came back

# What an error code means (RFC 6749 section 5.2 and its extensions; below them, providers' own words).
ERRORS: Final[dict[str, Outcome]] = {
    "invalid_grant": "login_required",
    "invalid_client": "misconfigured",
    "invalid_request": "misconfigured",
    "invalid_scope": "misconfigured",
    "invalid_target": "misconfigured",  # RFC 8707
    "unauthorized_client": "misconfigured",
    "unsupported_grant_type": "misconfigured",
    "access_denied": "misconfigured",
    "server_error": "transient",
    "slow_down": "transient",  # RFC 8628
    "temporarily_unavailable": "transient",
    "bad_refresh_token": "login_required",  # GitHub, as the next two, with status 200
    "bad_verification_code": "login_required",
    "incorrect_client_credentials": "misconfigured",
    "interaction_required": "login_required",  # Microsoft
    "invalid_code": "login_required",  # Zoho
    "invalid_refresh_token": "login_required",  # Slack, as the next, with status 200
    "token_revoked": "login_required",
}
_BUSY: Final = frozenset({"server_error", "slow_down", "temporarily_unavailable"})
_STATUSES: Final = frozenset(HTTPStatus)
_REFUSED: Final = frozenset({400, 401, 403})  # the server has understood the request and refuses it
REFRESH_LIFETIME_NAMES: Final = (  # no RFC names it; these do
    "refresh_expires_in",  # Keycloak
    "refresh_token_expires_in",  # GitHub, Microsoft B2C, Xero
    "x_refresh_token_expires_in",  # Intuit
)
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")  # RFC 6749 A.12, less the space that no header field survives


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A successful answer (RFC 6749 section 5.1). Lifetimes in seconds, None where unknown."""

    access_token: Secret
    refresh_token: Secret | None
    lifetime: float | None
    refresh_in: float | None
    refresh_lifetime: float | None
    scope: str
    id_token: Secret | None = None  # as it came


def parse(status: int, headers: Mapping[str, str], body: bytes, *, now: float = 0.0) -> TokenResponse:
    """Read an answer whole. `headers` is case-insensitive; `now` (Unix seconds) serves dates in it."""
    pause = retry_after(headers, now)
    if status >= 500 or status in TRY_LATER:
        raise AuthorizationServerError("transient", http_error(status), retry_after=pause, status=status)
    if 300 <= status < 400:
        raise AuthorizationServerError("misconfigured", "redirect")
    try:
        fields = _fields(headers, body)
    except AuthorizationServerError:
        if status != 200:  # then the status says more than the body's fault does
            raise AuthorizationServerError(
                "transient",
                http_error(status),
                retry_after=pause,
                status=status,
                refusal=pause is None and is_refusal(status, headers, body),
            ) from None
        raise
    if error := fields.get("error"):
        code = error if isinstance(error, str) and error in ERRORS else "other"
        raise AuthorizationServerError(
            ERRORS.get(code, "transient"),
            code,
            retry_after=pause,
            status=status,
            refusal=pause is None and is_refusal(status, headers, body, code),
        )
    if status != 200:
        raise AuthorizationServerError(
            "transient",
            http_error(status),
            retry_after=pause,
            status=status,
            refusal=pause is None and is_refusal(status, headers, body),
        )
    server_now = expires_in.server_time(headers)
    return _granted(fields, now if server_now is None else server_now)


def is_refusal(status: int, headers: Mapping[str, str], body: bytes, code: str = "") -> bool:
    """Whether the server itself refuses the request, for a reason that is not the client's or an outage.

    HTML comes from something in front of it: a firewall, a captive portal, a maintenance page.
    """
    is_html = "html" in headers.get("Content-Type", "").lower() or body.lstrip()[:1] == b"<"
    is_other = code in CLIENT_ERRORS or code in _BUSY
    return status in _REFUSED and not is_other and not (is_html and body)


def http_error(status: int) -> str:
    """The name of a status in logs and metrics: one of a fixed list, whatever a server makes up."""
    return f"http_{status}" if status in _STATUSES else "other"


def _granted(fields: dict[str, Any], now: float) -> TokenResponse:
    access_token = _access_token(fields.get("access_token"))
    if access_token is None:
        raise AuthorizationServerError("transient", "no_access_token")
    token_type = fields.get("token_type")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        raise AuthorizationServerError("misconfigured", "token_type")
    told = expires_in.read(fields.get("expires_in"), now)
    lifetimes = (expires_in.read(fields.get(name), now) for name in REFRESH_LIFETIME_NAMES)
    return TokenResponse(
        access_token=access_token,
        refresh_token=_refresh_token(fields.get("refresh_token")),
        lifetime=told or expires_in.of_jwt(access_token.reveal(), now),
        refresh_in=expires_in.read(fields.get("refresh_in"), now),
        refresh_lifetime=next((seconds for seconds in lifetimes if seconds), None),
        scope=_scope(fields.get("scope")),
        id_token=_id_token(fields.get("id_token")),
    )


def _fields(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if len(body) > MAX_ANSWER:
        raise AuthorizationServerError("transient", "too_large")
    body = _decoded(headers.get("Content-Encoding", ""), body)
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        text = body.decode("utf-8-sig")
        if content_type == "application/x-www-form-urlencoded":  # old GitHub, Facebook
            return _unique(parse_qsl(text, strict_parsing=True))
        fields = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise AuthorizationServerError("transient", "not_json") from None
    if not isinstance(fields, dict):
        raise AuthorizationServerError("transient", "not_json")
    return fields


def _decoded(encoding: str, body: bytes) -> bytes:
    """Undo gzip, which some servers send unasked, without letting it unfold past the limit."""
    if encoding.lower() not in {"gzip", "x-gzip"}:
        return body
    try:
        plain = zlib.decompressobj(wbits=31).decompress(body, MAX_ANSWER + 1)
    except zlib.error:
        raise AuthorizationServerError("transient", "not_json") from None
    if len(plain) > MAX_ANSWER:
        raise AuthorizationServerError("transient", "too_large")
    return plain


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice")
    return fields


def _no_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _access_token(value: object) -> Secret | None:
    """What can be sent in a header field; else None."""
    if not isinstance(value, str) or len(value) > MAX_TOKEN or not _VISIBLE.fullmatch(value):
        return None
    return Secret(value)


def _refresh_token(value: object) -> Secret | None:
    """Whatever the server means to get back: it goes into a form, where all characters have their place."""
    if not isinstance(value, str) or not value or not _is_text(value):
        return None
    return Secret(value)


def _id_token(value: object) -> Secret | None:
    """What is there and is no text is a bad one, not none."""
    return Secret(value if isinstance(value, str) else "") if value else None


def _is_text(value: str) -> bool:
    r"""JSON can spell half a character ("\ud800"), which no encoding of a form can."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scope(value: object) -> str:
    if isinstance(value, list):  # some servers send one, against RFC 6749 section 3.3
        value = " ".join(item for item in value if isinstance(item, str))
    return value if isinstance(value, str) and value.isascii() and value.isprintable() else ""


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by a Retry-After field (RFC 9110 section 10.2.3: seconds or a date), capped."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])  # so many digits are over the cap already
    else:
        date = expires_in.http_date(value)
        if date is None:
            return None
        seconds = date - now
    return min(seconds, MAX_RETRY_AFTER) if seconds >= 0 else None
