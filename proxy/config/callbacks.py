"""Authorization servers that share the redirect URI of logins. Pure: parsed TOML in, complaints out.

A malicious server can make its login end with the code of another server (RFC 9700 section 4.4). It is
noticed where the other one sends `iss` (RFC 9207), which only its metadata tell, and where either of them has
a redirect URI of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.config.fault_messages import Complaint
from proxy.config.grants import REQUIREMENTS


def check_callbacks(data: Mapping[str, Any]) -> Iterator[Complaint]:
    """For advice: each credential with logins that shares /callback with one of another server before it."""
    credentials = data.get("credentials")
    first: dict[str, str] = {}  # the name of a credential by its server
    for name, credential in credentials.items() if isinstance(credentials, dict) else ():
        if not isinstance(credential, dict) or not _shares(credential):
            continue
        server = str(credential.get("issuer") or credential.get("mcp") or credential.get("token_endpoint"))
        other = next((name for known, name in first.items() if known != server), None)
        if other is not None and server not in first:
            yield Complaint(
                ("credentials", name),
                f"its logins share the redirect URI /callback with those of credential {other!r}: of the two "
                "authorization servers one could get a code of the other, unless that sends iss (RFC 9207) - "
                f'callback = "own" separates them (register public_url + "/callback/{name}" there)',
            )
        first.setdefault(server, name)


def _shares(credential: Mapping[str, Any]) -> bool:
    grant = REQUIREMENTS.get(str(credential.get("grant", "authorization_code")))
    registers = "mcp" in credential and "client_id" not in credential  # see Config.redirect_uri
    default = "own" if registers else "shared"
    return grant is not None and grant.redirects and credential.get("callback", default) == "shared"
