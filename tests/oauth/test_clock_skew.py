"""A server whose clock differs from ours: reported once, and exported as it is."""

import logging
from email.utils import formatdate

import pytest
from aiohttp import web

from proxy.oauth import clock_skew
from proxy.oauth.clock_skew import OVER_BELOW, TOLD_FROM, SkewWatch

FORM = {"grant_type": "client_credentials"}


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [
        (record.levelname, record.fields["skew_s"])
        for record in caplog.records
        if getattr(record, "event", "") == "clock_skew"
    ]


def test_a_difference_is_reported_once_until_it_is_over(told):
    watch = SkewWatch()
    for seconds in (0, -59, -7200, -7201, -40, 7200, 0, 0, 61):
        watch.note("crm", seconds)
    assert told() == [("WARNING", -7200), ("INFO", 0), ("WARNING", 61)]


def test_each_credential_is_reported(told):
    watch = SkewWatch()
    for name in ("crm", "hr", "crm"):
        watch.note(name, 7200.0)
    assert len(told()) == 2


def test_a_difference_near_the_limit_is_not_reported_again_and_again(told):
    watch = SkewWatch()
    for _ in range(10):
        watch.note("crm", TOLD_FROM)
        watch.note("crm", OVER_BELOW)
    assert len(told()) == 1


def client_of(credential, puppet):
    url = f"{puppet.url}/token"
    return credential(token_endpoint=url, grant="client_credentials", client_secret="s")


@pytest.fixture
def responding(puppet, credential, servers, clock):
    """Gets a token whose response has this Date, and returns the difference that is known then."""

    async def ask(date):
        async def say(_request):
            response = web.json_response({"access_token": "t", "token_type": "Bearer", "expires_in": 60})
            response.headers["Date"] = date
            return response

        puppet.answers["/token"] = say
        client = credential(
            token_endpoint=f"{puppet.url}/token", grant="client_credentials", client_secret="s"
        )
        await servers.token(client, FORM)
        return clock_skew.known(clock, client)

    return ask


def date_at(clock, offset):
    return formatdate(clock.wall() + offset, usegmt=True)


@pytest.mark.parametrize("offset", [-7200, -300, 300, 7200])
async def test_the_difference_is_known_after_a_token_response(responding, clock, told, offset):
    assert await responding(date_at(clock, offset)) == pytest.approx(offset, abs=2)
    ((level, seconds),) = told()
    assert (level, seconds) == ("WARNING", pytest.approx(offset, abs=2))


async def test_clocks_that_agree_differ_by_nothing(responding, clock, told):
    assert await responding(date_at(clock, 0)) == pytest.approx(0, abs=0.001)
    assert told() == []


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Foo 2026 25:61:61 GMT", "0" * 5000])
async def test_garbage_says_nothing_about_clocks(responding, told, date):
    assert await responding(date) is None
    assert told() == []


async def test_an_absurd_date_is_reported_and_harms_nothing_else(responding, told):
    assert await responding("Fri, 31 Dec 9999 23:59:59 GMT") > 1e11
    assert len(told()) == 1


async def test_a_jump_of_our_own_clock_is_seen_at_once(responding, clock, credential, puppet):
    await responding(date_at(clock, 0))
    clock.jump(3600)
    client = client_of(credential, puppet)
    assert clock_skew.known(clock, client) == pytest.approx(-3600, abs=2)
