"""Why the last token request failed, by the code of its AuthorizationServerError: half of the table.

One row per code, with a sentence that is true wherever the code comes from: a wrong issuer is never reported
as a wrong secret. In the state "misconfigured" every verdict is MISCONFIGURED. hints.py has more precise next
steps for some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.tokens.diagnosis.mcp_and_steps import MCP_AND_STEPS
from proxy.tokens.diagnosis.reasons import Row, Verdict

OTHER: Final = "other"  # the row for unknown codes
_WAITS, _CONFIG = Verdict.WAITS, Verdict.MISCONFIGURED
_IN_TABLE: Final = "credentials.{credential}."
_PERSON: Final = "{if_renewed}"

_CLIENT: Final = Row(
    _CONFIG,
    "the authorization server does not accept this client",
    "check client_id and client_secret of credentials.{credential}; some servers need client_auth = "
    '"client_secret_post" there, or basic_encoding = "raw"',
)
_REFUSED_ONCE: Final = Row(_WAITS, "the authorization server refused the refresh token")
_OPERATOR: Final = "if this persists, ask the server's operator"
_BROKEN: Final = Row(_WAITS, "the authorization server's response can't be used", _OPERATOR)
_TROUBLE: Final = Row(_WAITS, "the authorization server reports an internal error", _OPERATOR)
_BUSY: Final = Row(_WAITS, "the authorization server limits the rate of requests")
_ISSUER: Final = (
    f"set {_IN_TABLE}issuer to exactly the issuer in the server's metadata (check the slash at the end), "
    "or set token_endpoint and authorization_endpoint explicitly"
)
_NO_METADATA: Final = Row(
    _WAITS, "the server has no metadata at the issuer's address", f"if this persists, {_ISSUER}"
)


def _redirects(endpoint: str) -> Row:
    """The row of an endpoint that redirects: none is followed, as the request has a secret."""
    sentence = f"the {endpoint.replace('_', ' ')} redirects to another address"
    return Row(_CONFIG, sentence, f"set {_IN_TABLE}{endpoint} to the address that it redirects to")


CAUSES: Final[Mapping[str, Row]] = {
    # -- the client and its request (RFC 6749 section 5.2)
    "invalid_client": _CLIENT,
    "incorrect_client_credentials": _CLIENT,
    "invalid_scope": Row(
        _CONFIG,
        "the authorization server does not know one of the scopes, or does not allow it to this client",
        f"check {_IN_TABLE}scopes ({{scopes}})",
    ),
    "unauthorized_client": Row(
        _CONFIG,
        "this client is not registered for the grant {grant_type}",
        f"register it for this grant at the authorization server, or change {_IN_TABLE}grant",
    ),
    "unsupported_grant_type": Row(
        _CONFIG,
        "the authorization server does not support the grant {grant_type} for this client",
        f"register the client for it, or change {_IN_TABLE}grant",
    ),
    # the next three may concern one refresh token only: the state tells whether it is the client
    "invalid_request": Row(
        _WAITS,
        "the authorization server does not understand the request",
        f"check {_IN_TABLE}token_params: a parameter may be missing, such as audience, or the key resource",
    ),
    "invalid_target": Row(
        _WAITS,
        "the authorization server does not know the requested resource or audience",
        f"check {_IN_TABLE}resource and token_params",
    ),
    "access_denied": Row(
        _WAITS,
        "the authorization server denies this client the tokens",
        "check the client's permissions at the authorization server",
    ),
    "token_type": Row(
        _CONFIG,
        "the authorization server issues tokens of a type that can't be attached",
        f"register the client for bearer tokens, or check {_IN_TABLE}token_types",
    ),
    "no_dpop": Row(
        _CONFIG,
        "the authorization server issues tokens without a proof of possession (DPoP)",
        f"register the client for DPoP-bound access tokens, or leave {_IN_TABLE}dpop out",
    ),
    "invalid_dpop_proof": Row(
        _CONFIG,
        "the authorization server does not accept the proof of possession (DPoP)",
        "check the clock of this machine, and that the token endpoint is the address that the server knows",
    ),
    "use_dpop_nonce": Row(_WAITS, "the authorization server asks for a new DPoP nonce each time", _OPERATOR),
    # -- a refresh token, refused but not finally
    "invalid_grant": _REFUSED_ONCE,
    "bad_refresh_token": _REFUSED_ONCE,
    "expired_token": _REFUSED_ONCE,
    "bad_verification_code": _REFUSED_ONCE,
    "interaction_required": _REFUSED_ONCE,
    "consent_required": Row(_WAITS, "the authorization server wants a person to consent again", _PERSON),
    "login_required": Row(_WAITS, "the authorization server wants a person to authenticate again", _PERSON),
    "account_selection_required": Row(
        _WAITS, "the authorization server wants a person to select an account", _PERSON
    ),
    "invalid_code": _REFUSED_ONCE,
    "invalid_refresh_token": _REFUSED_ONCE,
    "token_revoked": _REFUSED_ONCE,
    # -- discovery and endpoints
    "issuer_mismatch": Row(_CONFIG, "the metadata at the issuer's address names another issuer", _ISSUER),
    "discovery": _NO_METADATA,
    "discovery_not_found": _NO_METADATA,
    "discovery_redirect": Row(
        _WAITS,
        "the issuer's address redirects to another one",
        f"if this persists, set {_IN_TABLE}issuer to the address that it redirects to, without "
        "/.well-known/; or set token_endpoint and authorization_endpoint explicitly",
    ),
    "discovery_not_json": Row(
        _WAITS, "the document at the issuer's address is not server metadata", f"if this persists, {_ISSUER}"
    ),
    "no_token_endpoint": Row(
        _CONFIG, "the server's metadata names no token endpoint", f"set {_IN_TABLE}token_endpoint"
    ),
    "unsafe_endpoint": Row(
        _CONFIG,
        "the server's metadata names an endpoint that is not https",
        f"set {_IN_TABLE}token_endpoint and the other endpoints explicitly",
    ),
    "redirect": Row(
        _CONFIG,
        "the token endpoint redirects to another address",
        f"set {_IN_TABLE}issuer or token_endpoint to the address that it redirects to",
    ),
    "revocation_redirect": _redirects("revocation_endpoint"),
    "introspection_redirect": _redirects("introspection_endpoint"),
    "device_redirect": _redirects("device_authorization_endpoint"),
    "par_redirect": _redirects("pushed_authorization_request_endpoint"),
    "no_revocation_endpoint": Row(
        _CONFIG,
        "no revocation endpoint of the authorization server is known",
        f"if it has one, set {_IN_TABLE}revocation_endpoint",
    ),
    "revocation_refused": Row(
        _CONFIG,
        "the authorization server refuses to revoke tokens for this client",
        f"check {_IN_TABLE}revocation_endpoint, and that the client may revoke tokens there",
    ),
    **MCP_AND_STEPS,
    # -- the client's files
    "tls_files": Row(
        _WAITS,
        "the certificates for the connection to the authorization server can't be used",
        f"check the files of {_IN_TABLE}tls, or run `token-proxy check`",
    ),
    "client_assertion": Row(
        _WAITS,
        "the file client_assertion can't be read, or holds no JWT",
        f"check {_IN_TABLE}client_assertion, and that the platform writes the file",
    ),
    # -- this program
    "internal": Row(_WAITS, "this program failed unexpectedly: its log has the cause", "report it"),
    # -- the connection to the server
    "unreachable": Row(
        _WAITS,
        "the authorization server can't be reached",
        "if this persists, check that the server runs, and {place}",
    ),
    "dns": Row(
        _WAITS,
        "the authorization server can't be reached: its name can't be resolved",
        "if this persists, check the host in {place}",
    ),
    "tls": Row(
        _WAITS,
        "the authorization server can't be reached: the TLS handshake fails",
        f"if its certificate is from a private CA, set {_IN_TABLE}tls.ca",
    ),
    "egress_proxy": Row(
        _WAITS,
        "the authorization server can't be reached: the egress proxy fails",
        f"if this persists, check {_IN_TABLE}proxy",
    ),
    "connect_timeout": Row(
        _WAITS,
        "the authorization server can't be reached: connecting takes too long",
        "if this persists, check the network between, and {place}",
    ),
    "timeout": Row(_WAITS, "the authorization server does not respond in time", _OPERATOR),
    "connection_lost": Row(
        _WAITS,
        "the connection to the authorization server was lost",
        "if this persists, check the network between, and {place}",
    ),
    # -- its response
    "server_error": _TROUBLE,
    "temporarily_unavailable": Row(_WAITS, "the authorization server is temporarily unavailable", _OPERATOR),
    "slow_down": _BUSY,
    "authorization_pending": Row(_WAITS, "the authorization server still waits for the person"),
    "device_response": Row(
        _WAITS,
        "the response of the device authorization endpoint can't be used",
        f"if this persists, check {_IN_TABLE}device_authorization_endpoint",
    ),
    "no_device_authorization_endpoint": Row(
        _CONFIG,
        "the server's metadata name no device authorization endpoint",
        f"set {_IN_TABLE}device_authorization_endpoint, or use another grant",
    ),
    "http_429": _BUSY,
    "http_5xx": _TROUBLE,
    "http_4xx": Row(
        _WAITS,
        "the authorization server refuses the request without an OAuth error code",
        "if this persists, check {place}",
    ),
    "http_2xx": _BROKEN,
    "not_json": Row(
        _WAITS,
        "the authorization server's response is not JSON",
        "if this persists, check {place}",
    ),
    "too_large": _BROKEN,
    "no_access_token": Row(_WAITS, "the authorization server's response has no access token", _OPERATOR),
    "introspection": _BROKEN,
    "token_file": Row(
        _WAITS,
        "the file with the token that the platform writes can't be read, or holds no token",
        "check the file that credentials.{credential} names; it is read again with the next try",
    ),
    "expires_in": Row(
        _WAITS,
        "the access tokens expire before they arrive",
        f"check {_IN_TABLE}access_token_lifetime, and the token lifetime at the server",
    ),
    OTHER: Row(
        _WAITS, "the authorization server refuses the request with a non-standard error code", _OPERATOR
    ),
    # -- this machine
    "store": Row(_WAITS, "the token store can't be written", "check the store's disk or server: see the log"),
}


def row_of(code: str) -> str:
    """The key of a code in `CAUSES`: the code itself, else its class of HTTP statuses."""
    if code in CAUSES:
        return code
    by_class = f"{code[:6]}xx"  # http_503 is http_5xx
    return by_class if by_class in CAUSES else OTHER
