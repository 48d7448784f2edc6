"""What a refresh says in the log: events with fields; at level debug, what was decided and why."""

from __future__ import annotations

import logging

import pytest

from proxy.demo import faults
from proxy.errors import LoginRequired, TokenUnavailable
from proxy.tokens.refresh import refresh

ACCOUNT = {"credential": "crm", "account": "default"}
HOUR = 3600


@pytest.fixture
def told(caplog):
    """The fields of the events of a name, with their level."""
    caplog.set_level(logging.DEBUG)

    def named(*names):
        return [
            {"level": record.levelname, **record.fields}
            for record in caplog.records
            if getattr(record, "event", "") in names
        ]

    return named


async def test_a_refresh_says_why_how_long_and_what_is_next(side, told):
    account = await side.log_in()
    await side.tokens.refresh_now(account)
    side.clock.advance(2 * HOUR)
    await side.tokens.get(account)
    by_person, expired = told("refresh")
    assert by_person.pop("duration_ms") >= 0
    assert by_person.pop("next_refresh_s") == pytest.approx(0.75 * HOUR, rel=0.1)
    assert by_person == {
        "level": "INFO",
        **ACCOUNT,
        "outcome": "success",
        "why": "person",
        "generation": 2,
    }
    assert (expired["why"], expired["generation"]) == ("expired", 3)


async def test_a_refresh_after_a_401_says_so(side, told):
    account = await side.log_in()
    replacement = side.tokens.reject(account, account.attachment)
    assert await replacement is not None
    assert [event["why"] for event in told("refresh")] == ["rejected"]


async def test_a_first_token_says_so(make_side, told):
    async with make_side(credential='grant = "client_credentials"\nclient_id = "robot"') as side:
        await side.tokens.get(side.account())
    assert [event["why"] for event in told("refresh")] == ["first"]


async def test_a_failure_has_its_cause_in_our_words(make_side, told, caplog):
    async with make_side(credential='client_id = "web"') as side:
        account = await side.log_in()
        side.server.script(*[faults.NAMED["drop-before"]] * 3)
        with pytest.raises(TokenUnavailable):
            await side.tokens.refresh_now(account)
    event = told("refresh_failed")[-1]
    assert event["level"] == "WARNING"
    assert (event["error"], event["cause"]) == ("connection_lost", "the peer closed the connection")
    assert event.keys() >= {*ACCOUNT, "outcome", "why", "duration_ms", "failures", "next_try_s"}
    assert "refresh of crm/default failed: the connection to the authorization server was lost" in caplog.text


async def test_a_status_is_a_code_and_no_cause(side, told):
    account = await side.log_in()
    side.server.script(*[faults.NAMED["outage"]] * 3)
    with pytest.raises(TokenUnavailable):
        await side.tokens.refresh_now(account)
    event = told("refresh_failed")[-1]
    assert event["error"] == "http_503"
    assert "cause" not in event or event["cause"] == ""


async def test_a_refused_refresh_token_is_told_apart_from_what_is_tried_again(side, told):
    account = await side.log_in()
    side.server.script(*[faults.NAMED["invalid-grant"]] * 2)
    with pytest.raises(TokenUnavailable):
        await side.tokens.refresh_now(account)
    side.clock.advance(HOUR)
    with pytest.raises(LoginRequired):
        await side.tokens.refresh_now(account)
    first, last = told("refresh_failed")
    assert (first["outcome"], first["error"]) == ("transient", "invalid_grant")
    assert first["next_try_s"] > 0
    assert (last["outcome"], last.get("next_try_s")) == ("login_required", None)


async def test_a_save_that_is_held_back_is_told_and_so_is_its_end(make_side, faulty_store, told, monkeypatch):
    monkeypatch.setattr(refresh, "SAVE_AGAIN", 0.01)
    async with make_side(store=faulty_store) as side:
        account = await side.log_in()
        faulty_store.failing.add("put")
        flight = side.tokens._single_flight.start(account)
        await side.until(lambda: told("token_unsaved"))
        faulty_store.failing.clear()
        await flight
    assert told("token_unsaved") == [{"level": "ERROR", **ACCOUNT}]
    (saved,) = told("token_saved")
    assert saved.pop("tries") >= 2
    assert saved == {"level": "INFO", **ACCOUNT}


SEED = 'grant = "refresh_token"\nclient_id = "web"\nrefresh_token = "{seed}"'


async def test_a_seed_that_is_adopted_is_an_event(make_side, told, caplog):
    async with make_side() as other:
        planted = other.server.issue("web", "alice")["refresh_token"]
        async with make_side(server=other.server, credential=SEED.format(seed=planted)) as side:
            await side.tokens.get(side.account())
    assert told("seed_adopted") == [{"level": "INFO", **ACCOUNT}]
    assert planted not in caplog.text


async def test_decisions_are_told_at_level_debug_without_any_token(side, caplog, told):
    account = await side.log_in()
    tokens = [account.attachment.access_token.reveal()]
    side.clock.advance(2 * HOUR)
    await side.tokens.get(account)
    tokens += [account.attachment.access_token.reveal(), account.held.token.refresh_token.reveal()]
    decisions = [record.getMessage() for record in caplog.records if record.levelname == "DEBUG"]
    for words in ("waits for a refresh", "a refresh starts: expired", "the lease", "a token is requested"):
        assert [line for line in decisions if words in line], words
    assert not [token for token in tokens if token in caplog.text]


async def test_above_level_debug_a_decision_is_not_logged(side, caplog):
    caplog.set_level(logging.INFO)
    account = await side.log_in()
    side.clock.advance(2 * HOUR)
    await side.tokens.get(account)
    assert "decision" not in {getattr(record, "event", "") for record in caplog.records}
