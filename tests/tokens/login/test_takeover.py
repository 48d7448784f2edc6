"""Two people and one account: the second one's login changes nothing until somebody decides."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from proxy.demo.faults import Fault
from proxy.errors import LoginFailed, StoreError, UnreadableRecord
from proxy.oauth.token import Principal
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.login import logins, revoke, takeover
from proxy.tokens.login.ends import Cancelled, LoggedIn
from proxy.tokens.login.logins import CANCELLED, CONFIG_CHANGED
from proxy.tokens.login.logins import NOTHING_TO_DECIDE as NOTHING
from proxy.tokens.login.pending import TIME_TO_LOG_IN, party
from proxy.tokens.login.takeover import Takeover
from proxy.tokens.saved import codec
from tests.fakes.id_tokens import logs_in
from tests.tokens.conftest import SEAL
from tests.tokens.login.test_logins import (
    BROWSER,
    COMMAND,
    KEY,
    accepted,
    approve,
    redirect,
    refused,
    verifier_of,
)

BELONGS = (
    "crm/ann has the tokens of another person than the one who logged in: "
    "to replace them, first run `token-proxy logout crm --account ann`"
)


def person(side, subject):
    return Principal(side.server.issuer, subject, f"{subject}@example.com")


async def begin(side, subject, *, key=KEY):
    """A login up to the callback, whose id_token names `subject` (None: no id_token)."""
    callback = await approve(await side.logins.begin(key, browser=BROWSER))
    told = logs_in(side.server.issuer, "web", subject, email=f"{subject}@example.com")
    side.server.script(told if subject else Fault())
    return callback


async def log_in(side, subject, *, key=KEY):
    return await side.logins.finish(await begin(side, subject, key=key), BROWSER)


async def paste(side, subject):
    """As `log_in`, by a command into which the redirect URL is pasted."""
    url = await redirect(await side.logins.begin_to_paste(KEY, COMMAND))
    side.server.script(logs_in(side.server.issuer, "web", subject, email=f"{subject}@example.com"))
    return await side.logins.paste(KEY, url, COMMAND)


async def ask(side):
    """The account is ann's, and bob has logged in."""
    assert await log_in(side, "ann") == LoggedIn(KEY, person(side, "ann"))
    asked = await log_in(side, "bob")
    assert isinstance(asked, Takeover)
    assert (asked.key, asked.owner, asked.token.principal) == (KEY, person(side, "ann"), person(side, "bob"))
    return asked


async def owner(side, key=KEY):
    found = await side.tokens.owner(key)
    return found.subject if found else None


def is_alive(side, token):
    """Whether the server still accepts both of these tokens."""
    refreshes = side.server._protocol.ledger.present(token.refresh_token.reveal(), "web") is not None
    assert refreshes is (side.server.active(token.access_token.reveal()) is not None)
    return refreshes


async def token_of(side, account="ann"):
    return codec.decode((await side.stored(account)).body)


async def test_a_second_person_changes_nothing_before_it_is_decided(side):
    await log_in(side, "ann")
    record, served = await side.stored("ann"), side.tokens.ready(side.account("ann"))
    asked = await log_in(side, "bob")
    assert isinstance(asked, Takeover)
    assert await side.stored("ann") == record
    assert side.tokens.ready(side.account("ann")) is served
    assert is_alive(side, asked.token)


async def test_a_confirmed_takeover_replaces_the_tokens(side):
    asked = await ask(side)
    done = await side.logins.decide(asked.ticket, BROWSER, replace=True)
    assert done == LoggedIn(KEY, person(side, "bob"))
    assert (await token_of(side)).access_token == asked.token.access_token
    assert side.is_good(await side.tokens.get(side.account("ann")))
    assert await owner(side) == "bob"
    assert isinstance(await log_in(side, "ann"), Takeover), "now it is she who is another"


async def test_a_cancelled_takeover_keeps_the_tokens_and_revokes_the_new_ones(side):
    asked = await ask(side)
    record = await side.stored("ann")
    assert await side.logins.decide(asked.ticket, BROWSER, replace=False) == Cancelled(KEY)
    assert await side.stored("ann") == record
    assert not is_alive(side, asked.token)
    assert is_alive(side, await token_of(side))


@pytest.mark.parametrize("replaced", [True, False])
async def test_it_is_decided_once(side, replaced):
    asked = await ask(side)
    await side.logins.decide(asked.ticket, BROWSER, replace=replaced)
    for again in (True, False):
        assert await refused(side.logins.decide(asked.ticket, BROWSER, replace=again)) == NOTHING
    assert await owner(side) == ("bob" if replaced else "ann")


