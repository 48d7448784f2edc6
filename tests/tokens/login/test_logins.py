"""A login over HTTP, from the first click to the stored token, and callbacks that must fail."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from urllib.parse import parse_qs, parse_qsl, urlsplit

import aiohttp
import pytest

from proxy.demo import faults
from proxy.errors import LoginFailed, StoreError
from proxy.oauth.discovery import Endpoints
from proxy.store.base import AccountId
from proxy.tokens.login import logins, pending
from proxy.tokens.login.ends import LoggedIn
from proxy.tokens.login.logins import UNKNOWN
from proxy.tokens.login.mix_up import NO_ISSUER, OTHER_SERVER
from proxy.tokens.login.pending import TIME_TO_LOG_IN

KEY = AccountId("crm", "ann")
DONE = LoggedIn(KEY, None)  # this server sends no id_token, unless a test makes it
BROWSER = "the cookie of one browser"
COMMAND = "the secret of one command"


async def redirect(url: str, user: str = "alice") -> str:
    """What the person does at the authorization server ("" refuses); returns the URL of the redirect."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, data={"user": user}, allow_redirects=False) as answer,
    ):
        assert answer.status == 302, await answer.text()
        return answer.headers["Location"]


async def approve(url: str, user: str = "alice") -> dict[str, str]:
    """As `redirect`; returns the redirect's parameters."""
    return dict(parse_qsl(urlsplit(await redirect(url, user)).query, strict_parsing=True))


def state_of(url: str) -> str:
    """The state of an authorization request."""
    return dict(parse_qsl(urlsplit(url).query))["state"]


def ticket_of(url: str) -> str:
    """The ticket of an invitation."""
    return dict(parse_qsl(urlsplit(url).query))["ticket"]


async def accepted(side, *, browser: str = BROWSER, key: AccountId = KEY) -> str:
    """A command has invited a browser, which has come; the URL of its authorization request."""
    ticket = ticket_of(await side.logins.invite(key, COMMAND))
    return await side.logins.accept(key, ticket, browser=browser)


async def verifier_of(side, state: str) -> str:
    """Takes the login out of the store."""
    login = await pending.take(side.store, state, pending.party(BROWSER))
    return login.verifier


async def refused(finishing) -> str:
    with pytest.raises(LoginFailed) as caught:
        await finishing
    return str(caught.value)


async def test_a_login_ends_in_tokens_that_serve(side):
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun)
    assert callback["iss"] == side.server.issuer
    assert await side.logins.finish(callback, BROWSER) == DONE
    assert side.is_good(await side.tokens.get(side.account("ann")))
    assert (await side.stored("ann")).generation == 1
    assert side.account("ann").held.token.refresh_token is not None


async def test_it_asks_for_pkce_and_an_unguessable_state(side):
    begun = [await side.logins.begin(KEY, browser=BROWSER) for _ in range(2)]
    queries = [parse_qs(urlsplit(one).query) for one in begun]
    for one, query in zip(begun, queries, strict=True):
        assert query["code_challenge_method"] == ["S256"]
        assert query["state"] == [state_of(one)]
        assert len(state_of(one)) >= 43  # of 64 letters: 256 bits
        assert query["redirect_uri"] == ["http://127.0.0.1:8081/callback"]
    assert queries[0]["code_challenge"] != queries[1]["code_challenge"]


async def test_a_callback_works_once(side):
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun)
    await side.logins.finish(callback, BROWSER)
    assert await refused(side.logins.finish(callback, BROWSER)) == UNKNOWN
    assert len(side.server.token_requests) == 1
    assert side.server.families_revoked == 0  # the code was not sent twice


async def test_a_callback_that_comes_twice_at_once_works_once(side):
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun)
    outcomes = await asyncio.gather(
        *(side.logins.finish(callback, BROWSER) for _ in range(10)), return_exceptions=True
    )
    assert [outcome for outcome in outcomes if outcome == DONE] == [DONE]
    assert len(side.server.token_requests) == 1


