"""PKCE, or none if the server refuses it, and a nonce with openid."""

from __future__ import annotations

from functools import partial
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from aiohttp import web

from proxy.demo.authorization_server import Client
from proxy.demo.serve import running
from proxy.store.base import AccountId
from proxy.tokens.login.ends import LoggedIn
from proxy.tokens.login.logins import CONFIG_CHANGED
from proxy.tokens.saved import codec
from tests.fakes.id_tokens import logs_in
from tests.tokens.conftest import CALLBACK, HOUR
from tests.tokens.login.test_logins import BROWSER, KEY, approve, refused, state_of

OPENID = 'client_id = "web"\nscopes = ["openid", "api"]\n'
BY_HAND = 'client_id = "web"\ntoken_endpoint = "{url}/token"\nauthorization_endpoint = "{url}/authorize"\n'


def parameters(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


def odd_lines(caplog) -> list[str]:
    return [record.message for record in caplog.records if getattr(record, "event", "") == "odd_response"]


@pytest.fixture
def make_openid_side(make_side):
    clients = (Client("web", "s3cret", redirect_uris=(CALLBACK,), scopes=("openid", "api")),)
    return partial(make_side, credential=OPENID, clients=clients)


@pytest.fixture
async def refuses_pkce():
    """A token endpoint like LinkedIn's, which refuses unknown parameters; yields its URL and the forms."""
    forms: list[dict[str, str]] = []

    async def token(request):
        forms.append(dict(parse_qsl(await request.text())))
        if "code_verifier" in forms[-1]:
            return web.json_response({"error": "invalid_request"}, status=400)
        return web.json_response({"access_token": "AT-1", "expires_in": 3600})

    app = web.Application()
    app.router.add_post("/token", token)
    async with running(app) as url:
        yield url, forms


@pytest.mark.parametrize("pkce", [True, False])
async def test_a_server_that_refuses_pkce_can_be_logged_in_to_without(make_side, refuses_pkce, pkce):
    url, forms = refuses_pkce
    credential = BY_HAND.format(url=url) + f"pkce = {str(pkce).lower()}\n"
    async with make_side(credential=credential) as side:
        begun = await side.logins.begin(KEY, browser=BROWSER)
        assert ("code_challenge" in parameters(begun)) is pkce
        assert ("code_challenge_method" in parameters(begun)) is pkce
        finishing = side.logins.finish({"code": "C", "state": state_of(begun)}, BROWSER)
        if pkce:
            assert "invalid_request" in await refused(finishing)
            return
        assert await finishing == LoggedIn(KEY, None)
        assert [form.keys() for form in forms] == [{"grant_type", "code", "redirect_uri"}]


async def log_in(side, answer_nonce: str | None, *, subject: str = "ann-7", key: AccountId = KEY):
    """`answer_nonce`: what the id_token carries; "right" for the one that was sent."""
    begun = await side.logins.begin(key, browser=BROWSER)
    (sent,) = parameters(begun)["nonce"]
    assert len(sent) == 43
    nonce = sent if answer_nonce == "right" else answer_nonce
    callback = await approve(begun)
    side.server.script(logs_in(side.server.issuer, "web", subject, nonce=nonce))
    return await side.logins.finish(callback, BROWSER), sent


async def test_a_nonce_that_comes_back_is_noted_for_the_refreshes(make_openid_side, caplog):
    async with make_openid_side() as side:
        end, sent = await log_in(side, "right")
        assert end.principal.subject == "ann-7"
        assert codec.decode((await side.stored("ann")).body).nonce == sent
        assert odd_lines(caplog) == []


async def test_an_id_token_without_the_nonce_is_believed_and_warned_about_once(make_openid_side, caplog):
    async with make_openid_side() as side:
        for _ in range(2):
            end, _sent = await log_in(side, None)
            assert end.principal.subject == "ann-7"
        (line,) = odd_lines(caplog)
        assert line.startswith("crm: unusual id_token from the authorization server: it lacks the nonce")


@pytest.mark.parametrize("nonce", ["another", "", 7])
async def test_an_id_token_of_another_login_is_refused_and_nothing_is_stored(make_openid_side, nonce):
    async with make_openid_side() as side:
        sentence = await refused(log_in(side, nonce))
        assert sentence == "the id_token belongs to another login: start the login again"
        assert await side.stored("ann") is None


async def test_without_openid_no_nonce_is_sent_and_none_is_checked(make_side):
    async with make_side() as side:
        begun = await side.logins.begin(KEY, browser=BROWSER)
        assert "nonce" not in parameters(begun)
        side.server.script(logs_in(side.server.issuer, "web", "ann-7", nonce="whatever"))
        assert await side.logins.finish(await approve(begun), BROWSER)


@pytest.mark.parametrize(("nonce", "is_told"), [("right", False), (None, False), ("another", True)])
async def test_on_a_refresh_a_nonce_is_compared_only_where_there_is_one(
    make_openid_side, caplog, nonce, is_told
):
    async with make_openid_side() as side:
        _end, sent = await log_in(side, "right")
        account = side.account("ann")
        for _ in range(2):
            side.clock.advance(HOUR)
            script = logs_in(side.server.issuer, "web", "ann-7", nonce=sent if nonce == "right" else nonce)
            side.server.script(script)
            assert side.is_good(await side.tokens.get(account))
        assert account.held.token.nonce == sent
        assert account.held.token.principal.subject == "ann-7"
        assert len(odd_lines(caplog)) == is_told


async def test_another_persons_tokens_are_set_aside_whatever_their_nonce(make_openid_side):
    async with make_openid_side() as side:
        await log_in(side, "right")
        account = side.account("ann")
        side.clock.advance(0.9 * HOUR)
        side.server.script(logs_in(side.server.issuer, "web", "bob-8", nonce="another"))
        served = side.tokens.ready(account)
        await side.landed(account)
        assert (await side.stored("ann")).state == "login_required"
        assert side.tokens.ready(account) is served


async def test_a_code_does_not_go_to_an_endpoint_that_was_put_in_meanwhile(make_side, refuses_pkce):
    url, forms = refuses_pkce
    async with make_side() as side:
        begun = await side.logins.begin(KEY, browser=BROWSER)
        callback = await approve(begun)
        moved = f'client_id = "web"\nissuer = "{side.server.issuer}"\ntoken_endpoint = "{url}/token"\n'
        async with make_side(server=side.server, store=side.store, credential=moved) as other:
            assert await refused(other.logins.finish(callback, BROWSER)) == CONFIG_CHANGED
    assert forms == []
