"""The token of a stored record, as one process has read it. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.oauth.token import Token
from proxy.secret import Secret


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A stored record, as read: `token` is None if it has none for this server and client."""

    generation: int
    state: str  # as in store.base.Record, or "absent"
    token: Token | None
    due_at: float | None
    in_doubt: bool = False  # a refresh was sent, and its result is unknown ...
    in_doubt_by: str = ""  # ... sent by this process


NOTHING: Final = StoredToken(generation=0, state="absent", token=None, due_at=None)


def access_token_of(held: StoredToken) -> Secret | None:
    return held.token.access_token if held.token else None


def response_of(held: StoredToken) -> tuple[str, float] | None:
    """Identifies a token response: two may have the same access token."""
    return (held.token.boot_id, held.token.issued_boot) if held.token else None
