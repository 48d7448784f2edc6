"""Conversion of a token to bytes for the store, and back. Unreadable bytes are refused, never guessed."""

from __future__ import annotations

import json
from typing import Any, Final

from proxy.errors import UnreadableRecord
from proxy.oauth.token import Principal, Refusal, Token
from proxy.secret import Secret
from proxy.tokens.saved import found

_SECRETS = ("access_token", "refresh_token", "dpop_key")
_PLAIN = (
    "server",
    "client_id",
    "issued_at",
    "issued_boot",
    "boot_id",
    "lifetime",
    "refresh_expires_at",
    "scope",
    "seed",
)
_ADDED: dict[str, Any] = {  # added later, with their value for older records
    "ancestors": (),  # since version 2 of the store
    "principal": None,
    "refresh_in": None,
    "skew": None,
    "refresh_renews": None,
    "login_at": None,
    "observed_lifetimes": (),
    "since_last_401": 0,
    "refusal": None,
    "rejected": False,
    "grant": "",
    "endpoints": (),
    "token_endpoint": "",
    "auth_method": "",
    "auth_algorithm": "",
    "upstreams": (),
    "nonce": "",
    "found": None,
}
_STORED_AS: Final = {"observed_lifetimes": "ages", "since_last_401": "unrefused"}  # the names in the record
_OPTIONAL: Final = tuple((name, _STORED_AS.get(name, name), default) for name, default in _ADDED.items())


def encode(token: Token) -> bytes:
    """JSON with the secrets in plain text: pass it only to code that seals it."""
    fields: dict[str, Any] = {_STORED_AS.get(name, name): getattr(token, name) for name in (*_PLAIN, *_ADDED)}
    for name in _SECRETS:
        secret = getattr(token, name)
        fields[name] = None if secret is None else secret.reveal()
    fields["found"] = None if token.found is None else found.to_json(token.found)
    return json.dumps(fields).encode()


def decode(body: bytes) -> Token:
    """Raises UnreadableRecord."""
    try:
        fields = json.loads(body)
        known: dict[str, Any] = {name: fields[name] for name in _PLAIN}
        known |= {name: fields.get(stored_as, default) for name, stored_as, default in _OPTIONAL}
        known["ancestors"] = tuple(known["ancestors"])
        known["principal"] = None if known["principal"] is None else Principal(*known["principal"])
        known["refusal"] = None if known["refusal"] is None else Refusal(*known["refusal"])
        known["observed_lifetimes"] = tuple(known["observed_lifetimes"])
        known["found"] = None if known["found"] is None else found.from_json(known["found"])
        known["endpoints"] = tuple((name, url) for name, url in known["endpoints"])
        known["upstreams"] = tuple((name, value) for name, value in known["upstreams"])
        known |= {name: _secret(fields[name]) for name in ("access_token", "refresh_token")}
        known["dpop_key"] = _secret(fields.get("dpop_key"))  # added later
        return Token(**known)
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableRecord("a stored token can't be read: was it written by a newer version?") from error


def _secret(value: str | None) -> Secret | None:
    return None if value is None else Secret(value)
