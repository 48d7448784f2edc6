"""The proxy's own responses: every case of the contract, one row each, in the order of the checks.

Each is a problem document (RFC 9457) with a Proxy-Status field (RFC 9209). Its text is ours: nothing that an
upstream or an authorization server sent is repeated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from proxy.config.model import Route
from proxy.errors import LoginRequired, Misconfigured, ProxyError, TokenError
from proxy.failure_causes import Cause
from proxy.http import cors
from proxy.http.malformed import MalformedRequest

REFUSED_METHODS: Final = frozenset({b"TRACE", b"CONNECT"})  # RFC 9110 section 9.3.8: TRACE echoes the token
TYPE: Final = "urn:token-proxy:problem:"


@dataclass(frozen=True, slots=True)
class Case:
    """`error` is from RFC 9209 section 2.3; `closes`: the caller's connection ends with the response."""

    ending: str
    status: int
    error: str
    title: str
    closes: bool = False


BAD_REQUEST: Final = Case(
    "bad-request", 400, "http_request_error", "Malformed or ambiguous request", closes=True
)
HEADER_TOO_LARGE: Final = Case("header-too-large", 431, "http_request_error", "Header too large", closes=True)
METHOD_REFUSED: Final = Case("method-refused", 405, "http_request_denied", "Method refused", closes=True)
METHOD_UNKNOWN: Final = Case("method-refused", 501, "http_request_denied", "Method not known", closes=True)
CALLER_TIMEOUT: Final = Case(
    "caller-timeout", 408, "http_request_error", "The request's body stopped arriving", closes=True
)
EXPECTATION_FAILED: Final = Case("expectation-failed", 417, "http_request_denied", "Unknown expectation")
HOST_REFUSED: Final = Case("host-refused", 421, "http_request_denied", "Host not allowed")
BROWSER_REFUSED: Final = Case("browser-refused", 403, "http_request_denied", "Not for web pages")
CALLER_UNKNOWN: Final = Case("caller-unknown", 401, "http_request_denied", "Caller not recognised")
CALLER_DENIED: Final = Case("caller-denied", 403, "http_request_denied", "Not for this caller")
LOOP: Final = Case("loop", 508, "proxy_loop_detected", "The request came back to this proxy")
NO_ROUTE: Final = Case("no-route", 404, "destination_not_found", "No route")
POLICY_DENIED: Final = Case("policy-denied", 403, "http_request_denied", "Not permitted by a policy")
ACCOUNT_INVALID: Final = Case("account-invalid", 400, "http_request_denied", "Account missing or invalid")
LOGIN_REQUIRED: Final = Case("login-required", 503, "proxy_configuration_error", "Login required")
TOKEN_UNAVAILABLE: Final = Case("token-unavailable", 503, "proxy_internal_error", "No valid token now")
MISCONFIGURED: Final = Case(
    "credential-misconfigured",
    503,
    "proxy_configuration_error",
    "The authorization server refuses this client",
)
OVERLOADED: Final = Case("overloaded", 503, "proxy_internal_error", "Overloaded")
UNREACHABLE: Final = Case("upstream-unreachable", 502, "destination_unavailable", "Upstream unreachable")
UPSTREAM_TLS: Final = Case("upstream-tls", 502, "tls_protocol_error", "TLS with the upstream failed")
UPSTREAM_PROTOCOL: Final = Case(
    "upstream-protocol", 502, "http_protocol_error", "Malformed upstream response"
)
CONNECT_TIMEOUT: Final = Case("upstream-timeout", 504, "connection_timeout", "Upstream too slow to connect")
RESPONSE_TIMEOUT: Final = Case("upstream-timeout", 504, "http_response_timeout", "Upstream response too slow")
INTERNAL_ERROR: Final = Case(
    "internal-error", 500, "proxy_internal_error", "Internal error of this proxy", closes=True
)

_CASES: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Case))
ENDINGS: Final = tuple(dict.fromkeys(case.ending for case in _CASES))
UPSTREAM_ENDINGS: Final = tuple(dict.fromkeys(case.ending for case in _CASES if case.status in {502, 504}))


