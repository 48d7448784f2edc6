"""RedisStore beyond the contract: it recovers from every interruption of its server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from proxy.errors import StoreError, UnreadableRecord
from proxy.store.base import AccountId, Due, Record
from proxy.store.redis import store as redis_store
from proxy.store.redis.link import META
from proxy.store.redis.store import RedisStore
from proxy.store.seal import SealedStore
from tests.patience import within
from tests.servers.redis import Redis
from tests.store import writer
from tests.store.conftest import SECRET, age
from tests.store.test_processes import start as start_writer

ANN = AccountId("crm", "ann")
RECORD = "{token-proxy}:record:crm\0ann"
SECOND = 1.0
LENGTH = 1.5  # seconds, of the leases here
MakeRecord = Callable[..., Record]
Start = Callable[..., Redis]
Open = Callable[[Redis], Awaitable[RedisStore]]


@pytest.fixture
async def open_store() -> AsyncIterator[Open]:
    """Opens one more user of the store with each call."""
    stores = []

    async def open_(server: Redis) -> RedisStore:
        stores.append(await RedisStore.open(server.url))
        return stores[-1]

    yield open_
    for store in stores:
        await store.close()


@pytest.fixture
async def redis(redis_server: Redis, open_store: Open) -> RedisStore:
    return await open_store(redis_server)


async def restart(server: Redis) -> None:
    """Empty the server and end its clients' connections, as after a crash."""
    server.kill()
    server.start()
    await asyncio.sleep(0.01)


