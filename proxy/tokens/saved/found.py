"""What was found for a credential with `mcp`: conversion to JSON objects for the store, and back."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from proxy.config.found import Found, Registration
from proxy.secret import Secret


def to_json(found: Found) -> dict[str, Any]:
    """With the secret in plain text: pass it only to code that seals it."""
    plain = asdict(replace(found, registration=None))
    made = found.registration
    return {**plain, "registration": None if made is None else registration_to_json(made)}


def from_json(fields: dict[str, Any]) -> Found:
    """Raises KeyError, TypeError, ValueError."""
    made = fields["registration"]
    return Found(
        issuer=fields["issuer"],
        resource=fields["resource"],
        scopes=tuple(fields["scopes"]),
        endpoints=tuple((name, url) for name, url in fields["endpoints"]),
        registration=None if made is None else registration_from_json(made),
    )


def registration_to_json(made: Registration) -> dict[str, Any]:
    """As `to_json`."""
    secret = made.client_secret
    plain = asdict(replace(made, client_secret=None))
    return {**plain, "client_secret": None if secret is None else secret.reveal()}


def registration_from_json(fields: dict[str, Any]) -> Registration:
    """Raises TypeError."""
    secret = fields.get("client_secret")
    return Registration(**{**fields, "client_secret": None if secret is None else Secret(secret)})
