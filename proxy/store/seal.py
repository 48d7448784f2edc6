"""Encrypt the bodies, intents and stashes of any store with AES-256-GCM.

    blob = version (1) | key id (4) | nonce (12, random for each write) | ciphertext and tag

The kind, name and generation of a value are authenticated with it (associated data), though not stored in
the blob: one that is copied to another record, or restored under a newer generation, does not open.
A key may seal 2^32 values before random nonces become a risk (NIST SP 800-38D section 8.3).
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.errors import GenerationConflict, StoreError, UnreadableRecord
from proxy.observe.events import INFO, WARNING, event
from proxy.store.base import STATES, UNREADABLE, AccountId, Due, Outline, Record, Store

_log = logging.getLogger("proxy.store")
T = TypeVar("T")

_VERSION: Final = b"\x01"
_KEY_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = len(_VERSION) + _KEY_ID_BYTES
_SAMPLE: Final = 100  # records; if none of them opens, the key is wrong
_DERIVED_BYTES: Final = 32


class Sealer:
    """Encrypts and decrypts single values with a key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._head = _VERSION + hashlib.sha256(b"token-proxy key id\0" + key).digest()[:_KEY_ID_BYTES]

    def seal(self, plain: bytes, *context: str | int) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return self._head + nonce + self._cipher.encrypt(nonce, plain, _bound(context))

    def made(self, blob: bytes) -> bool:
        """Whether the blob carries this key's id; it may be damaged nevertheless."""
        return blob[:_HEAD_BYTES] == self._head

    def open(self, blob: bytes, *context: str | int) -> bytes:
        """Decrypt. Raises InvalidTag unless `seal` made the blob with this key and context."""
        rest = blob[_HEAD_BYTES:]
        nonce, sealed = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
        if not self.made(blob) or len(nonce) != _NONCE_BYTES:
            raise InvalidTag
        return self._cipher.decrypt(nonce, sealed, _bound(context))


