"""One refresh and its results: the old refresh token or the new one is stored, never none."""

from __future__ import annotations

import asyncio

import pytest

from proxy.demo import faults
from proxy.demo.faults import Fault
from proxy.errors import GenerationConflict, LoginRequired, Misconfigured, TokenUnavailable
from proxy.oauth.token import Principal
from proxy.store.base import AccountId
from proxy.store.sqlite.statements import Statement
from proxy.tokens.refresh import backoff, lease
from proxy.tokens.saved import codec
from proxy.tokens.saved.records import fingerprint
from tests.fakes.id_tokens import logs_in

HOUR = 3600
STALE = 3000
KEY = AccountId("crm", "default")
RECORD = (KEY, 1, "valid")


async def token_of(side):
    return codec.decode((await side.stored()).body)


async def test_the_old_refresh_token_stays_if_the_response_has_none(make_side):
    async with make_side(rotation=False) as side:
        account = await side.log_in()
        old = await token_of(side)
        await side.tokens.refresh_now(account)
        new = await token_of(side)
        assert new.refresh_token == old.refresh_token
        assert new.access_token != old.access_token


async def test_when_a_refresh_token_expires_is_only_known_of_the_token_that_it_was_said_of(side):
    account = await side.log_in()
    side.server.script(
        Fault(change={"refresh_expires_in": 600}), Fault(change={"refresh_token": None}), Fault()
    )
    expiries = []
    for _ in range(2):
        await side.tokens.refresh_now(account)
        expiries.append((await token_of(side)).refresh_expires_at)
    assert expiries == [side.clock.wall() + 600] * 2


# -- trouble that may pass


async def test_after_a_lost_response_the_same_refresh_token_is_sent_again(make_side):
    async with make_side(grace=30) as side:
        account = await side.log_in()
        side.clock.advance(HOUR)
        side.server.script(faults.NAMED["drop-after-commit"])
        assert side.is_good(await side.tokens.get(account))
        first, second = side.refreshes
        assert (first.status, second.status) == (None, 200)
        assert first.refresh_token == second.refresh_token
        assert side.server.families_revoked == 0


