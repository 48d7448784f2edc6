"""The interface of a store. Every backend passes the same contract tests (tests/store/test_contract.py).

A record holds one account's tokens. The fields that a store must search by (name, generation, state, due
time, expiry) are in clear; the tokens are in `body`, which seal.py encrypts before a backend sees it.
A stash is a small value that lives for minutes and can be taken once: a login in progress.
A lease names the process that may refresh an account now; it expires by itself.

A backend treats bodies, intents and stashes as opaque bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol


class AccountId(NamedTuple):
    """An account of a credential."""

    credential: str
    account: str

    def __str__(self) -> str:
        return f"{self.credential}/{self.account}"


@dataclass(frozen=True, slots=True)
class Record:
    """One account's tokens as stored. Times are Unix seconds."""

    key: AccountId
    generation: int  # 1 at the first login, then greater with each put
    state: str  # one of STATES
    due_at: float | None  # when to refresh before expiry; ON_DEMAND: only if it is used; None: it can't be
    expires_at: float | None  # of the access token; None: unknown
    body: bytes  # encrypted below seal.py, plain JSON above it
    intent: bytes | None = None  # a refresh sent but not yet saved; set by `intend`, cleared by `put`
    used_at: float | None = None  # the last recorded use; `put` keeps the later one


# "logged_out" is a tombstone; states that depend on the time are not stored (see Store.counts)
STATES: Final = frozenset({"valid", "login_required", "logged_out"})
ON_DEMAND: Final = 253_402_300_000.0  # as due_at: a time that never comes, the end of the year 9999
UNREADABLE: Final = "unreadable"  # instead of a state: the record is damaged or sealed with another key


class Outline(NamedTuple):
    """What a record says in clear. Times are as in Record."""

    key: AccountId
    state: str  # one of STATES, or UNREADABLE
    due_at: float | None
    expires_at: float | None


class Due(NamedTuple):
    """An account due for a refresh. Times are Unix seconds."""

    at: float
    key: AccountId
    used_at: float | None


def must_advance(record: Record, expected: int) -> None:
    """Raises ValueError unless the generation grows: otherwise a late write would pass for a new one."""
    if record.generation <= expected:
        raise ValueError(f"{record.key}: generation {record.generation} can't follow {expected}")


def outline(record: Record) -> Outline:
    return Outline(record.key, record.state, record.due_at, record.expires_at)


def later(one: float | None, other: float | None) -> float | None:
    """The later of two times; None if both are unknown."""
    return max((time for time in (one, other) if time is not None), default=None)


class Store(Protocol):
    """What a backend implements.

    Any method but `changes` may raise StoreError. After an error or a cancellation a write is done either
    completely or not at all. A damaged record affects no call about others. "Durably" means that a write
    survives a crash of the process and of the machine, as far as the backend is configured for that.
    """

    async def identity(self) -> str:
        """8 hex digits, generated when the store is created: the pseudonym in Via fields."""
        ...

    async def get(self, key: AccountId) -> Record | None:
        """The record of `key`; None if there is none.

        A damaged one either raises UnreadableRecord or has state UNREADABLE (for which SealedStore raises).
        """
        ...

    async def put(self, record: Record, *, expected: int) -> None:
        """Save `record` durably if its key has the generation `expected` (0: no record yet), atomically.

        Clears the intent, keeps the later `used_at`, and notifies `changes`. Raises GenerationConflict, with
        nothing changed, if the key has another generation; ValueError unless `record.generation` is greater
        than `expected`.
        """
        ...

    async def intend(self, key: AccountId, generation: int, intent: bytes) -> None:
        """Save durably, beside the record of `generation`, that a refresh is about to be sent.

        Leaves the generation as it is and does not notify `changes`. Raises GenerationConflict, with nothing
        changed, if the key has no record or another generation.
        """
        ...

    async def quarantine(self, key: AccountId) -> int:
        """Set an unreadable record aside, unchanged and durably; `key` has no record afterwards.

        Returns its generation; 0 if there was no record or the generation is damaged too. Does not notify
        `changes`, as a put follows.
        """
        ...

    async def due_before(self, credentials: Collection[str], when: float, limit: int) -> list[Due]:
        """The accounts in state "valid" whose `due_at` is before `when` (Unix seconds), earliest first.

        At most `limit` per credential: so one whose server is down does not hide the accounts of others.
        """
        ...

    async def postpone(self, key: AccountId, generation: int, due_at: float | None) -> None:
        """Set `due_at` of the record of `generation`; no effect if the key has another generation.

        Does not notify `changes`, as the tokens stay the same. May be lost in a crash.
        """
        ...

    async def touch(self, used: Mapping[AccountId, float]) -> None:
        """Record when accounts were last used (Unix seconds), unless a later use is recorded.

        Keys without a record are skipped. Does not notify `changes`. May be lost in a crash.
        """
        ...

    async def page(self, after: AccountId | None, limit: int) -> list[Record]:
        """At most `limit` records in the order of their keys, from the first one greater than `after`.

        An unreadable record has state UNREADABLE and an empty body.
        """
        ...

    async def outlines(self, after: AccountId | None, limit: int) -> list[Outline]:
        """As `page`, but without what is encrypted: much cheaper. A damaged record has state UNREADABLE."""
        ...

    async def get_many(self, keys: Collection[AccountId]) -> list[Record]:
        """The records of `keys` that exist, in any order, read together.

        An unreadable one has state UNREADABLE and an empty body.
        """
        ...

    async def counts(self, now: float) -> Mapping[str, Mapping[str, int]]:
        """The number of accounts by credential and state.

        At `now` (Unix seconds) "valid" is split into "expired" (`expires_at` has passed), "stale" (`due_at`
        has passed) and "valid".
        """
        ...

    def changes(self) -> AsyncIterator[AccountId | None]:
        """The keys put since this call, each within a second; None: any record may have changed.

        The subscription starts with the call, not with the first iteration: subscribe, then load, and no
        change is missed. Own puts may be included. While the store can't be read the iterator waits, and
        raises nothing; it ends when the store is closed.
        """
        ...

    async def stash(self, name: str, value: bytes, seconds: float) -> None:
        """Keep `value` under `name` for at most `seconds`, instead of an earlier value."""
        ...

    async def take(self, name: str) -> bytes | None:
        """Return the stashed value and delete it, atomically: of two callers only one gets it.

        None if there is none or it has expired.
        """
        ...

    async def lease(self, name: str, owner: str, seconds: float, *, succeed: str | None = None) -> str | None:
        """Acquire or extend the lease `name` for `owner`, atomically. Returns None, or else the holder.

        `succeed` names a holder that is known to be dead: its lease is taken over at once. A store that may
        have lost leases, or in which their holders could not renew them (it was emptied, restarted or
        suspended), must for the length of one lease grant only those known to be released; it may exempt
        `succeed`.
        """
        ...

    async def renew(self, name: str, owner: str, seconds: float) -> bool:
        """Extend the lease, or restore one that the store has lost. False: another owner holds it."""
        ...

    async def release(self, name: str, owner: str) -> None:
        """End the lease if `owner` holds it; no effect otherwise. May be lost in a crash."""
        ...

    async def close(self) -> None:
        """Finish the calls in progress, end the iterators of `changes` and close all connections."""
        ...
