"""id_tokens as a server gives them beside its tokens (OpenID Connect Core 1.0 section 2)."""

from __future__ import annotations

import base64
import json

from proxy.demo.faults import Fault

FAR = 4_000_000_000  # Unix seconds: in 2096


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def id_token(issuer: str, client_id: str, subject: str, **claims: object) -> str:
    """Claims that are None are left out. The signature is not checked."""
    given = {"iss": issuer, "aud": client_id, "sub": subject, "exp": FAR, "iat": 1, **claims}
    body = {name: value for name, value in given.items() if value is not None}
    return f"{part({'alg': 'RS256'})}.{part(body)}.c2lnbmF0dXJl"


def logs_in(issuer: str, client_id: str, subject: str, **claims: object) -> Fault:
    """The next response of our authorization server has an id_token of `subject`."""
    return Fault(change={"id_token": id_token(issuer, client_id, subject, **claims)})
