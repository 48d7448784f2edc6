"""Between the store's records and what an account holds.

A record is only ever read for the authorization server and client that gave its tokens: for any other it
counts as absent, and stays as it is. Two things are written while reading: a seed (the refresh token that
the configuration gives) that is new, and what the store has lost and this process still holds.

Several processes may fill a store that was emptied, and the first may not know the latest token. Generations
can't tell then (who fills counts on from what it knew), nor can clocks (they are of several hosts). So each
token names those that it came after: what is among them is older, whatever its number.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
from dataclasses import replace
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, GenerationConflict, StoreError
from proxy.oauth import grants
from proxy.oauth.endpoint import AuthorizationServers, server_of
from proxy.oauth.token import Principal, Token, differ
from proxy.secret import Secret
from proxy.store.base import UNREADABLE, AccountId, Record, Store
from proxy.tokens import lifetime
from proxy.tokens.account import NOTHING, StoredToken
from proxy.tokens.saved import codec

ANCESTORS: Final = 16  # refresh tokens that a token names; a process further behind has long ended
PAGE: Final = 100  # records opened at once, where all are looked at; requests wait some ms meanwhile
INTROSPECTION_WAIT: Final = 3.0  # seconds; requests wait for it, and can do without what it tells

_log = logging.getLogger("proxy.tokens")


async def read(
    store: Store, clock: Clock, credential: Credential, key: AccountId, known: StoredToken
) -> StoredToken:
    """What the store holds for `key`, for a process that knows `known` by now. Raises StoreError."""
    while True:
        record = await store.get(key)
        token = codec.decode(record.body) if record else None
        missing = _lost(key, record, token, known, credential, clock) or _seeded(
            key, record, token, credential, clock
        )
        if missing is None:
            return _held(record, token, credential)
        try:
            await store.put(missing, expected=record.generation if record else 0)
        except GenerationConflict:
            continue  # another process was first


def held(record: Record, credential: Credential) -> StoredToken:
    """What a record that was read with many others holds. Raises UnreadableRecord."""
    return _held(record, codec.decode(record.body), credential)


async def put(
    store: Store, key: AccountId, new: StoredToken, *, expected: int, used_at: float | None = None
) -> StoredToken:
    """Save `new`, which has a token, and return it. Raises StoreError.

    `used_at` (Unix seconds) where somebody is there who wants it.
    """
    await store.put(_record(key, new, used_at), expected=expected)
    return new


async def dated(
    store: Store, servers: AuthorizationServers, credential: Credential, key: AccountId, new: StoredToken
) -> StoredToken:
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
        known = StoredToken(new.generation + 1, new.state, token, due_at(credential, token))
        return await put(store, key, known, expected=new.generation)
    except (AuthorizationServerError, StoreError, TimeoutError) as error:
        _log.info("how long the token of %s lives is not known: introspection failed (%s)", key, error)
        return new


def is_bound(token: Token, credential: Credential) -> bool:
    """Whether the token was given by this server to this client; else it must not be sent to it."""
    return token.server == server_of(credential) and token.client_id == credential.client_id


def owner(record: Record | None, known: StoredToken, credential: Credential) -> Principal | None:
    """Who logged in to the account, by the record, or by what this process knows if the store has lost it.

    None: nobody, or nobody knows who. Raises UnreadableRecord.
    """
    held = known
    if record is not None and record.generation >= known.generation:
        held = _held(record, codec.decode(record.body), credential)
    return held.token.principal if held.token else None


async def has_account(store: Store, token: Token) -> bool:
    """Whether any account has tokens of the same person, from the same server and client. Raises StoreError.

    It walks through the store: some three seconds where there are 100 000 accounts.
    """
    after: AccountId | None = None
    while page := await store.page(after, PAGE):
        after = page[-1].key
        stored = [codec.decode(record.body) for record in page if record.state in {"valid", "login_required"}]
        if any(each.principal and _is_same_person(each, token) for each in stored):
            return True
    return False


def due_at(credential: Credential, token: Token) -> float | None:
    """When to refresh ahead of time (Unix seconds); None: nothing could refresh it."""
    if token.refresh_token is None and not grants.of(credential).renews_itself:
        return None
    chance = random.random()  # noqa: S311 (spreads load, hides nothing)
    return lifetime.due_at(token, credential, chance)


def tombstone(record: Record, token: Token) -> Record:
    """What follows `record` when its tokens are forgotten; it still tells which seed was logged out."""
    empty = replace(token, access_token=None, refresh_token=None, scope="", principal=None)
    return Record(record.key, record.generation + 1, "logged_out", None, None, codec.encode(empty))


async def set_aside(
    store: Store, credential: Credential, key: AccountId, clock: Clock, *, above: int
) -> Record:
    """Make room where a record can't be read: it is kept in quarantine, and a tombstone takes its place.

    Returns the tombstone, of a generation higher than `above`. Raises StoreError.
    """
    generation = max(above, await store.quarantine(key))
    _log.warning("%s: its tokens can't be read and were not revoked; they are kept in quarantine", key)
    unknown = Record(key, generation, UNREADABLE, None, None, b"")
    grave = tombstone(unknown, _nothing(credential, clock))
    await store.put(grave, expected=0)
    return grave


def fingerprint(secret: Secret | None) -> str:
    """A hash that tells two secrets apart and gives neither away."""
    return "" if secret is None else hashlib.sha256(secret.reveal().encode()).hexdigest()


def _is_same_person(one: Token, other: Token) -> bool:
    from_same = (one.server, one.client_id) == (other.server, other.client_id)
    return from_same and not differ(one.principal, other.principal)


def _held(record: Record | None, token: Token | None, credential: Credential) -> StoredToken:
    if record is None or token is None:
        return NOTHING
    if record.state == "logged_out":
        return StoredToken(record.generation, record.state, None, None)
    if not is_bound(token, credential):
        return StoredToken(record.generation, "absent", None, None)
    in_doubt_by = "" if record.intent is None else _sender(record.intent)
    return StoredToken(
        record.generation, record.state, token, record.due_at, record.intent is not None, in_doubt_by
    )


def _sender(intent: bytes) -> str:
    try:
        return str(json.loads(intent)["sender"])
    except (ValueError, KeyError, TypeError):
        return ""  # of an earlier version


def _record(key: AccountId, new: StoredToken, used_at: float | None = None) -> Record:
    token = new.token
    assert token is not None
    body = codec.encode(token)
    return Record(key, new.generation, new.state, new.due_at, token.expires_at, body, used_at=used_at)


def successor(new: Token, old: Token, refused: Token | None = None) -> Token:
    """What follows `old` (life.heir), with those that it comes after, and whose it is."""
    made = lifetime.successor(new, old, refused)
    is_same = made.refresh_token == old.refresh_token
    ancestors = old.ancestors if is_same else (*old.ancestors, fingerprint(old.refresh_token))
    return replace(made, ancestors=ancestors[-ANCESTORS:], principal=new.principal or old.principal)


def above(record: Record | None, answered: StoredToken, sent: Token | None) -> int:
    """The generation under which an answer is saved after all, though the store was changed meanwhile.

    It is where the store was emptied, or filled with what was `sent`: the answer is what follows. Raises
    GenerationConflict if somebody has logged in or out, or has an answer of their own.
    """
    if record is None:
        return answered.generation
    stored = codec.decode(record.body)
    is_before = (
        sent is not None and sent.refresh_token is not None and stored.refresh_token == sent.refresh_token
    )
    if not is_before or record.state == "logged_out":
        raise GenerationConflict(f"{record.key} was changed by someone else: read it again")
    return max(answered.generation, record.generation + 1)


def _lost(
    key: AccountId,
    record: Record | None,
    token: Token | None,
    known: StoredToken,
    credential: Credential,
    clock: Clock,
) -> Record | None:
    """What belongs in a store that was emptied, or put back from a backup.

    Absence alone is never logout, nor its end: a tombstone is put back like a token.
    """
    if known.generation == 0 or (known.token is None and known.state != "logged_out"):
        return None
    is_older = token is not None and known.token is not None and _comes_before(token, known.token)
    if record and record.generation >= known.generation and (record.state == "logged_out" or not is_older):
        return None
    _log.error("the store has lost the latest tokens of %s: they are put back", key)
    generation = max(record.generation if record else 0, known.generation) + 1
    if record and token and not is_older and _counts(record, token, known):
        return replace(record, generation=generation)
    if known.token is None:
        gone = StoredToken(generation, "logged_out", _nothing(credential, clock), None)
        return _record(key, gone)
    return _record(key, replace(known, generation=generation), used_at=clock.wall())


def _comes_before(token: Token, other: Token) -> bool:
    return token.refresh_token is not None and fingerprint(token.refresh_token) in other.ancestors


def _counts(record: Record, token: Token, known: StoredToken) -> bool:
    """Whether what was put into an emptied store is later than what is known: a login, or a logout."""
    if record.state == "logged_out" or known.token is None:
        return True
    return token.issued_by_server > known.token.issued_by_server


def _nothing(credential: Credential, clock: Clock) -> Token:
    """What a tombstone has for tokens."""
    return _planted(credential, clock, None, fingerprint(credential.refresh_token))


def _seeded(
    key: AccountId, record: Record | None, token: Token | None, credential: Credential, clock: Clock
) -> Record | None:
    """The record that the configured refresh token begins, if it is another than the last one."""
    seed = credential.refresh_token  # the configuration accepts one with the grant that begins with it only
    if seed is None:
        return None
    if record and token and token.seed == fingerprint(seed):
        # tried with another client id, perhaps misspelt, and never used up: starting over loses nothing
        is_unused = record.state != "logged_out" and token.refresh_token == seed
        if not is_unused or is_bound(token, credential):
            return None
    planted = _planted(credential, clock, seed, fingerprint(seed))
    generation = record.generation + 1 if record else 1
    return _record(key, StoredToken(generation, "valid", planted, due_at=clock.wall()), used_at=clock.wall())


def _planted(credential: Credential, clock: Clock, refresh_token: Secret | None, seed: str) -> Token:
    """A token set that no answer gave."""
    return Token(
        access_token=None,
        refresh_token=refresh_token,
        server=server_of(credential),
        client_id=credential.client_id,
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=0.0,
        login_at=clock.wall(),
        seed=seed,
    )
