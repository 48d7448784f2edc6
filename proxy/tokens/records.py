"""Between the store's records and what an account holds.

A record is only ever read for the authorization server and client that gave its tokens: for any other it
counts as absent, and stays as it is. Two things are written while reading: a seed (the refresh token that
the configuration gives) that is new, and tokens that the store has lost and this process still holds.
"""

from __future__ import annotations

import hashlib
import logging
import random
from dataclasses import replace

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import GenerationConflict
from proxy.oauth.endpoint import server_of
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.store.base import UNREADABLE, Key, Record, Store
from proxy.tokens import codec, life
from proxy.tokens.account import NOTHING, Held

_log = logging.getLogger("proxy.tokens")


async def read(store: Store, clock: Clock, credential: Credential, key: Key, known: Held) -> Held:
    """What the store holds for `key`, for a process that knows `known` by now. Raises StoreError."""
    while True:
        record = await store.get(key)
        token = codec.decode(record.body) if record else None
        missing = _lost(key, record, token, known) or _seeded(key, record, token, credential, clock)
        if missing is None:
            return _held(record, token, credential)
        try:
            await store.put(missing, expected=record.generation if record else 0)
        except GenerationConflict:
            continue  # another process was first


def held(record: Record, credential: Credential) -> Held:
    """What a record that was read with many others holds. Raises UnreadableRecord."""
    return _held(record, codec.decode(record.body), credential)


async def put(store: Store, key: Key, new: Held, *, expected: int) -> Held:
    """Save `new`, which has a token, and return it. Raises StoreError."""
    await store.put(_record(key, new), expected=expected)
    return new


def is_bound(token: Token, credential: Credential) -> bool:
    """Whether the token was given by this server to this client; else it must not be sent to it."""
    return token.server == server_of(credential) and token.client_id == credential.client_id


def due_at(credential: Credential, token: Token) -> float | None:
    """When to refresh ahead of time (Unix seconds); None: nothing could refresh it."""
    if token.refresh_token is None and credential.grant != "client_credentials":
        return None
    chance = random.random()  # noqa: S311 (spreads load, hides nothing)
    return token.issued_at + life.due_after(token.lifetime, credential.refresh_at, chance)


def tombstone(record: Record, token: Token) -> Record:
    """What follows `record` when its tokens are forgotten; it still tells which seed was logged out."""
    empty = replace(token, access_token=None, refresh_token=None, scope="")
    return Record(record.key, record.generation + 1, "logged_out", None, None, codec.encode(empty))


async def set_aside(store: Store, credential: Credential, key: Key, clock: Clock, *, above: int) -> Record:
    """Make room where a record can't be read: it is kept in quarantine, and a tombstone takes its place.

    Returns the tombstone, of a generation higher than `above`. Raises StoreError.
    """
    generation = max(above, await store.quarantine(key))
    _log.warning("%s: its tokens can't be read and were not revoked; they are kept in quarantine", key)
    unknown = Record(key, generation, UNREADABLE, None, None, b"")
    grave = tombstone(unknown, _planted(credential, clock))
    await store.put(grave, expected=0)
    return grave


def fingerprint(secret: Secret | None) -> str:
    """A hash that tells two secrets apart and gives neither away."""
    return "" if secret is None else hashlib.sha256(secret.reveal().encode()).hexdigest()


def _held(record: Record | None, token: Token | None, credential: Credential) -> Held:
    if record is None or token is None:
        return NOTHING
    if record.state == "logged_out":
        return Held(record.generation, record.state, None, None)
    if not is_bound(token, credential):
        return Held(record.generation, "absent", None, None)
    return Held(record.generation, record.state, token, record.due_at, unsettled=record.intent is not None)


def _record(key: Key, new: Held) -> Record:
    token = new.token
    assert token is not None
    return Record(key, new.generation, new.state, new.due_at, token.expires_at, codec.encode(token))


def _lost(key: Key, record: Record | None, token: Token | None, known: Held) -> Record | None:
    """What belongs in a store that was emptied, or put back from a backup.

    Absence alone is never logout: what was issued last counts, under a number above all that were seen.
    """
    if known.token is None or (record and record.generation >= known.generation):
        return None
    _log.error("the store has lost the latest tokens of %s: they are put back", key)
    generation = known.generation + 1
    if record and token and (record.state == "logged_out" or token.issued_at > known.token.issued_at):
        return replace(record, generation=generation)
    return _record(key, replace(known, generation=generation))


def _seeded(
    key: Key, record: Record | None, token: Token | None, credential: Credential, clock: Clock
) -> Record | None:
    """The record that the configured refresh token begins, if it is another than the last one."""
    seed = credential.refresh_token
    if credential.grant != "refresh_token" or seed is None:
        return None
    if record and token and token.seed == fingerprint(seed):
        # tried with another client id, perhaps misspelt, and never used up: starting over loses nothing
        is_unused = record.state != "logged_out" and token.refresh_token == seed
        if not is_unused or is_bound(token, credential):
            return None
    planted = _planted(credential, clock)
    generation = record.generation + 1 if record else 1
    return _record(key, Held(generation, "valid", planted, due_at=clock.wall()))


def _planted(credential: Credential, clock: Clock) -> Token:
    """What the configuration gives before the server has given anything."""
    seed = credential.refresh_token
    return Token(
        access_token=None,
        refresh_token=seed,
        server=server_of(credential),
        client_id=credential.client_id,
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=0.0,
        seed=fingerprint(seed),
    )
