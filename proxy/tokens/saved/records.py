"""Conversion between the store's records and an account's StoredToken.

A record is used only for the grant, client and authorization server that issued its tokens: for any other it
counts as absent, and stays stored. Reading writes in two cases: a new seed (seeds.py), and tokens that the
store has lost and this process still has (recovery.py).
"""

from __future__ import annotations

import json
import logging
import random
from dataclasses import replace
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import GenerationConflict
from proxy.oauth import grants
from proxy.oauth.binding import bind, is_bound
from proxy.oauth.token import Principal, Token
from proxy.observe.events import INFO, event
from proxy.store.base import ON_DEMAND, AccountId, Record, Store
from proxy.tokens import lifetime
from proxy.tokens.saved import codec, recovery, seeds
from proxy.tokens.saved.seeds import fingerprint
from proxy.tokens.stored_token import NOTHING, StoredToken

ANCESTORS: Final = 16  # refresh tokens listed in a token; a process that is further behind ended long ago

_log = logging.getLogger("proxy.tokens")


async def read(
    store: Store, clock: Clock, credential: Credential, key: AccountId, known: StoredToken
) -> StoredToken:
    """The stored token of `key`, for a process that knows `known` so far. Raises StoreError."""
    while True:
        record = await store.get(key)
        token = codec.decode(record.body) if record else None
        lost = recovery.missing(key, record, token, known, seeds.blank(credential, clock))
        new = lost or seeds.sown(record, token, credential, clock)
        if new is None:
            return _stored_token(record, token, credential)
        if isinstance(new, StoredToken):
            new = _record(key, new, None if new.state == "logged_out" else clock.wall())
        try:
            await store.put(new, expected=record.generation if record else 0)
        except GenerationConflict:
            continue  # another process was first
        if lost is None:
            sentence = f"{key}: the configured refresh token is adopted"
            event(_log, INFO, "seed_adopted", sentence, **key._asdict())


def view(record: Record | None, credential: Credential, clock: Clock) -> StoredToken:
    """As `read` for a process that knows nothing, but without writes. Raises UnreadableRecord."""
    token = codec.decode(record.body) if record else None
    return seeds.sown(record, token, credential, clock) or _stored_token(record, token, credential)


def of_record(record: Record, credential: Credential) -> StoredToken:
    """The stored token of a record that is read already. Raises UnreadableRecord."""
    return _stored_token(record, codec.decode(record.body), credential)


async def put(
    store: Store, key: AccountId, new: StoredToken, *, expected: int, used_at: float | None = None
) -> StoredToken:
    """Save `new`, which has a token, and return it. Raises StoreError.

    `used_at` (Unix seconds) if it counts as a use of the account.
    """
    await store.put(_record(key, new, used_at), expected=expected)
    return new


def owner(record: Record | None, known: StoredToken, credential: Credential) -> Principal | None:
    """The person who logged in to the account, by the record, or by `known` if the store has lost it.

    None: nobody, or unknown. Raises UnreadableRecord.
    """
    held = known
    if record is not None and record.generation >= known.generation:
        held = _stored_token(record, codec.decode(record.body), credential)
    return held.token.principal if held.token else None


def due_at(credential: Credential, token: Token) -> float | None:
    """When to refresh ahead of time (Unix seconds); None: it can't be refreshed."""
    if token.refresh_token is None and not grants.of(credential).renews_itself:
        return None
    chance = random.random()  # noqa: S311 (spreads load, hides nothing)
    return lifetime.due_at(token, credential, chance)


def _stored_token(record: Record | None, token: Token | None, credential: Credential) -> StoredToken:
    if record is None or token is None:
        return NOTHING
    if record.state == "logged_out":
        return StoredToken(record.generation, record.state, None, None)
    if not is_bound(token, credential):
        return StoredToken(record.generation, "absent", None, None)
    token = bind(token, credential)
    in_doubt_by = "" if record.intent is None else _sender(record.intent)
    due_at = None if record.due_at == ON_DEMAND else record.due_at
    return StoredToken(record.generation, record.state, token, due_at, record.intent is not None, in_doubt_by)


def _sender(intent: bytes) -> str:
    try:
        return str(json.loads(intent)["sender"])
    except (ValueError, KeyError, TypeError):
        return ""  # of an earlier version


def successor(new: Token, old: Token, refused: Token | None = None) -> Token:
    """The successor of `old` (lifetime.successor), with its ancestors and principal."""
    made = lifetime.successor(new, old, refused)
    is_same = made.refresh_token == old.refresh_token
    ancestors = old.ancestors if is_same else (*old.ancestors, fingerprint(old.refresh_token))
    return replace(
        made,
        ancestors=ancestors[-ANCESTORS:],
        principal=new.principal or old.principal,
        nonce=new.nonce or old.nonce,
        upstreams=tuple((dict(old.upstreams) | dict(new.upstreams)).items()),
    )


def with_refresh_token_of(new: Token, old: Token) -> Token:
    """`old` with the refresh token of `new`, whose access token must not be attached."""
    made = successor(new, old)
    is_as_bound = (new.dpop_key is None) == (old.dpop_key is None)
    return replace(
        old,
        access_token=old.access_token if is_as_bound else None,
        dpop_key=new.dpop_key,  # the refresh token may be bound to it
        refresh_token=made.refresh_token,
        refresh_expires_at=made.refresh_expires_at,
        ancestors=made.ancestors,
        token_endpoint=new.token_endpoint,
        auth_method=new.auth_method,
        auth_algorithm=new.auth_algorithm,
        found=new.found,
        refusal=None,
    )


def _record(key: AccountId, new: StoredToken, used_at: float | None = None) -> Record:
    token = new.token
    assert token is not None
    body = codec.encode(token)
    return Record(key, new.generation, new.state, new.due_at, token.expires_at, body, used_at=used_at)