async def test_ten_minutes_are_enough_and_more_is_too_late(side):
    for late in (False, True):
        begun = await side.logins.begin(KEY, browser=BROWSER)
        callback = await approve(begun)
        side.clock.advance(TIME_TO_LOG_IN - 1 + 2 * late)
        side.server._protocol.ledger._codes[callback["code"]].expires_at += TIME_TO_LOG_IN
        if late:
            assert await refused(side.logins.finish(callback, BROWSER)) == UNKNOWN
        else:
            await side.logins.finish(callback, BROWSER)


@pytest.mark.parametrize("browser", ["", "another"])
async def test_another_browser_cannot_end_it_and_the_code_is_not_sent(side, browser):
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun)
    assert await refused(side.logins.finish(callback, browser)) == UNKNOWN
    assert side.server.token_requests == []
    assert await side.stored("ann") is None
    assert await side.logins.finish(callback, BROWSER) == DONE, "it took nothing from the right one"


@pytest.mark.parametrize("state", ["", "made-up", "login:x"])
async def test_an_unknown_state(side, state):
    assert await refused(side.logins.finish({"code": "C", "state": state}, BROWSER)) == UNKNOWN
    assert await refused(side.logins.finish({"code": "C"}, BROWSER)) == UNKNOWN
    assert side.server.token_requests == []


ISSUERS = [  # `iss` of the callback; None: missing
    "https://evil.example",
    "{issuer}/",
    "{issuer}/tenant",
    "",
    None,
]


@pytest.mark.parametrize("iss", ISSUERS)
async def test_a_code_of_another_server_is_not_sent(side, iss):
    """RFC 9207 section 2.4; this server promises to send `iss`."""
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun)
    del callback["iss"]
    if iss is not None:
        callback["iss"] = iss.format(issuer=side.server.issuer)
    sentence = await refused(side.logins.finish(callback, BROWSER))
    assert sentence == (NO_ISSUER if iss is None else OTHER_SERVER)
    assert side.server.token_requests == []


async def test_a_server_that_promises_nothing_may_keep_silent_but_not_name_another(side, monkeypatch):
    async def endpoints(_credential, ask=side.servers.endpoints):
        found: Endpoints = await ask(_credential)
        return replace(found, iss_in_callback=False)

    monkeypatch.setattr(side.servers, "endpoints", endpoints)
    for iss, works in ((None, True), ("https://evil.example", False)):
        begun = await side.logins.begin(KEY, browser=BROWSER)
        callback = {**await approve(begun), "iss": iss}
        finishing = side.logins.finish({name: value for name, value in callback.items() if value}, BROWSER)
        assert (await finishing == DONE) if works else await refused(finishing)


@pytest.mark.parametrize(
    ("iss", "sentence"), [({}, NO_ISSUER), ({"iss": "https://evil.example"}, OTHER_SERVER)]
)
async def test_an_error_of_another_server_is_not_believed_either(side, iss, sentence):
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = {"error": "access_denied", "state": state_of(begun), **iss}
    assert await refused(side.logins.finish(callback, BROWSER)) == sentence


async def test_a_person_who_declines(side):
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun, user="")
    assert callback["error"] == "access_denied"
    assert await refused(side.logins.finish(callback, BROWSER)) == "the login was declined"


SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize("error", ["access_denied", "server_error", "invalid_scope", "made_up", SCRIPT])
async def test_nothing_that_a_redirect_says_is_ever_shown(side, error, caplog):
    caplog.set_level(logging.DEBUG)
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = {"error": error, "error_description": SCRIPT, "error_uri": SCRIPT, "code": SCRIPT}
    callback |= {"state": state_of(begun), "iss": side.server.issuer}
    sentence = await refused(side.logins.finish(callback, BROWSER))
    assert "script" not in sentence + caplog.text
    assert side.server.token_requests == []  # although it has a code