async def test_two_decisions_at_once_are_one(side):
    asked = await ask(side)
    ends = await asyncio.gather(
        *(side.logins.decide(asked.ticket, BROWSER, replace=bool(n % 2)) for n in range(10)),
        return_exceptions=True,
    )
    assert sum(not isinstance(end, LoginFailed) for end in ends) == 1


@pytest.mark.parametrize("browser", ["", "another"])
async def test_another_browser_cannot_decide_and_takes_nothing_from_the_one_that_was_asked(side, browser):
    asked = await ask(side)
    for replace_them in (True, False):
        assert await refused(side.logins.decide(asked.ticket, browser, replace=replace_them)) == NOTHING
    assert is_alive(side, asked.token)
    assert await owner(side) == "ann"
    await side.logins.decide(asked.ticket, BROWSER, replace=True)
    assert await owner(side) == "bob"


@pytest.mark.parametrize("ticket", ["", "made-up", "undecided:x"])
async def test_an_unknown_ticket(side, ticket):
    asked = await ask(side)
    for wrong in (ticket, asked.browser):
        assert await refused(side.logins.decide(wrong, BROWSER, replace=True)) == NOTHING
    assert await owner(side) == "ann"


async def test_ten_minutes_are_enough_to_decide_and_more_is_too_late(side):
    asked = await ask(side)
    side.clock.advance(TIME_TO_LOG_IN - 1)
    await side.logins.decide(asked.ticket, BROWSER, replace=True)
    asked = await log_in(side, "ann")
    side.clock.advance(TIME_TO_LOG_IN + 1)
    assert await refused(side.logins.decide(asked.ticket, BROWSER, replace=True)) == NOTHING
    assert await owner(side) == "bob"


async def test_a_stashed_takeover_is_sealed_and_names_nobody(clock, make_side):
    plain = MemoryStore(clock)
    async with make_side(store=SealedStore(plain, SEAL)) as side:
        asked = await ask(side)
        assert plain._stashed
        kept = repr(plain._stashed) + repr(plain._records) + repr(asked)
        shown = (asked.token.access_token.reveal(), asked.token.refresh_token.reveal(), "bob", "ann@")
        assert not [text for text in shown if text in kept]


async def test_it_is_decided_in_another_process_too(make_side, side):
    asked = await ask(side)
    async with make_side(server=side.server, store=side.store) as other:
        await other.logins.decide(asked.ticket, BROWSER, replace=True)
    await side.until(lambda: side.account("ann").held.token.access_token == asked.token.access_token)


async def test_it_replaces_only_the_owner_that_was_shown(side):
    asked, later = await ask(side), await log_in(side, "dora")
    await side.logins.decide(later.ticket, BROWSER, replace=True)
    again = await side.logins.decide(asked.ticket, BROWSER, replace=True)
    assert isinstance(again, Takeover)
    assert (again.owner, again.token) == (person(side, "dora"), asked.token)
    assert await owner(side) == "dora"
    assert await side.logins.decide(again.ticket, BROWSER, replace=True) == LoggedIn(KEY, person(side, "bob"))


async def test_after_a_logout_anybody_may_log_in_and_the_old_owner_is_not_stored(side):
    await log_in(side, "ann")
    await side.logins.log_out(KEY)
    assert await owner(side) is None
    assert b"ann-7" not in (await side.stored("ann")).body
    assert (await token_of(side)).principal is None
    assert await log_in(side, "bob") == LoggedIn(KEY, person(side, "bob"))


async def test_a_logout_before_the_decision_leaves_nothing_to_ask(side):
    asked = await ask(side)
    await side.logins.log_out(KEY)
    done = await side.logins.decide(asked.ticket, BROWSER, replace=True)
    assert done == LoggedIn(KEY, person(side, "bob"))


async def test_an_owner_who_must_log_in_again_still_has_the_account(side):
    await log_in(side, "ann")
    record = await side.stored("ann")
    await side.store.put(replace(record, generation=2, state="login_required"), expected=1)
    assert isinstance(await log_in(side, "bob"), Takeover)
    assert await log_in(side, "ann") == LoggedIn(KEY, person(side, "ann"))


SILENT = [(None, "ann"), ("ann", None), (None, None), ("ann", "ann")]


