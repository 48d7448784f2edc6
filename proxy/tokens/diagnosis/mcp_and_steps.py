"""The rows of failures.py for MCP servers, registered clients and described requests (grant = "request")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.tokens.diagnosis.reasons import Row, Verdict

_WAITS, _CONFIG = Verdict.WAITS, Verdict.MISCONFIGURED
_IN_TABLE: Final = "credentials.{credential}."
_OPERATOR: Final = "if this persists, ask the server's operator"

_NOT_REGISTERED: Final = Row(
    _CONFIG,
    "the authorization server refuses to register a client",
    f"register one there by hand, and set {_IN_TABLE}client_id",
)

MCP_AND_STEPS: Final[Mapping[str, Row]] = {
    # -- an MCP server, and the client that is registered for it
    "mcp_unreachable": Row(
        _WAITS, "the MCP server can't be reached", f"if this persists, check {_IN_TABLE}mcp"
    ),
    "mcp_error": Row(
        _WAITS,
        "the MCP server reports an internal error instead of its metadata",
        f"if this persists, set {_IN_TABLE}issuer to its authorization server",
    ),
    "mcp_no_authorization": Row(
        _CONFIG,
        "the metadata of the MCP server name no authorization server",
        f"set {_IN_TABLE}issuer to its authorization server",
    ),
    "mcp_unsafe_issuer": Row(
        _CONFIG,
        "the metadata of the MCP server name an authorization server that is not https",
        f"set {_IN_TABLE}issuer to its authorization server",
    ),
    "resource_mismatch": Row(
        _CONFIG,
        "the metadata of the MCP server are those of another resource",
        f"set {_IN_TABLE}mcp to exactly the URL that the MCP server's documentation gives",
    ),
    "no_pkce": Row(
        _CONFIG,
        "the authorization server's metadata do not offer PKCE with S256, which MCP requires",
        f"if its operator can't add it, set {_IN_TABLE}pkce = false: a stolen code can then be used",
    ),
    "no_registration": Row(
        _CONFIG,
        "the authorization server does not register clients by itself",
        f"register a client there, and set {_IN_TABLE}client_id",
    ),
    "registration": Row(
        _WAITS, "the authorization server's response to a registration can't be used", _OPERATOR
    ),
    "registration_redirect": Row(
        _CONFIG,
        "the registration endpoint redirects to another address",
        f"register a client there, and set {_IN_TABLE}client_id",
    ),
    "registration_method": Row(
        _CONFIG,
        "the authorization server registers clients with a way of authentication that token-proxy lacks",
        f"register a client there, and set {_IN_TABLE}client_id",
    ),
    "registration_refused": _NOT_REGISTERED,
    "invalid_client_metadata": _NOT_REGISTERED,
    "invalid_redirect_uri": Row(
        _CONFIG,
        "the authorization server does not register clients with this redirect URI",
        f"check server.public_url, or register a client there and set {_IN_TABLE}client_id",
    ),
    "client_forgotten": Row(
        _WAITS, "the authorization server does not know the client any more that was registered there"
    ),
    "client_expired": Row(_WAITS, "the client that was registered for these tokens has expired"),
    "no_request_uri": Row(
        _CONFIG,
        "the response to the pushed authorization request has no request_uri",
        f"check {_IN_TABLE}pushed_authorization_request_endpoint, or leave par out there",
    ),
    # -- described requests (grant = "request")
    "step_refused": Row(
        _CONFIG,
        "the server refuses the described login",
        f"check the secrets and the key of {_IN_TABLE}jwt",
    ),
    "step_failed": Row(
        _CONFIG, "the server does not accept the described request", f"check {_IN_TABLE}steps"
    ),
    "step_redirect": Row(
        _CONFIG,
        "the address of a described request redirects to another one",
        f"set the url in {_IN_TABLE}steps to the address that it redirects to",
    ),
    "step_value": Row(
        _CONFIG,
        "a placeholder of a described request has no value, or one that can't stand there",
        f"check the placeholders in {_IN_TABLE}steps, and the responses that they refer to",
    ),
    "step_token": Row(
        _CONFIG,
        "the response to the last described request has no token where the configuration says",
        f"check {_IN_TABLE}response.token; some servers report a refused login in such a response",
    ),
    "step_not_json": Row(
        _WAITS, "the response to a described request is not JSON", f"if this persists, check {_IN_TABLE}steps"
    ),
}
