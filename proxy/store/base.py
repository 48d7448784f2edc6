"""What a store is. Any store passes the same contract tests (tests/store/test_contract.py).

A record is one account's tokens. What must be found without opening anything (name, generation, state,
due time, expiry) is in clear; the tokens are in `body`, which `seal.py` encrypts before it comes here.
A stash is a small value that lives for minutes and can be taken once: a login that was begun.
A lease says who may refresh an account now; it ends by itself.

Nothing here knows what a token is.
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
    generation: int  # 1 at the first login, then one more for each put
    state: str  # one of STATES
    due_at: float | None  # when to refresh ahead of time; None: never by itself
    expires_at: float | None  # of the access token; None: unknown
    body: bytes  # sealed below seal.py, plain JSON above it
    intent: bytes | None = None  # a refresh sent and not yet saved: `intend` sets it, a put clears it
    used_at: float | None = None  # the last use that was noted; a put keeps the later of the two


# "logged_out" is a tombstone; what follows from time is not stored
STATES: Final = frozenset({"valid", "login_required", "logged_out"})
UNREADABLE: Final = "unreadable"  # in place of a state, where the record is damaged or the key is another


class Due(NamedTuple):
    """An account that is to be looked at. Times are Unix seconds."""

    at: float
    key: AccountId
    used_at: float | None


def must_advance(record: Record, expected: int) -> None:
    """Every put is of a higher generation, or a late writer could not be told from a new one."""
    if record.generation <= expected:
        raise ValueError(f"{record.key}: generation {record.generation} can't follow {expected}")


def later(one: float | None, other: float | None) -> float | None:
    """The later of two times, of which either may be unknown."""
    return max((time for time in (one, other) if time is not None), default=None)


class Store(Protocol):
    """Every method may raise StoreError; a body that can't be opened raises UnreadableRecord."""

    async def identity(self) -> str:
        """8 hex digits, made once for this store: who we are in a Via field."""
        ...

    async def get(self, key: AccountId) -> Record | None: ...

    async def put(self, record: Record, *, expected: int) -> None:
        """Save `record` durably if the store's generation for its key is `expected` (0: no record yet).

        Raises GenerationConflict otherwise; then nothing has changed. `record.generation` must be greater
        than `expected`.
        """
        ...

    async def intend(self, key: AccountId, generation: int, intent: bytes) -> None:
        """Note durably, beside the record of `generation`, that a refresh is about to be sent.

        Raises GenerationConflict if the record has another generation by now.
        """
        ...

    async def quarantine(self, key: AccountId) -> int:
        """Move a record that can't be read out of the way, to be kept as it is; `key` has none after that.

        Returns its generation (0: there was none, or it is damaged). Nobody is told: a put is to follow.
        """
        ...

    async def due_before(self, credentials: Collection[str], when: float, limit: int) -> list[Due]:
        """The accounts in state "valid" whose due time is before `when`, the earliest first.

        At most `limit` of each credential: one whose server is down must not hide those of the others.
        """
        ...

    async def postpone(self, key: AccountId, generation: int, due_at: float | None) -> None:
        """Give the record of `generation` another due time; if it has another generation by now, do nothing.

        No other user of the store is told: it says when to look, and nothing of the tokens.
        """
        ...

    async def touch(self, used: Mapping[AccountId, float]) -> None:
        """Note when accounts were last used (Unix seconds), unless a later use is noted already.

        Nobody is told, and what has no record is passed over. The note may be lost with the machine.
        """
        ...

    async def page(self, after: AccountId | None, limit: int) -> list[Record]:
        """Records in the order of their keys, those after `after`.

        One that can't be opened has an empty body and state UNREADABLE.
        """
        ...

    async def counts(self, now: float) -> Mapping[str, Mapping[str, int]]:
        """Per credential, how many accounts are in each state; "valid" is told apart by time:
        "expired" (expires_at has passed), "stale" (due_at has passed), else "valid".
        """
        ...

    def changes(self) -> AsyncIterator[AccountId | None]:
        """The keys put since this was called, each within a second; None: anything may have changed.

        It begins with the call, not with the first step of the iterator: call it, then load, and nothing
        slips between. Own puts may be among the keys. A store that can't be read for a while is waited for,
        not raised; the iterator ends when the store is closed.
        """
        ...

    async def stash(self, name: str, value: bytes, seconds: float) -> None:
        """Keep `value` under `name` for at most `seconds`."""
        ...

    async def take(self, name: str) -> bytes | None:
        """Return what was stashed and forget it, in one step: of two takers one gets None."""
        ...

    async def lease(self, name: str, owner: str, seconds: float, *, succeed: str | None = None) -> str | None:
        """Take the lease `name` for `owner`. Returns None when `owner` has it, else who has it.

        `succeed` names a holder that is known to be dead: its lease is taken over at once. A store that may
        have lost leases, or kept their holders from renewing them (it was emptied, restarted, or stood
        still), gives none that is not released, nor any that it does not know of, for the length of one.
        """
        ...

    async def renew(self, name: str, owner: str, seconds: float) -> bool:
        """Keep the lease, and put it back if the store has lost it. False: another has it by now."""
        ...

    async def release(self, name: str, owner: str) -> None:
        """Give the lease back if `owner` still has it."""
        ...

    async def close(self) -> None: ...
