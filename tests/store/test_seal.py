"""A sealed value opens only with its key, in its place and unchanged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import StoreError, UnreadableRecord
from proxy.store.base import AccountId, Record
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore, Sealer

SECRET = bytes(range(32))
OTHER_SECRET = bytes(32)
ANN, BOB = AccountId("crm", "ann"), AccountId("crm", "bob")
MARKER = b"marker-secret"
MakeRecord = Callable[..., Record]

contexts = st.lists(st.text(max_size=5) | st.integers(0, 300), max_size=4).map(tuple)


@pytest.fixture
def inner(clock: Any) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def sealed(inner: MemoryStore) -> SealedStore:
    return SealedStore(inner, SECRET)


def test_a_derived_key_is_of_one_purpose_and_one_store_key() -> None:
    def derived(key: bytes, purpose: str) -> bytes:
        return SealedStore(cast("MemoryStore", None), key).derive(purpose)

    keys = [derived(key, purpose) for key in (SECRET, OTHER_SECRET) for purpose in ("caller-key", "session")]
    assert len({*keys, SECRET, OTHER_SECRET}) == 6
    assert {len(key) for key in keys} == {32}
    assert derived(SECRET, "session") == keys[1]


# -- single values


@given(st.binary(max_size=100), contexts)
def test_a_value_opens_in_its_own_context(plain: bytes, context: tuple[Any, ...]) -> None:
    assert Sealer(SECRET).open(Sealer(SECRET).seal(plain, *context), *context) == plain


@given(contexts, contexts)
def test_a_value_opens_in_no_other_context(context: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    same = [str(part) for part in context] == [str(part) for part in other]
    blob = Sealer(SECRET).seal(b"x", *context)
    if same:
        assert Sealer(SECRET).open(blob, *other) == b"x"
        return
    with pytest.raises(InvalidTag):
        Sealer(SECRET).open(blob, *other)


def test_every_changed_bit_truncation_and_addition_is_detected() -> None:
    blob = Sealer(SECRET).seal(MARKER, "body", "crm", "ann", 1)
    flipped = [
        blob[:at] + bytes([blob[at] ^ 1 << bit]) + blob[at + 1 :]
        for at in range(len(blob))
        for bit in range(8)
    ]
    cut = [blob[:length] for length in range(len(blob))]
    for damaged in (*flipped, *cut, blob + b"\0"):
        with pytest.raises(InvalidTag):
            Sealer(SECRET).open(damaged, "body", "crm", "ann", 1)


def test_the_same_value_is_never_sealed_to_the_same_bytes() -> None:
    sealer = Sealer(SECRET)
    assert len({sealer.seal(MARKER, "body") for _ in range(1000)}) == 1000


# -- records


async def test_no_secret_reaches_the_inner_store(
    inner: MemoryStore, sealed: SealedStore, record: MakeRecord
) -> None:
    await sealed.put(record(body=MARKER), expected=0)
    await sealed.intend(ANN, 1, MARKER)
    await sealed.stash(f"login:{MARKER.decode()}", MARKER, 600)
    behind = await inner.get(ANN)
    assert behind is not None
    assert behind.intent is not None
    assert MARKER not in behind.body + behind.intent + repr(inner._stashed).encode()


@pytest.mark.parametrize("kind", ["body", "intent"])
async def test_a_record_with_a_damaged_value_is_refused_by_its_name(
    inner: MemoryStore, sealed: SealedStore, record: MakeRecord, kind: str
) -> None:
    await sealed.put(record(body=MARKER), expected=0)
    await sealed.intend(ANN, 1, MARKER)
    inner._records[ANN] = damaged = replace(inner._records[ANN], **{kind: b"damaged"})
    for attempt in (
        sealed.get(ANN),
        sealed.put(record(generation=2), expected=1),
        sealed.intend(ANN, 1, b"again"),
    ):
        with pytest.raises(UnreadableRecord, match="tokens of crm/ann are damaged") as error:
            await attempt
        assert MARKER.decode() not in repr(error.getrepr())
    assert await inner.get(ANN) == damaged


async def test_another_key_opens_and_overwrites_nothing(
    inner: MemoryStore, sealed: SealedStore, record: MakeRecord
) -> None:
    await sealed.put(record(body=MARKER), expected=0)
    await sealed.stash("login:x", MARKER, 600)
    before = await inner.get(ANN)
    stranger = SealedStore(inner, OTHER_SECRET)
    with pytest.raises(UnreadableRecord):
        await stranger.get(ANN)
    with pytest.raises(UnreadableRecord):
        await stranger.put(record(generation=2), expected=1)
    with pytest.raises(UnreadableRecord, match="start it again"):
        await stranger.take("login:x")
    assert await inner.get(ANN) == before


async def test_two_records_can_not_be_swapped(
    inner: MemoryStore, sealed: SealedStore, record: MakeRecord
) -> None:
    await sealed.put(record("ann", body=b"of ann"), expected=0)
    await sealed.put(record("bob", body=b"of bob"), expected=0)
    ann, bob = inner._records[ANN], inner._records[BOB]
    inner._records.update({ANN: replace(bob, key=ANN), BOB: replace(ann, key=BOB)})
    for key in (ANN, BOB):
        with pytest.raises(UnreadableRecord):
            await sealed.get(key)


async def test_an_old_body_does_not_pass_for_a_new_generation(
    inner: MemoryStore, sealed: SealedStore, record: MakeRecord
) -> None:
    await sealed.put(record(body=b"old"), expected=0)
    old = inner._records[ANN]
    await sealed.put(record(generation=2, body=b"new"), expected=1)
    inner._records[ANN] = replace(old, generation=2)
    with pytest.raises(UnreadableRecord):
        await sealed.get(ANN)


async def test_an_intent_does_not_pass_for_a_body(
    inner: MemoryStore, sealed: SealedStore, record: MakeRecord
) -> None:
    await sealed.put(record(), expected=0)
    await sealed.intend(ANN, 1, b"sent")
    held = inner._records[ANN]
    inner._records[ANN] = replace(held, body=held.intent)
    with pytest.raises(UnreadableRecord):
        await sealed.get(ANN)


async def test_a_page_marks_an_unreadable_record_and_returns_the_others(
    inner: MemoryStore, sealed: SealedStore, record: MakeRecord
) -> None:
    await sealed.put(record("ann", body=b"of ann", expires_at=5.0), expected=0)
    await sealed.put(record("bob", body=b"of bob"), expected=0)
    inner._records[ANN] = replace(inner._records[ANN], body=b"")
    assert await sealed.page(None, 10) == [
        record("ann", state="unreadable", body=b"", expires_at=5.0),
        record("bob", body=b"of bob"),
    ]


class Moody:
    """A store whose leases can be made to fail."""

    def __init__(self) -> None:
        self.failing = False

    async def lease(self, *_: object, **__: object) -> str | None:
        if self.failing:
            raise StoreError("the disk is full")
        return None


async def test_that_it_can_not_be_written_is_logged_once_and_so_is_that_it_can_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    moody, seen = Moody(), []
    sealed = SealedStore(cast("MemoryStore", moody), SECRET)
    sealed.written = seen.append
    for failing in (False, True, True, True, False, False):
        moody.failing = failing
        with suppress(StoreError):
            await sealed.lease("name", "owner", 1.0)
    assert seen == [True, False, False, False, True, True]
    told = [(each.levelname, vars(each)["event"], each.getMessage()) for each in caplog.records]
    assert told == [
        ("WARNING", "store_not_writable", "the token store can't be written: the disk is full"),
        ("INFO", "store_writable", "the token store can be written again"),
    ]