class Refusal(ProxyError):
    """Respond with `case` instead of an upstream's response.

    `extra` is added to the problem document. `cause`: why the upstream failed.
    """

    def __init__(
        self,
        case: Case,
        detail: str,
        *,
        retry_after: int | None = None,
        extra: dict[str, str] | None = None,
        cause: Cause | None = None,
    ) -> None:
        super().__init__(detail)
        self.case = case
        self.detail = detail
        self.retry_after = retry_after
        self.extra = extra or {}
        self.cause = cause
        self._body = b""

    @property
    def body(self) -> bytes:
        """The problem document."""
        if not self._body:
            document = {
                "type": TYPE + self.case.ending,
                "title": self.case.title,
                "status": self.case.status,
                "detail": self.detail,
                **self.extra,
            }
            self._body = json.dumps(document).encode() + b"\n"
        return self._body


_MALFORMED: Final = {
    "malformed": BAD_REQUEST,
    "too-large": HEADER_TOO_LARGE,
    "method-unknown": METHOD_UNKNOWN,
}


def of_malformed(error: MalformedRequest) -> Refusal:
    """The response to a request that can't be relayed."""
    return Refusal(_MALFORMED[error.kind], error.detail)


CHALLENGES: Final = (  # RFC 9110 section 11.6.1; a field each, as clients read the first of a list only
    "WWW-Authenticate: Bearer",
    'WWW-Authenticate: Basic realm="token-proxy"',  # git sends its password only after this
)
ALLOW: Final = "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"  # the common ones
ABOUT_US: Final = f"HTTP/1.1 200 OK\r\n{ALLOW}\r\nContent-Length: 0\r\n".encode("ascii")


class AboutUs(ProxyError):
    """An OPTIONS request that asks about this proxy, not about an upstream.

    `head`: of the response, which has no body; without its last line.
    """

    def __init__(self, head: bytes = ABOUT_US) -> None:
        super().__init__("a request about this proxy")
        self.head = head
        self.status = int(head.split(b" ", 2)[1])


def no_upstream(route: Route, field: str, why: str) -> Refusal:
    """The response to a request whose token names no upstream that is allowed. `why`: about the value."""
    detail = (
        f"{field} of the token response {why}: check upstream and upstream_hosts of the route {route.name}, "
        "then refresh the token or log in again"
    )
    return Refusal(MISCONFIGURED, detail, extra={"credential": route.credential})


def of_token_error(error: TokenError, credential: str, account: str, login_url: str) -> Refusal:
    """The response to a request for which there is no token. `login_url` may be empty."""
    extra = {"credential": credential, "account": account}
    if login_url and error.diagnosis is not None and error.diagnosis.can_log_in:
        extra["login_url"] = login_url
    if isinstance(error, LoginRequired):
        return Refusal(LOGIN_REQUIRED, str(error), extra=extra)
    if isinstance(error, Misconfigured):
        return Refusal(MISCONFIGURED, str(error), extra=extra)
    return Refusal(TOKEN_UNAVAILABLE, str(error), retry_after=error.retry_after or 1, extra=extra)


def render(refusal: Refusal, *, head_only: bool, close: bool, page: bytes = b"") -> bytes:
    """The bytes of the whole response. `page`: the Origin of a page that may read it."""
    case = refusal.case
    error = case.error if refusal.cause is None else refusal.cause.proxy_error
    body = refusal.body
    lines = [
        f"HTTP/1.1 {case.status} {HTTPStatus(case.status).phrase}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f'Proxy-Status: token-proxy; error={error}; details="{case.ending}"',
    ]
    if refusal.retry_after is not None:
        lines.append(f"Retry-After: {refusal.retry_after}")
    if case.status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append(ALLOW)
    if case is CALLER_UNKNOWN:
        lines += CHALLENGES
    if close:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("ascii") + (cors.response_fields(page) if page else b"") + b"\r\n\r\n"
    return head if head_only else head + body