@pytest.mark.parametrize(("first", "second"), SILENT)
async def test_without_an_id_token_there_is_no_question(side, first, second):
    for subject in (first, second):
        known = person(side, subject) if subject else None
        assert await log_in(side, subject) == LoggedIn(KEY, known)
    assert await owner(side) == second


async def test_one_person_may_have_many_accounts_and_the_name_does_not_tell_people_apart(side):
    for key in (KEY, AccountId("crm", "another")):
        assert await log_in(side, "ann", key=key) == LoggedIn(key, person(side, "ann"))
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun)
    side.server.script(logs_in(side.server.issuer, "web", "ann", email="new@example.com"))
    assert isinstance(await side.logins.finish(callback, BROWSER), LoggedIn)
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun)
    side.server.script(logs_in(side.server.issuer, "web", "false-ann", email="new@example.com"))
    assert isinstance(await side.logins.finish(callback, BROWSER), Takeover)


@pytest.mark.parametrize("lost", ["all of it", "the latest"])
async def test_a_store_that_lost_records_does_not_open_an_account_to_others(clock, make_side, lost):
    plain = MemoryStore(clock)
    async with make_side(store=SealedStore(plain, SEAL), started=False) as side:
        await log_in(side, None)
        backup = dict(plain._records)
        await log_in(side, "ann")
        plain._records.clear()
        if lost == "the latest":
            plain._records.update(backup)
        assert isinstance(await log_in(side, "bob"), Takeover)


async def test_tokens_of_another_client_have_no_owner(make_side, side):
    await log_in(side, "ann")
    changed = f'client_id = "other"\nissuer = "{side.server.issuer}"'
    async with make_side(server=side.server, store=side.store, credential=changed) as other:
        begun = await other.logins.begin(KEY, browser=BROWSER)
        callback = await approve(begun)
        side.server.script(logs_in(side.server.issuer, "other", "bob"))
        assert isinstance(await other.logins.finish(callback, BROWSER), LoggedIn)


async def test_tokens_that_wait_go_only_to_the_client_that_they_were_given_to(make_side, side):
    asked = await ask(side)
    changed = f'client_id = "other"\nissuer = "{side.server.issuer}"'
    async with make_side(server=side.server, store=side.store, credential=changed) as reloaded:
        sentence = await refused(reloaded.logins.decide(asked.ticket, BROWSER, replace=True))
    assert sentence == CONFIG_CHANGED
    assert await owner(side) == "ann"


async def test_a_record_that_can_not_be_read_is_not_given_away(side):
    asked = await ask(side)
    record = await side.stored("ann")
    await side.store.put(replace(record, generation=2, body=b"{}"), expected=1)
    with pytest.raises(UnreadableRecord):
        await side.logins.decide(asked.ticket, BROWSER, replace=True)
    assert (await side.stored("ann")).body == b"{}"
    sentence = await refused(side.logins.begin(KEY, browser=BROWSER))
    assert sentence == "a stored token can't be read: was it written by a newer version?"


# -- an id_token that is no good


UNREADABLE = (
    "that came with the tokens can't be read, and nothing was stored: start the login again; if this "
    "persists, leave openid out of `scopes`"
)
BAD = [  # claims, the sentence
    ({"iss": "https://evil.example"}, "names another issuer than the configured one: check `issuer`"),
    ({"aud": "other"}, "is for another client: check client_id"),
    ({"exp": 1}, "had already expired when it arrived: check the clock of this machine"),
    ({"sub": "x" * 256}, UNREADABLE),
    ({"more": "x" * 70_000}, UNREADABLE),
]


@pytest.mark.parametrize(("claims", "sentence"), BAD)
async def test_a_login_with_a_bad_id_token_fails_and_leaves_the_tokens_that_there_were(
    side, claims, sentence
):
    await log_in(side, "ann")
    record = await side.stored("ann")
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun)
    side.server.script(logs_in(side.server.issuer, "web", "ann", **claims))
    assert await refused(side.logins.finish(callback, BROWSER)) == f"the id_token {sentence}"
    assert await side.stored("ann") == record
    assert is_alive(side, await token_of(side))


# -- nobody can be asked


async def test_a_pasted_url_does_not_give_an_account_away(side):
    await log_in(side, "ann")
    assert await refused(paste(side, "bob")) == BELONGS
    assert await owner(side) == "ann"
    assert side.server.families_revoked == 1


