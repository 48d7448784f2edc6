"""A login that a command began: its ticket binds it to the browser that comes first, and to no other."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import parse_qsl, urlsplit

import pytest

from proxy.admin.peers import TELLS_USERS
from proxy.errors import AuthorizationServerError, StoreError
from proxy.http.cookies import BROWSER_COOKIE
from proxy.store.base import AccountId
from tests.other_user import STRANGER, as_user

KEY = AccountId("person", "default")
COMMAND = "the secret of a command"
SPECULATIVE = [
    {"Sec-Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Purpose": "prefetch"},
    {"X-Moz": "Prefetch"},
]


@pytest.fixture
async def invited(world):
    return await world.services.logins.invite(KEY, COMMAND)


async def is_over(world):
    """Whether the command has an outcome."""
    waiting = asyncio.create_task(world.services.logins.outcome(COMMAND))
    await asyncio.sleep(0.05)
    done = waiting.done()
    waiting.cancel()
    return done


async def test_the_browser_that_comes_with_the_ticket_logs_in(world, invited):
    begun = await world.get(invited)
    assert begun.status == 303
    assert begun.headers["Location"].startswith(f"{world.server.issuer}/authorize?")
    cookie = begun.cookies[BROWSER_COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert begun.headers["Cache-Control"] == "no-store"
    done = await world.get(await world.browser.approve(begun.headers["Location"]))
    assert done.status == 200
    assert await world.services.logins.outcome(COMMAND) == ""
    assert world.granted() == ["authorization_code"]


async def test_the_address_holds_no_state_and_is_on_public_url(world, invited):
    url = urlsplit(invited)
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{world.config.public_url}/login/person/default"
    ((name, ticket),) = parse_qsl(url.query)
    assert (name, len(ticket)) == ("ticket", 43)
    state = dict(parse_qsl(urlsplit((await world.get(invited)).headers["Location"]).query))["state"]
    assert ticket not in state


async def test_nobody_else_ends_it_and_nobody_else_stops_it(world, invited):
    """Another user of this machine has read all addresses of the browser, the callback's too."""
    begun = await world.get(invited)
    callback = await world.browser.approve(begun.headers["Location"])
    stranger, another = world.another_browser(), world.another_browser()
    await another.get("/login/person")  # has a cookie of ours
    for browser in (stranger, another):
        used = await browser.get(invited)
        assert (used.status, used.headers.get("Location")) == (400, None)
        assert "has been used" in await used.text()
        refused = await browser.get(callback)
        assert refused.status == 400
        assert "No such login is under way in this browser" in await refused.text()
    assert world.granted() == []
    assert not await is_over(world)
    assert (await world.get(callback)).status == 200
    assert await world.services.logins.outcome(COMMAND) == ""


async def test_of_two_browsers_that_come_at_once_one_goes_on(world, invited):
    browsers = [world.another_browser() for _ in range(8)]
    responses = await asyncio.gather(*(browser.get(invited) for browser in browsers))
    assert sorted(response.status for response in responses) == [303] + 7 * [400]


@pytest.mark.parametrize("path", ["/login/person", "/login/person/other", "/login/machine/default"])
async def test_a_ticket_is_for_one_account(world, invited, path):
    if path == "/login/person":  # the same account
        assert (await world.get(f"{path}?{urlsplit(invited).query}")).status == 303
        return
    assert (await world.get(f"{path}?{urlsplit(invited).query}")).status == 400
    assert (await world.get(invited)).status == 303, "it was not used up"


@pytest.mark.parametrize("ticket", ["", "made-up", "%00", "x&ticket=y"])
async def test_an_unknown_ticket_begins_nothing(world, invited, ticket):
    response = await world.get(f"/login/person/default?ticket={ticket}")
    assert (response.status, response.headers.get("Location")) == (400, None)
    assert not await is_over(world)


@pytest.mark.parametrize("speculative", SPECULATIVE)
async def test_what_a_browser_loads_ahead_of_time_uses_nothing_up(world, invited, speculative):
    assert (await world.get(invited, headers=speculative)).status == 503
    begun = await world.get(invited)
    assert begun.status == 303
    callback = await world.browser.approve(begun.headers["Location"])
    assert (await world.get(callback, headers=speculative)).status == 503
    assert world.granted() == []
    assert (await world.get(callback)).status == 200


async def test_a_head_request_uses_no_ticket_up(world, invited):
    target = invited.removeprefix(world.admin)
    host = world.admin.removeprefix("http://")
    assert (await world.raw(f"HEAD {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))[0] == 405
    assert (await world.get(invited)).status == 303


async def test_a_browser_keeps_the_cookie_that_it_has(world, invited):
    """So that a login that goes on in another tab can end."""
    first = await world.browser.press("/login/person/other")
    begun = await world.get(invited)
    for location in (first.headers["Location"], begun.headers["Location"]):
        assert (await world.get(await world.browser.approve(location))).status == 200


async def test_a_login_that_can_not_begin_any_more_is_reported_to_both(world, invited, monkeypatch):
    monkeypatch.setattr(world.services.servers, "endpoints", failing_discovery)
    response = await world.get(invited)
    assert response.status == 502
    assert "discovery of" in (await response.text()).lower()
    assert "discovery of" in await world.services.logins.outcome(COMMAND)


async def failing_discovery(_credential):
    raise AuthorizationServerError("transient", "unreachable")


async def test_where_the_store_fails_the_page_says_so(world, invited, monkeypatch):
    async def full(*_):
        raise StoreError("disk full")

    monkeypatch.setattr(world.services.store, "take", full)
    response = await world.get(invited)
    assert response.status == 503
    assert "token store" in await response.text()


async def test_the_address_of_a_login_to_paste_ends_it_in_no_browser(world):
    url = await world.services.logins.begin_to_paste(KEY, COMMAND)
    callback = await world.browser.approve(url)
    await world.get("/login/person")  # has a cookie
    refused = await world.get(callback)
    assert refused.status == 400
    assert "paste the address of this page into the command" in await refused.text()
    assert world.granted() == []
    await world.services.logins.paste(KEY, callback, COMMAND)
    assert world.granted() == ["authorization_code"]


# -- an address that stands in the arguments of a browser


async def get_as(world, uid, url, *, half_closed=False):
    """The status of a GET by another user of this machine, whose connection may look closed to the kernel."""
    with as_user(uid):
        sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", world.config.server.admin.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    host = world.admin.removeprefix("http://")
    writer.write(f"GET {url.removeprefix(world.admin)} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    if half_closed:
        writer.write_eof()
    line = await reader.readline()
    writer.close()
    return int(line.split()[1]) if line else None


@pytest.mark.privileged
@pytest.mark.parametrize("half_closed", [False, True])
async def test_another_user_of_the_machine_is_too_quick_in_vain(world, half_closed):
    """It has read the arguments of the browser, and comes before the browser does."""
    invited = await world.services.logins.invite(KEY, COMMAND, for_own_user=True)
    assert await get_as(world, STRANGER, invited, half_closed=half_closed) in {400, None}
    assert not await is_over(world)
    assert (await world.get(invited)).status == 303


@pytest.mark.privileged
async def test_an_address_that_was_only_printed_is_for_any_browser(world, invited):
    """Such as that of the person who runs a service of another user."""
    assert await get_as(world, STRANGER, invited) == 303


async def test_an_address_for_our_own_user_works_once_too(world):
    invited = await world.services.logins.invite(KEY, COMMAND, for_own_user=True)
    if not TELLS_USERS:
        assert (await world.get(invited)).status == 400
        return
    assert [(await world.get(invited)).status for _ in range(2)] == [303, 400]
