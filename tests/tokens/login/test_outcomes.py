"""The end of a login is told: by an event, a counter and the status of its account."""

from __future__ import annotations

import logging

import pytest

from proxy.demo import faults
from proxy.errors import LoginFailed, StoreError
from proxy.store.base import AccountId
from tests.tokens.login.test_logins import BROWSER, COMMAND, approve

KEY = AccountId("crm", "ann")
FIELDS = {"credential": "crm", "account": "ann"}
LOGIN_URL = "http://127.0.0.1:8081/login/crm/ann"


@pytest.fixture
def told(caplog):
    """The events of a name: level and fields."""
    caplog.set_level(logging.INFO)

    def named(*names):
        return [
            (record.levelname, record.fields)
            for record in caplog.records
            if getattr(record, "event", "") in names
        ]

    return named


def counted(side):
    (family,) = [each for each in side.metrics.registry.collect() if each.name == "token_proxy_logins"]
    return {
        (sample.labels["credential"], sample.labels["outcome"]): sample.value
        for sample in family.samples
        if sample.value
    }


async def log_in(side, *, user="alice", key=KEY):
    callback = await approve(await side.logins.begin(key, browser=BROWSER), user)
    return await side.logins.finish(callback, BROWSER)


async def test_a_login_that_succeeds(side, told):
    await log_in(side)
    assert told("login", "login_failed") == [("INFO", {**FIELDS, "outcome": "success"})]
    assert counted(side) == {("crm", "success"): 1}


async def test_a_login_that_the_server_refuses(side, told):
    side.server.script(faults.NAMED["invalid-client"])
    with pytest.raises(LoginFailed):
        await log_in(side)
    event = {**FIELDS, "login_url": LOGIN_URL, "error": "invalid_client"}
    assert told("login", "login_failed") == [("WARNING", event)]
    assert counted(side) == {("crm", "failed"): 1}


async def test_a_failed_login_is_in_the_status_of_its_account_until_one_succeeds(side):
    key, account = AccountId("crm", "default"), side.account()
    side.server.script(faults.NAMED["invalid-client"])
    with pytest.raises(LoginFailed):
        await log_in(side, key=key)
    sentence = account.diagnosis().sentence
    assert sentence.startswith("nobody has logged in yet; the last login failed at ")
    assert "UTC: the authorization server does not accept this client (invalid_client); check " in sentence
    await log_in(side, key=key)
    assert account.diagnosis().sentence == ""
    assert counted(side) == {("crm", "failed"): 1, ("crm", "success"): 1}


async def test_a_login_without_a_refresh_token_says_when_it_ends_and_which_setting_brings_one(
    side, told, caplog
):
    side.server.script(faults.Fault(change={"refresh_token": None}))
    await log_in(side)
    ((level, event),) = told("no_refresh_token")
    account = side.account("ann")
    assert (level, event["login_url"], event["ends_at"]) == (
        "WARNING",
        LOGIN_URL,
        account.held.token.expires_at,
    )
    assert f"crm/ann: {account.diagnosis().text}" in caplog.text
    assert "offline_access" in account.diagnosis().remedy


async def test_a_login_that_the_person_declines(side, told):
    with pytest.raises(LoginFailed):
        await log_in(side, user="")
    ((_, event),) = told("login_failed")
    assert event["error"] == "access_denied"


async def test_an_error_that_the_server_made_up_is_not_repeated(side, told, caplog):
    callback = await approve(await side.logins.begin(KEY, browser=BROWSER), "")
    with pytest.raises(LoginFailed):
        await side.logins.finish({**callback, "error": "made-up-canary"}, BROWSER)
    ((_, event),) = told("login_failed")
    assert event["error"] == "other"
    assert "canary" not in caplog.text


@pytest.mark.parametrize("how", ["begin", "begin_to_paste", "invite", "exchange"])
async def test_a_login_that_can_not_begin(make_side, told, how):
    async with make_side(credential='client_id = "web"\nissuer = "http://127.0.0.1:1"') as side:
        begin = {
            "begin": lambda: side.logins.begin(KEY, browser=BROWSER),
            "begin_to_paste": lambda: side.logins.begin_to_paste(KEY, COMMAND),
            "invite": lambda: side.logins.invite(KEY, COMMAND),
            "exchange": lambda: side.logins.exchange(KEY, "code", "http://127.0.0.1:1/callback", None),
        }[how]
        with pytest.raises(LoginFailed):
            await begin()
        ((_, event),) = told("login_failed")
        assert (event["error"], event["cause"]) == ("unreachable", "connection refused")
        assert counted(side) == {("crm", "failed"): 1}


async def test_a_login_that_can_not_be_saved(make_side, faulty_store, told):
    async with make_side(store=faulty_store) as side:
        callback = await approve(await side.logins.begin(KEY, browser=BROWSER))
        faulty_store.failing.add("put")
        with pytest.raises(StoreError):
            await side.logins.finish(callback, BROWSER)
        assert told("login_failed") == [("ERROR", {**FIELDS, "login_url": LOGIN_URL, "error": "store"})]


async def test_strangers_make_neither_events_nor_series(side, told):
    for name in ("nobody", "crm"):
        with pytest.raises(LoginFailed):
            await side.logins.finish({"state": "made-up", "code": "c"}, name)
    with pytest.raises(LoginFailed):
        await side.logins.begin(AccountId("no-such-credential", "ann"), browser=BROWSER)
    assert told("login_failed") == []
    assert counted(side) == {}


async def test_a_login_that_is_cancelled(side, told):
    """Of another person than the one whose tokens the account has."""
    side.tokens.login_ended(KEY, "success")
    side.logins._outcomes.cancelled(KEY)
    assert told("login") == [("INFO", {**FIELDS, "outcome": "cancelled"})]
    assert counted(side) == {("crm", "success"): 1, ("crm", "cancelled"): 1}


async def test_a_logout_is_an_event(side, told):
    await log_in(side)
    await side.logins.log_out(KEY)
    assert told("logout") == [("INFO", FIELDS)]
