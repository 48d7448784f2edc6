"""Connections of RedisStore: each response goes to its own call, and each error names a remedy."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from redis import exceptions

from proxy.errors import StoreError
from proxy.store.base import AccountId, Record
from proxy.store.redis import link
from proxy.store.redis.link import Link, store_error
from proxy.store.redis.store import RedisStore
from tests.e2e.processes import free_port
from tests.patience import within
from tests.servers.redis import Redis

PASSWORD = "hunter2"
MakeRecord = Callable[..., Record]
Start = Callable[..., Redis]


async def failure(attempt: Awaitable[object]) -> str:
    with pytest.raises(StoreError) as error:
        await attempt
    return str(error.value)


# -- cancelled and slow calls


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def run_on(loop: str, work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(work)


@pytest.mark.parametrize("loop", LOOPS)
def test_no_response_to_a_cancelled_call_goes_to_another(redis_server: Redis, loop: str) -> None:
    run_on(loop, _cancel_a_thousand_calls(redis_server.url))


async def _cancel_a_thousand_calls(url: str) -> None:
    store = await RedisStore.open(url)
    chance = random.Random(1)
    accounts = [f"a{number}" for number in range(50)]
    for account in accounts:
        await store.put(
            Record(AccountId("crm", account), 1, "valid", None, None, account.encode()), expected=0
        )

    async def ask(account: str) -> str | None:
        record = await store.get(AccountId("crm", account))
        return record and record.body.decode()

    right = 0
    for _ in range(40):
        doomed = [asyncio.create_task(ask(chance.choice(accounts))) for _ in range(25)]
        asked = {account: asyncio.create_task(ask(account)) for account in chance.sample(accounts, 10)}
        await asyncio.sleep(chance.random() * 0.004)  # some wait, some are sent, some are complete
        for task in doomed:
            task.cancel()
        for account, task in asked.items():
            right += await task == account
        await asyncio.wait(doomed)
    assert right == 400
    assert [await ask(account) for account in accounts] == accounts
    assert len(store._link._client.connection_pool._in_use_connections) <= 1  # the listener's
    await store.close()


async def test_a_cancelled_put_is_complete_or_not_started(redis_server: Redis, record: MakeRecord) -> None:
    store = await RedisStore.open(redis_server.url)
    generation = 0
    for number in range(200):
        put = asyncio.create_task(store.put(record(generation=generation + 1), expected=generation))
        await asyncio.sleep(number % 10 * 0.0002)
        put.cancel()
        await asyncio.wait((put,))
        held = await store.get(AccountId("crm", "ann"))
        assert held is None or held.generation - generation in {0, 1}
        generation = held.generation if held else 0
    await store.close()
    assert generation > 10


async def test_a_suspended_server_is_an_error_in_time_and_its_later_responses_are_right(
    start_redis: Start, record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "CALL_TIME", 0.3)
    server = start_redis()
    store = await RedisStore.open(server.url)
    for account in ("ann", "bob"):
        await store.put(record(account), expected=0)
    server.pause()
    calls = [store.get(AccountId("crm", "ann")) for _ in range(3 * link.CONNECTIONS)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    server.resume()
    assert {str(answer) for answer in answers} == {
        f"token store {server.url}: no response: check store.url, and that the server is not overloaded"
    }
    assert await store.get(AccountId("crm", "bob")) == record("bob")
    await store.close()


async def test_pending_calls_complete_before_the_close(redis_server: Redis, record: MakeRecord) -> None:
    store = await RedisStore.open(redis_server.url)
    puts = [asyncio.create_task(store.put(record(f"a{number}"), expected=0)) for number in range(40)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    await asyncio.gather(*puts)
    assert "it is closed: restart the proxy" in await failure(store.get(AccountId("crm", "ann")))
    again = await RedisStore.open(redis_server.url)
    assert len(await again.page(None, 100)) == 40
    await again.close()


# -- error messages


@pytest.mark.parametrize("code", link._REMEDIES)
def test_an_error_is_reported_by_its_code_alone(code: str) -> None:
    said = str(store_error("token store X", exceptions.ResponseError(f"{code} of the server's: {PASSWORD}")))
    assert said == f"token store X: {link._REMEDIES[code]} ({code})"


@pytest.mark.parametrize("text", [f"ERR unknown command, with args: {PASSWORD}", PASSWORD, ""])
def test_an_unknown_error_is_reported_without_its_text(text: str) -> None:
    said = str(store_error("token store X", exceptions.ResponseError(text)))
    assert said.startswith("token store X: it refuses the command: see its log")
    assert PASSWORD not in said


async def test_an_unreachable_server_is_reported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        said = await failure(RedisStore.open(f"redis://me:{PASSWORD}@{where}/0"))
    assert said == f"token store redis://{where}/0: it can't be reached: check that it runs, and store.url"


async def test_the_error_of_a_refused_login_has_no_password(
    start_redis: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    strict, free = start_redis(requirepass="another"), start_redis()
    for server, user, code in (
        (strict, f":{PASSWORD}@", "WRONGPASS"),
        (strict, f"me:{PASSWORD}@", "WRONGPASS"),
        (strict, "", "NOAUTH"),
        (free, f":{PASSWORD}@", "WRONGPASS"),
    ):
        with pytest.raises(StoreError, match=rf"(put .* into|correct .* in) store.url \({code}\)$") as error:
            await RedisStore.open(server.url.replace("//", f"//{user}"))
        assert PASSWORD not in repr(error.value)
        assert error.value.__cause__ is None
        assert error.value.__suppress_context__
    assert PASSWORD not in caplog.text
    assert PASSWORD not in repr((await Link.open(f"redis://:{PASSWORD}@host"))._client)


async def test_missing_rights_are_named(start_redis: Start, record: MakeRecord) -> None:
    server = start_redis()
    user = ("ACL", "SETUSER", "me", "on", f">{PASSWORD}")
    url = server.url.replace("//", f"//me:{PASSWORD}@")
    server.ask(*user, "~*", "&*", "+@all", "-info")
    assert "see its log, and the rights of its user" in await failure(RedisStore.open(url))
    server.ask(*user, "-evalsha")
    assert "its user lacks rights" in await failure(RedisStore.open(url))
    needed = link._REMEDIES["NOPERM"].partition("allow it ")[2].split()
    server.ask(*user, "reset", "on", f">{PASSWORD}", *needed)
    store = await RedisStore.open(url)
    await store.put(record(), expected=0)
    await store.stash("x", b"1", 60)
    assert await store.take("x") == b"1"
    assert await store.renew("x", "me", 3)
    await asyncio.sleep(0.05)
    assert server.ask("PUBSUB", "NUMSUB", link.NEWS)[1] == 1
    await store.close()


async def test_a_replica_is_reported(start_redis: Start, record: MakeRecord) -> None:
    server = start_redis()
    store = await RedisStore.open(server.url)
    await store.put(record(), expected=0)
    server.ask("REPLICAOF", "127.0.0.1", start_redis().port)
    assert "it is a replica, which can't be written: name the primary" in await failure(
        store.put(record(generation=2), expected=1)
    )
    server.ask("REPLICAOF", "NO", "ONE")
    await store.close()


async def test_a_full_memory_is_reported_and_the_old_record_stays(
    start_redis: Start, record: MakeRecord
) -> None:
    server = start_redis()
    store = await RedisStore.open(server.url)
    await store.put(record(due_at=1.0, body=b"old"), expected=0)
    before = {key: server.ask("DUMP", key) for key in server.ask("KEYS", "*") if not key.endswith(b"meta")}
    server.ask("CONFIG", "SET", "maxmemory", "1mb")
    assert "its memory is full: raise its maxmemory" in await failure(
        store.put(record(generation=2, due_at=2.0, body=b"new"), expected=1)
    )
    assert "its memory is full" in await failure(store.lease("x", "me", 3))
    assert (await store.get(AccountId("crm", "ann"))).body == b"old"
    assert {key: server.ask("DUMP", key) for key in before} == before
    server.ask("CONFIG", "SET", "maxmemory", "0")
    await store.put(record(generation=2), expected=1)
    await store.close()


async def test_a_server_that_can_not_save_is_reported(
    start_redis: Start, tmp_path: Path, record: MakeRecord
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    server = start_redis(dir=data, appendonly="no", save="3600 1")
    store = await RedisStore.open(server.url)
    data.rmdir()
    with pytest.raises(exceptions.ResponseError):
        server.ask("SAVE")
    server.ask("BGSAVE")
    async with asyncio.timeout(60):
        while server.ask("INFO", "persistence")["rdb_last_bgsave_status"] == "ok":
            await asyncio.sleep(0.05)
    assert "it can't save to its disk: see its log" in await failure(store.put(record(), expected=0))
    assert await store.get(AccountId("crm", "ann")) is None
    data.mkdir()
    await store.close()


async def test_a_lost_script_is_loaded_again(redis_server: Redis, record: MakeRecord) -> None:
    store = await RedisStore.open(redis_server.url)
    redis_server.ask("SCRIPT", "FLUSH")
    await store.put(record(), expected=0)
    assert await store.get(AccountId("crm", "ann")) == record()
    await store.close()


async def test_keys_of_another_program_are_reported(redis_server: Redis) -> None:
    redis_server.ask("SET", link.META, "mine")
    assert "another program has keys there" in await failure(RedisStore.open(redis_server.url))
    assert redis_server.ask("GET", link.META) == b"mine"


# -- TLS


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority


def start_tls(start_redis: Start, authority: trustme.CA, folder: Path, name: str) -> str:
    """A server with a certificate of this name that requires client certificates; its URL."""
    certificate = authority.issue_cert(name)
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    authority.issue_cert("proxy").private_key_and_cert_chain_pem.write_to_path(folder / "ours.pem")
    port = free_port()
    start_redis(
        tls_port=port,
        tls_cert_file=folder / "cert.pem",
        tls_key_file=folder / "key.pem",
        tls_ca_cert_file=folder / "ca.pem",
    )
    return f"rediss://127.0.0.1:{port}/0"


async def test_rediss_with_the_authority_of_the_url(
    start_redis: Start, authority: trustme.CA, tmp_path: Path, record: MakeRecord
) -> None:
    url = start_tls(start_redis, authority, tmp_path, "127.0.0.1")
    url += f"?ssl_ca_certs={tmp_path}/ca.pem&ssl_certfile={tmp_path}/ours.pem"
    store, other = await RedisStore.open(url), await RedisStore.open(url)
    changes = other.changes()
    await store.put(record(), expected=0)
    async with within(1):
        assert await anext(changes) == AccountId("crm", "ann")
    await store.close()
    await other.close()


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("127.0.0.1", "", "its certificate is not trusted: set its authority in ssl_ca_certs"),
        ("elsewhere", "?ssl_ca_certs={}/ca.pem", "its certificate is not trusted"),
    ],
)
async def test_an_untrusted_certificate_is_reported(
    start_redis: Start, authority: trustme.CA, tmp_path: Path, name: str, options: str, sentence: str
) -> None:
    url = start_tls(start_redis, authority, tmp_path, name) + options.format(tmp_path)
    assert sentence in await failure(RedisStore.open(url))


async def test_plain_redis_to_a_tls_port_and_the_reverse_are_reported(
    start_redis: Start, authority: trustme.CA, tmp_path: Path, redis_server: Redis
) -> None:
    url = start_tls(start_redis, authority, tmp_path, "127.0.0.1")
    said = await failure(RedisStore.open(redis_server.url.replace("redis:", "rediss:")))
    assert "no response: check store.url" in said
    said = await failure(RedisStore.open(url.replace("rediss:", "redis:")))
    assert "it can't be reached" in said or "for TLS use rediss://" in said
