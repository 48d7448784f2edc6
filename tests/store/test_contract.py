"""The contract of every store (proxy/store/base.py)."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import GenerationConflict
from proxy.store.base import ON_DEMAND, AccountId, Due, Outline, Record, Store
from tests.patience import within

ANN = AccountId("crm", "ann")
NOBODY = AccountId("crm", "nobody")
NOW = 1_800_000_000.0
MakeRecord = Callable[..., Record]


# -- identity


async def test_the_identity_is_8_hex_digits_and_the_same_for_every_user(pair: Any) -> None:
    identity = await pair.store.identity()
    assert len(identity) == 8
    assert set(identity) <= set(string.hexdigits.lower())
    assert await pair.store.identity() == await pair.other.identity() == identity


# -- get, put and intend


async def test_every_user_gets_a_put_record(pair: Any, record: MakeRecord) -> None:
    saved = record(state="login_required", due_at=12.5, expires_at=99.0, body=b"\x00\xff body")
    await pair.store.put(saved, expected=0)
    assert await pair.store.get(ANN) == await pair.other.get(ANN) == saved
    assert await pair.store.get(NOBODY) is None


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_a_put_with_another_expected_generation_changes_nothing(
    store: Store, record: MakeRecord, expected: int
) -> None:
    held = record(generation=2, body=b"held")
    await store.put(held, expected=0)
    with pytest.raises(GenerationConflict, match=r"^crm/ann was changed by another process"):
        await store.put(record(generation=4, body=b"late"), expected=expected)
    assert await store.get(ANN) == held


async def test_a_put_that_expects_a_missing_record_is_a_conflict(store: Store, record: MakeRecord) -> None:
    with pytest.raises(GenerationConflict):
        await store.put(record(generation=2), expected=1)
    assert await store.get(ANN) is None


async def test_a_put_must_raise_the_generation(store: Store, record: MakeRecord) -> None:
    with pytest.raises(ValueError, match="generation 1 can't follow 1"):
        await store.put(record(generation=1), expected=1)


async def test_of_concurrent_puts_that_expect_one_generation_one_succeeds(
    pair: Any, record: MakeRecord
) -> None:
    puts = [
        user.put(record(body=str(number).encode()), expected=0)
        for number in range(10)
        for user in (pair.store, pair.other)
    ]
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["GenerationConflict"] * 19 + [
        "NoneType"
    ]


async def test_an_intent_stays_beside_the_record_until_the_next_put(pair: Any, record: MakeRecord) -> None:
    first = record()
    await pair.store.put(first, expected=0)
    await pair.store.intend(ANN, 1, b"sent")
    assert await pair.other.get(ANN) == replace(first, intent=b"sent")
    await pair.store.put(record(generation=2, intent=b"not from a put"), expected=1)
    assert await pair.other.get(ANN) == record(generation=2)


@pytest.mark.parametrize(("key", "generation"), [(ANN, 1), (ANN, 3), (NOBODY, 0), (NOBODY, 1)])
async def test_an_intent_for_another_generation_is_a_conflict(
    store: Store, record: MakeRecord, key: AccountId, generation: int
) -> None:
    held = record(generation=2)
    await store.put(held, expected=0)
    with pytest.raises(GenerationConflict):
        await store.intend(key, generation, b"sent")
    assert await store.get(ANN) == held


async def test_a_record_in_quarantine_is_gone_for_every_user(pair: Any, record: MakeRecord) -> None:
    await pair.store.put(record(generation=7, due_at=10.0, body=b"damaged"), expected=0)
    await pair.store.put(record("bob", body=b"of bob"), expected=0)
    assert await pair.store.quarantine(ANN) == 7
    assert await pair.other.quarantine(ANN) == await pair.store.quarantine(NOBODY) == 0
    assert await pair.other.get(ANN) is None
    assert await pair.other.due_before(["crm"], 20.0, 10) == []
    assert await pair.other.page(None, 10) == [record("bob", body=b"of bob")]
    await pair.other.put(record(generation=8, body=b"new"), expected=0)
    assert await pair.store.get(ANN) == record(generation=8, body=b"new")


# -- due_before, page and counts


async def test_due_before_gives_valid_accounts_the_earliest_first(store: Store, record: MakeRecord) -> None:
    for number, (account, state, due_at) in enumerate(
        [
            ("later", "valid", 30.0),
            ("first", "valid", 10.0),
            ("never", "valid", None),
            ("second", "valid", 20.0),
            ("dead", "login_required", 5.0),
            ("gone", "logged_out", 5.0),
            ("at-the-limit", "valid", 40.0),
        ]
    ):
        await store.put(record(account, state=state, due_at=due_at, generation=number + 1), expected=0)
    due = [
        Due(at, AccountId("crm", name), None)
        for at, name in [(10.0, "first"), (20.0, "second"), (30.0, "later")]
    ]
    assert await store.due_before(["crm"], 40.0, 100) == due
    assert await store.due_before(["crm"], 40.0, 2) == due[:2]
    assert await store.due_before(["crm"], 10.0, 2) == []


async def test_due_before_limits_each_of_the_given_credentials(store: Store, record: MakeRecord) -> None:
    for credential in ("crm", "erp", "old"):
        for number in range(3):
            saved = record(f"a{number}", credential=credential, due_at=10.0 * number + len(credential))
            await store.put(saved, expected=0)
    due = await store.due_before(["erp", "crm", "none"], 100.0, 2)
    assert [(entry.at, str(entry.key)) for entry in due] == [
        (3.0, "crm/a0"),
        (3.0, "erp/a0"),
        (13.0, "crm/a1"),
        (13.0, "erp/a1"),
    ]
    assert await store.due_before([], 100.0, 2) == []


async def test_postpone_changes_nothing_but_the_due_time(store: Store, record: MakeRecord) -> None:
    saved = record(due_at=10.0, expires_at=20.0, body=b"kept")
    await store.put(saved, expected=0)
    await store.intend(ANN, 1, b"sent")
    await store.postpone(ANN, 1, 30.0)
    assert await store.due_before(["crm"], 20.0, 10) == []
    assert await store.due_before(["crm"], 40.0, 10) == [Due(30.0, ANN, None)]
    await store.postpone(ANN, 1, None)
    assert await store.due_before(["crm"], 1e12, 10) == []
    assert await store.get(ANN) == replace(saved, due_at=None, intent=b"sent")


async def test_a_record_of_another_generation_is_not_postponed(store: Store, record: MakeRecord) -> None:
    await store.put(record(due_at=10.0, generation=2), expected=0)
    await store.postpone(ANN, 1, 30.0)
    await store.postpone(NOBODY, 1, 30.0)
    assert await store.due_before(["crm"], 20.0, 10) == [Due(10.0, ANN, None)]
    assert await store.get(NOBODY) is None


async def test_touch_records_the_latest_use(pair: Any, record: MakeRecord) -> None:
    bob = AccountId("crm", "bob")
    for account in ("ann", "bob"):
        await pair.store.put(record(account, due_at=10.0), expected=0)
    await pair.store.touch({ANN: NOW, bob: NOW + 5, NOBODY: NOW})
    await pair.other.touch({ANN: NOW + 1, bob: NOW})
    assert await pair.store.due_before(["crm"], 20.0, 10) == [
        Due(10.0, ANN, NOW + 1),
        Due(10.0, bob, NOW + 5),
    ]
    assert (await pair.store.get(ANN)) == record(due_at=10.0, used_at=NOW + 1)
    assert await pair.store.get(NOBODY) is None
    await pair.store.touch({})


async def test_a_put_keeps_the_later_of_two_uses(store: Store, record: MakeRecord) -> None:
    generations = [(NOW, NOW), (None, NOW), (NOW - 9, NOW), (NOW + 9, NOW + 9)]
    for generation, (given, kept) in enumerate(generations, start=1):
        await store.put(record(generation=generation, used_at=given), expected=generation - 1)
        assert await store.get(ANN) == record(generation=generation, used_at=kept)


async def test_touch_and_postpone_are_no_changes(pair: Any, record: MakeRecord) -> None:
    await pair.store.put(record("ann", due_at=10.0), expected=0)
    changes = pair.other.changes()
    await pair.store.touch({ANN: NOW})
    await pair.store.postpone(ANN, 1, 20.0)
    await pair.store.put(record("bob"), expected=0)
    await pair.store.put(record("cid"), expected=0)
    told = []
    async with within(1):
        while not told or told[-1] != AccountId("crm", "cid"):
            told.append(await anext(changes))
    assert told[-2:] == [AccountId("crm", "bob"), AccountId("crm", "cid")]
    assert told.count(ANN) <= 1  # at most that of the put before the call


async def test_pages_go_through_all_records_in_the_order_of_their_keys(
    store: Store, record: MakeRecord
) -> None:
    names = [("crm", "Zoe"), ("crm", "ann"), ("crm", "bob@x.y"), ("erp", "ann"), ("erp-2", "ann")]
    for credential, account in reversed(names):
        await store.put(record(account, credential=credential, body=account.encode()), expected=0)
    pages: list[list[Record]] = []
    while page := await store.page(pages[-1][-1].key if pages else None, 2):
        pages.append(page)
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [tuple(record.key) for page in pages for record in page] == names
    assert [record.body.decode() for page in pages for record in page] == [account for _, account in names]


async def test_outlines_go_through_all_records_like_pages(store: Store, record: MakeRecord) -> None:
    saved = [
        record("Zoe", state="login_required", expires_at=9.5),
        record("ann", due_at=7.25, expires_at=9.5),
        record("bob@x.y", state="logged_out"),
        record("ann", credential="erp", due_at=ON_DEMAND),
    ]
    for each in reversed(saved):
        await store.put(each, expected=0)
    outlines = [Outline(each.key, each.state, each.due_at, each.expires_at) for each in saved]
    assert await store.outlines(None, 10) == outlines
    assert await store.outlines(None, 2) == outlines[:2]
    assert await store.outlines(saved[1].key, 10) == outlines[2:]
    assert await store.outlines(saved[-1].key, 10) == []


async def test_many_records_are_read_together(store: Store, record: MakeRecord) -> None:
    saved = {name: record(name, body=name.encode(), due_at=1.5) for name in ("ann", "bob", "cid")}
    for each in saved.values():
        await store.put(each, expected=0)
    await store.intend(saved["bob"].key, 1, b"sent")
    found = await store.get_many([saved["cid"].key, NOBODY, saved["bob"].key, AccountId("erp", "ann")])
    assert sorted(found, key=lambda each: each.key) == [replace(saved["bob"], intent=b"sent"), saved["cid"]]
    assert await store.get_many([]) == []
    assert await store.get_many([NOBODY]) == []


async def test_an_account_that_is_refreshed_on_demand_is_never_due(store: Store, record: MakeRecord) -> None:
    await store.put(record(due_at=10.0, expires_at=20.0), expected=0)
    await store.postpone(ANN, 1, ON_DEMAND)
    assert await store.due_before(["crm"], NOW * 100, 10) == []
    held = await store.get(ANN)
    assert held is not None
    assert held.due_at == ON_DEMAND, "exactly"
    assert await store.counts(15.0) == {"crm": {"valid": 1}}


async def test_counts_split_valid_accounts_by_time(store: Store, record: MakeRecord) -> None:
    for number, (credential, state, due_at, expires_at) in enumerate(
        [
            ("crm", "valid", NOW + 1, NOW + 2),
            ("crm", "valid", None, None),
            ("crm", "valid", NOW, NOW + 1),  # stale
            ("crm", "valid", NOW, None),  # stale
            ("crm", "valid", NOW - 1, NOW),  # expired
            ("crm", "valid", None, NOW - 1),  # expired
            ("crm", "login_required", None, NOW - 1),
            ("erp", "logged_out", NOW - 1, NOW + 1),
        ]
    ):
        saved = record(f"a{number}", credential=credential, state=state, due_at=due_at, expires_at=expires_at)
        await store.put(saved, expected=0)
    assert await store.counts(NOW) == {
        "crm": {"valid": 2, "stale": 2, "expired": 2, "login_required": 1},
        "erp": {"logged_out": 1},
    }


# -- changes


async def test_a_put_is_delivered_to_the_other_users_within_a_second(pair: Any, record: MakeRecord) -> None:
    changes = pair.other.changes()
    await pair.store.put(record("ann"), expected=0)
    async with within(1):
        assert await anext(changes) == ANN
    await pair.store.put(record("bob"), expected=0)
    await pair.store.put(record("ann", generation=2), expected=1)
    async with within(1):
        assert [await anext(changes), await anext(changes)] == [AccountId("crm", "bob"), ANN]


async def test_each_watcher_gets_all_puts_since_its_call(pair: Any, record: MakeRecord) -> None:
    await pair.store.put(record("bob"), expected=0)
    watchers = [pair.store.changes(), pair.other.changes()]
    await pair.store.put(record("ann"), expected=0)
    for watcher in watchers:
        async with within(1):
            while await anext(watcher) != ANN:
                pass  # a watcher may get more than the new keys


async def test_changes_end_when_the_store_is_closed(pair: Any) -> None:
    changes = pair.store.changes()
    watching = asyncio.create_task(anext(changes, "the end"))
    await asyncio.sleep(0)
    await pair.store.close()
    async with within(1):
        assert await watching == "the end"


# -- stash and take


async def test_a_stash_can_be_taken_by_any_user_once(pair: Any) -> None:
    await pair.store.stash("login:x", b"\x00verifier", 600)
    assert await pair.other.take("login:x") == b"\x00verifier"
    assert await pair.store.take("login:x") is None
    assert await pair.store.take("login:y") is None


async def test_of_50_concurrent_takers_one_gets_the_stash(pair: Any) -> None:
    await pair.store.stash("login:x", b"once", 600)
    takers = [user.take("login:x") for _ in range(25) for user in (pair.store, pair.other)]
    taken = await asyncio.gather(*takers)
    assert sorted(taken, key=str) == [None] * 49 + [b"once"]


async def test_a_stash_expires(pair: Any) -> None:
    await pair.store.stash("login:x", b"late", 600)
    await pair.pass_time(600)
    assert await pair.store.take("login:x") is None


async def test_a_second_stash_of_the_same_name_replaces_the_first(store: Store) -> None:
    await store.stash("outcome:x", b"one", 600)
    await store.stash("outcome:x", b"two", 600)
    assert await store.take("outcome:x") == b"two"


# -- lease and release


async def test_a_lease_has_one_holder_until_it_is_released(pair: Any) -> None:
    assert await pair.store.lease("refresh:crm/ann", "me", 3) is None
    assert await pair.other.lease("refresh:crm/ann", "you", 3) == "me"
    assert await pair.other.lease("refresh:crm/bob", "you", 3) is None
    await pair.store.release("refresh:crm/ann", "me")
    assert await pair.other.lease("refresh:crm/ann", "you", 3) is None


async def test_only_its_holder_can_release_a_lease(store: Store) -> None:
    await store.lease("x", "me", 3)
    await store.release("x", "you")
    assert await store.lease("x", "you", 3) == "me"


async def test_a_lease_ends_by_itself_unless_its_holder_renews_it(pair: Any) -> None:
    await pair.store.lease("x", "me", 3)
    await pair.pass_time(2.5)
    assert await pair.store.renew("x", "me", 3)
    await pair.pass_time(2.5)
    assert await pair.other.lease("x", "you", 3) == "me"
    await pair.pass_time(0.6)
    assert await pair.other.lease("x", "you", 3) is None
    assert not await pair.store.renew("x", "me", 3)
    assert await pair.store.lease("x", "me", 3) == "you"


async def test_a_renewal_restores_an_expired_lease_that_nobody_took(pair: Any) -> None:
    await pair.store.lease("x", "me", 3)
    await pair.pass_time(4)
    assert await pair.store.renew("x", "me", 3)
    assert await pair.other.lease("x", "you", 3) == "me"
    await pair.store.release("x", "me")
    assert await pair.store.renew("x", "me", 3)


async def test_a_lease_does_not_depend_on_the_wall_clock(store: Store, clock: Any) -> None:
    await store.lease("x", "me", 3)
    clock.wall_now += 1e6
    assert await store.lease("x", "you", 3) == "me"


async def test_only_the_lease_of_the_named_dead_holder_is_taken_over(store: Store) -> None:
    await store.lease("x", "me", 3)
    assert await store.lease("x", "you", 3, succeed="someone else") == "me"
    assert await store.lease("x", "you", 3, succeed="me") is None
    assert await store.lease("x", "third", 3, succeed="me") == "you"


async def test_of_concurrent_requests_for_a_lease_one_gets_it(pair: Any) -> None:
    wants = [
        user.lease("x", f"owner-{number}", 3) for number in range(10) for user in (pair.store, pair.other)
    ]
    holders = await asyncio.gather(*wants)
    (winner,) = {holder for holder in holders if holder}
    assert holders.count(winner) >= 18  # the winner's name was used by two
