"""When a refused refresh is final, so that a person must log in, and the retries before and after."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo import faults
from proxy.errors import AuthorizationServerError, LoginRequired, Misconfigured, TokenUnavailable
from proxy.oauth.token import Principal, Refusal
from proxy.store.base import AccountId
from proxy.tokens.refresh import refusal
from proxy.tokens.saved import codec
from tests.fakes.clock import FakeClock
from tests.fakes.id_tokens import logs_in
from tests.tokens.made import token

HOUR = 3600
STALE = 3000
DAY = 24 * HOUR

EMPTY = faults.status(400)  # Glewlwyd
INVALID_REQUEST = faults.status(401, {"error": "invalid_request"})  # LemonLDAP, Laravel Passport
INACTIVE_USER = faults.status(400, {"error": "inactive_user"})  # Salesforce
MFA_REQUIRED = faults.status(403, {"error": "mfa_required"})  # Auth0
OTHER_WORDS = {
    "empty": EMPTY,
    "invalid_request": INVALID_REQUEST,
    "inactive_user": INACTIVE_USER,
    "mfa_required": MFA_REQUIRED,
    "access_denied": faults.status(403, {"error": "access_denied"}),
    "errors": faults.status(400, {"errors": [{"errorType": "invalid_token"}]}),  # Fitbit
}
OF_THE_CLIENT = ("invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope")

DEAD = AuthorizationServerError("login_required", "invalid_grant", status=400)
OTHER = AuthorizationServerError("transient", "other", status=400, refusal=True)


def refuse(side, fault, times: int = 100) -> None:
    side.server.faults.clear()
    side.server.script(*[fault] * times)


async def refreshed(side, account) -> None:
    """One check by the scheduler, and its refresh."""
    await side.tokens.scheduler.look(side.clock.wall())
    await side.landed(account)


async def pass_(side, account, seconds: float, step: float = 5.0) -> None:
    for _ in range(round(seconds / step)):
        side.clock.advance(step)
        await refreshed(side, account)


# -- the server names the refresh token


async def test_one_spurious_invalid_grant_is_not_the_end(side):
    account = await side.log_in()
    served = side.tokens.ready(account)
    side.clock.advance(STALE)
    side.server.script(faults.NAMED["invalid-grant"])
    await refreshed(side, account)
    assert (account.state(), len(side.refreshes)) == ("stale", 1)
    assert side.tokens.ready(account) is served
    await pass_(side, account, 25)
    assert len(side.refreshes) == 1
    await pass_(side, account, 40)
    assert (account.state(), len(side.refreshes)) == ("valid", 2)
    assert account.refusal is None
    assert side.server.families_revoked == 0


async def test_the_second_is(side):
    account = await side.log_in()
    served = side.tokens.ready(account)
    side.clock.advance(STALE)
    refuse(side, faults.NAMED["invalid-grant"])
    await refreshed(side, account)
    await pass_(side, account, 65)
    assert (account.state(), len(side.refreshes)) == ("login_required", 2)
    assert side.tokens.ready(account) is served  # until it expires
    await pass_(side, account, 2 * HOUR, step=60)
    assert len(side.refreshes) == 2  # no more calls
    with pytest.raises(LoginRequired):
        await side.tokens.get(account)


async def test_where_the_access_token_has_expired_the_first_is(side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    refuse(side, faults.NAMED["invalid-grant"])
    for _ in range(3):
        with pytest.raises(LoginRequired):
            await side.tokens.get(account)
    assert (account.state(), len(side.refreshes)) == ("login_required", 1)


async def test_the_second_try_does_not_wait_longer_than_the_access_token_lives(make_side):
    async with make_side(access_token_lifetime=40) as side:
        account = await side.log_in()
        side.clock.advance(36)
        refuse(side, faults.NAMED["invalid-grant"])
        await refreshed(side, account)
        assert (account.state(), len(side.refreshes)) == ("stale", 1)
        side.clock.advance(2)
        with pytest.raises(LoginRequired):
            await side.tokens.get(account)
        assert len(side.refreshes) == 2


async def test_where_an_earlier_request_is_in_doubt_the_first_is(side):
    account = await side.log_in()
    await side.store.intend(account.key, 1, b"{}")
    side.clock.advance(STALE)
    refuse(side, faults.NAMED["invalid-grant"])
    await refreshed(side, account)
    assert (account.state(), len(side.refreshes)) == ("login_required", 1)


async def test_a_refusal_is_known_to_all_processes_and_after_a_restart(make_side, side):
    account = await side.log_in()
    side.clock.advance(STALE)
    refuse(side, faults.NAMED["invalid-grant"])
    await refreshed(side, account)
    async with make_side(server=side.server, store=side.store) as other:
        await refreshed(other, other.account())
        assert len(side.refreshes) == 1
        await pass_(other, other.account(), 65)
        assert (other.account().state(), len(side.refreshes)) == ("login_required", 2)
        await side.until(lambda: account.state() == "login_required")
        await pass_(side, account, 120)
        assert len(side.refreshes) == 2


# -- in other words


@pytest.mark.parametrize("words", OTHER_WORDS)
async def test_a_refusal_other_than_invalid_grant_is_final_after_three_in_ten_minutes(side, words):
    account = await side.log_in()
    served = side.tokens.ready(account)
    side.clock.advance(STALE - 400)
    refuse(side, OTHER_WORDS[words])
    with pytest.raises(TokenUnavailable):
        await side.tokens.refresh_now(account)
    await pass_(side, account, 590)
    assert account.state() in {"valid", "stale"}
    assert len(side.refreshes) == 2
    await pass_(side, account, 100)
    assert (account.state(), len(side.refreshes)) == ("login_required", 3)
    assert side.tokens.ready(account) is served  # until it expires


@pytest.mark.parametrize("words", OTHER_WORDS)
async def test_or_at_the_access_tokens_end(side, words):
    account = await side.log_in()
    side.clock.advance(HOUR)
    refuse(side, OTHER_WORDS[words])
    for _ in range(3):
        with pytest.raises(LoginRequired):
            await side.tokens.get(account)
        side.clock.advance(60)
    assert (account.state(), len(side.refreshes)) == ("login_required", 1)
    record = await side.stored()
    assert record.state == "login_required"
    assert codec.decode(record.body).refresh_token is not None


async def test_it_is_tried_hourly_for_a_day_and_a_success_heals_it(side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    refuse(side, INACTIVE_USER)
    await refreshed(side, account)
    assert account.state() == "login_required"
    await pass_(side, account, 5 * HOUR + 60, step=60)
    assert len(side.refreshes) == 6
    assert account.state() == "login_required"
    side.server.faults.clear()
    await pass_(side, account, HOUR, step=60)
    assert (account.state(), (await side.stored()).state) == ("valid", "valid")
    assert side.is_good(side.tokens.ready(account))


async def test_after_a_day_only_a_login_helps(side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    refuse(side, INACTIVE_USER)
    await refreshed(side, account)
    await pass_(side, account, 2 * DAY, step=600)
    assert 23 <= len(side.refreshes) <= 25
    assert account.state() == "login_required"
    await side.log_in()
    side.server.faults.clear()
    assert account.state() == "valid"


async def test_processes_share_the_hourly_tries(make_side, side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    refuse(side, INACTIVE_USER)
    await refreshed(side, account)
    async with make_side(server=side.server, store=side.store) as other:
        for _ in range(3 * 60):
            side.clock.advance(60)
            await asyncio.gather(refreshed(side, account), refreshed(other, other.account()))
            await asyncio.sleep(0.001)
        assert len(side.refreshes) <= 1 + 3


async def test_one_odd_refusal_with_a_usable_token_costs_nothing(side):
    account = await side.log_in()
    side.clock.advance(STALE)
    side.server.script(EMPTY)
    await refreshed(side, account)
    assert side.tokens.ready(account)
    await pass_(side, account, 350)
    assert (account.state(), account.refusal) == ("valid", None)


@pytest.mark.parametrize("code", OF_THE_CLIENT)
async def test_a_fault_of_the_client_requires_no_login(side, code):
    account = await side.log_in()
    side.clock.advance(HOUR)
    refuse(side, faults.status(400, {"error": code}))
    for _ in range(20):
        with pytest.raises(Misconfigured):
            await side.tokens.get(account)
        side.clock.advance(60)
    assert ((await side.stored()).state, account.state()) == ("valid", "misconfigured")


NOT_REFUSED = {
    "a page": faults.status(403, "<html>Are you a robot?</html>"),
    "a pause": faults.status(403, {"message": "slow"}, headers={"Retry-After": "1"}),
    "busy": faults.status(400, {"error": "temporarily_unavailable"}),
    "not found": faults.status(404, "nothing here", content_type="text/plain"),
}


@pytest.mark.parametrize("kind", NOT_REFUSED)
async def test_a_refusal_by_a_middlebox_or_a_temporary_one_requires_no_login(side, kind):
    account = await side.log_in()
    side.clock.advance(HOUR)
    refuse(side, NOT_REFUSED[kind])
    for _ in range(20):
        with pytest.raises(TokenUnavailable):
            await side.tokens.get(account)
        side.clock.advance(60)
    assert (await side.stored()).state == "valid"


async def test_a_client_that_never_succeeded_is_misconfigured_or_tried_again(make_side):
    seed = 'grant = "refresh_token"\nclient_id = "web"\nrefresh_token = "{seed}"'
    async with make_side(credential=seed.format(seed="abc")) as side:
        refuse(side, INVALID_REQUEST)
        with pytest.raises(Misconfigured):
            await side.tokens.get(side.account())
        assert (await side.stored()).state == "valid"


async def test_refused_client_credentials_are_retried(make_side):
    async with make_side(grant="client_credentials") as side:
        await side.tokens.get(side.account())
        side.clock.advance(HOUR)
        refuse(side, INACTIVE_USER)
        for _ in range(5):
            with pytest.raises(TokenUnavailable):
                await side.tokens.get(side.account())
            side.clock.advance(31)
        assert (side.account().state(), len(side.server.token_requests)) == ("expired", 1 + 3 + 4)


async def test_another_persons_tokens_are_never_sent_after_any_refusal(side):
    account = await side.log_in()
    first = codec.decode((await side.stored()).body)
    owned = replace(first, principal=Principal(side.server.issuer, "alice", ""))
    await side.tokens.adopt(account.key, owned)
    side.clock.advance(STALE)
    side.server.script(INACTIVE_USER, logs_in(side.server.issuer, "web", "bob"))
    await refreshed(side, account)
    assert account.refusal is not None
    await pass_(side, account, 2 * DAY, step=600)
    assert len(side.refreshes) == 2
    assert ((await side.stored()).state, account.state()) == ("login_required", "login_required")


async def test_two_accounts_refused_alike_are_the_clients_fault_until_one_succeeds(side):
    accounts = [await side.log_in(name) for name in ("ann", "bob", "eve")]
    side.clock.advance(HOUR)
    refuse(side, INACTIVE_USER)
    for number, state in enumerate(["login_required", "misconfigured"]):
        with pytest.raises((LoginRequired, Misconfigured)):
            await side.tokens.get(accounts[number])
        assert accounts[number].state() == state
        assert accounts[number].needs_login  # a login is still offered
    assert accounts[0].state() == "misconfigured"
    side.server.faults.clear()
    side.clock.advance(1)
    await side.tokens.get(accounts[2])
    assert [account.state() for account in accounts] == ["login_required", "login_required", "valid"]


async def test_that_is_known_after_a_restart(make_side, side):
    accounts = [await side.log_in(name) for name in ("ann", "bob")]
    side.clock.advance(HOUR)
    refuse(side, INACTIVE_USER)
    for account in accounts:
        await refreshed(side, account)
    async with make_side(server=side.server, store=side.store) as restarted:
        assert [restarted.account(name).state() for name in ("ann", "bob")] == ["misconfigured"] * 2


async def test_two_accounts_with_dead_refresh_tokens_are_not_the_clients_fault(side):
    accounts = [await side.log_in(name) for name in ("ann", "bob")]
    side.clock.advance(HOUR)
    refuse(side, faults.NAMED["invalid-grant"])
    for account in accounts:
        await refreshed(side, account)
    assert [account.state() for account in accounts] == ["login_required"] * 2


# -- the rules


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0, 700), st.booleans(), st.booleans()), min_size=1, max_size=12
    )
)
def test_nothing_is_decided_too_early_and_nothing_is_taken_back(steps):
    known, now = None, 1_000_000.0
    for dead, seconds, usable, in_doubt in steps:
        now += seconds
        before, known = (
            known,
            refusal.follow(known, DEAD if dead else OTHER, now=now, usable=usable, in_doubt=in_doubt),
        )
        assert known.last == now >= known.since
        if before is not None and before.decided_at is not None:
            assert known.decided_at == before.decided_at
        elif known.decided_at is not None and usable and dead:
            assert in_doubt or now - known.since >= refusal.AGAIN_AFTER
        elif known.decided_at is not None and usable:
            assert known.times >= refusal.REFUSALS
            assert now - known.since >= refusal.REFUSED_FOR
        else:
            assert usable == (known.decided_at is None)
        pause = refusal.next_try_in(known, now, 0.5)
        assert 0 <= pause <= refusal.HOURLY


@given(st.floats(0, 1, exclude_max=True))
def test_refusals_at_the_pauses_that_it_asks_for_are_decided(chance):
    for error, tries in ((DEAD, 2), (OTHER, 3)):
        known, now, count = None, 1_000_000.0, 0
        while known is None or known.decided_at is None:
            known = refusal.follow(known, error, now=now, usable=True, in_doubt=False)
            now += refusal.next_try_in(known, now, chance)
            count += 1
        assert count == tries


def test_a_wall_clock_that_is_set_back_makes_no_pause_longer():
    known = Refusal("other", False, 2_000_000.0, 2_000_000.0, 1)
    assert refusal.next_try_in(known, 1_000_000.0, 0.0) <= refusal.REFUSED_FOR


def test_of_many_accounts_two_are_remembered_and_a_success_disproves_all():
    clock, clients = FakeClock(), refusal.ClientRefusals()
    for number in range(100):
        said = Refusal("other", False, clock.wall() + number, clock.wall() + number, 1)
        made = token(clock, refusal=said)
        clients.note(AccountId("crm", f"user{number}"), made)
    assert sum(map(len, clients._latest.values())) == 2
    assert clients.is_of_client(AccountId("crm", "user99"), said)
    clock.advance(100)
    clients.note(AccountId("crm", "good"), token(clock))
    assert not clients.is_of_client(AccountId("crm", "user99"), said)