async def until(done: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    """Repeat the question until it succeeds; its result."""
    async with asyncio.timeout(seconds):
        while not (answer := await done()):
            await asyncio.sleep(0.02)
    return answer


async def told(changes: AsyncIterator[AccountId | None], wanted: AccountId | None) -> None:
    while await anext(changes) != wanted:
        pass


# -- leases and interruptions of the server


async def test_a_new_store_grants_no_lease_for_the_length_of_one(redis: RedisStore) -> None:
    """It looks like one that was just emptied while another process refreshes."""
    assert await redis.lease("x", "me", LENGTH) == "quiet"
    started = time.monotonic()
    await until(lambda: _is_given(redis, "x", "me"), 2 * LENGTH)
    assert time.monotonic() - started > LENGTH / 2


async def _is_given(store: RedisStore, name: str, owner: str) -> bool:
    return await store.lease(name, owner, LENGTH) is None


async def test_a_holder_keeps_its_lease_when_the_store_is_emptied(
    redis_server: Redis, open_store: Open
) -> None:
    holder, newcomer = await open_store(redis_server), await open_store(redis_server)
    await age(redis_server, 60)
    assert await holder.lease("x", "holder", LENGTH) is None
    redis_server.flush()
    assert await newcomer.lease("x", "newcomer", LENGTH) == "quiet"
    assert await holder.renew("x", "holder", LENGTH)
    assert await newcomer.lease("x", "newcomer", LENGTH) == "holder"
    assert not await newcomer.renew("x", "newcomer", LENGTH)
    await age(redis_server, LENGTH / 2)
    assert await holder.renew("x", "holder", LENGTH)
    await age(redis_server, LENGTH / 2)
    assert await newcomer.lease("x", "newcomer", LENGTH) == "holder"
    await holder.release("x", "holder")
    assert await newcomer.lease("x", "newcomer", LENGTH) is None


async def test_a_lease_released_in_quiet_time_is_granted_at_once(redis: RedisStore) -> None:
    assert await redis.renew("x", "holder", LENGTH)
    assert await redis.lease("x", "newcomer", LENGTH, succeed="holder") == "holder"
    await redis.release("x", "holder")
    assert await redis.lease("y", "newcomer", LENGTH) == "quiet"
    assert await redis.lease("x", "newcomer", LENGTH) is None
    assert await redis.lease("x", "third", LENGTH) == "newcomer"


@pytest.mark.parametrize("appendonly", ["yes", "no"])
async def test_a_holder_keeps_its_lease_when_the_server_is_killed_and_comes_back(
    start_redis: Start, open_store: Open, appendonly: str
) -> None:
    server = start_redis(appendonly=appendonly, appendfsync="everysec")
    holder, newcomer = await open_store(server), await open_store(server)
    await age(server, 60)
    assert await holder.lease("x", "holder", LENGTH) is None
    await restart(server)
    assert await newcomer.lease("x", "newcomer", LENGTH) in {"holder", "quiet"}
    assert await newcomer.lease("y", "newcomer", LENGTH) == "quiet"
    assert await holder.renew("x", "holder", LENGTH)
    await age(server, LENGTH - 0.2)
    assert await newcomer.lease("x", "newcomer", LENGTH) == "holder"
    started = time.monotonic()
    await until(lambda: _is_given(newcomer, "x", "newcomer"), LENGTH)  # the holder is dead
    assert time.monotonic() - started < LENGTH


async def test_the_first_renewal_after_a_restart_wins_over_the_remembered_holder(
    start_redis: Start, open_store: Open
) -> None:
    """The release of the remembered holder and the lease of the other may be lost."""
    server = start_redis()
    one, other = await open_store(server), await open_store(server)
    await age(server, 60)
    await one.lease("x", "one", LENGTH)
    await restart(server)
    assert await other.renew("x", "other", LENGTH)
    assert not await one.renew("x", "one", LENGTH)


async def test_a_release_before_a_restart_does_not_count_after_it(
    start_redis: Start, open_store: Open
) -> None:
    """A later holder of the lease may be lost."""
    server = start_redis()
    store = await open_store(server)
    await store.renew("x", "holder", LENGTH)
    await store.release("x", "holder")
    await restart(server)
    assert await store.lease("x", "newcomer", LENGTH) == "quiet"


async def test_a_lease_does_not_end_while_the_server_is_suspended(
    start_redis: Start, open_store: Open
) -> None:
    server = start_redis()
    holder, newcomer = await open_store(server), await open_store(server)
    await age(server, 60)
    await holder.lease("x", "holder", LENGTH)
    server.pause()
    wants = asyncio.create_task(newcomer.lease("x", "newcomer", LENGTH))
    await asyncio.sleep(LENGTH + 0.5)
    server.resume()
    assert await wants == "holder"
    assert await holder.renew("x", "holder", LENGTH)
    assert await newcomer.lease("x", "newcomer", LENGTH) == "holder"
    assert await newcomer.lease("y", "newcomer", LENGTH) is None  # nothing was lost, so this one is free
    await until(lambda: _is_given(newcomer, "x", "newcomer"), 2 * LENGTH)  # the holder is dead


async def test_quiet_time_does_not_pass_while_the_server_is_suspended(
    start_redis: Start, open_store: Open
) -> None:
    server = start_redis()
    store = await open_store(server)
    server.pause()
    wants = asyncio.create_task(store.lease("x", "newcomer", LENGTH))
    await asyncio.sleep(LENGTH + 0.5)
    server.resume()
    assert await wants == "quiet"


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_changed_server_clock_neither_frees_a_lease_nor_keeps_it_for_ever(
    redis_server: Redis, open_store: Open, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "LOOK_EVERY", 60.0)  # nothing is swept
    store = await open_store(redis_server)
    await age(redis_server, 60)
    await store.lease("ended", "dead", 0.001)
    await asyncio.sleep(0.002)
    await store.lease("x", "holder", LENGTH)
    await age(redis_server, 3600 * hours)
    redis_server.ask("HINCRBY", META, "pulse", -3_600_000 * hours)
    assert await store.lease("x", "newcomer", LENGTH) == "holder"
    assert await store.lease("y", "newcomer", LENGTH) is None
    assert await store.lease("ended", "newcomer", LENGTH) is None
    await until(lambda: _is_given(store, "x", "newcomer"), 2 * LENGTH)


async def test_a_store_unused_for_long_grants_leases_at_once(redis_server: Redis, open_store: Open) -> None:
    before = await open_store(redis_server)
    await age(redis_server, 60)
    await before.close()
    await age(redis_server, 3600)
    redis_server.ask("HINCRBY", META, "pulse", -3_600_000)
    store = await open_store(redis_server)
    assert await store.lease("x", "me", LENGTH) is None


async def test_leases_of_dead_holders_are_swept(redis: RedisStore, redis_server: Redis) -> None:
    await age(redis_server, 60)
    await redis.lease("x", "dead", LENGTH)
    await age(redis_server, 2 * LENGTH)
    await until(lambda: _has_no_leases(redis_server), 2)


async def _has_no_leases(server: Redis) -> bool:
    return not server.ask("EXISTS", "{token-proxy}:leases")


# -- records, changes and interruptions of the server


async def test_a_completed_put_survives_a_kill(
    start_redis: Start, open_store: Open, record: MakeRecord
) -> None:
    server = start_redis()
    store = await open_store(server)
    for generation in range(1, 6):
        saved = record(generation=generation, due_at=10.0)
        await store.put(saved, expected=generation - 1)
        await restart(server)
        assert await store.get(ANN) == saved
        assert await store.due_before(["crm"], 20.0, 10) == [Due(10.0, ANN, None)]


@pytest.mark.parametrize("what", ["flush", "restart", "put back"])
async def test_watchers_get_none_if_records_may_be_lost(
    start_redis: Start, open_store: Open, record: MakeRecord, what: str
) -> None:
    server = start_redis(appendonly="no", save="3600 1")
    store = await open_store(server)
    await store.put(record(), expected=0)
    changes = store.changes()
    if what == "flush":
        server.flush()
        for generation in range(1, 9):  # as many puts as before, and more
            await store.put(record("bob", generation=generation), expected=generation - 1)
    elif what == "restart":
        server.stop()
        server.start()
        await asyncio.sleep(0.01)
    else:
        server.ask("SAVE")
        await store.put(record(generation=2), expected=1)
        await restart(server)
    async with within(2 * SECOND):
        await told(changes, None)


async def test_changes_wait_while_the_server_is_down(
    start_redis: Start, open_store: Open, record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis()
    store, other = await open_store(server), await open_store(server)
    changes = store.changes()
    with caplog.at_level(logging.ERROR, "proxy.store"):
        server.kill()
        watching = asyncio.create_task(told(changes, None))
        await asyncio.wait((watching,), timeout=3 * redis_store.LOOK_EVERY)
        server.start()
        await other.put(record(), expected=0)
        async with within(SECOND):
            await watching
    assert len(caplog.messages) == 2  # one for each user
    assert "changes by other processes can't be seen now" in caplog.text


async def test_a_put_is_delivered_before_the_next_poll(
    redis_server: Redis, open_store: Open, record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "LOOK_EVERY", 60.0)
    store, other = await open_store(redis_server), await open_store(redis_server)
    await until(lambda: _has_listeners(redis_server, 2), 2)
    changes = other.changes()
    await store.put(record(), expected=0)
    async with within(SECOND):
        assert await anext(changes) == ANN


async def _has_listeners(server: Redis, count: int) -> bool:
    return server.ask("PUBSUB", "NUMSUB", "{token-proxy}:news")[1] == count


async def test_puts_of_another_process_are_delivered_within_a_second(
    redis_url: str, open_store: Open
) -> None:
    store = await writer.opened(redis_url)
    changes = store.changes()
    with start_writer(redis_url, "fill", "100000000") as process:
        assert process.stdout is not None
        for _ in range(5):
            await asyncio.to_thread(process.stdout.readline)  # it has put
            async with within(SECOND):
                await told(changes, ANN)
        process.kill()
    await store.close()


async def test_a_put_is_delivered_within_a_second_without_the_right_to_publish(
    start_redis: Start, record: MakeRecord
) -> None:
    server = start_redis()
    server.ask("ACL", "SETUSER", "poor", "on", ">pw", "~{token-proxy}:*", "+@all", "resetchannels")
    url = server.url.replace("//", "//poor:pw@")
    store, other = await RedisStore.open(url), await RedisStore.open(url)
    changes = other.changes()
    await store.put(record(), expected=0)
    async with within(SECOND):
        assert await anext(changes) == ANN
    await store.close()
    await other.close()


async def test_the_identity_survives_when_the_store_is_emptied(redis_server: Redis, open_store: Open) -> None:
    store = await open_store(redis_server)
    identity = await store.identity()
    redis_server.flush()
    newcomer = await open_store(redis_server)  # before or after the other has noticed
    async with within(2 * SECOND):
        while await newcomer.identity() != identity:
            await asyncio.sleep(0.02)
    assert await store.identity() == identity
    assert redis_server.ask("HGET", META, "identity").decode() == identity


# -- what is stored


async def test_times_are_kept_to_the_last_bit(redis: RedisStore, record: MakeRecord) -> None:
    exact = record(due_at=1_800_000_000.1234567, expires_at=0.1 + 0.2, used_at=1e-300)
    await redis.put(exact, expected=0)
    assert await redis.get(ANN) == exact
    assert await redis.due_before(["crm"], 2e9, 10) == [Due(1_800_000_000.1234567, ANN, 1e-300)]


async def test_many_records_are_processed_in_parts(
    redis: RedisStore, record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "_AT_ONCE", 3)
    changes = redis.changes()
    keys = [AccountId("crm", f"a{number}") for number in range(8)]
    for key in keys:
        await redis.put(record(key.account), expected=0)
    assert await redis.counts(0.0) == {"crm": {"valid": 8}}
    await redis.touch(dict.fromkeys(keys, 5.0))
    assert [one.used_at for one in await redis.page(None, 10)] == [5.0] * 8
    async with within(SECOND):
        assert [await anext(changes) for _ in keys] == keys


@pytest.mark.parametrize(
    ("field", "damage"), [("generation", "x"), ("due_at", "soon"), ("state", b"\xff"), ("body", None)]
)
async def test_a_damaged_record_is_reported_and_left_unchanged(
    redis: RedisStore, redis_server: Redis, record: MakeRecord, field: str, damage: Any
) -> None:
    store = SealedStore(redis, SECRET)
    await store.put(record("zoe"), expected=0)
    await store.put(record(), expected=0)
    redis_server.ask("HDEL", RECORD, field)
    if damage is not None:
        redis_server.ask("HSET", RECORD, field, damage)
    before = redis_server.ask("HGETALL", RECORD)
    with pytest.raises(UnreadableRecord, match="crm/ann is damaged: restore a backup"):
        await store.get(ANN)
    with pytest.raises(UnreadableRecord):
        await store.put(record(generation=2), expected=1)
    assert [(one.key.account, one.state) for one in await store.page(None, 10)] == [
        ("ann", "unreadable"),
        ("zoe", "valid"),
    ]
    many = {one.key.account: one.state for one in await store.get_many([ANN, AccountId("crm", "zoe")])}
    assert many == {"ann": "unreadable", "zoe": "valid"}
    assert [one.key.account for one in await store.outlines(None, 10)] == ["ann", "zoe"]
    assert redis_server.ask("HGETALL", RECORD) == before


async def test_a_record_under_another_key_is_reported_and_left_unchanged(
    redis: RedisStore, redis_server: Redis, record: MakeRecord
) -> None:
    await SealedStore(redis, SECRET).put(record(), expected=0)
    before = redis_server.ask("HGETALL", RECORD)
    stranger = SealedStore(redis, bytes(32))
    for attempt in (
        stranger.get(ANN),
        stranger.put(record(generation=2), expected=1),
        stranger.intend(ANN, 1, b"sent"),
    ):
        with pytest.raises(UnreadableRecord, match="restore the store's own key"):
            await attempt
    assert [one.state for one in await stranger.page(None, 10)] == ["unreadable"]
    assert redis_server.ask("HGETALL", RECORD) == before


async def test_an_evicted_record_is_missing(
    redis: RedisStore, redis_server: Redis, record: MakeRecord
) -> None:
    await redis.put(record(due_at=1.0), expected=0)
    redis_server.ask("DEL", RECORD)
    assert await redis.get(ANN) is None
    assert await redis.page(None, 10) == []
    assert await redis.due_before(["crm"], 2.0, 10) == []
    assert await redis.counts(0.0) == {}
    await redis.put(record(), expected=0)


async def test_a_store_of_a_newer_version_is_refused_even_if_upgraded_later(
    redis: RedisStore, redis_server: Redis, record: MakeRecord
) -> None:
    redis_server.ask("HSET", META, "version", "2")
    for attempt in (RedisStore.open(redis_server.url), redis.get(ANN), redis.put(record(), expected=0)):
        with pytest.raises(
            StoreError, match="it was made by a newer version of token-proxy: use that version"
        ):
            await attempt
    assert not redis_server.ask("EXISTS", RECORD)
    redis_server.ask("HSET", META, "version", "1")


async def test_all_keys_are_in_one_slot_and_under_one_prefix(
    redis: RedisStore, redis_server: Redis, record: MakeRecord
) -> None:
    await redis.put(record(due_at=1.0), expected=0)
    await redis.stash("login:x", b"1", 60)
    await redis.renew("x", "me", LENGTH)
    names = redis_server.ask("KEYS", "*")
    assert len(names) == 7
    assert {name.startswith(b"{token-proxy}:") for name in names} == {True}
