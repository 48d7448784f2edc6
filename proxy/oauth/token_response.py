"""A token response: status, header fields, bytes -> TokenResponse, or AuthorizationServerError. Pure.

A complete 2xx with a refresh or access token is adopted, however odd: after a rotation, refusing it would
lose the new refresh token, and sending the old one again end the login. Deviations are listed in `oddities`.
An access token that can't be attached (one with a line break, one that needs a proof of possession) is
reported in `refusal`, and the refresh token is still returned.

Responses that some client libraries wrongly accept are refused as a whole: a 429 whose JSON has no "error", a
login page with status 200. An error raised here leaves the stored token unchanged.

No error raised here has a cause: a JSONDecodeError carries the whole body, tokens included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from proxy.config import upstream_hosts
from proxy.config.placeholders import Path, read_path
from proxy.errors import CLIENT_ERRORS, TRY_LATER, AuthorizationServerError, Outcome
from proxy.oauth import documents, expires_in
from proxy.oauth.documents import Document, UnreadableDocument
from proxy.secret import Secret

MAX_TOKEN: Final = 32 * 1024  # characters; more does not fit into a header field, ours or an upstream's
MAX_RETRY_AFTER: Final = 300.0  # seconds; a longer pause would hide a server that came back

# The outcome of each error code (RFC 6749 section 5.2 and its extensions; then providers' own codes).
ERRORS: Final[dict[str, Outcome]] = {
    "invalid_grant": "login_required",
    "invalid_client": "misconfigured",
    "invalid_request": "misconfigured",
    "invalid_scope": "misconfigured",
    "invalid_target": "misconfigured",  # RFC 8707
    "unauthorized_client": "misconfigured",
    "unsupported_grant_type": "misconfigured",
    "access_denied": "misconfigured",
    "authorization_pending": "transient",  # RFC 8628 section 3.5, as slow_down and the next
    "expired_token": "login_required",
    "server_error": "transient",
    "slow_down": "transient",  # RFC 8628
    "temporarily_unavailable": "transient",
    "bad_refresh_token": "login_required",  # GitHub, as the next two, with status 200
    "bad_verification_code": "login_required",
    "incorrect_client_credentials": "misconfigured",
    "interaction_required": "login_required",  # Microsoft
    # OpenID Connect Core 1.0 section 3.1.2.6; not final at once, as invalid_grant is the code for that
    "consent_required": "transient",
    "login_required": "transient",
    "account_selection_required": "transient",
    "invalid_code": "login_required",  # Zoho
    "invalid_refresh_token": "login_required",  # Slack, as the next, with status 200
    "token_revoked": "login_required",
    "invalid_dpop_proof": "misconfigured",  # RFC 9449 section 5
    "use_dpop_nonce": "transient",  # again, after its nonce was sent (RFC 9449 section 8)
}
_BUSY: Final = frozenset({"server_error", "slow_down", "temporarily_unavailable"})
_OF_PROOF: Final = frozenset({"invalid_dpop_proof", "use_dpop_nonce"})
_STATUSES: Final = frozenset(HTTPStatus)
_REFUSED: Final = frozenset({400, 401, 403})  # the server understood the request and refuses it
REFRESH_LIFETIME_NAMES: Final = (  # not in any RFC
    "refresh_expires_in",  # Keycloak
    "refresh_token_expires_in",  # GitHub, Microsoft B2C, Xero
    "x_refresh_token_expires_in",  # Intuit
)
EXPIRY_NAMES: Final = ("expires_at", "expires_on")  # if expires_in is missing; the second: Microsoft (v1)
_TOKENS: Final = ("access_token", "refresh_token")
_BOUND_TYPES: Final = frozenset({"dpop", "pop", "mac"})  # useless without a proof for each request
_DPOP: Final = frozenset({"dpop"})  # the only type where we send proofs
_NOT_APPLICABLE: Final = "n_a"  # RFC 8693 section 2.2.1: what was issued is no access token ...
_ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - ... unless it says so
_PADDING: Final = " \t\r\n\0"  # around a token: left by a template or a C string
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")  # RFC 6749 A.12 without the space: no header field can carry it


# Deviations of a token response, those of its document included, as sentences for the log.
ODDITIES: Final[Mapping[str, str]] = {
    "status": "its status is a 2xx other than 200",
    **documents.ODDITIES,
    "repeated_token": "it repeats a token with different values: the last one counts",
    "error": "it has an `error` besides the tokens",
    "no_token_type": "it has no token_type (RFC 6749 requires one): it is attached as configured",
    "token_type": "its token_type is not Bearer: it is attached as configured",
    "token_padding": "a token has white space around it",
    "no_access_token": "it has a refresh token but no usable access token",
}


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A successful response (RFC 6749 section 5.1). Lifetimes in seconds, None where unknown."""

    access_token: Secret | None  # None: see `refusal`; then there is a refresh token
    refresh_token: Secret | None
    lifetime: float | None
    refresh_in: float | None
    refresh_lifetime: float | None
    scope: str
    id_token: Secret | None = None  # as received
    refusal: AuthorizationServerError | None = None  # why its access token can't be attached
    oddities: tuple[str, ...] = ()  # keys of ODDITIES
    upstreams: tuple[tuple[str, str], ...] = ()  # members that may name upstreams, by name