async def test_two_logins_at_once_do_not_mix(side):
    bob = AccountId("crm", "bob")
    first, second = [await side.logins.begin(key, browser=BROWSER) for key in (KEY, bob)]
    mine, his = await approve(first), await approve(second)
    with pytest.raises(LoginFailed):  # the codes swapped: PKCE detects it
        await side.logins.finish({**mine, "code": his["code"]}, BROWSER)
    assert await side.logins.finish(his, BROWSER) == LoggedIn(bob, None)
    assert side.is_good(await side.tokens.get(side.account("bob")))
    assert await side.stored("ann") is None


async def test_a_login_ends_in_another_process_too(make_side, side):
    begun = await side.logins.begin(KEY, browser=BROWSER)
    async with make_side(server=side.server, store=side.store) as other:
        await other.logins.finish(await approve(begun), BROWSER)
    await side.until(lambda: side.account("ann").state() == "valid")


async def test_a_code_is_sent_only_to_the_server_of_its_login(make_side, side):
    begun = await side.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun)
    changed = f'client_id = "other"\nissuer = "{side.server.issuer}"'
    async with make_side(server=side.server, store=side.store, credential=changed) as reloaded:
        sentence = await refused(reloaded.logins.finish(callback, BROWSER))
    assert sentence == "the configuration has changed since this login was started: start it again"
    assert side.server.token_requests == []


# -- a code from elsewhere


async def test_a_code_of_another_program_is_exchanged(side):
    callback = await approve(await side.logins.begin(KEY, browser=BROWSER))
    verifier = await verifier_of(side, callback["state"])
    await side.logins.exchange(KEY, callback["code"], side.logins.redirect_uri("crm"), verifier)
    assert side.is_good(await side.tokens.get(side.account("ann")))


REFUSALS = [  # the response of the token endpoint, the message to the person
    ("invalid-grant", "the authorization server refuses the code, as used, expired or from another"),
    (
        "invalid-client",
        "the authorization server does not accept this client (invalid_client); check client_id and",
    ),
    ("outage", "the authorization server reports an internal error (http_503); if this persists, ask"),
    ("html", "the authorization server's response is not JSON (not_json); if this persists, check"),
    (
        "drop-before",
        "the connection to the authorization server was lost (connection_lost: the peer",
    ),
]


@pytest.mark.parametrize(("fault", "sentence"), REFUSALS)
async def test_a_code_that_is_refused(side, fault, sentence):
    side.server.script(faults.NAMED[fault])
    assert (await refused(side.logins.exchange(KEY, "C", side.logins.redirect_uri("crm"), None))).startswith(
        sentence
    )
    assert len(side.server.token_requests) == 1  # a code works once: it is not sent again
    assert await side.stored("ann") is None


async def test_a_failed_login_leaves_the_tokens_that_there_were(side):
    account = await side.log_in("ann")
    served = side.tokens.ready(account)
    begun = await side.logins.begin(KEY, browser=BROWSER)
    await refused(side.logins.finish(await approve(begun, user=""), BROWSER))
    assert side.tokens.ready(account) is served


async def test_a_login_withdraws_a_demand_for_one(side):
    account = await side.log_in("ann")
    side.clock.advance(3600)
    side.server.script(faults.NAMED["invalid-grant"])
    side.tokens._single_flight.start(account)
    await side.landed(account)
    assert account.state() == "login_required"
    begun = await side.logins.begin(KEY, browser=BROWSER)
    await side.logins.finish(await approve(begun), BROWSER)
    assert account.state() == "valid"
    assert (await side.stored("ann")).generation == 3


# -- beginning


NOT_TO_BEGIN = [  # credential of the configuration, key, the sentence
    ('client_id = "web"', AccountId("nope", "ann"), "there is no credential 'nope' in the configuration"),
    (
        'grant = "client_credentials"\nclient_id = "robot"',
        KEY,
        "credential 'crm' has the grant client_credentials, which has no login",
    ),
    (
        'client_id = "web"\nissuer = "http://127.0.0.1:1"',
        KEY,
        (
            "discovery of http://127.0.0.1:1 failed: the authorization server can't be reached "
            "(unreachable: connection refused); if this persists, check that the server runs, and the port "
            "in issuer or token_endpoint of credentials.crm"
        ),
    ),
]


