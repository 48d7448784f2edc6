"""Logins that begin under another allowed name than public_url go there first."""

from __future__ import annotations

import pytest

from proxy.store.base import AccountId
from tests.admin.conftest import Browser

COMMAND = "the secret of a command"


@pytest.fixture
async def elsewhere(world):
    """A browser that knows the page as localhost; public_url is 127.0.0.1."""
    opened = Browser(world.admin.replace("127.0.0.1", "localhost"))
    yield opened
    await opened.close()


async def test_a_login_that_begins_under_another_name_ends_well(world, elsewhere):
    moved = await elsewhere.get("/login/person")
    assert moved.status == 307
    page = await elsewhere.get(moved.headers["Location"])
    assert page.status == 200
    assert str(page.url).startswith(f"{world.config.public_url}/login/person")
    form = {"csrf": elsewhere.csrf_in(await page.text())}
    elsewhere.url = world.config.public_url  # the page's origin, and that of its form's action
    begun = await elsewhere.post("/login/person/default", form)
    assert begun.status == 303
    assert (await elsewhere.get(await elsewhere.approve(begun.headers["Location"]))).status == 200


async def test_the_account_and_the_ticket_come_along(world, elsewhere):
    moved = await elsewhere.get("/login/person?account=a%2Bb")
    assert moved.headers["Location"] == f"{world.config.public_url}/login/person?account=a%2Bb&moved=1"
    to_account = await elsewhere.get(moved.headers["Location"])
    assert to_account.status == 303
    assert to_account.headers["Location"].startswith("/login/person/a+b")

    invited = await world.services.logins.invite(AccountId("person", "default"), COMMAND)
    moved = await elsewhere.get(invited.replace("127.0.0.1", "localhost"))
    assert moved.status == 307
    assert (await elsewhere.get(moved.headers["Location"])).status == 303, "the ticket was not used up"


async def test_a_form_that_was_shown_under_another_name_begins_nothing(world, elsewhere):
    form = {"csrf": elsewhere.csrf_in(await (await elsewhere.get("/login/person?moved=1")).text())}
    response = await elsewhere.post("/login/person", form)
    assert response.status == 303
    assert response.headers["Location"] == f"{world.config.public_url}/login/person/default"


async def test_the_buttons_of_the_status_page_work_under_every_name(world, elsewhere):
    await world.browser.log_in()
    assert (await elsewhere.press("/refresh/person/default", page="/")).status == 303
    assert (await elsewhere.press("/logout/person/default", page="/")).status == 303
    assert world.server.families_revoked == 1


PUBLIC = 'public_url = "https://Tokens.example"'


@pytest.mark.parametrize("host", ["tokens.example", "TOKENS.example", "tokens.example:443"])
async def test_a_proxy_in_front_that_keeps_the_host_sees_no_redirect(a_world, host):
    async with a_world(lambda text: text.replace("[server]", f"[server]\n{PUBLIC}")) as world:
        assert (await world.get("/login/person", headers={"Host": host})).status == 200


async def test_a_proxy_in_front_that_replaces_the_host_sees_one_redirect(a_world):
    """As nginx does by itself: the Host of each request is that of the admin listener."""
    async with a_world(lambda text: text.replace("[server]", f"[server]\n{PUBLIC}")) as world:
        moved = await world.get("/login/person")
        assert moved.headers["Location"] == "https://tokens.example/login/person?moved=1"
        cookie = await world.launched()
        page = await world.get("/login/person?moved=1", headers={"Cookie": cookie})
        assert page.status == 200
        form = {"csrf": world.browser.csrf_in(await page.text())}
        begun = await world.browser.post(
            "/login/person", form, origin="https://tokens.example", cookie=cookie
        )
        assert begun.headers["Location"].startswith(world.server.issuer)


@pytest.mark.parametrize("host", ["evil.test", "localhost@evil.test", "localhost:99999999"])
async def test_no_redirect_for_a_host_that_is_not_allowed(world, host):
    status, head = await world.raw(f"GET /login/person HTTP/1.1\r\nHost: {host}\r\n\r\n")
    assert status == 421 or "Location" not in head