def parse(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float = 0.0,
    token_types: Collection[str] | None = None,
    upstream_fields: Collection[str] = (),
    dpop: bool = False,
) -> TokenResponse:
    """Read a complete response. `headers` is case-insensitive; `now` (Unix seconds) is for dates in it.

    `token_types` are those accepted; None: any that needs no proof. `upstream_fields`: members that name
    upstreams. `dpop`: only that one is accepted (RFC 9449 section 5). Raises AuthorizationServerError.
    """
    pause = retry_after(headers, now)
    if status >= 500 or status in TRY_LATER:
        raise AuthorizationServerError("transient", http_error(status), retry_after=pause, status=status)
    if 300 <= status < 400:
        raise AuthorizationServerError("misconfigured", "redirect")
    is_success = 200 <= status < 300
    try:
        document = documents.read(headers, body, (*_TOKENS, "error"))
    except UnreadableDocument as error:
        # without a 2xx, the status says more than the fault in the body
        code = error.error if is_success else http_error(status)
        refusal = pause is None and is_refusal(status, headers, body)
        raise AuthorizationServerError(
            "transient", code, retry_after=pause, status=status, refusal=refusal
        ) from None
    server_now = expires_in.server_time(headers)
    if is_success:
        accepted = _DPOP if dpop else token_types
        response = _granted(document, status, now if server_now is None else server_now, accepted)
        if response is not None:
            return replace(
                response, upstreams=upstreams(partial(documents.at, document.members), upstream_fields)
            )
    code = _error_code(document.members, status)
    raise AuthorizationServerError(
        ERRORS.get(code, "transient"),
        code,
        retry_after=pause,
        status=status,
        refusal=pause is None and is_refusal(status, headers, body, code),
    )


def upstreams(at: Callable[[Path], object], fields: Collection[str]) -> tuple[tuple[str, str], ...]:
    """The members that may name upstreams: those in `fields`, and well-known ones for routes to come.

    `at`: the value at a path in the response.
    """
    found = ((name, at(read_path(name))) for name in dict.fromkeys((*upstream_hosts.KNOWN, *fields)))
    return tuple((name, str(value)) for name, value in found if upstream_hosts.is_kept(value))


def _error_code(members: Mapping[str, Any], status: int) -> str:
    """The code of a response without tokens."""
    error = members.get("error")
    if error or members.get("ok") is False:  # Slack
        return error if isinstance(error, str) and error in ERRORS else "other"
    return "no_access_token" if 200 <= status < 300 else http_error(status)


def is_refusal(status: int, headers: Mapping[str, str], body: bytes, code: str = "") -> bool:
    """Whether the server itself refuses the request, and neither for its client nor for an outage.

    HTML comes from a component in front of it: a firewall, a captive portal, a maintenance page.
    """
    is_html = "html" in headers.get("Content-Type", "").lower() or body.lstrip()[:1] == b"<"
    is_other = code in CLIENT_ERRORS or code in _BUSY or code in _OF_PROOF
    return status in _REFUSED and not is_other and not (is_html and body)


def http_error(status: int) -> str:
    """The code of a status in logs and metrics: one of a fixed list, whatever the server sends."""
    return f"http_{status}" if status in _STATUSES else "other"


