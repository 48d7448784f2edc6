"""Logins on another device (RFC 8628), against the demo's authorization server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
import pytest
from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE

from proxy.config.load import load
from proxy.demo import faults
from proxy.demo.authorization_server import Client
from proxy.errors import LoginFailed
from proxy.oauth import device
from proxy.store.base import AccountId
from proxy.tokens.login import devices
from proxy.tokens.login.ends import LoggedIn
from proxy.tokens.login.logins import Logins
from proxy.tokens.login.takeover import Takeover
from tests.fakes.id_tokens import logs_in
from tests.tokens.conftest import CALLBACK, HOUR
from tests.tokens.login.test_logins import BROWSER

KEY = AccountId("crm", "default")
GRANTS = (DEVICE_CODE_GRANT_TYPE, "refresh_token")
CLIENTS = (
    Client("web", "s3cret", grants=GRANTS, scopes=("openid", "api")),
    Client("both", "s3cret", grants=(*GRANTS, "authorization_code"), redirect_uris=(CALLBACK,)),
    Client("other", "s3cret", grants=("authorization_code",)),
)
CREDENTIAL = 'grant = "device_code"\nclient_id = "{client}"\nscopes = ["{scope}"]'


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Seconds become hundredths: the server's interval is 0 below."""
    monkeypatch.setattr(device, "SHORTEST_INTERVAL", 0.01)
    monkeypatch.setattr(device, "SLOW_DOWN", 0.01)


@pytest.fixture
def make_device_side(make_side):
    @asynccontextmanager
    async def make(client="web", scope="api", **options):
        options.setdefault("credential", CREDENTIAL.format(client=client, scope=scope))
        async with make_side(clients=CLIENTS, users=("alice", "bob"), **options) as side:
            side.server.devices.interval = 0
            yield side

    return make


@pytest.fixture
async def side(make_device_side):
    async with make_device_side() as made:
        yield made


async def decide(login, user="alice"):
    """The person enters the code on another device, and presses a button."""
    async with (
        aiohttp.ClientSession() as browser,
        browser.post(
            login.codes.verification_uri, data={"user_code": login.codes.user_code, "user": user}
        ) as page,
    ):
        assert page.status == 200, await page.text()


def polls(side):
    return [each for each in side.server.token_requests if each.grant_type == DEVICE_CODE_GRANT_TYPE]


async def polled(side, times):
    await side.until(lambda: len(polls(side)) >= times)


async def refused(login):
    async with asyncio.timeout(60):
        with pytest.raises(LoginFailed) as caught:
            await login.ended()
    return caught.value


async def test_a_person_logs_in_on_another_device_and_the_token_is_refreshed_like_any(side):
    login = await side.logins.begin_on_device(KEY)
    await polled(side, 2)
    assert not login.is_over
    await decide(login)
    assert await login.ended() == LoggedIn(KEY, None)
    account = side.account()
    served = side.tokens.ready(account)
    assert served is not None
    assert side.is_good(served)
    side.clock.advance(HOUR)
    assert (await side.tokens.get(account)) is not served
    assert [each.outcome for each in side.refreshes] == ["granted"]
    assert side.metrics.logins.labels("crm", "success")._value.get() == 1


async def test_the_page_of_the_browser_that_began_it_is_the_only_one_with_the_codes(side):
    url = await side.logins.begin(KEY, browser=BROWSER)
    assert url == f"{side.config.public_url}/login/{KEY}?device"
    login = side.logins.on_device(KEY, browser=BROWSER)
    assert login is not None
    assert side.logins.on_device(KEY, browser="another") is None
    assert side.logins.on_device(AccountId("crm", "other"), browser=BROWSER) is None
    await decide(login)
    assert await login.ended() == LoggedIn(KEY, None)
    assert side.logins.on_device(KEY, browser=BROWSER) is login  # for its page


