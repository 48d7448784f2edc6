"""The listing of all accounts: order, filters, pages, and what it costs with very many of them."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest

from proxy.demo import faults
from proxy.demo.wiring import PERSON
from proxy.errors import StoreError, TokenError
from proxy.oauth.token import Token
from proxy.observe import listing as listing_module
from proxy.observe.query import Cursor, Query
from proxy.secret import Secret
from proxy.store.base import ON_DEMAND, AccountId, Record
from proxy.tokens.saved import records, registrations
from proxy.tokens.stored_token import StoredToken

MANY = 20_000
PAGE = 20


class Crowd:
    """Accounts that are only in the store, as where there are very many."""

    def __init__(self, house):
        self.house = house
        self.store = house.services.store
        self._signal = house.services.tokens.changes
        self._last = None  # put, and the number of changes before that
        house.services.tokens._accounts._crowded |= {"person", "machine"}

    async def put(
        self, *names, state="valid", credential="person", lifetime=3600.0, refresh_token=True, expected=0
    ):
        clock = self.house.clock
        config = self.house.services.config.credentials[credential]
        for name in names:
            token = Token(
                access_token=Secret(f"at-{name}"),
                refresh_token=Secret(f"rt-{name}") if refresh_token else None,
                server=self.house.server.issuer,
                client_id=config.client_id,
                issued_at=clock.now,
                issued_boot=clock.now,
                boot_id=clock.boot_id,
                lifetime=lifetime,
            )
            due_at = records.due_at(config, token) if state == "valid" else None
            held = StoredToken(expected + 1, state, token, due_at)
            self._last = (AccountId("person", name), self._signal._count)
            await records.put(self.store, AccountId(credential, name), held, expected=expected)

    async def told(self):
        """Wait until the process has seen the puts, which are as those of another process."""
        key, before = self._last
        async with asyncio.timeout(60):
            while self._signal._numbers.get(key, 0) <= before:
                await asyncio.sleep(0.001)


@pytest.fixture
def crowd(house):
    return Crowd(house)


async def listed(house, **query):
    """Its accounts on all pages, as "account state"."""
    query = Query(**query)
    found = []
    while True:
        status = await house.health.status(query)
        found += [
            f"{entry['account']} {entry['state']}"
            for entry in status["tokens"]
            if entry["credential"] != "machine"
        ]
        if status["next"] is None:
            return found
        query = replace(query, after=Query.of({"after": status["next"]}).after)


# -- order and filters


async def test_accounts_that_need_attention_come_first_each_part_by_name(house, crowd):
    await crowd.put("zoe", state="login_required")
    await crowd.put("Ann", "ben", "cid")
    await crowd.put("amy", lifetime=1.0, refresh_token=False)
    await crowd.put("lee", lifetime=1.0)
    house.clock.now += 10
    wanted = [
        "amy expired",
        "default absent",
        "zoe login_required",
        "Ann valid",
        "ben valid",
        "cid valid",
        "lee expired",
    ]
    for limit in (500, 3, 1):
        assert await listed(house, limit=limit) == wanted
    assert (await house.health.status(Query(limit=1)))["attention"] == 3
    entries = (await house.health.status())["tokens"]
    assert [entry["needs_attention"] for entry in entries] == [True] * 3 + [False] * 5


async def test_a_failure_that_only_this_process_knows_decides_the_order_too(house, crowd):
    await crowd.put("ann", "ben", "cid")
    assert await listed(house) == ["default absent", "ann valid", "ben valid", "cid valid"]
    house.server.script(faults.NAMED["invalid-client"])
    account = house.account(name="cid")
    with suppress(TokenError):
        await house.services.tokens.refresh_now(account)
    assert await listed(house, limit=2) == ["cid misconfigured", "default absent", "ann valid", "ben valid"]
    assert await listed(house, state="misconfigured") == ["cid misconfigured"]
    status = await house.health.status()
    assert (status["counts"]["person"], status["attention"]) == (
        {"absent": 1, "valid": 2, "misconfigured": 1},
        2,
    )


async def test_a_search_finds_a_part_of_either_name_in_any_case(house, crowd):
    await crowd.put("Ann@example.com", "ben@example.org", "cid")
    assert await listed(house, text="EXAMPLE") == ["Ann@example.com valid", "ben@example.org valid"]
    assert await listed(house, text="ann@") == ["Ann@example.com valid"]
    assert await listed(house, text="person/c") == ["cid valid"]
    assert await listed(house, text="erson", limit=1) == [
        "default absent",
        "Ann@example.com valid",
        "ben@example.org valid",
        "cid valid",
    ]
    for text in ("nobody", "example.comben", "%", "*", "\\", "a" * 200):
        assert await listed(house, text=text) == []


async def test_filters_by_state_credential_and_need_of_attention(house, crowd):
    await crowd.put("ann", "ben")
    await crowd.put("cid", state="login_required")
    assert await listed(house, state="valid") == ["ann valid", "ben valid"]
    assert await listed(house, state="attention") == ["cid login_required", "default absent"]
    assert await listed(house, state="valid", text="b") == ["ben valid"]
    assert await listed(house, state="stale") == []
    assert await listed(house, credential="nothing") == []
    shown = (await house.health.status(Query(credential="machine")))["tokens"]
    assert [(entry["credential"], entry["account"]) for entry in shown] == [("machine", "default")]


# -- what changes meanwhile


async def test_a_put_of_another_process_is_seen(house, crowd):
    await crowd.put("ann")
    assert await listed(house) == ["default absent", "ann valid"]
    await crowd.put("ben")
    await crowd.put("ann", state="login_required", expected=1)
    await crowd.told()
    assert await listed(house) == ["ann login_required", "default absent", "ben valid"]
    assert await house.services.store.quarantine(AccountId("person", "ben")) == 1
    house.services.tokens.changes.note(AccountId("person", "ben"))
    assert await listed(house) == ["ann login_required", "default absent"]


async def test_time_alone_changes_states(house, crowd):
    await crowd.put("ann")
    await crowd.put("ben", refresh_token=False)
    await house.give()
    house.account().used_at = house.clock.now
    assert await listed(house) == ["ann valid", "ben valid", "default valid"]
    house.clock.now += 50
    assert await listed(house, state="stale") == ["default stale"]
    house.clock.now += 3450
    assert await listed(house) == ["ann stale", "ben valid", "default expired"]
    house.clock.now += 100
    assert await listed(house) == ["ben expired", "ann expired", "default expired"]
    assert (await house.health.status())["counts"]["person"] == {"expired": 3}


async def test_an_account_that_is_refreshed_on_demand_needs_no_attention(house, crowd):
    await crowd.put("ann", lifetime=1.0)
    await house.services.store.postpone(AccountId("person", "ann"), 1, ON_DEMAND)
    house.clock.now += 10
    assert await listed(house) == ["default absent", "ann expired"]
    (entry,) = (await house.health.status(Query(text="ann")))["tokens"]
    assert (entry["needs_attention"], entry["refresh_due_at"]) == (False, None)


async def test_if_the_wall_clock_is_set_the_states_follow_it(house, crowd, monkeypatch):
    await crowd.put("ann", "ben")
    assert await listed(house) == ["default absent", "ann valid", "ben valid"]
    monkeypatch.setattr(house.clock, "wall", lambda: house.clock.now + 86_400)
    shown = await house.health.status(Query(limit=1))
    assert shown["counts"]["person"] == {"absent": 1, "expired": 2}, (
        "by their records, of which none is shown"
    )


async def test_an_account_dropped_from_memory_is_listed_from_the_store(house, crowd):
    await crowd.put("ann")
    account = house.account(name="ann")
    house.server.script(faults.NAMED["invalid-client"])
    with suppress(TokenError):
        await house.services.tokens.refresh_now(account)
    assert await listed(house) == ["ann misconfigured", "default absent"]
    house.services.tokens._accounts._drop_idle()
    assert await listed(house) == ["default absent", "ann stale"]


async def test_an_account_dropped_from_memory_is_read_again_when_its_token_ends(house, crowd):
    await crowd.put("ann", state="login_required", lifetime=60.0)
    await crowd.put("ben", lifetime=60.0)
    await house.services.store.postpone(AccountId("person", "ben"), 1, ON_DEMAND)
    for name in ("ann", "ben"):
        await house.services.tokens.look_at(AccountId("person", name))
        house.services.tokens._accounts.remember(house.account(name=name))
    shown = ["ann login_required", "default absent", "ben valid"]
    assert await listed(house) == shown
    house.services.tokens._accounts._drop_idle()
    house.services.tokens._accounts._drop_idle()
    assert await listed(house) == shown
    house.clock.now += 100
    status = await house.health.status(Query(limit=1))
    assert status["counts"]["person"] == {"login_required": 1, "absent": 1, "expired": 1}
    assert status["attention"] == 2
    assert await listed(house) == ["ann login_required", "default absent", "ben expired"]


async def test_a_reload_lists_the_accounts_of_the_new_configuration(house, crowd):
    await crowd.put("ann")
    assert await listed(house) == ["default absent", "ann valid"]
    house.health.use(house.services)
    assert await listed(house) == ["default absent", "ann valid"]


async def test_paging_never_loses_or_repeats_an_account_that_does_not_change(house, crowd):
    chance = random.Random(7)
    names = [f"user{number:03}" for number in range(60)]
    still = set(chance.sample(names, 40))
    await crowd.put(*names)
    for name in chance.sample(sorted(still), 10):
        await crowd.put(name, state="login_required", expected=1)
    moving, generation = sorted(set(names) - still), dict.fromkeys(names, 1)
    seen, query = Counter(), Query(limit=4)
    while True:
        status = await house.health.status(query)
        seen.update(entry["account"] for entry in status["tokens"] if entry["credential"] == "person")
        if status["next"] is None:
            break
        query = replace(query, after=Query.of({"after": status["next"]}).after)
        for name in chance.sample(moving, 5):
            state = chance.choice(["valid", "login_required"])
            await crowd.put(name, state=state, expected=generation[name])
            generation[name] += 1
        house.clock.now += 1
        await crowd.told()
    assert {name: seen[name] for name in still} == dict.fromkeys(still, 1)


# -- what can't be read


async def test_while_the_store_fails_the_accounts_are_listed_as_not_read(house, crowd, monkeypatch):
    await crowd.put("ann", "ben")
    await house.give()
    assert await listed(house) == ["ann valid", "ben valid", "default valid"]
    broken = True

    def failing(inner):
        async def call(*args):
            if broken:
                raise StoreError("the disk is gone")
            return await inner(*args)

        return call

    for name in ("get", "get_many", "outlines"):
        monkeypatch.setattr(crowd.store, name, failing(getattr(crowd.store, name)))
    house.services.tokens.changes.note(AccountId("person", "ben"))
    status = await house.health.status(Query(credential="person"))
    assert [entry["account"] for entry in status["tokens"]] == ["ann", "ben", "default"]
    assert status["tokens"][1]["reason"] == "the token store can't be read now"
    assert [status["tokens"][place]["state"] for place in (0, 2)] == ["valid", "valid"], (
        "just read; in memory"
    )
    house.services.tokens.changes.note(None)
    assert await listed(house) == ["default valid"], "the index is new, and the store says nothing"
    broken = False
    assert await listed(house) == ["ann valid", "ben valid", "default valid"]


async def test_a_record_that_can_not_be_used_is_put_in_its_place_once_it_was_read(house, crowd, monkeypatch):
    await crowd.put("ann", "ben", "cid")
    other = await house.services.store.get(AccountId("person", "ben"))
    body = other.body.replace(house.services.config.credentials["person"].client_id.encode(), b"app-before")
    await house.services.store.put(replace(other, generation=2, body=body), expected=1)
    inner = crowd.store.get_many

    async def get_many(keys):
        return [
            Record(each.key, 0, "unreadable", None, None, b"") if each.key.account == "cid" else each
            for each in await inner(keys)
        ]

    monkeypatch.setattr(crowd.store, "get_many", get_many)
    await crowd.told()
    first = await listed(house)
    assert first == ["default absent", "ann valid", "ben absent", "cid misconfigured"]
    assert await listed(house) == ["ben absent", "cid misconfigured", "default absent", "ann valid"]
    status = await house.health.status()
    assert (status["counts"]["person"], status["attention"]) == (
        {"absent": 2, "valid": 1, "misconfigured": 1},
        3,
    )
    assert await listed(house, state="valid") == ["ann valid"]


async def test_what_is_no_account_is_not_listed(house, crowd):
    await registrations.put(house.services.store, "f" * 64, None, expected=0)
    await crowd.put("a\nb", "ä")
    await house.services.store.put(
        Record(AccountId("gone", "ann"), 1, "valid", None, None, b"{}"), expected=0
    )
    assert await listed(house) == ["default absent"]


# -- what it costs


def counting(monkeypatch, store, calls):
    """Count the calls of a store, and the rows that they read."""

    def counted(name, inner):
        async def call(*args, **kwargs):
            result = await inner(*args, **kwargs)
            calls[name] += 1
            if isinstance(result, list):
                calls["rows"] += len(result)
            return result

        return call

    for name in ("get", "get_many", "page", "outlines", "counts", "put", "intend", "postpone", "touch"):
        monkeypatch.setattr(store, name, counted(name, getattr(store, name)))


async def test_a_page_of_very_many_accounts_reads_its_own_rows_alone_and_holds_none(a_house, monkeypatch):
    async with a_house(lambda text: f'{text}[store]\nurl = "memory:"\n') as house:  # its puts are not synced
        crowd = Crowd(house)
        await crowd.put(*(f"user{number:05}" for number in range(MANY - 100)))
        await crowd.put(*(f"dead{number:02}" for number in range(100)), state="login_required")
        await crowd.told()
        calls = Counter()
        counting(monkeypatch, crowd.store, calls)
        held = len(house.services.tokens._accounts.in_memory())
        await house.health.status(Query(limit=PAGE))
        assert calls.pop("rows") == MANY + PAGE, "the index, once, and the page"
        assert set(calls) == {"outlines", "get_many"}
        for query in (
            Query(limit=PAGE),
            Query(limit=PAGE, text="7"),
            Query(limit=PAGE, text="USER0123"),
            Query(limit=PAGE, state="valid"),
            Query(limit=PAGE, state="attention"),
            Query(limit=PAGE, credential="person"),
            Query(limit=PAGE, after=Cursor(True, "person", "user03000")),
        ):
            calls.clear()
            house.health._listing._rows.clear()
            status = await house.health.status(query)
            assert 10 <= len(status["tokens"]) <= PAGE
            assert calls["rows"] <= PAGE
            assert set(calls) == {"rows", "get_many"}
            assert calls["get_many"] == 1
            assert status["counts"]["person"] == {"valid": MANY - 100, "login_required": 100, "absent": 1}
            calls.clear()
            await house.health.status(query)
            assert not calls, "the same page again, a moment later"
        assert len(house.services.tokens._accounts.in_memory()) == held
        await crowd.put("user00007", state="login_required", expected=1)
        await crowd.told()
        calls.clear()
        status = await house.health.status(Query(limit=PAGE))
        assert status["counts"]["person"]["login_required"] == 101
        assert (calls["get"], calls["outlines"]) == (1, 0), "a change costs one read"


async def test_the_index_is_dropped_when_nobody_looks(house, crowd, monkeypatch):
    monkeypatch.setattr(listing_module, "IDLE", 0.05)
    await crowd.put("ann")
    assert await listed(house) == ["default absent", "ann valid"]
    assert house.health._listing._index is not None
    async with asyncio.timeout(30):
        while house.health._listing._index is not None:
            await asyncio.sleep(0.01)
    assert await listed(house) == ["default absent", "ann valid"]


async def test_accounts_that_were_shown_are_kept_for_a_moment_only(house, crowd, monkeypatch):
    await crowd.put(*(f"user{number}" for number in range(20)))
    await house.health.status()
    assert len(house.health._listing._rows) == 20
    house.health._listing._forget_rows()
    monkeypatch.setattr(listing_module, "ROWS_FOR", 0.05)
    await house.health.status()
    async with asyncio.timeout(30):
        while house.health._listing._rows:
            await asyncio.sleep(0.01)
    monkeypatch.setattr(listing_module, "ROWS_FOR", 1000.0)
    monkeypatch.setattr(listing_module, "ROWS", 5)
    for first in range(0, 20, 5):
        await house.health.status(Query(limit=5, after=Cursor(True, "person", f"user{first}")))
        assert len(house.health._listing._rows) <= 10


async def test_a_page_that_is_given_up_loses_no_change(house, crowd, monkeypatch):
    await crowd.put("ann", "ben")
    assert await listed(house) == ["default absent", "ann valid", "ben valid"]
    for name in ("ann", "ben"):
        await crowd.put(name, state="login_required", expected=1)
    await crowd.told()
    inner, reached = crowd.store.get, asyncio.Event()

    async def get(_key):
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(crowd.store, "get", get)
    page = asyncio.ensure_future(house.health.status())
    await reached.wait()
    page.cancel()
    await asyncio.gather(page, return_exceptions=True)
    monkeypatch.setattr(crowd.store, "get", inner)
    assert await listed(house) == ["ann login_required", "ben login_required", "default absent"]


async def test_pages_at_the_same_time_make_one_index(house, crowd, monkeypatch):
    await crowd.put(*(f"user{number}" for number in range(20)))
    calls = Counter()
    counting(monkeypatch, crowd.store, calls)
    await asyncio.gather(*(house.health.status() for _ in range(5)))
    assert calls["outlines"] == 2, "a page, and the empty one after it"


# -- /api/status


async def test_the_query_is_that_of_the_url(world):
    for name in ("ann", "ben"):
        await world.services.tokens.adopt(AccountId("person", name), issued(world))
    first = await world.json("/api/status?credential=person&limit=2")
    assert [entry["account"] for entry in first["tokens"]] == ["default", "ann"]
    rest = await world.json(f"/api/status?credential=person&limit=2&after={first['next']}")
    assert ([entry["account"] for entry in rest["tokens"]], rest["next"]) == (["ben"], None)
    assert [entry["account"] for entry in (await world.json("/api/status?q=BEN"))["tokens"]] == ["ben"]
    assert (await world.json("/api/status?state=attention"))["attention"] == 1


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "state=broken", "after=x", "q=%00", "after=%00/%00"])
async def test_a_bad_value_is_a_problem_that_names_the_parameter(world, query):
    response = await world.get(f"/api/status?{query}")
    assert (response.status, response.content_type) == (400, "application/problem+json")
    problem = await response.json()
    assert problem["detail"].startswith(query.partition("=")[0] + ": expected ")
    assert (problem["type"], problem["status"]) == ("urn:token-proxy:problem:bad-request", 400)
    assert response.headers["Cache-Control"] == "no-store"
    assert (await world.get(f"/?{query}")).status == 200, "a page for people shows everything instead"


def issued(world):
    tokens = world.server.issue("demo-app", PERSON)
    clock, config = world.services.clock, world.config.credentials["person"]
    return Token(
        access_token=Secret(tokens["access_token"]),
        refresh_token=Secret(tokens["refresh_token"]),
        server=world.server.issuer,
        client_id=config.client_id,
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=3600.0,
    )
