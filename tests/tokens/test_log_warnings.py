"""Warnings in the log: scopes that were not granted, refresh tokens that end, logins that are due."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from proxy.demo import faults
from proxy.demo.faults import Fault
from proxy.errors import LoginRequired
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens import log_warnings, reminders
from proxy.tokens.saved import codec

DAY = 86400
CREDENTIAL = 'client_id = "web"\nscopes = ["api", "mail", "offline_access"]\n'


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_a_scope_that_is_refused_is_warned_of_once_at_the_login_and_once_when_a_refresh_takes_one(
    make_side, caplog
):
    async with make_side(credential=CREDENTIAL) as side:
        await side.tokens.adopt(AccountId("crm", "ann"), replace(side.issued(), scope="api mail"))
        assert warnings(caplog) == []
        await side.tokens.adopt(AccountId("crm", "default"), replace(side.issued(), scope="mail"))
        account = side.account()
        side.server.script(*[Fault(change={"scope": scope}) for scope in ("mail", None, "api", "api mail")])
        for _ in range(4):
            await side.tokens.refresh_now(account)
        assert account.held.token.scope == "api mail"
        assert warnings(caplog) == [
            "crm/default: the server did not grant the scopes api",
            "crm/default: the server did not grant the scopes mail",
        ]


async def test_a_refresh_asks_for_no_scope(make_side):
    forms = []
    async with make_side(credential=CREDENTIAL) as side:
        account = await side.log_in()
        ask = side.servers.token

        async def token_(credential, form, **more):
            forms.append(form)
            return await ask(credential, form, **more)

        side.servers.token = token_
        await side.tokens.refresh_now(account)
    assert [form.keys() for form in forms] == [{"grant_type", "refresh_token"}]


async def test_the_end_of_a_refresh_token_is_logged_once_when_it_is_near(make_side, caplog):
    async with make_side(credential=f'client_id = "web"\nrefresh_token_lifetime = {80 * DAY}') as side:
        account = await side.log_in()
        for days in (0, 72.9, 0.2, 1, 5.8):
            side.clock.advance(days * DAY)
            log_warnings.remind(account, side.clock.wall(), LOGIN_URL)
        (sentence,) = warnings(caplog)
        assert sentence == (
            "crm/default: its refresh token ends at 2027-04-05 08:00+00:00: "
            "run `token-proxy login crm` before then"
        )
        await side.log_in()
        side.clock.advance(79 * DAY)
        log_warnings.remind(account, side.clock.wall(), LOGIN_URL)
        assert len(warnings(caplog)) == 2
    (record, _) = [each for each in caplog.records if getattr(each, "event", "") == "refresh_token_ends"]
    assert record.fields.pop("ends_at") > 1e9
    assert record.fields == {"credential": "crm", "account": "default", "login_url": LOGIN_URL}


async def test_it_is_logged_without_requests(make_side, caplog, monkeypatch):
    monkeypatch.setattr(reminders, "REMIND_EVERY", 0.01)
    async with make_side(credential=f'client_id = "web"\nrefresh_token_idle = {8 * DAY}') as side:
        await side.log_in()
        side.clock.advance(7.5 * DAY)
        await side.until(lambda: warnings(caplog))


async def test_a_refresh_puts_an_idle_end_off_and_never_a_hard_one(make_side):
    keys = f'client_id = "web"\nrefresh_token_idle = {8 * DAY}\nrefresh_token_lifetime = {20 * DAY}'
    async with make_side(credential=keys) as side:
        account = await side.log_in()
        login, ends = side.clock.wall(), []
        for _ in range(4):
            (health,) = side.tokens.health()
            ends.append((health.refresh_expires_at - login) / DAY)
            side.clock.advance(5 * DAY)
            await side.tokens.refresh_now(account)
    assert ends == [8, 13, 18, 20]


async def test_the_age_of_a_seed_counts_from_its_adoption(make_side):
    seed = (
        'grant = "refresh_token"\nclient_id = "web"\nrefresh_token = "{seed}"\nrefresh_token_lifetime = 86400'
    )
    async with make_side() as other:
        planted = other.server.issue("web", "alice")["refresh_token"]
        async with make_side(server=other.server, credential=seed.format(seed=planted)) as side:
            adopted = side.clock.wall()
            side.clock.advance(60)
            await side.tokens.get(side.account())
            made = codec.decode((await side.stored()).body)
            assert (made.login_at, made.refresh_token != Secret(planted)) == (adopted, True)
            (health,) = side.tokens.health()
            assert health.refresh_expires_at == adopted + DAY


def logins_due(caplog) -> list[dict[str, object]]:
    return [
        {"message": record.getMessage(), "levelname": record.levelname, **record.fields}
        for record in caplog.records
        if getattr(record, "event", "") == "login_required"
    ]


LOGIN_URL = "http://127.0.0.1:8081/login/crm/default"


async def ends_refused(side, account):
    """Its access token expires, and its refresh token is refused."""
    side.clock.advance(3600)
    side.server.script(faults.NAMED["invalid-grant"])
    side.tokens._single_flight.start(account)
    await side.landed(account)


async def test_a_refused_refresh_token_is_an_event_with_the_next_step(side, caplog):
    account = await side.log_in()
    log_warnings.login_required(account, LOGIN_URL)
    assert logins_due(caplog) == []
    await ends_refused(side, account)
    for _ in range(3):  # once, however often it is checked
        log_warnings.login_required(account, LOGIN_URL)
    (event,) = logins_due(caplog)
    assert event["levelname"] == "ERROR"
    assert (event["credential"], event["account"], event["login_url"]) == ("crm", "default", LOGIN_URL)
    assert event["reason"] == "refused"
    assert "run `token-proxy login crm`" in event["message"]
    await side.log_in()
    log_warnings.login_required(account, LOGIN_URL)
    await ends_refused(side, account)
    log_warnings.login_required(account, LOGIN_URL)
    assert len(logins_due(caplog)) == 2, "the next login dies, too"


async def test_an_end_by_time_alone_is_logged_without_requests(side, caplog, monkeypatch):
    monkeypatch.setattr(reminders, "REPORT_EVERY", 0.01)
    await side.tokens.adopt(AccountId("crm", "default"), replace(side.issued(), refresh_token=None))
    reporting = asyncio.create_task(side.tokens.report_logins())
    await asyncio.sleep(0.05)
    assert logins_due(caplog) == []
    side.clock.advance(3600)
    await side.until(lambda: logins_due(caplog))
    await asyncio.sleep(0.05)
    reporting.cancel()
    (event,) = logins_due(caplog)
    assert (event["reason"], event["login_url"]) == ("no_refresh_token", LOGIN_URL)


async def test_an_end_since_the_last_check_is_logged_at_shutdown(side, caplog):
    await side.tokens.adopt(AccountId("crm", "default"), replace(side.issued(), refresh_token=None))
    reporting = asyncio.create_task(side.tokens.report_logins())
    await asyncio.sleep(0)
    side.clock.advance(3600)
    reporting.cancel()
    await asyncio.wait([reporting])
    assert len(logins_due(caplog)) == 1


async def test_without_a_login_or_after_a_logout_there_is_no_event(side, caplog):
    account = side.account()
    await side.tokens.look_at(account.key)
    log_warnings.login_required(account, LOGIN_URL)
    await side.log_in()
    await side.tokens.forget(account.key)
    log_warnings.login_required(account, LOGIN_URL)
    assert logins_due(caplog) == []


async def test_without_a_login_for_the_grant_the_event_has_no_url(make_side, caplog):
    async with make_side(grant="refresh_token", seed="never-issued") as side:
        with pytest.raises(LoginRequired):
            await side.tokens.get(side.account())
        log_warnings.login_required(side.account(), LOGIN_URL)
        (event,) = logins_due(caplog)
        assert "login_url" not in event
        assert "credentials.crm.refresh_token" in event["message"]


async def test_one_odd_account_does_not_silence_the_others(side, caplog, monkeypatch):
    odd = await side.log_in("ann")
    other = AccountId("crm", "default")
    await side.tokens.adopt(other, replace(side.issued(), refresh_token=None))
    side.clock.advance(3600)
    tell = log_warnings.login_required

    def fail(account, login_url):
        if account is odd:
            raise RuntimeError("nobody thought of that")
        tell(account, login_url)

    monkeypatch.setattr(log_warnings, "login_required", fail)
    side.tokens._reminders.report(side.tokens.accounts())
    assert [event["account"] for event in logins_due(caplog)] == ["default"]