async def test_a_second_login_of_a_browser_takes_the_place_of_its_first(side):
    await side.logins.begin(KEY, browser=BROWSER)
    first = side.logins.on_device(KEY, browser=BROWSER)
    await side.logins.begin(KEY, browser=BROWSER)
    second = side.logins.on_device(KEY, browser=BROWSER)
    assert first is not second
    assert (await refused(first)).error == "cancelled"
    await decide(second)
    assert await second.ended() == LoggedIn(KEY, None)


async def test_a_declined_login_ends_and_the_account_says_so(side):
    login = await side.logins.begin_on_device(KEY)
    await decide(login, user="")
    failed = await refused(login)
    assert (failed.error, str(failed)) == ("access_denied", "the login was declined")
    assert "the last login failed" in side.account().diagnosis().text
    assert side.metrics.logins.labels("crm", "failed")._value.get() == 1


async def test_a_code_that_nobody_enters_ends(side):
    side.server.devices.lifetime = 1
    login = await side.logins.begin_on_device(KEY)
    side.clock.advance(2)  # the server's clock: it says expired_token
    failed = await refused(login)
    assert (failed.error, str(failed)) == ("expired_token", devices.EXPIRED)


async def test_polling_ends_at_the_end_of_the_code_though_the_server_never_says_so(side, monkeypatch):
    monkeypatch.setattr(device, "LONGEST_LIFETIME", 0.2)
    login = await side.logins.begin_on_device(KEY)
    assert (await refused(login)).error == "expired_token"
    seen = len(polls(side))
    await asyncio.sleep(0.1)
    assert len(polls(side)) == seen


async def test_slow_down_is_obeyed(side, monkeypatch):
    monkeypatch.setattr(device, "SLOW_DOWN", 0.5)
    side.server.devices.interval = 5  # the server's clock stands still: all polls but the first are early
    monkeypatch.setattr(device, "LONGEST_INTERVAL", 0.02)  # the client thinks that it may
    login = await side.logins.begin_on_device(KEY)
    await polled(side, 2)
    first, second = polls(side)[:2]
    assert (first.error, second.error) == ("authorization_pending", "slow_down")
    await decide(login)
    assert await login.ended() == LoggedIn(KEY, None)
    assert side.server.devices.early_polls >= 1


@pytest.mark.parametrize("name", ["drop-before", "reset-before", "outage", "too-many-requests"])
async def test_a_server_that_fails_meanwhile_is_polled_again(side, name):
    side.server.script(faults.NAMED[name], times=2, grant_type=DEVICE_CODE_GRANT_TYPE)
    login = await side.logins.begin_on_device(KEY)
    await decide(login)
    async with asyncio.timeout(60):
        assert await login.ended() == LoggedIn(KEY, None)


async def test_a_lost_response_that_had_the_tokens_ends_the_login_with_a_sentence(side):
    side.server.script(faults.NAMED["drop-after-commit"], grant_type=DEVICE_CODE_GRANT_TYPE)
    login = await side.logins.begin_on_device(KEY)
    await decide(login)
    failed = await refused(login)
    assert failed.error in {"invalid_request", "invalid_grant"}


async def test_a_client_that_is_not_registered_for_it_is_told_so(make_device_side):
    async with make_device_side(client="other") as side:
        with pytest.raises(LoginFailed) as caught:
            await side.logins.begin_on_device(KEY)
        assert caught.value.error == "unauthorized_client"
        assert "device_code" in str(caught.value)


async def test_a_server_without_the_endpoint_is_named(make_device_side):
    by_hand = (
        'client_id = "both"\ntoken_endpoint = "{url}/token"\nauthorization_endpoint = "{url}/authorize"\n'
        'grant = "authorization_code"'
    )
    async with make_device_side(credential=by_hand.format(url="http://127.0.0.1:1")) as side:
        with pytest.raises(LoginFailed) as caught:
            await side.logins.begin_on_device(KEY)
        assert caught.value.error == "no_device_authorization_endpoint"
        assert "set credentials.crm.device_authorization_endpoint" in str(caught.value)