async def test_without_grace_a_lost_response_requires_a_login_and_causes_no_loop(side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    side.server.script(faults.NAMED["drop-after-commit"])
    for _ in range(5):
        with pytest.raises(LoginRequired):
            await side.tokens.get(account)
        side.clock.advance(60)
    assert [request.error for request in side.refreshes] == [None, "invalid_grant"]
    assert account.state() == "login_required"


async def test_an_outage_is_waited_out_with_the_same_refresh_token(side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    side.server.script(*[faults.NAMED["outage"]] * 6)
    while len(side.refreshes) < 6:
        with pytest.raises(TokenUnavailable):
            await side.tokens.get(account)
        side.clock.advance(0.001)  # half of the shortest pause
    side.clock.advance(1)
    await side.tokens.get(account)
    assert len(side.refreshes) == 7
    assert len({request.refresh_token for request in side.refreshes}) == 1
    assert side.is_good(side.tokens.ready(account))
    assert (account.failures, account.failure) == (0, None)


async def test_pauses_double_and_requests_in_a_pause_cost_nothing(side, monkeypatch):
    monkeypatch.undo()  # the real pauses: the clock is moved, without sleep
    account = await side.log_in()
    side.clock.advance(HOUR)
    pauses = []
    for failures in range(1, 8):
        side.server.script(faults.status(429, {"error": "slow_down"}, headers={"Retry-After": "0"}))
        side.clock.advance(31)
        with pytest.raises(TokenUnavailable):
            await side.tokens.get(account)
        pauses.append(account.hold_until - side.clock.boot())
        longest = min(2.0 ** (failures - 1), 30.0)
        assert longest / 2 <= pauses[-1] <= longest
        for _ in range(10):
            with pytest.raises(TokenUnavailable):
                await side.tokens.get(account)
    assert len(side.refreshes) == 7
    assert account.failures == 7


RETRY_AFTER = [("7", 7), ("99999", 300), ("junk", 1), ("-1", 1)]  # the field, seconds of the pause


@pytest.mark.parametrize(("value", "seconds"), RETRY_AFTER)
async def test_a_retry_after_of_the_server_is_kept_and_passed_to_callers(side, value, seconds):
    account = await side.log_in()
    side.clock.advance(HOUR)
    asked_for_a_pause = faults.status(503, headers={"Retry-After": value})
    side.server.script(*[asked_for_a_pause] * (1 if seconds > 1 else 3))
    with pytest.raises(TokenUnavailable) as caught:
        await side.tokens.get(account)
    assert caught.value.retry_after == seconds
    asked = len(side.refreshes)
    side.clock.advance(seconds - 1)
    with pytest.raises(TokenUnavailable):
        await side.tokens.get(account)
    assert len(side.refreshes) == asked
    side.clock.advance(1)
    assert side.is_good(await side.tokens.get(account))


async def test_while_the_server_is_down_the_old_token_is_used_until_it_expires(side):
    account = await side.log_in()
    served = side.tokens.ready(account)
    side.clock.advance(STALE)
    side.server.script(*[faults.NAMED["outage"]] * 50)
    for _ in range(59):
        assert side.tokens.ready(account) is served
        await side.landed(account)
        side.clock.advance(10)
    side.clock.advance(5)
    assert side.tokens.ready(account) is None
    assert len(side.refreshes) < 59  # the server is not asked with each request


# -- trouble that a person must end


async def test_a_refused_refresh_token_is_final_and_the_access_token_is_used_until_it_expires(
    make_side, side
):
    account = await side.log_in()
    served = side.tokens.ready(account)
    side.clock.advance(STALE)
    side.server.revoke_family((await token_of(side)).refresh_token.reveal())
    for _ in range(2):  # one might be a mistake (test_refusal.py)
        assert side.tokens.ready(account) is served
        await side.landed(account)
        side.clock.advance(60)
    assert account.state() == "login_required"
    assert side.tokens.ready(account) is served
    async with make_side(server=side.server, store=side.store) as restarted:
        assert restarted.account().state() == "login_required"
        assert restarted.tokens.ready(restarted.account()).fields == served.fields
        side.clock.advance(HOUR - STALE - 120)
        for one in (side, restarted):
            with pytest.raises(LoginRequired):
                await one.tokens.get(one.account())
            with pytest.raises(LoginRequired):
                await one.tokens.refresh_now(one.account())
    assert len(side.refreshes) == 2
    await side.log_in()
    assert side.is_good(await side.tokens.get(account))
    assert account.state() == "valid"


async def test_a_refusal_counts_only_if_the_record_is_unchanged(make_side, side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    throttle, asked = asyncio.Event(), asyncio.Event()

    async def refuse_late():
        asked.set()
        await throttle.wait()

    side.server.script(Fault(wait_before=refuse_late, answer=faults.NAMED["invalid-grant"].answer))
    getting = asyncio.create_task(side.tokens.get(account))
    await asked.wait()
    async with make_side(server=side.server, store=side.store) as other:
        await other.log_in()
        throttle.set()
        served = await getting
        assert served.fields == other.tokens.ready(other.account()).fields
    assert (await side.stored()).state == "valid"


async def test_a_server_that_refuses_the_client_costs_no_token_and_few_requests(side):
    account = await side.log_in()
    served = side.tokens.ready(account)
    record = await side.stored()
    side.clock.advance(STALE)
    side.server.script(*[faults.NAMED["invalid-client"]] * 3)
    for _ in range(10):
        assert side.tokens.ready(account) is served
        await side.landed(account)
    assert account.state() == "misconfigured"
    assert account.is_usable
    side.clock.advance(HOUR - STALE)
    for _ in range(10):
        with pytest.raises(Misconfigured, match=r"does not accept this client \(invalid_client"):
            await side.tokens.get(account)
    assert len(side.refreshes) == 2  # once in two minutes
    stored = await side.stored()
    assert (stored.generation, stored.state, stored.body) == (record.generation, "valid", record.body)
    side.clock.advance(120)
    side.server.faults.clear()  # the cause is corrected
    assert side.is_good(await side.tokens.get(account))
    assert account.state() == "valid"


async def test_a_person_who_presses_refresh_does_not_wait_for_the_pause(side):
    account = await side.log_in()
    side.server.script(faults.NAMED["invalid-client"])
    with pytest.raises(Misconfigured):
        await side.tokens.refresh_now(account)
    await side.tokens.refresh_now(account)
    assert account.state() == "valid"


async def test_a_manual_refresh_refreshes_even_if_it_joins_one_that_had_nothing_to_do(make_side, side):
    account = await side.log_in()
    async with make_side(server=side.server, store=side.store) as other:
        side.clock.advance(STALE)
        name = f"refresh:{account.key}"
        await side.store.lease(name, "somebody", 30)
        side.tokens.ready(account)
        await asyncio.sleep(2 * lease.POLL_EVERY)  # a refresh waits for the lease
        await other.log_in()
        await side.until(lambda: account.held.generation == 2)
        pressed = asyncio.create_task(side.tokens.refresh_now(account))
        await asyncio.sleep(0.02)
        await side.store.release(name, "somebody")
        await pressed
        assert account.held.generation == 3


async def test_a_refresh_by_hand_that_finds_the_token_refused_says_so(side):
    account = await side.log_in()
    side.server.script(*[faults.NAMED["invalid-grant"]] * 2)
    with pytest.raises(TokenUnavailable):  # one might be a mistake
        await side.tokens.refresh_now(account)
    side.clock.advance(31)
    with pytest.raises(LoginRequired):
        await side.tokens.refresh_now(account)


# -- somebody else's tokens


def as_told(side, subject, **claims):
    return Principal(side.server.issuer, subject, claims.get("email", ""))


def comes_for(side, subject, **claims):
    """The next response has an id_token of this person."""
    side.server.script(logs_in(side.server.issuer, "web", subject, **claims))


async def test_a_refresh_names_the_person_and_recognises_them_by_a_new_name(side):
    account = await side.log_in()
    for email in ("ann@example.com", "ann@married.example"):
        comes_for(side, "ann-7", email=email)
        await side.tokens.refresh_now(account)
        assert (await token_of(side)).principal == as_told(side, "ann-7", email=email)
    await side.tokens.refresh_now(account)  # without an id_token (OpenID Connect Core section 12.2)
    assert (await token_of(side)).principal == as_told(side, "ann-7", email=email)


async def test_a_bad_id_token_fails_no_refresh_and_leaves_the_principal(side):
    account = await side.log_in()
    comes_for(side, "ann-7")
    await side.tokens.refresh_now(account)
    comes_for(side, "bob-8", aud="another client")
    await side.tokens.refresh_now(account)
    assert (await token_of(side)).principal == as_told(side, "ann-7")
    assert account.state() == "valid"


@pytest.mark.parametrize("rotation", [True, False])
async def test_another_persons_tokens_from_a_refresh_are_never_used_and_nothing_is_lost(
    make_side, caplog, rotation
):
    async with make_side(rotation=rotation) as side:
        account = await side.log_in()
        comes_for(side, "ann-7")
        await side.tokens.refresh_now(account)
        old, served = await token_of(side), side.tokens.ready(account)
        side.clock.advance(STALE)
        comes_for(side, "bob-8")
        assert side.tokens.ready(account) is served
        await side.landed(account)

        aside, record = await token_of(side), await side.stored()
        assert (record.state, record.intent, record.due_at) == ("login_required", None, None)
        assert aside.principal == as_told(side, "ann-7"), "it is still her account"
        assert aside.access_token == old.access_token
        assert (aside.refresh_token != old.refresh_token) is rotation, "the only one left is kept"
        assert side.tokens.ready(account).fields == served.fields
        side.clock.advance(HOUR - STALE)
        async with make_side(server=side.server, store=side.store) as restarted, restarted.kept_fresh():
            for one in (side, restarted):
                with pytest.raises(LoginRequired):
                    await one.tokens.get(one.account())
        assert len(side.refreshes) == 2, "it is not sent any more"
        assert "returned another person's tokens" in caplog.text
        assert "ann-7" not in caplog.text
        assert "bob-8" not in caplog.text

        await side.logins.log_out(KEY)
        assert side.server._protocol.ledger.present(aside.refresh_token.reveal(), "web") is None


# -- saving


async def test_no_token_is_used_before_it_is_saved(make_side, faulty_store):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in()
        old = side.tokens.ready(account)
        side.clock.advance(STALE)
        faulty_store.failing = {"put"}
        side.tokens.refresh_behind(account)
        await side.until(lambda: faulty_store.calls["put"] > 5)
        assert side.tokens.ready(account) is old
        assert len(side.refreshes) == 1
        faulty_store.failing = set()
        await side.landed(account)
        new = side.tokens.ready(account)
        assert new is not old
        assert side.is_good(new)
        assert (await side.stored()).generation == 2
        assert len(side.refreshes) == 1


async def test_while_a_token_is_unsaved_no_other_process_asks_for_one_not_even_when_the_disk_is_well_again(
    make_side, open_sqlite
):
    stores = [await open_sqlite(), await open_sqlite()]
    async with (
        make_side(store=stores[0]) as side,
        make_side(server=side.server, store=stores[1]) as other,
    ):
        account, same = await side.log_in(), other.account()
        await other.until(lambda: same.held.generation == 1)
        go_on = asyncio.Event()
        side.server.script(Fault(wait_after=go_on.wait))
        side.clock.advance(HOUR)
        side.tokens.refresh_behind(account)
        await side.until(lambda: not side.server.faults)
        await writable(stores, on=False)
        go_on.set()
        await side.until(lambda: unsaved(side) == 1)
        side.clock.advance(60)  # the lease ends meanwhile
        with pytest.raises(TokenUnavailable):
            await other.tokens.get(same)
        await writable(reversed(stores), on=True)
        side.clock.advance(2)  # and the other may refresh at once
        assert other.is_good(await other.tokens.get(same))
        assert side.is_good(await side.tokens.get(account))
        assert (await side.stored()).generation == 2
        assert (len(side.refreshes), side.server.families_revoked, unsaved(side)) == (1, 0, 0)


async def test_a_store_that_failed_often_is_asked_again_within_seconds(make_side, faulty_store, monkeypatch):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in()
        monkeypatch.setattr(backoff, "BACKOFF_FIRST", 1.0)
        faulty_store.failing = {"lease"}
        for _ in range(8):
            side.clock.advance(HOUR)
            with pytest.raises(TokenUnavailable):
                await side.tokens.get(account)
        assert account.failures == 8
        assert 0 < account.hold_until - side.clock.boot() <= 2
        assert account.why_not().retry_after <= 2


async def writable(stores, *, on):
    for store in stores:
        await store._store._query(Statement(f"PRAGMA query_only = {'OFF' if on else 'ON'}"))


def unsaved(side):
    return side.metrics.tokens_unsaved.collect()[0].samples[0].value


async def test_without_the_intent_on_disk_nothing_is_sent(make_side, faulty_store):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in()
        side.clock.advance(HOUR)
        faulty_store.failing = {"intend"}
        with pytest.raises(TokenUnavailable):
            await side.tokens.get(account)
        assert side.refreshes == []
        assert (account.last_refresh.outcome, account.last_refresh.error) == ("transient", "store")
        faulty_store.failing = set()
        side.clock.advance(1)
        assert side.is_good(await side.tokens.get(account))


async def test_a_lease_that_cannot_be_given_back_does_not_undo_a_saved_refresh(make_side, faulty_store):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in()
        side.clock.advance(HOUR)
        faulty_store.failing = {"release"}
        assert side.is_good(await side.tokens.get(account))
        assert account.failures == 0


async def test_a_clean_stop_lets_a_refresh_under_way_save_its_tokens(make_side, side):
    account = await side.log_in()
    side.clock.advance(STALE)
    side.server.script(Fault(wait_after=lambda: asyncio.sleep(0.1)))
    side.tokens.refresh_behind(account)
    await side.until(lambda: len(side.server.faults) == 0)
    await side.tokens.close(2.0)
    assert (await side.stored()).generation == 2
    async with make_side(server=side.server, store=side.store) as restarted:
        assert side.is_good(restarted.tokens.ready(restarted.account()))


async def test_a_stop_does_not_wait_longer_than_its_grace(side):
    account = await side.log_in()
    side.clock.advance(STALE)
    side.server.script(Fault(wait_before=asyncio.Event().wait))
    side.tokens.refresh_behind(account)
    await side.until(lambda: len(side.server.faults) == 0)
    async with asyncio.timeout(1):
        await side.tokens.close(0.05)
    assert account.flight is None


# -- what was in doubt when the process died


async def interrupted(side):
    """A login whose refresh was started by a process that died: the store has its intent."""
    await side.log_in()
    await side.store.intend(KEY, 1, b"{}")


@pytest.mark.parametrize("grace", [0, 30])
async def test_a_refresh_in_doubt_is_sent_again_at_once_though_the_token_is_not_due(make_side, grace):
    async with make_side(grace=grace) as side:
        await interrupted(side)
        old = await token_of(side)
        token = old.refresh_token.reveal()
        spent = side.server._protocol.ledger.present(token, "web")
        spent.spent_at = side.clock.boot()  # it had arrived
        spent.answer = side.server.issue("web", "alice")
        async with make_side(server=side.server, store=side.store) as restarted, restarted.kept_fresh():
            account = restarted.account()
            assert account.state() == "valid"
            await restarted.until(lambda: side.refreshes)
            await restarted.landed(account)
            assert [request.refresh_token for request in side.refreshes] == [fingerprint(old.refresh_token)]
            assert account.state() == ("valid" if grace else "login_required")
        assert (await side.stored()).generation == 2
        assert (await side.stored()).intent is None


async def test_a_refresh_in_doubt_is_settled_before_the_first_token_is_due_again(side):
    account = await side.log_in()
    side.server.script(*[faults.NAMED["outage"]] * 3)
    with pytest.raises(TokenUnavailable):
        await side.tokens.refresh_now(account)
    assert account.in_doubt
    async with side.kept_fresh():
        side.clock.advance(1)
        await side.until(lambda: not account.in_doubt)
    assert len(side.refreshes) == 4


async def test_a_process_suspended_before_it_sends_does_not_send(make_side, faulty_store):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in()
        async with make_side(store=faulty_store, server=side.server) as other:
            side.clock.advance(HOUR)
            intend = faulty_store._store.intend

            async def stand_still(*noted):
                faulty_store._store.intend = intend
                await intend(*noted)
                side.clock.advance(lease.LIFETIME)
                await other.tokens.get(other.account())

            faulty_store._store.intend = stand_still
            served = await side.tokens.get(account)
            assert served.fields == other.tokens.ready(other.account()).fields
            assert side.is_good(served)
            assert len(side.refreshes) == 1
            assert side.server.families_revoked == 0


async def test_a_refresh_in_doubt_is_found_by_the_index_though_the_token_is_fresh(side):
    """A process that dies just after this leaves an account that no process may have in memory."""
    account = await side.log_in()
    reached = asyncio.Event()

    async def look():
        reached.set()
        (due,) = await side.store.due_before(["crm"], side.clock.wall() + 1, 10)
        assert due.key == KEY

    side.server.script(Fault(wait_before=look))
    await side.tokens.refresh_now(account)
    assert reached.is_set()


# -- health


async def test_every_attempt_is_counted_by_its_outcome(side):
    account = await side.log_in()
    side.server.script(
        faults.NAMED["drop-before"],
        faults.NAMED["outage"],
        Fault(),
        *[faults.NAMED["invalid-grant"]] * 2,
    )
    await side.tokens.refresh_now(account)
    with pytest.raises(TokenUnavailable):
        await side.tokens.refresh_now(account)
    side.clock.advance(HOUR)
    with pytest.raises(LoginRequired):
        await side.tokens.refresh_now(account)
    assert counted(side, "token_refreshes", "outcome") == {"transient": 3, "success": 1, "login_required": 1}
    assert counted(side, "token_refresh_errors", "error") == {
        "connection_lost": 1,
        "http_5xx": 1,
        "invalid_grant": 2,
    }


def counted(side, name, label):
    """The values of a counter by a label, where they are not 0."""
    family = next(each for each in side.metrics.registry.collect() if each.name == f"token_proxy_{name}")
    return {sample.labels[label]: sample.value for sample in family.samples if sample.value}


async def test_health_shows_the_times_and_the_failures(side):
    account = await side.log_in()
    issued = side.clock.wall()
    (health,) = side.tokens.health()
    assert (health.credential, health.account, health.state) == ("crm", "default", "valid")
    assert (health.issued_at, health.expires_at, health.last_success_at) == (issued, issued + HOUR, None)
    assert issued + 0.9 * 0.8 * HOUR <= health.refresh_due_at <= issued + 0.8 * HOUR
    side.clock.advance(STALE)
    side.server.script(*[faults.NAMED["outage"]] * 3)
    assert side.tokens.ready(account)
    await side.landed(account)
    (health,) = side.tokens.health()
    assert (health.state, health.failures) == ("stale", 3)
    assert (account.last_refresh.outcome, account.last_refresh.error) == ("transient", "http_503")
    side.clock.advance(1)
    await side.tokens.refresh_now(account)
    (health,) = side.tokens.health()
    assert (health.state, health.failures, health.last_success_at) == ("valid", 0, side.clock.wall())


# -- somebody else writes


async def test_a_logout_during_a_refresh_wins(side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    throttle = asyncio.Event()
    side.server.script(Fault(wait_after=throttle.wait))
    getting = asyncio.create_task(side.tokens.get(account))
    await side.until(lambda: len(side.server.faults) == 0)
    await side.tokens.forget(account.key)
    throttle.set()
    with pytest.raises(LoginRequired):
        await getting
    assert (await side.stored()).state == "logged_out"
    assert account.state() == "absent"
    (refresh,) = side.refreshes
    for given in (refresh.issued_access_token, refresh.issued_refresh_token):
        assert not side.server.token_record(given).good_at(side.clock.boot()), (
            "the logout revoked the old ones"
        )


async def test_a_login_between_reading_and_sending_is_the_token_refreshed(make_side, faulty_store):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in()
        side.clock.advance(HOUR)
        intend, fresh = faulty_store._store.intend, side.issued()

        async def late(key, generation, intent):
            faulty_store._store.intend = intend
            await side.tokens.adopt(KEY, fresh)
            await intend(key, generation, intent)

        faulty_store._store.intend = late
        served = await side.tokens.get(account)
        assert served.access_token == fresh.access_token
        assert side.refreshes == []


async def test_a_late_writer_loses(side):
    account = await side.log_in()
    record = await side.stored()
    await side.tokens.refresh_now(account)
    with pytest.raises(GenerationConflict):
        await side.store.put(record, expected=0)