def _granted(
    document: Document, status: int, now: float, token_types: Collection[str] | None
) -> TokenResponse | None:
    """None if it has neither an access token that can be sent nor a refresh token.

    Raises AuthorizationServerError if it has one that must not be attached, and no refresh token.
    """
    members, odd = document.members, set(document.oddities)
    access_token = attachable(members.get("access_token"))
    refresh_token = _refresh_token(members.get("refresh_token"))
    if access_token is None and refresh_token is None:
        return None
    odd |= {"status"} if status != 200 else set()
    odd |= {"repeated_token"} if document.repeated & {*_TOKENS} else set()
    odd |= {"error"} if members.get("error") or members.get("ok") is False else set()
    odd |= {"token_padding"} if any(_is_padded(members.get(name)) for name in _TOKENS) else set()
    refusal, odd_type = _type_refusal(members, token_types)
    if access_token is None:
        odd.add("no_access_token")
        code = _error_code(members, status)
        # without an error code, the next refresh would have the same result
        outcome = "misconfigured" if code == "no_access_token" else ERRORS.get(code, "transient")
        refusal = AuthorizationServerError(outcome, code)
    elif odd_type:
        odd.add(odd_type)
    if refusal is not None and refresh_token is None:
        raise refusal  # there is nothing to save
    lifetimes = (expires_in.read(members.get(name), now) for name in REFRESH_LIFETIME_NAMES)
    return TokenResponse(
        access_token=None if refusal else access_token,
        refresh_token=refresh_token,
        lifetime=_lifetime(members, access_token, now),
        refresh_in=expires_in.read(members.get("refresh_in"), now),
        refresh_lifetime=next((seconds for seconds in lifetimes if seconds), None),
        scope=_scope(members.get("scope")),
        id_token=_id_token(members.get("id_token")),
        refusal=refusal,
        oddities=tuple(name for name in ODDITIES if name in odd),
    )


def _type_refusal(
    members: Mapping[str, Any], token_types: Collection[str] | None
) -> tuple[AuthorizationServerError | None, str]:
    """Why a token of this type must not be attached (RFC 6749 section 7.1), or its deviation."""
    value = members.get("token_type")
    types = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    named = {each.strip().lower() for each in types if isinstance(each, str) and each.strip()}
    is_access_token = _NOT_APPLICABLE in named and members.get("issued_token_type") == _ACCESS_TOKEN
    unusable = _BOUND_TYPES if is_access_token else _BOUND_TYPES | {_NOT_APPLICABLE}
    if token_types is _DPOP:
        return (None if named & _DPOP else AuthorizationServerError("misconfigured", "no_dpop")), ""
    if named & unusable:
        return AuthorizationServerError("misconfigured", "token_type"), ""
    if token_types is not None and not named & {each.lower() for each in token_types}:
        return AuthorizationServerError("misconfigured", "token_type"), ""
    if not named:
        return None, "no_token_type"
    expected = {"bearer", *(each.lower() for each in token_types or ())}
    return None, "" if named <= expected or is_access_token else "token_type"


def _lifetime(members: Mapping[str, Any], access_token: Secret | None, now: float) -> float | None:
    """Seconds, from the first that states it: expires_in, a time of expiry, the token itself if a JWT."""
    stated = expires_in.read(members.get("expires_in"), now)
    if stated is not None or access_token is None:
        return stated
    until = (expires_in.until(members.get(name), now) for name in EXPIRY_NAMES)
    stated = next((seconds for seconds in until if seconds is not None), None)
    return stated or expires_in.of_jwt(access_token.reveal(), now)


def _is_padded(value: object) -> bool:
    return isinstance(value, str) and value != value.strip(_PADDING)


def attachable(value: object) -> Secret | None:
    """A token that can be sent in a header field, else None."""
    text = value.strip(_PADDING) if isinstance(value, str) else ""
    return Secret(text) if len(text) <= MAX_TOKEN and _VISIBLE.fullmatch(text) else None


def _refresh_token(value: object) -> Secret | None:
    """Any encodable string: it is sent in a form, which can carry all characters."""
    text = value.strip(_PADDING) if isinstance(value, str) else ""
    return Secret(text) if text and _is_text(text) else None


def _id_token(value: object) -> Secret | None:
    """A value that is not a string is an invalid id_token, not a missing one."""
    return Secret(value if isinstance(value, str) else "") if value else None


def _is_text(value: str) -> bool:
    r"""JSON can contain a lone surrogate ("\ud800"), which no encoding of a form can."""
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
        seconds = float(value[:9])  # nine digits are over the cap already
    else:
        date = expires_in.http_date(value)
        if date is None:
            return None
        seconds = date - now
    return min(seconds, MAX_RETRY_AFTER) if seconds >= 0 else None
