"""Every code, on every surface: problem document, page, status and log say the same of an account."""

import asyncio
import html
import logging
import math
import re

import aiohttp

from proxy.errors import AuthorizationServerError
from proxy.oauth.token import Refusal, Token
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens import log_warnings
from proxy.tokens.account_facts import explained
from proxy.tokens.diagnosis import Verdict
from proxy.tokens.diagnosis.failures import CAUSES
from proxy.tokens.stored_token import StoredToken

ROBOT = """
[credentials.{name}]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "demo-app"
client_secret = {{ file = "{state}/secret" }}
scopes = ["api"]

[[routes]]
path = "/{name}"
upstream = "http://127.0.0.1:9"
credential = "{name}"
"""
PEOPLE = """
[credentials.people]
issuer = "{issuer}"
client_id = "demo-app"
client_secret = {{ file = "{state}/secret" }}
scopes = ["openid", "api"]

[[routes]]
path = "/people"
upstream = "http://127.0.0.1:9"
credential = "people"
account = {{ header = "X-Account" }}
"""
TAG = re.compile(r"<[^>]+>")
PAGE = 500  # accounts


def words_of(text):
    return " ".join(text.split())


def token_of(clock, credential, **more):
    """An expired one."""
    now = clock.wall() - 7200
    return Token(
        access_token=Secret("AT"),
        refresh_token=Secret("RT"),
        server=credential.issuer,
        client_id=credential.principal,
        issued_at=now,
        issued_boot=clock.boot() - 7200,
        boot_id=clock.boot_id,
        lifetime=3600.0,
        grant=credential.grant,
        **more,
    )


def remembered(services, credential, name, held):
    account = services.tokens.account(credential, name)
    account.apply(held)
    services.tokens._accounts.remember(account)
    return account


def failing(services, credential, name, code):
    """An account whose last 22 token requests have failed with this code."""
    table = services.config.credentials[credential]
    held = StoredToken(1, "valid", token_of(services.clock, table), None)
    account = remembered(services, credential, name, held)
    is_ours = CAUSES[code].verdict is Verdict.MISCONFIGURED
    account.failure = AuthorizationServerError("misconfigured" if is_ours else "transient", code)
    account.failures, account.failing_since = 22, services.clock.wall() - 600
    # half a second from the next one, as each surface computes the time anew
    until = math.floor(services.clock.wall()) + 3600.5
    account.hold_until = services.clock.boot() + until - services.clock.wall()
    return account


def ended(services):
    """Accounts for which a person must act."""
    clock = services.clock
    credential = services.config.credentials["people"]
    since = clock.wall() - 300
    dead = Refusal("invalid_grant", True, since, since, 1, since)
    odd = Refusal("consent_required", False, since, since + 200, 3, since + 200)
    tokens = {
        "dead": StoredToken(2, "login_required", token_of(clock, credential, refusal=dead), None),
        "odd": StoredToken(2, "login_required", token_of(clock, credential, refusal=odd), None),
        "logged-out": StoredToken(2, "logged_out", None, None),
    }
    return [remembered(services, "people", name, held) for name, held in tokens.items()]


async def problems_of(bench, accounts):
    found = {}
    async with aiohttp.ClientSession() as session, asyncio.timeout(120):
        for account in accounts:
            url = f"{bench.data}/{account.key.credential}/x"
            async with session.get(url, headers={"X-Account": account.key.account}) as response:
                assert response.status == 503
                found[account.key] = await response.json()
    return found


def logged_of(accounts, caplog, admin):
    """What the log says of those for which a person must act."""
    log = logging.getLogger("proxy.tokens")
    log.addHandler(caplog.handler)  # the log of a server is written by handlers of its own
    for account in accounts:
        account.login_told = -1  # the server may have looked at it already
        log_warnings.login_required(account, f"{admin}/login/{account.key}")
    log.removeHandler(caplog.handler)
    return {
        AccountId(each.fields["credential"], each.fields["account"]): each.getMessage()
        for each in caplog.records
        if getattr(each, "event", "") == "login_required"
    }


async def test_the_surfaces_agree_for_every_code(bench, caplog):
    state = bench.config.server.state_dir
    places = {"issuer": bench.server.issuer, "state": state}
    robots = [ROBOT.format(name=code, **places) for code in CAUSES]
    bench.path.write_text("".join([bench.path.read_text(), *robots, PEOPLE.format(**places)]))
    bench.edit("[log]", "[log]")
    async with bench.serving() as services:
        accounts = [failing(services, code, "default", code) for code in CAUSES]  # client_credentials
        accounts += [failing(services, "people", code, code) for code in CAUSES]
        accounts += ended(services)
        html_page = await (await bench.get(f"{bench.admin}/?limit={PAGE}")).text()
        status = await (await bench.get(f"{bench.admin}/api/status?limit={PAGE}")).json()
        shown = words_of((await bench.call("status")).stdout)
        problems = await problems_of(bench, accounts)
        logged = logged_of(accounts, caplog, bench.admin)
    page = words_of(html.unescape(TAG.sub("", html_page))).replace("`", "")
    entries = {AccountId(each["credential"], each["account"]): each for each in status["tokens"]}
    for account in accounts:
        key, diagnosis = account.key, account.diagnosis()
        check_texts(diagnosis, entries[key], problems[key], page, shown)
        check_kinds(diagnosis, entries[key], problems[key], bench.admin)
        assert key not in logged or diagnosis.text in logged[key]
        if account.failures == 22:
            check_parts(account, diagnosis)
    assert {key.account for key in logged} == {"dead", "odd"}  # for the others nothing has ended


def check_texts(diagnosis, entry, problem, page, shown):
    assert (entry["reason"], entry["remedy"]) == (diagnosis.sentence, diagnosis.remedy)
    assert problem["detail"] == f"{diagnosis.key}: {diagnosis.text}"
    for text in (words_of(diagnosis.sentence), words_of(diagnosis.remedy)):
        assert text[1:].replace("`", "") in page  # it may begin with a capital letter there
        assert text in shown


def check_kinds(diagnosis, entry, problem, admin):
    login_url = f"{admin}/login/{diagnosis.key}"
    assert entry["login_url"] == (login_url if diagnosis.needs_person else None)
    assert problem.get("login_url") == (login_url if diagnosis.can_log_in else None)  # also where it may help
    ending = problem["type"].rpartition(":")[2]
    assert problem["documentation"] == f"{admin}/help/{ending}"
    assert (ending == "login-required") == diagnosis.needs_person == entry["needs_person"]
    assert (ending == "credential-misconfigured") == (diagnosis.verdict is Verdict.MISCONFIGURED)


def check_parts(account, diagnosis):
    """What is wrong, since when, how often, the next try, and what to change."""
    code = account.failure.error
    assert f"({code}, 22 failures in a row since " in diagnosis.sentence
    assert "next try at " in diagnosis.remedy
    logged = explained(account, account.failure)
    assert f"({code})" in logged
    assert "{" not in logged
