"""Why the last request for a token failed, by the code of its AuthorizationServerError: half of the table.

One row a code. What is said of a code is true wherever it comes from: a wrong issuer is never told as a
wrong secret. In the state "misconfigured" the verdict of each is MISCONFIGURED.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.tokens.diagnosis.reasons import Row, Verdict

OTHER: Final = "other"  # the row for codes of which nothing more is known
_WAITS, _CONFIG = Verdict.WAITS, Verdict.MISCONFIGURED
_IN_TABLE: Final = "credentials.{credential}."

_CLIENT: Final = Row(
    _CONFIG,
    "the authorization server does not accept this client",
    "check client_id and client_secret of credentials.{credential}; some servers want client_auth = "
    '"client_secret_post" there, or basic_encoding = "raw"',
)
_REFUSED_ONCE: Final = Row(_WAITS, "the authorization server refused the refresh token")
_BROKEN: Final = Row(_WAITS, "the authorization server's response can't be used")
_TROUBLE: Final = Row(_WAITS, "the authorization server reports a failure of its own")
_BUSY: Final = Row(_WAITS, "the authorization server asks for fewer requests")
_ISSUER: Final = (
    f"set {_IN_TABLE}issuer to exactly what the server calls itself (mind a slash at its end), or set "
    "token_endpoint and authorization_endpoint by hand"
)
_NO_METADATA: Final = Row(
    _WAITS, "the server has no metadata at the issuer's address", f"if that stays so, {_ISSUER}"
)

# More by AuthorizationServerError.hint: the next step, in place of the code's own.
HINTS: Final[Mapping[tuple[str, str], str]] = {
    ("issuer_mismatch", "slash"): f"they differ in the slash at the end only: correct {_IN_TABLE}issuer",
    ("issuer_mismatch", "loopback"): (
        f"they differ in localhost and 127.0.0.1 only: correct {_IN_TABLE}issuer"
    ),
    ("issuer_mismatch", "template"): (
        f"the server's has a name in braces: put the one of your tenant into {_IN_TABLE}issuer"
    ),
    ("invalid_client", "basic_encoding"): (
        "check client_id and client_secret of credentials.{credential}, or set basic_encoding = "
        '"raw" there; some servers want client_auth = "client_secret_post"'
    ),
    ("invalid_client", "client_auth"): (
        "check client_id and client_secret of credentials.{credential}, or set client_auth = "
        '"client_secret_post" there; some servers want basic_encoding = "raw"'
    ),
}

CAUSES: Final[Mapping[str, Row]] = {
    # -- the client, and what it asks for (RFC 6749 section 5.2)
    "invalid_client": _CLIENT,
    "incorrect_client_credentials": _CLIENT,
    "invalid_scope": Row(
        _CONFIG,
        "the authorization server does not know one of the scopes, or this client may not have it",
        f"check {_IN_TABLE}scopes ({{scopes}})",
    ),
    "unauthorized_client": Row(
        _CONFIG,
        "this client is not registered for the grant {grant_type}",
        f"have it registered at the authorization server, or change {_IN_TABLE}grant",
    ),
    "unsupported_grant_type": Row(
        _CONFIG,
        "the authorization server does not support the grant {grant_type} for this client",
        f"have the client registered for it, or change {_IN_TABLE}grant",
    ),
    # the next three may be about one refresh token: the client is at fault where the state says so
    "invalid_request": Row(
        _WAITS,
        "the authorization server does not understand the request",
        f"check {_IN_TABLE}token_params: a parameter may be missing, such as audience or resource",
    ),
    "invalid_target": Row(
        _WAITS,
        "the authorization server does not know the resource or audience that is asked for",
        f"check {_IN_TABLE}token_params",
    ),
    "access_denied": Row(
        _WAITS,
        "the authorization server denies this client the tokens",
        "check what the client may do at the authorization server",
    ),
    "token_type": Row(
        _CONFIG,
        "the authorization server gives tokens of a type that can't be attached",
        f"have the client registered for bearer tokens, or check {_IN_TABLE}token_types",
    ),
    # -- a refresh token, refused where that is not final
    "invalid_grant": _REFUSED_ONCE,
    "bad_refresh_token": _REFUSED_ONCE,
    "bad_verification_code": _REFUSED_ONCE,
    "interaction_required": _REFUSED_ONCE,
    "invalid_code": _REFUSED_ONCE,
    "invalid_refresh_token": _REFUSED_ONCE,
    "token_revoked": _REFUSED_ONCE,
    # -- where the server is
    "issuer_mismatch": Row(_CONFIG, "the metadata at the issuer's address are another issuer's", _ISSUER),
    "discovery": _NO_METADATA,
    "discovery_not_found": _NO_METADATA,
    "discovery_redirect": Row(
        _WAITS, "the issuer's address redirects to another one", f"if that stays so, {_ISSUER}"
    ),
    "discovery_not_json": Row(
        _WAITS, "what is at the issuer's address is no metadata", f"if that stays so, {_ISSUER}"
    ),
    "no_token_endpoint": Row(
        _CONFIG, "the server's metadata name no token endpoint", f"set {_IN_TABLE}token_endpoint"
    ),
    "unsafe_endpoint": Row(
        _CONFIG,
        "the server's metadata name an endpoint that is not https",
        f"set {_IN_TABLE}token_endpoint and the other endpoints by hand",
    ),
    "redirect": Row(
        _CONFIG,
        "the token endpoint redirects to another address",
        f"set {_IN_TABLE}issuer or token_endpoint to the address that it redirects to",
    ),
    # -- the way to the server
    "internal": Row(_WAITS, "this program failed unexpectedly: its log has the cause", "report it"),
    "unreachable": Row(_WAITS, "the authorization server can't be reached"),
    "dns": Row(
        _WAITS,
        "the authorization server can't be reached: its name can't be resolved",
        f"if that stays so, check the host in {_IN_TABLE}issuer or token_endpoint",
    ),
    "tls": Row(
        _WAITS,
        "the authorization server can't be reached: TLS with it fails",
        f"if its certificate is of a private authority, set {_IN_TABLE}tls.ca",
    ),
    "egress_proxy": Row(
        _WAITS,
        "the authorization server can't be reached: the network's HTTP proxy fails",
        f"if that stays so, check {_IN_TABLE}proxy",
    ),
    "connect_timeout": Row(_WAITS, "the authorization server can't be reached: connecting takes too long"),
    "timeout": Row(_WAITS, "the authorization server can't be reached in time: it does not respond"),
    "connection_lost": Row(_WAITS, "the connection to the authorization server broke"),
    # -- its response
    "server_error": _TROUBLE,
    "temporarily_unavailable": Row(_WAITS, "the authorization server is not available for now"),
    "slow_down": _BUSY,
    "http_429": _BUSY,
    "http_5xx": _TROUBLE,
    "http_4xx": Row(
        _WAITS,
        "the authorization server refuses the request with an HTTP status alone",
        f"if that stays so, check {_IN_TABLE}issuer or token_endpoint",
    ),
    "http_2xx": _BROKEN,
    "not_json": Row(
        _WAITS,
        "the authorization server's response is no JSON",
        f"if that stays so, check {_IN_TABLE}issuer or token_endpoint",
    ),
    "too_large": _BROKEN,
    "no_access_token": Row(_WAITS, "the authorization server's response holds no access token"),
    "introspection": _BROKEN,
    "expires_in": Row(
        _WAITS,
        "the tokens live shorter than it takes to get them",
        f"check {_IN_TABLE}access_token_lifetime, and the token lifetime at the server",
    ),
    OTHER: Row(_WAITS, "the authorization server refuses the request with a code that no standard names"),
    # -- this machine
    "store": Row(_WAITS, "the token store can't be written", "check the store's disk or server: see the log"),
}


def row_of(code: str) -> str:
    """The key in `CAUSES` of a code: itself, else its class of HTTP statuses."""
    if code in CAUSES:
        return code
    by_class = f"{code[:6]}xx"  # http_503 is http_5xx
    return by_class if by_class in CAUSES else OTHER
