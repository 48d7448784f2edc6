"""What a logout leaves in the store: a record of a higher generation, without tokens."""

from __future__ import annotations

import logging
from dataclasses import replace

from proxy.clock import Clock
from proxy.errors import UnreadableRecord
from proxy.oauth.token import Token
from proxy.observe.events import WARNING, event
from proxy.store.base import UNREADABLE, Record, Store
from proxy.tokens.account import Account
from proxy.tokens.saved import codec, seeds

_log = logging.getLogger("proxy.tokens")


async def replace_tokens(store: Store, account: Account, clock: Clock) -> tuple[Record | None, Token | None]:
    """Put a tombstone in the place of the account's tokens.

    Returns the tombstone, if there were tokens, and those tokens, if they can be read. Raises StoreError,
    GenerationConflict.
    """
    try:
        record = await store.get(account.key)
        token = codec.decode(record.body) if record else None
    except UnreadableRecord:
        return await _set_aside(store, account, clock), None
    if record is None or token is None or record.state == "logged_out":
        return None, None
    tombstone = successor(record, token)
    await store.put(tombstone, expected=record.generation)
    return tombstone, token


def successor(record: Record, token: Token) -> Record:
    """The tombstone after `record`; it still names the seed that was logged out."""
    empty = replace(token, access_token=None, refresh_token=None, scope="", principal=None)
    return Record(record.key, record.generation + 1, "logged_out", None, None, codec.encode(empty))


async def _set_aside(store: Store, account: Account, clock: Clock) -> Record:
    """Move an unreadable record to quarantine, and put a tombstone in its place."""
    key, above = account.key, account.held.generation
    generation = max(above, await store.quarantine(key))
    sentence = f"{key}: its tokens can't be read and were not revoked; they are kept in quarantine"
    event(_log, WARNING, "tokens_set_aside", sentence, **key._asdict())
    unknown = Record(key, generation, UNREADABLE, None, None, b"")
    tombstone = successor(unknown, seeds.blank(account.credential, clock))
    await store.put(tombstone, expected=0)
    return tombstone
