"""Keys that mean nothing for a credential's grant. Pure: parsed TOML in, complaints out, as in checks.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy.config.fault_messages import Complaint
from proxy.config.grants import Requirements, requirements_of
from proxy.config.model import Credential
from proxy.config.tables import Tables, table

OF_CLIENTS: Final = frozenset(
    {
        "client_id",
        "client_secret",
        "client_secret_expires",
        "client_key",
        "client_key_id",
        "client_assertion",
        "assertion_audience",
        "assertion_alg",
        "client_auth",
        "basic_encoding",
    }
)
OF_SERVERS: Final = frozenset(
    {
        "mcp",
        "resource",
        "issuer",
        "token_endpoint",
        "authorization_endpoint",
        "device_authorization_endpoint",
        "revocation_endpoint",
        "introspection_endpoint",
        "pushed_authorization_request_endpoint",
        "par",
        "dpop",
        "scopes",
        "pkce",
        "token_types",
        "callback",
        "authorize_params",
        "token_params",
    }
)
OF_STEPS: Final = frozenset({"steps", "jwt", "secrets", "response"})
OF_REQUESTS: Final = frozenset(
    {
        "access_token_lifetime",
        "refresh_at",
        "refresh_window",
        "refresh_token_idle",
        "refresh_token_lifetime",
        "keep_alive",
        "tls",
        "proxy",
    }
)


def check_grants(data: Tables) -> Iterator[Complaint]:
    for name, credential in table(data, "credentials").items():
        if not isinstance(credential, dict):
            continue
        grant = credential.get("grant", Credential.model_fields["grant"].default)
        asks = requirements_of(grant)
        if asks is None:
            continue
        for key in credential:
            if why := lacks(key, asks):
                sentence = f'grant = "{grant}" {why} - leave the key out'
                yield Complaint(("credentials", name, key), sentence, "key")


def lacks(key: str, asks: Requirements) -> str:
    """What the key is about, if the grant has nothing of that kind; else ""."""
    if key in OF_CLIENTS and asks.client == "none":
        return "has no client"
    if key in OF_SERVERS and asks.server == "none":
        return "has no authorization server"
    if key in OF_STEPS and not asks.described:
        return "describes no requests"
    return "requests no tokens" if key in OF_REQUESTS and asks.is_fixed else ""