def _bound(context: tuple[str | int, ...]) -> bytes:
    """Each part with its length before it, so that different contexts never give the same bytes."""
    parts = [str(part).encode() for part in context]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class SealedStore:
    """Any store, with its secrets encrypted. The names of stashes are hashed.

    Every write passes through here: `written` is called with whether it succeeded.
    """

    def __init__(self, store: Store, key: bytes) -> None:
        self._store = store
        self._sealer = Sealer(key)
        self._key = key
        self.written: Callable[[bool], object] = bool  # has no effect
        self._is_writable = True

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose (HKDF, RFC 5869); all processes with this store's key get it."""
        return derive(self._key, purpose)

    async def identity(self) -> str:
        return await self._store.identity()

    async def get(self, key: AccountId) -> Record | None:
        record = await self._store.get(key)
        return None if record is None else self._opened(record)

    async def put(self, record: Record, *, expected: int) -> None:
        await self.get(record.key)  # raises for a record that this key can't open: never overwrite it
        body = self._sealer.seal(record.body, "body", *record.key, record.generation)
        await self._writing(self._store.put(replace(record, body=body), expected=expected))

    async def intend(self, key: AccountId, generation: int, intent: bytes) -> None:
        await self.get(key)  # as for put
        sealed = self._sealer.seal(intent, "intent", *key, generation)
        await self._writing(self._store.intend(key, generation, sealed))

    async def quarantine(self, key: AccountId) -> int:
        """Raises UnreadableRecord if this key opens no record: then the key is wrong, not the record."""
        record = await self._store.get(key)
        is_damaged = record is not None and self._sealer.made(record.body)
        if not is_damaged and all(each.state == UNREADABLE for each in await self.page(None, _SAMPLE)):
            raise UnreadableRecord(
                f"the tokens of {key} stay where they are, as the key opens nothing in this store: "
                "restore the store's own key, or move the store away and log in again"
            )
        return await self._store.quarantine(key)

    async def due_before(self, credentials: Collection[str], when: float, limit: int) -> list[Due]:
        return await self._store.due_before(credentials, when, limit)

    async def postpone(self, key: AccountId, generation: int, due_at: float | None) -> None:
        await self._store.postpone(key, generation, due_at)

    async def touch(self, used: Mapping[AccountId, float]) -> None:
        await self._store.touch(used)

    async def page(self, after: AccountId | None, limit: int) -> list[Record]:
        return [self._opened_or_marked(record) for record in await self._store.page(after, limit)]

    async def outlines(self, after: AccountId | None, limit: int) -> list[Outline]:
        return await self._store.outlines(after, limit)

    async def get_many(self, keys: Collection[AccountId]) -> list[Record]:
        return [self._opened_or_marked(record) for record in await self._store.get_many(keys)]

    async def counts(self, now: float) -> Mapping[str, Mapping[str, int]]:
        return await self._store.counts(now)

    def changes(self) -> AsyncIterator[AccountId | None]:
        return self._store.changes()

    async def stash(self, name: str, value: bytes, seconds: float) -> None:
        hidden = _hidden(name)
        await self._writing(self._store.stash(hidden, self._sealer.seal(value, "stash", hidden), seconds))

    async def take(self, name: str) -> bytes | None:
        hidden = _hidden(name)
        blob = await self._store.take(hidden)
        try:
            return None if blob is None else self._sealer.open(blob, "stash", hidden)
        except InvalidTag:
            raise UnreadableRecord("the login was started with another key: start it again") from None

    async def lease(self, name: str, owner: str, seconds: float, *, succeed: str | None = None) -> str | None:
        leasing = self._store.lease(name, owner, seconds, succeed=succeed)
        return await self._writing(leasing, is_written=lambda holder: holder is None)

    async def renew(self, name: str, owner: str, seconds: float) -> bool:
        return await self._writing(self._store.renew(name, owner, seconds), is_written=bool)

    async def release(self, name: str, owner: str) -> None:
        await self._store.release(name, owner)

    async def close(self) -> None:
        await self._store.close()

    async def _writing(self, write: Awaitable[T], is_written: Callable[[T], bool] = lambda _: True) -> T:
        """Await a write and report its success, unless `is_written(result)` is False: nothing was written."""
        try:
            result = await write
        except (GenerationConflict, UnreadableRecord):
            raise
        except StoreError as error:
            self._note_write(error)
            raise
        if is_written(result):
            self._note_write(None)
        return result

    def _note_write(self, error: StoreError | None) -> None:
        """`error`: None if the write succeeded. A warning only: each consequence has an event of its own."""
        self.written(error is None)
        if error is not None and self._is_writable:
            event(_log, WARNING, "store_not_writable", f"the token store can't be written: {error}")
        elif error is None and not self._is_writable:
            event(_log, INFO, "store_writable", "the token store can be written again")
        self._is_writable = error is None

    def _opened(self, record: Record) -> Record:
        whose = (*record.key, record.generation)
        try:
            if record.state not in STATES:
                raise InvalidTag
            body = self._sealer.open(record.body, "body", *whose)
            intent = record.intent and self._sealer.open(record.intent, "intent", *whose)
        except InvalidTag:
            raise UnreadableRecord(
                f"the tokens of {record.key} are damaged or were sealed with another key: "
                "restore the store's own key; if it has that, log out, which sets them aside, "
                "and log in again"
            ) from None
        return replace(record, body=body, intent=intent)

    def _opened_or_marked(self, record: Record) -> Record:
        try:
            return self._opened(record)
        except UnreadableRecord:
            return replace(record, state=UNREADABLE, body=b"", intent=None)


def derive(key: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose, derived from the key of a store (HKDF, RFC 5869)."""
    return HKDF(SHA256(), _DERIVED_BYTES, salt=None, info=purpose.encode()).derive(key)


def _hidden(name: str) -> str:
    """Hash the name of a stash, itself a secret (a login's state), and too long to be guessed."""
    return hashlib.sha256(name.encode()).hexdigest()