async def test_a_login_with_the_grant_authorization_code_can_go_by_a_device_too(make_device_side):
    async with make_device_side(credential='grant = "authorization_code"\nclient_id = "both"') as side:
        login = await side.logins.begin_on_device(KEY)
        await decide(login)
        assert await login.ended() == LoggedIn(KEY, None)
        assert side.tokens.ready(side.account()) is not None


async def test_another_persons_tokens_wait_for_a_decision_in_the_browser(make_device_side):
    async with make_device_side(scope="openid") as side:
        for user in ("alice", "bob"):
            side.server.script(
                logs_in(side.server.issuer, "web", user), grant_type=DEVICE_CODE_GRANT_TYPE, times=None
            )
            await side.logins.begin(KEY, browser=BROWSER)
            login = side.logins.on_device(KEY, browser=BROWSER)
            await decide(login, user)
            end = await login.ended()
            side.server.faults.clear()
        assert isinstance(end, Takeover)
        assert (await side.tokens.owner(KEY)).subject == "alice"
        decided = await side.logins.decide(end.ticket, BROWSER, replace=True)
        assert decided.principal.subject == "bob"


async def test_another_persons_tokens_are_refused_to_a_command(make_device_side):
    async with make_device_side(scope="openid") as side:
        for user in ("alice", "bob"):
            side.server.script(
                logs_in(side.server.issuer, "web", user), grant_type=DEVICE_CODE_GRANT_TYPE, times=None
            )
            login = await side.logins.begin_on_device(KEY)
            await decide(login, user)
            if user == "alice":
                assert isinstance(await login.ended(), LoggedIn)
                side.server.faults.clear()
        assert (await refused(login)).error == "other_person"
        assert (await side.tokens.owner(KEY)).subject == "alice"


async def test_a_reload_does_not_end_it_and_the_end_of_the_process_does(side, tmp_path):
    running = devices.DeviceLogins(side.servers)
    make = partial(Logins, store=side.store, servers=side.servers, tokens=side.tokens, devices=running)
    login = await make(side.config).begin_on_device(KEY, browser=BROWSER)
    after = make(load(tmp_path / "config.toml").config)
    assert after.on_device(KEY, browser=BROWSER) is login
    await decide(login)
    assert await login.ended() == LoggedIn(KEY, None)
    left = await after.begin_on_device(KEY)
    await running.close()
    assert (await refused(left)).error == "cancelled"


async def test_a_client_that_changes_meanwhile_does_not_get_the_tokens_of_the_former(side, tmp_path):
    login = await side.logins.begin_on_device(KEY)
    file = tmp_path / "config.toml"
    file.write_text(file.read_text().replace('client_id = "web"', 'client_id = "both"'))
    config = load(file).config
    side.tokens.use(config, side.tokens.planned(config))
    await decide(login)
    assert "the configuration has changed" in str(await refused(login))
    assert side.tokens.ready(side.account()) is None


async def test_logins_that_nobody_ends_do_not_grow_without_limit(side, monkeypatch):
    monkeypatch.setattr(devices, "MOST", 3)
    for name in range(3):
        await side.logins.begin(AccountId("crm", f"a{name}"), browser=BROWSER)
    with pytest.raises(LoginFailed) as caught:
        await side.logins.begin(AccountId("crm", "a4"), browser=BROWSER)
    assert caught.value.error == "too_many_logins"


async def test_an_unexpected_exception_ends_it_with_a_sentence(side, monkeypatch):
    login = await side.logins.begin_on_device(KEY)

    async def fail(*_args, **_options):
        raise RuntimeError("boom")

    monkeypatch.setattr(side.tokens, "adopt", fail)
    await decide(login)
    failed = await refused(login)
    assert (failed.error, str(failed)) == ("internal", devices.INTERNAL)