async def test_a_code_does_not_either(side):
    await log_in(side, "ann")
    callback = await begin(side, "bob")
    verifier = await verifier_of(side, callback["state"])
    exchange = side.logins.exchange(KEY, callback["code"], side.logins.redirect_uri("crm"), verifier)
    assert await refused(exchange) == BELONGS
    assert await owner(side) == "ann"
    assert side.server.families_revoked == 1


async def test_a_revocation_never_costs_the_person_another_account(side, monkeypatch):
    """Some servers revoke all tokens of a person together."""
    monkeypatch.setattr(revoke, "PAGE", 1)
    bobs = AccountId("crm", "zed")
    await log_in(side, "bob", key=bobs)
    asked = await ask(side)
    await side.logins.decide(asked.ticket, BROWSER, replace=False)
    assert side.server.families_revoked == 0
    await side.logins.log_out(bobs)
    asked = await log_in(side, "bob")
    await side.logins.decide(asked.ticket, BROWSER, replace=False)
    assert not is_alive(side, asked.token)


async def test_an_account_is_the_persons_by_issuer_subject_and_client(side):
    await log_in(side, "ann")
    mine = await token_of(side)
    assert await revoke.has_account(side.store, mine)
    for other in (
        {"principal": person(side, "bob")},
        {"principal": Principal("https://other.example", "ann", "")},
        {"client_id": "other"},
        {"server": "https://other.example"},
    ):
        assert not await revoke.has_account(side.store, replace(mine, **other))
    await side.logins.log_out(KEY)
    assert not await revoke.has_account(side.store, mine)


async def test_where_the_store_can_not_say_that_nothing_is_revoked(make_side, faulty_store):
    async with make_side(store=faulty_store) as side:
        asked = await ask(side)
        faulty_store.failing = {"page"}
        assert await side.logins.decide(asked.ticket, BROWSER, replace=False) == Cancelled(KEY)
        assert is_alive(side, asked.token)


# -- the command that waits


ENDS = [  # the decision; the outcome that the command gets
    (lambda side, asked: side.logins.decide(asked.ticket, "b", replace=True), ""),
    (lambda side, asked: side.logins.decide(asked.ticket, "b", replace=False), CANCELLED),
]


@pytest.mark.parametrize(("decide", "outcome"), ENDS, ids=["replace", "cancel"])
async def test_a_command_waits_for_the_decision_and_learns_it(side, monkeypatch, decide, outcome):
    monkeypatch.setattr(logins, "POLL_EVERY", 0.005)
    await log_in(side, "ann")
    callback = await approve(await accepted(side, browser="b"))
    side.server.script(logs_in(side.server.issuer, "web", "bob"))
    asked = await side.logins.finish(callback, "b")
    waiting = asyncio.create_task(side.logins.outcome(COMMAND))
    await refused(side.logins.decide(asked.ticket, "another", replace=True))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await asyncio.gather(decide(side, asked), return_exceptions=True)
    assert await asyncio.wait_for(waiting, 2) == outcome


async def test_a_failing_store_is_reported_to_both(make_side, faulty_store, monkeypatch):
    async with make_side(store=faulty_store) as side:
        await log_in(side, "ann")
        callback = await approve(await accepted(side, browser="b"))
        side.server.script(logs_in(side.server.issuer, "web", "bob"))
        asked = await side.logins.finish(callback, "b")
        faulty_store.failing = {"put"}
        with pytest.raises(StoreError):
            await side.logins.decide(asked.ticket, "b", replace=True)
        assert "could not be saved" in await asyncio.wait_for(side.logins.outcome(COMMAND), 2)
        assert await owner(side) == "ann"


# -- people are nobody's business


async def test_nobody_is_named_in_the_log(side, caplog):
    caplog.set_level(logging.DEBUG)
    asked = await ask(side)
    await side.logins.decide(asked.ticket, BROWSER, replace=True)
    assert await refused(paste(side, "dora")) == BELONGS
    await side.logins.log_out(KEY)
    assert "crm/ann has another person's tokens" in caplog.text
    for subject in ("ann", "bob", "dora"):
        assert f"{subject}@" not in caplog.text
        assert subject not in caplog.text.replace("crm/ann", "").replace("--account ann`", "")


async def test_a_stashed_takeover_is_read_back_whole(side):
    kept = Takeover(KEY, person(side, "ann"), side.issued(), party(BROWSER), party(COMMAND))
    await takeover.stash(side.store, kept)
    assert await takeover.take(side.store, kept.ticket, party("another")) is None
    assert await takeover.take(side.store, kept.ticket, party(BROWSER)) == kept
