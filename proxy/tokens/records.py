"""Between the store's records and what an account holds.

A record is only ever read for the authorization server and client that gave its tokens: for any other it
counts as absent, and stays as it is. Two things are written while reading: a seed (the refresh token that
the configuration gives) that is new, and tokens that the store has lost and this process still holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from dataclasses import replace
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, GenerationConflict, StoreError
from proxy.oauth.endpoint import AuthorizationServers, server_of
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.store.base import Key, Record, Store
from proxy.tokens import codec, life
from proxy.tokens.account import NOTHING, Held

INTROSPECTION_WAIT: Final = 3.0  # seconds; requests wait for it, and can do without what it tells

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


async def dated(
    store: Store, servers: AuthorizationServers, credential: Credential, key: Key, new: Held
) -> Held:
    """Ask how long a token lives that was just saved, where nothing has told it, and save that too.

    Only now: a new refresh token waits for nothing before it is saved. Whatever goes wrong changes nothing.
    """
    token = new.token
    if token is None or token.access_token is None or token.lifetime is not None:
        return new
    try:
        async with asyncio.timeout(INTROSPECTION_WAIT):
            lifetime = await servers.introspected_lifetime(credential, token.access_token)
        if lifetime is None:
            return new
        token = replace(token, lifetime=lifetime)
        known = Held(new.generation + 1, new.state, token, due_at(credential, token))
        return await put(store, key, known, expected=new.generation)
    except (AuthorizationServerError, StoreError, TimeoutError) as error:
        _log.info("how long the token of %s lives is not known: introspection failed (%s)", key, error)
        return new


def is_bound(token: Token, credential: Credential) -> bool:
    """Whether the token was given by this server to this client; else it must not be sent to it."""
    return token.server == server_of(credential) and token.client_id == credential.client_id


def due_at(credential: Credential, token: Token) -> float | None:
    """When to refresh ahead of time (Unix seconds); None: nothing could refresh it."""
    if token.refresh_token is None and credential.grant != "client_credentials":
        return None
    chance = random.random()  # noqa: S311 (spreads load, hides nothing)
    return life.due_at(token, credential, chance)


def tombstone(record: Record, token: Token) -> Record:
    """What follows `record` when its tokens are forgotten; it still tells which seed was logged out."""
    empty = replace(token, access_token=None, refresh_token=None, scope="")
    return Record(record.key, record.generation + 1, "logged_out", None, None, codec.encode(empty))


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
    if (
        record
        and token
        and (record.state == "logged_out" or token.issued_by_server > known.token.issued_by_server)
    ):
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
    planted = Token(
        access_token=None,
        refresh_token=seed,
        server=server_of(credential),
        client_id=credential.client_id,
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=0.0,
        login_at=clock.wall(),
        seed=fingerprint(seed),
    )
    generation = record.generation + 1 if record else 1
    return _record(key, Held(generation, "valid", planted, due_at=clock.wall()))
