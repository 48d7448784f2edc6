"""The callback: its own path or the shared one, each parameter once."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from multidict import MultiDict

from proxy.demo.authorization_server import Client
from proxy.errors import LoginFailed
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.login.logins import NOT_PASTED, REPEATED, UNKNOWN, WRONG_PLACE
from proxy.tokens.login.pending import UnknownLogin
from tests.tokens.conftest import CALLBACK, SEAL
from tests.tokens.login.test_logins import (
    BROWSER,
    COMMAND,
    DONE,
    KEY,
    accepted,
    approve,
    redirect,
    refused,
    state_of,
)

OWN = 'client_id = "web"\ncallback = "own"'
SHARED_PATH, OWN_PATH = "/callback", "/callback/crm"


@pytest.fixture
def make_own_side(make_side):
    return partial(
        make_side, credential=OWN, clients=[Client("web", "s3cret", redirect_uris=(f"{CALLBACK}/crm",))]
    )


@asynccontextmanager
async def no_request(side):
    before = len(side.server.token_requests)
    yield
    assert len(side.server.token_requests) == before


async def test_an_own_callback_is_asked_for_and_the_code_is_redeemed_with_it(make_own_side):
    async with make_own_side() as side:
        url = await side.logins.begin(KEY, browser=BROWSER)
        assert dict(parse_qsl(urlsplit(url).query))["redirect_uri"] == f"{CALLBACK}/crm"
        assert await side.logins.finish(await approve(url), BROWSER, path=OWN_PATH) == DONE
        assert side.server.token_requests[0].outcome == "granted", "the server compares redirect URIs"


@pytest.mark.parametrize("path", [SHARED_PATH, "/callback/other", "/callback/crm/", "/callback/CRM", ""])
async def test_a_code_that_arrives_elsewhere_is_sent_nowhere(make_own_side, path):
    async with make_own_side() as side:
        callback = await approve(await side.logins.begin(KEY, browser=BROWSER))
        async with no_request(side):
            assert await refused(side.logins.finish(callback, BROWSER, path=path)) == WRONG_PLACE
            assert await refused(side.logins.finish(callback, BROWSER, path=OWN_PATH)) == UNKNOWN, (
                "it is over"
            )


async def test_a_shared_one_ends_at_no_own_one(side):
    callback = await approve(await side.logins.begin(KEY, browser=BROWSER))
    async with no_request(side):
        assert await refused(side.logins.finish(callback, BROWSER, path=OWN_PATH)) == WRONG_PLACE


async def test_another_browser_ends_nothing_at_a_wrong_path_either(make_own_side):
    async with make_own_side() as side:
        callback = await approve(await side.logins.begin(KEY, browser=BROWSER))
        assert await refused(side.logins.finish(callback, "another", path=SHARED_PATH)) == UNKNOWN
        assert await side.logins.finish(callback, BROWSER, path=OWN_PATH) == DONE


async def test_a_callback_that_is_changed_meanwhile_keeps_its_redirect_uri(make_side, make_own_side):
    """As in the authorization request (RFC 6749 section 4.1.3)."""
    async with make_own_side() as side:
        callback = await approve(await side.logins.begin(KEY, browser=BROWSER))
        shared = f'client_id = "web"\nissuer = "{side.server.issuer}"'
        async with make_side(server=side.server, store=side.store, credential=shared) as changed:
            assert await changed.logins.finish(callback, BROWSER, path=OWN_PATH) == DONE


async def test_a_pasted_url_must_have_the_path(make_own_side):
    async with make_own_side() as side:
        pasted = await redirect(await side.logins.begin_to_paste(KEY, COMMAND))
        wrong = [pasted.replace(OWN_PATH, path) for path in (SHARED_PATH, "/callback/other", "/")]
        for url in (
            *wrong,
            "",
            "yes",
            urlsplit(pasted).query,
            "http://[",
            pasted.replace("state=", "state=x"),
        ):
            with pytest.raises(UnknownLogin, match=NOT_PASTED):
                await side.logins.paste(KEY, url, COMMAND)
        with pytest.raises(UnknownLogin, match=NOT_PASTED):
            await side.logins.paste(KEY, pasted, "another command")
        assert await side.logins.paste(KEY, f" {pasted}\n", COMMAND) == DONE
        with pytest.raises(UnknownLogin):
            await side.logins.paste(KEY, pasted, COMMAND)


async def test_a_login_that_an_invited_browser_began_can_be_pasted_by_its_command_or_end_there(side):
    for by_paste in (True, False):
        pasted = await redirect(await accepted(side))
        callback = dict(parse_qsl(urlsplit(pasted).query))
        with pytest.raises(UnknownLogin):
            await side.logins.paste(KEY, pasted, "another command")
        ends = [side.logins.paste(KEY, pasted, COMMAND), side.logins.finish(callback, BROWSER)]
        first, second = ends if by_paste else reversed(ends)
        assert await first == DONE
        async with no_request(side):
            assert await refused(second)


@pytest.mark.parametrize("name", ["code", "iss", "error", "state"])
@pytest.mark.parametrize("is_same", [True, False])
async def test_a_repeated_parameter_is_refused_and_no_code_is_sent(side, name, is_same):
    callback = MultiDict(await approve(await side.logins.begin(KEY, browser=BROWSER)))
    for value in ["x", "x"][: 2 - (name in callback)]:
        callback.add(name, callback[name] if is_same and name in callback else value)
    async with no_request(side):
        assert await refused(side.logins.finish(callback, BROWSER)) == REPEATED
    single = {each: callback.getone(each) for each in ("code", "state", "iss")}
    again = side.logins.finish(single, BROWSER)
    if name == "state":  # no login was found by it
        assert await again == DONE
    else:
        assert await refused(again) == UNKNOWN, "the redirect of the right browser has ended it"


async def test_a_repeated_parameter_from_another_browser_ends_nothing(side):
    callback = MultiDict(await approve(await side.logins.begin(KEY, browser=BROWSER)))
    twice = callback.copy()
    twice.add("code", "x")
    assert await refused(side.logins.finish(twice, "another")) == UNKNOWN
    assert await side.logins.finish(callback, BROWSER) == DONE


async def test_unknown_parameters_may_repeat(side):
    callback = MultiDict(await approve(await side.logins.begin(KEY, browser=BROWSER)))
    for value in ("a", "b"):
        callback.add("scope", value)
        callback.add("error_description", value)
    assert await side.logins.finish(callback, BROWSER) == DONE


async def test_a_repeated_parameter_is_refused_when_pasted_too(side):
    pasted = await redirect(await side.logins.begin_to_paste(KEY, COMMAND))
    async with no_request(side):
        assert await refused(side.logins.paste(KEY, f"{pasted}&code=x", COMMAND)) == REPEATED


async def test_a_code_of_another_program_is_exchanged_with_the_own_redirect_uri(make_own_side):
    async with make_own_side() as side:
        assert side.logins.redirect_uri("crm") == f"{CALLBACK}/crm"


# -- the ticket


async def test_a_ticket_lasts_as_long_as_a_login_and_the_login_as_long_again(side):
    ticket = dict(parse_qsl(urlsplit(await side.logins.invite(KEY, COMMAND)).query))["ticket"]
    side.clock.advance(599)
    url = await side.logins.accept(KEY, ticket, browser=BROWSER)
    side.clock.advance(2)
    with pytest.raises(UnknownLogin, match="has been used, is older than 10 minutes"):
        await side.logins.accept(KEY, ticket, browser=BROWSER)
    assert await side.logins.finish(await approve(url), BROWSER) == DONE


async def test_a_ticket_that_comes_too_late(side):
    ticket = dict(parse_qsl(urlsplit(await side.logins.invite(KEY, COMMAND)).query))["ticket"]
    side.clock.advance(601)
    with pytest.raises(UnknownLogin):
        await side.logins.accept(KEY, ticket, browser=BROWSER)


async def test_a_login_that_can_not_begin_says_so_before_it_invites(make_side):
    async with make_side(credential='client_id = "web"\nissuer = "http://127.0.0.1:1"') as side:
        with pytest.raises(LoginFailed, match="discovery of"):
            await side.logins.invite(KEY, COMMAND)


async def test_a_login_that_another_version_began_is_unknown(side, monkeypatch):
    stash = side.store.stash

    async def of_another_version(name, value, seconds):
        if name.startswith("pending:"):
            value = json.dumps({**json.loads(value), "more": 1}).encode()
        await stash(name, value, seconds)

    monkeypatch.setattr(side.store, "stash", of_another_version)
    url = await side.logins.begin(KEY, browser=BROWSER)
    assert await refused(side.logins.finish(await approve(url), BROWSER)) == UNKNOWN
    assert side.server.token_requests == []


async def test_two_replicas_take_turns(make_side, side):
    """Begun at one, its ticket at the other, its callback at the first: behind round-robin."""
    async with make_side(server=side.server, store=side.store) as other:
        ticket = dict(parse_qsl(urlsplit(await side.logins.invite(KEY, COMMAND)).query))["ticket"]
        url = await other.logins.accept(KEY, ticket, browser=BROWSER)
        assert await side.logins.finish(await approve(url), BROWSER) == DONE
        assert await other.logins.outcome(COMMAND) == ""


async def test_no_secret_stands_in_the_store_in_clear(make_side, clock):
    names, values = [], []

    class Noting(MemoryStore):
        async def stash(self, name, value, seconds):
            names.append(name)
            values.append(value)
            await super().stash(name, value, seconds)

    async with make_side(store=SealedStore(Noting(clock), SEAL)) as side:
        invited = await side.logins.invite(KEY, COMMAND)
        ticket = dict(parse_qsl(urlsplit(invited).query))["ticket"]
        url = await side.logins.accept(KEY, ticket, browser=BROWSER)
        await side.logins.finish(await approve(url), BROWSER)
    assert len(names) == 5  # the ticket, the login, its two parties, the outcome
    for secret in (ticket, COMMAND, BROWSER, state_of(url), urlencode({"": BROWSER})[1:]):
        assert not any(secret in name for name in names)
        assert not any(secret.encode() in value for value in values)
