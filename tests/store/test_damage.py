"""Damaged bytes are reported and never overwritten, and affect no other account's tokens."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StoreError, UnreadableRecord
from proxy.store.base import UNREADABLE, AccountId, Record
from proxy.store.seal import SealedStore
from proxy.store.sqlite.store import SQLiteStore
from tests.patience import within
from tests.store.raw import raw

SECRET = bytes(range(32))
ANN, BOB, CID = (AccountId("crm", name) for name in ("ann", "bob", "cid"))
PAGE = 4096
MakeRecord = Callable[..., Record]


async def opened(path: Path, clock: Any) -> SealedStore:
    return SealedStore(await SQLiteStore.open(path, clock), SECRET)


@pytest.fixture
async def path(tmp_path: Path, clock: Any, record: MakeRecord) -> Path:
    """A store with the tokens of ann (with an open intent), bob and cid."""
    path = tmp_path / "tokens.db"
    store = await opened(path, clock)
    for name in ("ann", "bob", "cid"):
        body = f"tokens of {name}".encode()
        await store.put(record(name, due_at=10.5, expires_at=20.5, used_at=5.5, body=body), expected=0)
    await store.intend(ANN, 1, b"sent")
    await store.close()
    return path


def row_of_ann(path: Path) -> tuple[Any, ...]:
    """The stored row, without any check."""
    with raw(path) as db:
        db.text_factory = bytes
        (row,) = db.execute("SELECT * FROM tokens WHERE rowid = 1")
        return tuple(row)


def flipped(value: bytes, at: int, mask: int) -> bytes:
    return value[:at] + bytes([value[at] ^ mask]) + value[at + 1 :]


async def refuses_ann_and_serves_bob(store: SealedStore, record: MakeRecord, generation: int) -> None:
    for attempt in (
        store.get(ANN),
        store.put(record(generation=9), expected=1),
        store.intend(ANN, 1, b"again"),
    ):
        with pytest.raises(UnreadableRecord, match="the tokens of crm/ann are damaged or were sealed with"):
            await attempt
    page = {found.key: found for found in await store.page(None, 10)}
    assert page[ANN].state == UNREADABLE
    assert page[CID].body == b"tokens of cid"
    many = {found.key: found for found in await store.get_many([ANN, CID])}
    assert (many[ANN].state, many[CID]) == (UNREADABLE, page[CID])
    assert {ANN, BOB, CID} <= {outline.key for outline in await store.outlines(None, 10)}
    await store.intend(BOB, generation, b"sent")
    await store.put(record("bob", generation=generation + 1, body=b"new"), expected=generation)
    assert (await store.get(BOB)) == record("bob", generation=generation + 1, body=b"new", used_at=5.5)


# -- one value of a record


@pytest.mark.parametrize("column", ["body", "intent"])
async def test_each_flipped_byte_of_a_sealed_value_is_refused_and_left_unchanged(
    path: Path, clock: Any, record: MakeRecord, column: str
) -> None:
    store = await opened(path, clock)
    with raw(path) as db:
        db.execute("PRAGMA synchronous = OFF")
        ((sealed,),) = db.execute(f"SELECT {column} FROM tokens WHERE account = 'ann'")
        for at in range(len(sealed)):
            value = flipped(sealed, at, 1 << at % 8)
            db.execute(f"UPDATE tokens SET {column} = ? WHERE account = 'ann'", (value,))
            before = row_of_ann(path)
            await refuses_ann_and_serves_bob(store, record, at + 1)
            assert row_of_ann(path) == before
    await store.close()


STATES = [flipped(b"valid", at, mask) for at in range(5) for mask in (0x01, 0x20, 0x80)]


@pytest.mark.parametrize("state", STATES)
async def test_an_invalid_state_is_refused_and_left_unchanged(
    path: Path, clock: Any, record: MakeRecord, state: bytes
) -> None:
    with raw(path) as db:
        db.execute("UPDATE tokens SET state = CAST(? AS TEXT) WHERE account = 'ann'", (state,))
    before = row_of_ann(path)
    store = await opened(path, clock)
    await refuses_ann_and_serves_bob(store, record, 1)
    assert await store.due_before(["crm"], 100.0, 10) != []
    assert "crm" in await store.counts(1.0)
    await store.close()
    assert row_of_ann(path) == before


@pytest.mark.parametrize("generation", [0, 2, 3, 257, -1, 2**62])
async def test_a_changed_generation_is_refused_and_left_unchanged(
    path: Path, clock: Any, record: MakeRecord, generation: int
) -> None:
    with raw(path) as db:
        db.execute("UPDATE tokens SET generation = ? WHERE account = 'ann'", (generation,))
    store = await opened(path, clock)
    await refuses_ann_and_serves_bob(store, record, 1)
    await store.close()


@pytest.mark.parametrize("name", [b"aon", b"\xffnn"])
async def test_tokens_moved_to_another_name_do_not_open(
    path: Path, clock: Any, record: MakeRecord, name: bytes
) -> None:
    with raw(path) as db:
        db.execute("UPDATE tokens SET account = CAST(? AS TEXT) WHERE account = 'ann'", (name,))
    before = row_of_ann(path)
    store = await opened(path, clock)
    assert await store.get(ANN) is None
    states = {found.key.account: found.state for found in await store.page(None, 10)}
    assert {account for account, state in states.items() if state == "valid"} == {"bob", "cid"}
    assert [due.key for due in await store.due_before(["crm"], 100.0, 10)][-2:] == [BOB, CID]
    await store.put(record(body=b"new"), expected=0)
    assert (await store.get(ANN)) == record(body=b"new")
    await store.close()
    assert row_of_ann(path) == before


async def test_a_damaged_number_of_a_put_hides_no_change(path: Path, clock: Any, record: MakeRecord) -> None:
    with raw(path) as db:
        db.execute("UPDATE tokens SET changed = 1 << 40 WHERE account = 'ann'")
    store, other = await opened(path, clock), await opened(path, clock)
    changes = store.changes()
    async with within(2):
        for generation in (1, 2):
            await other.put(record("bob", generation=generation + 1), expected=generation)
            assert await anext(changes) == BOB
    await store.close()
    await other.close()


async def test_a_restored_older_copy_is_a_change_of_all_records(
    path: Path, clock: Any, record: MakeRecord
) -> None:
    store = await opened(path, clock)
    changes = store.changes()
    with raw(path) as db:
        db.execute("UPDATE meta SET changed = 1")
    async with within(2):
        assert await anext(changes) is None
        await store.put(record("bob", generation=2), expected=1)
        assert await anext(changes) == BOB
    await store.close()


@pytest.mark.parametrize("damage", ["DELETE FROM meta", "DROP TABLE meta"])
async def test_a_store_without_its_counter_says_what_to_do(
    path: Path, clock: Any, record: MakeRecord, damage: str
) -> None:
    store = await opened(path, clock)
    with raw(path) as db:
        db.execute(damage)
    for attempt in (store.put(record("bob", generation=2), expected=1), store.identity()):
        with pytest.raises(StoreError, match="it is damaged: stop the proxy and put a backup in its place"):
            await attempt
    assert (await store.get(BOB)).body == b"tokens of bob"
    await store.close()


# -- quarantine


async def test_a_damaged_record_is_kept_in_quarantine_and_can_be_replaced(
    path: Path, clock: Any, record: MakeRecord
) -> None:
    with raw(path) as db:
        db.execute("UPDATE tokens SET body = substr(body, 1, 40), generation = 7 WHERE account = 'ann'")
    before = row_of_ann(path)
    store = await opened(path, clock)
    assert await store.quarantine(ANN) == 7
    assert await store.get(ANN) is None
    await store.put(record(body=b"new"), expected=0)
    assert await store.quarantine(AccountId("crm", "nobody")) == 0
    await store.close()
    with raw(path) as db:
        kept = db.execute(
            """SELECT CAST(credential AS BLOB), CAST(account AS BLOB), generation, CAST(state AS BLOB),
            due_at, expires_at, body, intent FROM quarantine"""
        ).fetchall()
        assert kept == [before[:8]]
        assert db.execute("SELECT moved_at FROM quarantine").fetchall() == [(clock.wall(),)]


async def test_a_wrong_key_moves_nothing_into_quarantine(path: Path, clock: Any) -> None:
    before = row_of_ann(path)
    stranger = SealedStore(await SQLiteStore.open(path, clock), bytes(32))
    with pytest.raises(UnreadableRecord, match="stay where they are, as the key opens nothing"):
        await stranger.quarantine(ANN)
    await stranger.close()
    assert row_of_ann(path) == before


# -- any byte of the file


class Layout:
    """Positions in the file (sqlite.org/fileformat.html)."""

    def __init__(self, path: Path) -> None:
        self.content = path.read_bytes()
        with raw(path) as db:
            ((root,),) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tokens'")
        self.table = (root - 1) * PAGE
        (first,) = (int.from_bytes(self.content[self.table + 8 :][:2], "big"),)
        start = self.table + first
        size = self.content[start : start + 2]
        assert size[0] & 0x80, "a payload of more than 127 bytes: a varint of two"
        length = (size[0] & 0x7F) << 7 | size[1]
        self.payload_of_ann = range(start + 3, start + 3 + length)  # size, rowid, payload

    def used_of_table(self) -> list[int]:
        """The used bytes of the table's page, and a few unused ones."""
        page = self.content[self.table : self.table + PAGE]
        cells = int.from_bytes(page[5:7], "big")
        return [self.table + at for at in range(PAGE) if at < 16 or at >= cells or at % 97 == 0]


