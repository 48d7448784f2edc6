"""Odd responses to the refresh of a rotating server without grace: none ends the login.

When the server responds, it has acted: the refresh token that was sent is spent, and sending it again is
reuse, which revokes the family (RFC 9700 section 4.14.2).
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.faults import Fault
from proxy.demo.serve import running
from proxy.errors import LoginFailed, Misconfigured
from proxy.oauth.endpoint import RefusedToken
from proxy.oauth.grants.base import refresh_form
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.saved import codec
from tests.fakes.clock import FakeClock
from tests.oauth.odd import FIELDS, odd_responses
from tests.tokens.conftest import CLIENTS, HOUR, SEAL, process, write_config
from tests.tokens.login.test_logins import approve

KEY = AccountId("crm", "default")
CREDENTIAL = 'client_id = "web"\nscopes = ["api"]\n'
BY_HAND = 'client_id = "web"\ntoken_endpoint = "{url}/token"\nauthorization_endpoint = "{url}/authorize"\n'
Odd = tuple[int, bytes, dict[str, str]]  # status, body, header fields
Change = Callable[[dict[str, Any]], Odd]


def dumped(given: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({**given, **more}).encode()


def status(code: int) -> Change:
    return lambda given: (code, dumped(given), {})


def body(change: Callable[[bytes], bytes], encoding: str = "identity") -> Change:
    return lambda given: (200, change(dumped(given)), {"Content-Encoding": encoding})


def members(**more: Any) -> Change:
    return lambda given: (200, dumped(given, **more), {})


def form(kind: str) -> Change:
    def change(given: dict[str, Any]) -> Odd:
        return 200, urlencode(given).encode(), {"Content-Type": kind}

    return change


ODD: dict[str, Change] = {
    "201": status(201),
    "202": status(202),
    "203": status(203),
    "token_type empty": members(token_type=""),
    "token_type bot": members(token_type="bot"),
    "token_type with white space": members(token_type="Bearer "),
    "gzip that nothing says": body(gzip.compress),
    "deflate": body(zlib.compress, "deflate"),
    "Latin-1": body(lambda raw: raw[:-1] + b', "name": "Andr\xe9"}'),
    "NaN": body(lambda raw: raw[:-1] + b', "x": NaN}'),
    "a name twice": body(lambda raw: raw[:-1] + b', "x": 1, "x": 2}'),
    "trailing NUL": body(lambda raw: raw + b"\0"),
    "a byte-order mark": body(lambda raw: b"\xef\xbb\xbf" + raw),
    "UTF-16": body(lambda raw: raw.decode().encode("utf-16")),
    "error none": members(error="none"),
    "a form called text/plain": form("text/plain"),
    "a form called text/html": form("text/html"),
    "a line break behind the token": lambda given: (
        200,
        dumped(given, access_token=given["access_token"] + "\n"),
        {},
    ),
    "a list": body(lambda raw: b"[" + raw + b"]"),
    "data": lambda given: (200, json.dumps({"data": given}).encode(), {}),
}
REFUSED: dict[str, tuple[Change, str]] = {  # a token that can't be attached, and the code
    "DPoP": (members(token_type="DPoP"), "token_type"),
    "mac": (members(token_type="mac"), "token_type"),
    "pop": (members(token_type="PoP"), "token_type"),
    "N_A": (members(token_type="N_A"), "token_type"),
    "a space inside the access token": (members(access_token="A B"), "no_access_token"),
    "a line break inside the access token": (members(access_token="A\nB"), "no_access_token"),
    "no access token": (members(access_token=""), "no_access_token"),
}


@pytest.fixture
def make_odd_side(clock, make_side):
    """`make_odd_side(change)`: as `make_side`, with `change` applied to the next response to a refresh."""

    @asynccontextmanager
    async def make(change: Change, *, grant_type: str = "refresh_token", times: int = 1, **more: Any):
        server = AuthorizationServer(clients=CLIENTS, access_token_lifetime=HOUR, clock=clock)
        left = [times]

        @web.middleware
        async def odd(request: web.Request, handler: Any) -> web.StreamResponse:
            asked = request.path == "/token" and grant_type in await request.text()
            response = await handler(request)
            if not asked or response.status != 200 or not left[0]:
                return response
            left[0] -= 1
            status, changed, headers = change(json.loads(response.body))
            headers = {"Content-Type": "application/json", **headers}
            return web.Response(status=status, body=changed, headers=headers)

        app = server.application()
        app.middlewares.append(odd)
        more.setdefault("credential", CREDENTIAL)
        async with running(app), make_side(server=server, **more) as side:
            yield side

    return make


def odd_lines(caplog) -> list[str]:
    return [record.message for record in caplog.records if getattr(record, "event", "") == "odd_response"]


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
async def test_an_odd_response_to_a_refresh_is_adopted_and_the_family_lives(make_odd_side, change, caplog):
    caplog.set_level(logging.DEBUG)
    async with make_odd_side(change, times=100) as side:
        account = await side.log_in()
        for _ in range(3):
            side.clock.advance(HOUR)
            assert side.is_good(await side.tokens.get(account))
        assert side.server.families_revoked == 0
        assert len(side.refreshes) == 3
        token = account.held.token
    is_odd = change != ODD["token_type with white space"]
    assert len(odd_lines(caplog)) == is_odd  # once, not with every refresh
    for text in ("Andr", token.access_token.reveal(), token.refresh_token.reveal()):
        assert text not in caplog.text


async def test_a_token_type_left_out_of_a_refresh_alone_is_bearer(make_side):
    async with make_side() as side:
        account = await side.log_in()
        side.server.script(Fault(change={"token_type": None}))
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert side.server.families_revoked == 0


@pytest.mark.parametrize(("change", "code"), REFUSED.values(), ids=REFUSED)
async def test_the_refresh_token_of_a_response_that_is_refused_is_saved_first(
    make_odd_side, change, code, caplog
):
    async with make_odd_side(change) as side:
        account = await side.log_in()
        old = codec.decode((await side.stored()).body)
        served = side.tokens.ready(account)
        side.clock.advance(0.9 * HOUR)
        assert side.tokens.ready(account) is served
        await side.landed(account)
        kept, record = codec.decode((await side.stored()).body), await side.stored()
        assert (record.generation, record.state, record.intent) == (2, "valid", None)
        assert kept.access_token == old.access_token
        assert kept.refresh_token not in {old.refresh_token, None}
        assert side.tokens.ready(account) is served  # until it expires
        assert (account.last_refresh.outcome, account.last_refresh.error) == ("misconfigured", code)
        assert account.flight is None  # and not tried again at once
        side.clock.advance(121)
        assert side.is_good(await side.tokens.get(account))
        await side.landed(account)
        assert side.server.families_revoked == 0
        assert len(side.refreshes) == 2
        assert [request.outcome for request in side.refreshes] == ["granted", "granted"]


async def test_an_error_that_may_pass_does_not_send_the_spent_refresh_token_again(make_odd_side):
    def change(given: dict[str, Any]) -> Odd:
        return (
            200,
            json.dumps({"refresh_token": given["refresh_token"], "error": "server_error"}).encode(),
            {},
        )

    async with make_odd_side(change) as side:
        account = await side.log_in()
        side.clock.advance(0.9 * HOUR)
        side.tokens.ready(account)
        await side.landed(account)
        assert (account.last_refresh.outcome, account.last_refresh.error) == ("transient", "server_error")
        assert len(side.refreshes) == 1
        assert account.throttle.is_closed  # the server is up
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert side.server.families_revoked == 0


async def test_a_server_that_is_refused_each_time_loses_no_family_and_is_not_asked_more_often(make_odd_side):
    async with make_odd_side(REFUSED["DPoP"][0], times=100) as side:
        account = await side.log_in()
        side.clock.advance(HOUR)
        for _ in range(5):
            with pytest.raises(Misconfigured):
                await side.tokens.get(account)
            with pytest.raises(Misconfigured):
                await side.tokens.get(account)  # held back
            side.clock.advance(121)
        assert [request.outcome for request in side.refreshes] == ["granted"] * 5
        assert account.failures == 5
        assert side.server.families_revoked == 0
        assert (await side.stored()).generation == 6


async def test_a_list_of_token_types_refuses_others_and_keeps_their_refresh_token(make_odd_side):
    credential = 'client_id = "web"\ntoken_types = ["bearer", "bot"]\n'
    for name, is_accepted in (("bot", True), ("BOT", True), ("user", False), ("", False)):
        async with make_odd_side(members(token_type=name), credential=credential) as side:
            account = await side.log_in()
            side.clock.advance(HOUR)
            if is_accepted:
                assert side.is_good(await side.tokens.get(account))
            else:
                with pytest.raises(Misconfigured):
                    await side.tokens.get(account)
                side.clock.advance(121)
                assert side.is_good(await side.tokens.get(account))
            assert side.server.families_revoked == 0


async def test_the_refresh_token_of_a_refused_response_waits_for_the_disk(make_odd_side, faulty_store):
    async with make_odd_side(REFUSED["DPoP"][0], store=faulty_store) as side:
        account = await side.log_in()
        side.clock.advance(0.9 * HOUR)
        faulty_store.failing.add("put")
        side.tokens.ready(account)
        await side.until(lambda: faulty_store.calls["put"] > 3)
        faulty_store.failing.clear()
        await side.landed(account)
        assert (await side.stored()).generation == 2
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert side.server.families_revoked == 0


async def test_a_logout_while_a_refused_response_is_under_way_stays(make_odd_side):
    async with make_odd_side(REFUSED["DPoP"][0]) as side:
        account = await side.log_in()
        side.clock.advance(0.9 * HOUR)
        side.tokens.ready(account)
        await side.logins.log_out(KEY)
        await side.landed(account)
        assert (await side.stored()).state == "logged_out"


# -- a login


async def logged_in(side) -> Any:
    begun = await side.logins.begin(KEY, browser="b")
    return await side.logins.finish(await approve(begun), "b")


@pytest.mark.parametrize("name", ["201", "token_type empty", "gzip that nothing says", "Latin-1", "a list"])
async def test_an_odd_response_to_a_login_is_adopted(make_odd_side, name):
    async with make_odd_side(ODD[name], grant_type="authorization_code") as side:
        await logged_in(side)
        assert side.is_good(await side.tokens.get(side.account()))


async def test_the_refresh_token_of_a_refused_login_is_saved_if_there_is_no_other(make_odd_side):
    async with make_odd_side(REFUSED["DPoP"][0], grant_type="authorization_code") as side:
        with pytest.raises(LoginFailed, match=r"a type that can't be attached .*crm\.token_types"):
            await logged_in(side)
        kept = codec.decode((await side.stored()).body)
        assert (kept.access_token, (await side.stored()).state) == (None, "valid")
        assert side.is_good(await side.tokens.get(side.account()))  # the next response is a good one


async def test_a_refused_login_replaces_no_tokens_that_serve(make_odd_side):
    async with make_odd_side(REFUSED["DPoP"][0], grant_type="authorization_code") as side:
        await side.log_in()
        record = await side.stored()
        with pytest.raises(LoginFailed):
            await logged_in(side)
        assert await side.stored() == record


async def test_a_refused_login_by_a_command_replaces_no_tokens_that_serve(make_odd_side, make_side):
    async with make_odd_side(REFUSED["DPoP"][0], grant_type="authorization_code") as side:
        await side.log_in()
        record = await side.stored()
        async with make_side(
            server=side.server, store=side.store, started=False
        ) as command:  # it has loaded nothing
            with pytest.raises(LoginFailed):
                await logged_in(command)
        assert await side.stored() == record


async def test_a_refusal_carries_the_refresh_token_and_shows_nothing(make_odd_side):
    async with make_odd_side(REFUSED["DPoP"][0]) as side:
        account = await side.log_in()
        with pytest.raises(RefusedToken) as caught:
            await side.servers.token(account.credential, refresh_form((), account.held.token.refresh_token))
        assert caught.value.token.access_token is None
        assert caught.value.token.refresh_token is not None
        assert caught.value.token.refresh_token.reveal() not in repr(caught.value)


# -- a retry within one refresh


async def test_each_retry_is_in_the_log(make_side, caplog):
    caplog.set_level(logging.INFO)
    async with make_side(grace=10) as side:
        account = await side.log_in()
        side.server.script(Fault(drop_after=True))
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert "crm/default: the refresh got no token (connection_lost): retrying" in caplog.text


# -- any of a thousand odd responses


async def saved_after(status: int, body: bytes, headers: dict[str, str], folder: Path) -> str:
    """The stored refresh token after a refresh with this response."""

    async def respond(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    app = web.Application()
    app.router.add_post("/token", respond)
    clock = FakeClock()
    store = SealedStore(MemoryStore(clock), SEAL)
    server = AuthorizationServer(clients=CLIENTS, access_token_lifetime=HOUR, clock=clock)
    async with running(app) as url:
        config = write_config(folder, "", credential=BY_HAND.format(url=url))
        async with process(config, clock, server, store) as side:
            account = await side.log_in()
            side.clock.advance(0.9 * HOUR)
            side.tokens.ready(account)
            await side.landed(account)
            return codec.decode((await side.stored()).body).refresh_token.reveal()


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd_responses(), st.sampled_from([200, 201, 202, 203, 206, 299]), FIELDS)
def test_the_refresh_token_of_any_odd_response_is_the_one_that_is_saved(tmp_path, odd, status, headers):
    token, body = odd
    assume(token)
    assert asyncio.run(saved_after(status, body, headers, tmp_path)) == token
