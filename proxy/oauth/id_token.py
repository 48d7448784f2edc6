"""The person who logged in: the claims of an id_token (OpenID Connect Core 1.0 section 2). Pure.

It comes from the token endpoint itself, over TLS, so its signature need not be checked (section 3.1.3.7,
point 6), and its header is not read. Issuer, audience and expiry are checked. It is only used to tell
people apart, and to show them their name.

No error raised here holds a part of it, or has a cause that does.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final, TypeGuard

from proxy.oauth.token import Principal
from proxy.secret import Secret

MAX_ID_TOKEN: Final = 64 * 1024  # characters; some servers list all of a person's groups in it
MAX_SUBJECT: Final = 255  # characters (section 2)
MAX_ISSUER: Final = 1024  # characters; it is a URL
MAX_NAME: Final = 120  # characters; for display only
LEEWAY: Final = 300.0  # seconds; the token is new, but clocks differ
_NAMES: Final = ("email", "preferred_username")  # for display; the first that is present
_ALSO: Final = {"https://accounts.google.com": "accounts.google.com"}  # Google sends either


class BadIdToken(Exception):
    """`error` is one of: id_token_malformed, _issuer, _audience, _expired, _nonce."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


def read(id_token: Secret, *, issuer: str | None, client_id: str, now: float) -> Principal:
    """The owner of the tokens of the same response. Raises BadIdToken.

    `issuer`: the configured one, None if there is none; `now`: Unix seconds.
    """
    claims = _claims(id_token.reveal())
    iss, subject, expires = claims.get("iss"), claims.get("sub"), claims.get("exp")
    if not _is_text(iss, MAX_ISSUER) or not _is_text(subject, MAX_SUBJECT) or not _is_time(expires):
        raise BadIdToken("id_token_malformed")
    if issuer is not None and iss not in {issuer, _ALSO.get(issuer)}:
        raise BadIdToken("id_token_issuer")
    audience = claims.get("aud")
    if client_id not in (audience if isinstance(audience, list) else [audience]):
        raise BadIdToken("id_token_audience")
    if not expires > now - LEEWAY:  # false for NaN, too
        raise BadIdToken("id_token_expired")
    return Principal(issuer or iss, subject, _name(claims))


def has_nonce(id_token: Secret, nonce: str) -> bool:
    """Whether it has this nonce; False if it has none, or none is expected ("").

    Raises BadIdToken if it has another (section 3.1.3.7, point 11; for a refresh section 12.2).
    """
    found = _claims(id_token.reveal()).get("nonce")
    if found is None or not nonce:
        return False
    if found != nonce:
        raise BadIdToken("id_token_nonce")
    return True


def _claims(id_token: str) -> dict[str, Any]:
    claims = None
    if len(id_token) <= MAX_ID_TOKEN:
        try:
            _header, payload, _signature = id_token.split(".")
            claims = json.loads(base64.urlsafe_b64decode(payload + "==").decode())
        except (ValueError, RecursionError):
            claims = None
    if not isinstance(claims, dict):
        raise BadIdToken("id_token_malformed")
    return claims


def _is_text(value: object, most: int) -> TypeGuard[str]:
    """Printable: no control characters, no lone surrogates."""
    return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(claims: dict[str, Any]) -> str:
    """The name to show, made printable: it may be anything that the person has entered."""
    unverified = claims.get("email_verified") in (False, "false")
    values = [claims.get(name) for name in _NAMES if not (name == "email" and unverified)]
    name = next((value for value in values if isinstance(value, str) and value), "")
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name)
    return shown if len(shown) <= MAX_NAME else f"{shown[:MAX_NAME]}…"