async def outcome(
    path: Path, clock: Any, record: MakeRecord, before: dict[AccountId, Record]
) -> Counter[str]:
    """The outcome for each account with this file: its right tokens or an error; anything else fails."""
    try:
        store = await opened(path, clock)
    except StoreError:
        return Counter(start=1)
    told: Counter[str] = Counter()
    for key, expected in before.items():
        try:
            found = await store.get(key)
        except StoreError:
            told[f"{key.account} refused"] += 1
            continue
        if found is None:
            told[f"{key.account} absent"] += 1
            continue
        times = {"due_at": found.due_at, "expires_at": found.expires_at, "used_at": found.used_at}
        intent = found.intent and expected.intent  # a lost NULL flag of an intent reads as none
        assert replace(found, intent=intent) == replace(expected, **times, intent=intent)
    try:
        await store.page(None, 10)
        await store.outlines(None, 10)
        await store.get_many([ANN, BOB, CID])
        await store.due_before(["crm"], 100.0, 10)
        await store.counts(1.0)
        await store.put(record("bob", generation=2, body=b"new"), expected=1)
        assert (await store.get(BOB)).body == b"new"
        told["bob saved"] += 1
    except StoreError:
        told["bob not saved"] += 1
    await store.close()
    return told


async def all_records(path: Path, clock: Any) -> dict[AccountId, Record]:
    store = await opened(path, clock)
    found = {record.key: record for record in await store.page(None, 10)}
    await store.close()
    return found