@pytest.mark.parametrize(("credential", "key", "sentence"), NOT_TO_BEGIN)
async def test_a_login_that_cannot_begin_says_why(make_side, credential, key, sentence):
    async with make_side(credential=credential) as side:
        assert await refused(side.logins.begin(key, browser=BROWSER)) == sentence


async def test_a_login_is_refused_before_the_redirect_if_its_tokens_could_not_be_saved(side):
    await side.log_in("ann")
    record = await side.stored("ann")
    await side.store._store.put(replace(record, generation=2, body=b"damaged"), expected=1)
    sentence = await refused(side.logins.begin(KEY, browser=BROWSER))
    assert sentence.startswith("the tokens of crm/ann are damaged or were sealed with another key")


# -- the command that waits


async def test_a_command_learns_how_its_login_ended(side, monkeypatch):
    monkeypatch.setattr(logins, "POLL_EVERY", 0.005)
    for user, outcome in (("alice", ""), ("", "the login was declined")):
        begun = await accepted(side, browser="some browser")
        waiting = asyncio.create_task(side.logins.outcome(COMMAND))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        finishing = side.logins.finish(await approve(begun, user), "some browser")
        assert (await refused(finishing)) if outcome else (await finishing)
        assert await asyncio.wait_for(waiting, 2) == outcome


async def test_a_command_learns_that_the_store_failed(make_side, faulty_store):
    async with make_side(store=faulty_store) as side:
        callback = await approve(await accepted(side))
        faulty_store.failing = {"put"}
        with pytest.raises(StoreError):
            await side.logins.finish(callback, BROWSER)
        assert "could not be saved" in await asyncio.wait_for(side.logins.outcome(COMMAND), 2)


async def test_a_login_succeeds_although_its_outcome_cannot_be_reported(make_side, faulty_store):
    async with make_side(store=faulty_store) as side:
        callback = await approve(await accepted(side))
        faulty_store.failing = {"stash"}
        assert await side.logins.finish(callback, BROWSER) == DONE
        assert side.is_good(await side.tokens.get(side.account("ann")))


ASKED_NOT_TO_ASK = ["interaction_required", "login_required", "consent_required"]


@pytest.mark.parametrize("error", [*ASKED_NOT_TO_ASK, "account_selection_required", "invalid_request"])
async def test_an_error_of_the_redirect_is_named_with_what_to_do(side, error):
    callback = await approve(await side.logins.begin(KEY, browser=BROWSER), "")
    with pytest.raises(LoginFailed) as caught:
        await side.logins.finish({**callback, "error": error}, BROWSER)
    assert caught.value.error == error
    assert str(caught.value).endswith(f" ({error})")
    assert "check " in str(caught.value)


# -- secrets


async def test_no_state_verifier_code_or_token_is_ever_logged(side, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = []
    for user in ("alice", ""):
        begun = await side.logins.begin(KEY, browser=BROWSER)
        ours = pending.party(BROWSER)
        login = await pending.take(side.store, state_of(begun), ours)
        await pending.keep(side.store, state_of(begun), login, [ours])
        callback = await approve(begun, user)
        secrets += [state_of(begun), login.verifier, callback.get("code", state_of(begun))]
        if "error" in callback:
            await refused(side.logins.finish(callback, BROWSER))
        else:
            await side.logins.finish(callback, BROWSER)
    token = side.account("ann").held.token
    secrets += [token.access_token.reveal(), token.refresh_token.reveal(), "s3cret", BROWSER]
    side.server.script(faults.NAMED["drop-before"], faults.NAMED["html"], faults.NAMED["invalid-client"])
    await side.logins._tokens._single_flight.wait(side.account("ann"), 5)
    await side.logins.log_out(KEY)
    assert "logged out of crm/ann" in caplog.text
    assert [secret for secret in secrets if secret in caplog.text] == []
