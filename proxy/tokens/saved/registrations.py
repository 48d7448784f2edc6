"""Registered clients (RFC 7591), as records of the store: sealed, durable and shared like those of accounts.

Their credential is no name that a configuration can have, and their state is that of an account without
tokens: what looks for tokens passes them over.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from proxy.config.found import Registration
from proxy.config.model import Credential
from proxy.errors import UnreadableRecord
from proxy.oauth.binding import by_hand
from proxy.store.base import AccountId, Record, Store
from proxy.tokens.saved import found

CREDENTIAL: Final = "+client"  # sorts before every name
_STATE: Final = "logged_out"


def place_of(credential: Credential, redirect_uri: str | None) -> str:
    """The name of its record: the same for all that can use the same client.

    `credential`: with its server found.
    """
    parts = (
        credential.issuer,
        sorted(by_hand(credential).items()),
        credential.grant,
        credential.client_auth,
        redirect_uri,
        sorted(credential.scopes),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


async def read(store: Store, place: str) -> tuple[int, Registration | None]:
    """Its generation (0: no record), and the client; None if it was given up. Raises StoreError."""
    record = await store.get(AccountId(CREDENTIAL, place))
    if record is None:
        return 0, None
    try:
        fields = json.loads(record.body)
        return record.generation, None if fields is None else found.registration_from_json(fields)
    except (ValueError, TypeError) as error:
        sentence = "a registered client can't be read: was it written by a newer version?"
        raise UnreadableRecord(sentence) from error


async def put(store: Store, place: str, made: Registration | None, *, expected: int) -> None:
    """Raises StoreError; GenerationConflict if another process was first."""
    body = json.dumps(None if made is None else found.registration_to_json(made)).encode()
    record = Record(AccountId(CREDENTIAL, place), expected + 1, _STATE, None, None, body)
    await store.put(record, expected=expected)
