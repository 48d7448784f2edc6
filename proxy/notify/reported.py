"""What was reported last about each account: sealed records of the store, as those of registered clients.

Their credential is no name that a configuration can have, and their state is that of an account without
tokens: what looks for tokens passes them over.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Final

from proxy.errors import UnreadableRecord
from proxy.notify.decide import Reported
from proxy.store.base import UNREADABLE, AccountId, Record, Store

CREDENTIAL: Final = "~reported"  # sorts behind every name, so that pages of accounts begin with accounts
_STATE: Final = "logged_out"
_PAGE: Final = 200  # records read at once


async def read(store: Store, key: AccountId) -> tuple[int, Reported | None]:
    """The record's generation (0: none), and the last report. One that can't be read counts as none.

    Raises StoreError.
    """
    place = _place(key)
    try:
        record = await store.get(place)
        return (0, None) if record is None else (record.generation, _decoded(record.body))
    except UnreadableRecord:
        await store.quarantine(place)  # or the same would be reported for ever
        return 0, None


async def put(store: Store, key: AccountId, last: Reported, *, expected: int) -> None:
    """Raises StoreError; GenerationConflict if another process has noted one since."""
    body = json.dumps(asdict(last)).encode()
    record = Record(_place(key), expected + 1, _STATE, None, None, body)
    await store.put(record, expected=expected)


async def all_open(store: Store) -> AsyncIterator[tuple[AccountId, Reported]]:
    """The accounts that were last reported to need a person. Raises StoreError."""
    after = AccountId(CREDENTIAL, "")
    while page := await store.page(after, _PAGE):
        for record in page:
            credential, _, account = record.key.account.partition("/")
            if record.key.credential != CREDENTIAL or record.state == UNREADABLE:
                continue
            try:
                last = _decoded(record.body)
            except UnreadableRecord:
                continue
            if last.needs:
                yield AccountId(credential, account), last
        after = page[-1].key


def _place(key: AccountId) -> AccountId:
    return AccountId(CREDENTIAL, str(key))


def _decoded(body: bytes) -> Reported:
    """Raises UnreadableRecord."""
    try:
        fields = json.loads(body)
        tokens = fields["tokens"]
        return Reported(
            needs=bool(fields["needs"]),
            tokens=None if tokens is None else float(tokens),
            at=float(fields["at"]),
            flaps=bool(fields["flaps"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableRecord(
            "the last report of an account can't be read: was it written by a newer version?"
        ) from error
