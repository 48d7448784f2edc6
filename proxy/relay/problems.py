"""The proxy's own responses: every case of the contract, one row each, in the order of the checks.

Each is a problem document (RFC 9457) with a Proxy-Status field (RFC 9209). Its text is ours: nothing that an
upstream or an authorization server sent is repeated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from proxy import endings
from proxy.config.model import Route
from proxy.errors import LoginRequired, Misconfigured, ProxyError, SubjectRefused, TokenError
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


def _case(ending: str, error: str, *, status: int = 0, closes: bool = False) -> Case:
    """`status`: if the ending has more than one."""
    row = endings.ENDINGS[ending]
    return Case(ending, status or row.statuses[0], error, row.title, closes)


_REQUEST, _DENIED, _CONFIGURATION = "http_request_error", "http_request_denied", "proxy_configuration_error"
_INTERNAL: Final = "proxy_internal_error"

BAD_REQUEST: Final = _case("bad-request", _REQUEST, closes=True)
HEADER_TOO_LARGE: Final = _case("header-too-large", _REQUEST, closes=True)
METHOD_REFUSED: Final = _case("method-refused", _DENIED, closes=True)
METHOD_UNKNOWN: Final = _case("method-refused", _DENIED, status=501, closes=True)
CALLER_TIMEOUT: Final = _case("caller-timeout", _REQUEST, closes=True)
EXPECTATION_FAILED: Final = _case("expectation-failed", _DENIED)
HOST_REFUSED: Final = _case("host-refused", _DENIED)
BROWSER_REFUSED: Final = _case("browser-refused", _DENIED)
CALLER_UNKNOWN: Final = _case("caller-unknown", _DENIED)
CALLER_DENIED: Final = _case("caller-denied", _DENIED)
LOOP: Final = _case("loop", "proxy_loop_detected")
NO_ROUTE: Final = _case("no-route", "destination_not_found")
POLICY_DENIED: Final = _case("policy-denied", _DENIED)
ACCOUNT_INVALID: Final = _case("account-invalid", _DENIED)
LOGIN_REQUIRED: Final = _case("login-required", _CONFIGURATION)
TOKEN_UNAVAILABLE: Final = _case("token-unavailable", _INTERNAL)
MISCONFIGURED: Final = _case("credential-misconfigured", _CONFIGURATION)
OVERLOADED: Final = _case("overloaded", _INTERNAL)
UNREACHABLE: Final = _case("upstream-unreachable", "destination_unavailable")
UPSTREAM_TLS: Final = _case("upstream-tls", "tls_protocol_error")
UPSTREAM_PROTOCOL: Final = _case("upstream-protocol", "http_protocol_error")
CONNECT_TIMEOUT: Final = _case("upstream-timeout", "connection_timeout")
RESPONSE_TIMEOUT: Final = _case("upstream-timeout", "http_response_timeout")
INTERNAL_ERROR: Final = _case("internal-error", _INTERNAL, closes=True)

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

    def name_account(self, account: str, login_url: str) -> None:
        """Add the account, and where a person can log in to it; `login_url` may be empty."""
        self.extra["account"] = account
        if login_url:
            self.extra["login_url"] = login_url

    def body(self, public_url: str) -> bytes:
        """The problem document. `public_url`: of the admin listener, which has a page on each ending."""
        if not self._body:
            document = {
                "type": TYPE + self.case.ending,
                "title": self.case.title,
                "status": self.case.status,
                "detail": self.detail,
                **self.extra,
                "documentation": endings.help_url(public_url, self.case.ending),
            }
            self._body = json.dumps(document).encode() + b"\n"
        return self._body


# `detail` of refusals that several modules raise
BUG: Final = "an unexpected error: the proxy's log has the details, please report them"
BODY_MALFORMED: Final = (
    "the framing of the request's body is malformed: check its Content-Length or its chunks"
)
STOPPING: Final = "this proxy is stopping: send the request again"
NO_FILES: Final = "this proxy has too many open files: send the request again, or raise its limit (ulimit -n)"
FULL: Final = "there are too many connections: send the request again, or raise limits.connections"
TOO_MANY_WAIT: Final = (
    "too many requests are waiting for a token: send the request again; `token-proxy status` shows the cause"
)
NOT_RELAYED: Final = (
    "TRACE and CONNECT are not relayed: use another method, and this proxy as base URL, not as HTTPS_PROXY"
)
OTHER_HOST: Final = (
    "the Host of this request is none of this proxy's names: use 127.0.0.1 or localhost, or add it to "
    "server.allowed_hosts"
)

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
    extra = {"credential": credential}
    if isinstance(error, SubjectRefused):
        return Refusal(CALLER_UNKNOWN, str(error), extra=extra)
    if isinstance(error, LoginRequired):
        refusal = Refusal(LOGIN_REQUIRED, str(error), extra=extra)
    elif isinstance(error, Misconfigured):
        refusal = Refusal(MISCONFIGURED, str(error), extra=extra)
    else:
        refusal = Refusal(TOKEN_UNAVAILABLE, str(error), retry_after=error.retry_after or 1, extra=extra)
    can_log_in = error.diagnosis is not None and error.diagnosis.can_log_in
    refusal.name_account(account, login_url if can_log_in else "")
    return refusal


def render(refusal: Refusal, public_url: str, *, head_only: bool, close: bool, page: bytes = b"") -> bytes:
    """The bytes of the whole response. `page`: the Origin of a page that may read it."""
    case = refusal.case
    error = case.error if refusal.cause is None else refusal.cause.proxy_error
    body = refusal.body(public_url)
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