async def test_no_flipped_byte_of_the_table_gives_wrong_tokens_or_hides_other_accounts(
    path: Path, tmp_path: Path, clock: Any, record: MakeRecord
) -> None:
    layout = Layout(path)
    before = await all_records(path, clock)
    damaged, seen = tmp_path / "damaged.db", Counter[str]()
    for at in layout.used_of_table():
        damaged.write_bytes(flipped(layout.content, at, 1 << at % 8))
        told = await outcome(damaged, clock, record, before)
        seen += told
        if at in layout.payload_of_ann:
            assert told["bob saved"], f"byte {at} is ann's alone"
            assert not told["bob refused"] + told["cid refused"]
            after = damaged.read_bytes()
            kept = layout.content[at - 8 : at + 8]
            assert flipped(kept, 8, 1 << at % 8) in after, "what is damaged is left"
    assert seen["ann refused"] > 50
    assert seen["bob saved"] > seen["bob not saved"]


async def test_no_flipped_byte_of_any_page_gives_wrong_tokens(
    path: Path, tmp_path: Path, clock: Any, record: MakeRecord
) -> None:
    layout = Layout(path)
    before = await all_records(path, clock)
    damaged, seen = tmp_path / "damaged.db", Counter[str]()
    used = [at for at, byte in enumerate(layout.content) if byte and not 0 <= at - layout.table < PAGE]
    for at in [*range(100), *used[:: max(1, len(used) // 400)]]:
        damaged.write_bytes(flipped(layout.content, at, 1 << at % 8))
        seen += await outcome(damaged, clock, record, before)
    assert seen["start"] > 20
    assert seen["bob saved"] > 100


async def test_a_truncated_file_is_refused_or_gives_the_rest(
    path: Path, tmp_path: Path, clock: Any, record: MakeRecord
) -> None:
    content, cut = Layout(path).content, tmp_path / "cut.db"
    before = await all_records(path, clock)
    for length in (0, 1, 99, 100, 512, *range(PAGE - 1, len(content), PAGE), len(content) - 1):
        cut.write_bytes(content[:length])
        told = await outcome(cut, clock, record, before)
        if told["start"]:
            assert cut.read_bytes() == content[:length]


def test_a_damaged_file_is_refused_with_a_remedy_and_left_unchanged(
    path: Path, tmp_path: Path, clock: Any
) -> None:
    content, damaged = path.read_bytes(), tmp_path / "damaged.db"
    shutil.copyfile(path, damaged)
    damaged.write_bytes(before := content[:100] + bytes(PAGE - 100) + content[PAGE:])
    with pytest.raises(StoreError, match=r"damaged\.db: it is damaged: stop the proxy and put a backup in"):
        asyncio.run(opened(damaged, clock))
    assert damaged.read_bytes() == before
