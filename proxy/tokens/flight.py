"""One refresh, from the lease to the saved record.

    lease → read again (someone was first? done) → note the intent → send → save → release → serve

The intent is durable before anything is sent, and the new token is durable before anyone is served with
it: whatever dies in between, the store holds the old refresh token or the new one. An intent found open
means that an earlier refresh may or may not have reached the server; the old token is sent again at once,
which servers answer within their grace (RFC 9700 section 4.14.2).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, GenerationConflict, StoreError, UnreadableRecord
from proxy.oauth import grants
from proxy.oauth.endpoint import AuthorizationServers, server_of
from proxy.oauth.grants import Form
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.store.base import Key, Record, Store
from proxy.tokens import codec, lease, life
from proxy.tokens.account import NOTHING, Held

ATTEMPTS: Final = (
    3  # in one flight, while callers wait: a lost answer is asked for again within servers' grace
)

_log = logging.getLogger("proxy.tokens")
Attempted = Callable[[Credential, str, str, float], None]  # credential, outcome, error, seconds


@dataclass(frozen=True, slots=True)
class Tower:
    """What every flight needs."""

    store: Store
    servers: AuthorizationServers
    clock: Clock
    owner: str  # of leases
    attempted: Attempted


async def read(tower: Tower, credential: Credential, key: Key) -> Held:
    """What the store holds for `key`; a seed from the configuration is adopted on the way.

    Raises StoreError.
    """
    record = await tower.store.get(key)
    held = NOTHING if record is None else _held(record, credential)
    seed = credential.refresh_token
    if credential.grant != "refresh_token" or seed is None:
        return held
    last_seed = "" if record is None else codec.decode(record.body).seed
    if (held.token is not None or held.state == "logged_out") and last_seed == fingerprint(seed):
        return held
    return await save(tower, credential, key, _seeded(tower, credential, seed), expected=held.generation)


async def refresh(tower: Tower, credential: Credential, key: Key, seen: int) -> Held:
    """Get a token newer than generation `seen`, by whoever is first.

    Raises AuthorizationServerError, StoreError.
    """
    async with lease.held(tower.store, f"refresh:{key}", tower.owner):
        held = await read(tower, credential, key)
        if held.generation > seen and _is_served(tower, held):
            return held
        form = _form(credential, held)
        if form is None:
            return held
        if form["grant_type"] == "refresh_token":
            await tower.store.intend(key, held.generation, _intent(tower, held))
        return await _renew(tower, credential, key, held, form)


async def save(tower: Tower, credential: Credential, key: Key, token: Token, *, expected: int) -> Held:
    """Make `token` the account's own, durably. If someone else wrote first, theirs is returned.

    While the store can't be written, this tries again and again: nothing may be served unsaved.
    """
    due_at = _due_at(credential, token)
    held = Held(expected + 1, "valid", token, due_at)
    record = Record(key, held.generation, held.state, due_at, token.expires_at, codec.encode(token))
    failures = 0
    while True:
        try:
            await tower.store.put(record, expected=expected)
        except GenerationConflict:
            current = await tower.store.get(key)
            return NOTHING if current is None else _held(current, credential)
        except UnreadableRecord:
            raise
        except StoreError as error:
            failures += 1
            _log.error("a new token of %s can't be saved yet and is not used until it is: %s", key, error)
            await asyncio.sleep(life.backoff(failures))
        else:
            return held


async def _renew(tower: Tower, credential: Credential, key: Key, held: Held, form: Form) -> Held:
    try:
        token = await _send(tower, credential, form)
    except AuthorizationServerError as error:
        if error.outcome != "login_required":
            raise
        return await _mourn(tower, credential, key, held, error)
    old = held.token
    return await save(tower, credential, key, _heir(token, old), expected=held.generation)


async def _send(tower: Tower, credential: Credential, form: Form) -> Token:
    """Ask for a token; a lost answer is asked for again."""
    for attempt in range(1, ATTEMPTS + 1):
        started = time.perf_counter()
        try:
            token = await tower.servers.token(credential, form)
        except AuthorizationServerError as error:
            tower.attempted(credential, error.outcome, error.error, time.perf_counter() - started)
            if error.outcome != "transient" or error.retry_after is not None or attempt == ATTEMPTS:
                raise
            await asyncio.sleep(life.backoff(attempt))
        else:
            tower.attempted(credential, "success", "", time.perf_counter() - started)
            return token
    raise AssertionError("unreachable")


async def _mourn(
    tower: Tower, credential: Credential, key: Key, held: Held, error: AuthorizationServerError
) -> Held:
    """The refresh token is refused for good. Say so in the store, unless someone has logged in meanwhile.

    Nothing is deleted: the record keeps its tokens, and the access token serves to its end.
    """
    if held.token is None or credential.grant == "client_credentials":
        raise AuthorizationServerError("misconfigured", error.error)
    record = Record(
        key,
        held.generation + 1,
        "login_required",
        None,
        held.token.expires_at,
        codec.encode(held.token),
    )
    try:
        await tower.store.put(record, expected=held.generation)
    except GenerationConflict:
        return await read(tower, credential, key)
    _log.warning("%s: the authorization server refuses its refresh token; a person must log in", key)
    return replace(held, generation=record.generation, state=record.state, due_at=None)


def _held(record: Record, credential: Credential) -> Held:
    token = codec.decode(record.body)
    bound = token.server == server_of(credential) and token.client_id == credential.client_id
    has_tokens = token.access_token is not None or token.refresh_token is not None
    return Held(record.generation, record.state, token if bound and has_tokens else None, record.due_at)


def _form(credential: Credential, held: Held) -> Form | None:
    """What to send; None where only a person can help."""
    if credential.grant == "client_credentials":
        return None if held.state == "logged_out" else grants.client_credentials(credential.scopes)
    if held.state != "valid" or held.token is None or held.token.refresh_token is None:
        return None
    return grants.refresh_token(held.token.refresh_token)


def _heir(token: Token, old: Token | None) -> Token:
    """An answer without a refresh token leaves the old one in force (RFC 6749 section 6)."""
    if old is None:
        return token
    return replace(
        token,
        refresh_token=token.refresh_token or old.refresh_token,
        refresh_expires_at=token.refresh_expires_at or old.refresh_expires_at,
        scope=token.scope or old.scope,
        seed=old.seed,
    )


def _seeded(tower: Tower, credential: Credential, seed: Secret) -> Token:
    return Token(
        access_token=None,
        refresh_token=seed,
        server=server_of(credential),
        client_id=credential.client_id,
        issued_at=tower.clock.wall(),
        issued_boot=tower.clock.boot(),
        boot_id=tower.clock.boot_id,
        lifetime=0.0,
        seed=fingerprint(seed),
    )


def _due_at(credential: Credential, token: Token) -> float | None:
    if token.refresh_token is None and credential.grant != "client_credentials":
        return None  # nothing could refresh it
    if token.access_token is None:
        return token.issued_at
    chance = random.random()  # noqa: S311 (spreads load, hides nothing)
    return token.issued_at + life.due_after(token.lifetime, credential.refresh_at, chance)


def _is_served(tower: Tower, held: Held) -> bool:
    if held.token is None:
        return False
    return tower.clock.boot() < life.window(held.token, held.due_at, tower.clock).expired


def _intent(tower: Tower, held: Held) -> bytes:
    sent = held.token.refresh_token if held.token else None
    note = {"generation": held.generation, "token": fingerprint(sent), "at": tower.clock.wall()}
    return json.dumps(note).encode()


def fingerprint(secret: Secret | None) -> str:
    """A hash that tells two secrets apart and gives neither away."""
    return "" if secret is None else hashlib.sha256(secret.reveal().encode()).hexdigest()
