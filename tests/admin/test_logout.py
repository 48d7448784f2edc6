"""The page of its own that disconnects an account: it explains, and nothing is done twice."""

import asyncio
import re

import pytest

from proxy.demo import faults
from proxy.errors import StoreError
from tests.fakes.id_tokens import logs_in

SECOND_ACCOUNT = """
[[routes]]
path = "/second"
upstream = "http://127.0.0.1:9"
credential = "person"
account = "second"
"""


async def words(response):
    return " ".join(re.sub(r"<[^>]*>", " ", await response.text()).split())


async def state(world):
    tokens = (await world.json("/api/status"))["tokens"]
    return next(each["state"] for each in tokens if each["credential"] == "person")


def revoked(world):
    return len(world.server.revocations)


async def test_the_page_explains_and_changes_nothing(world):
    world.server.script(logs_in(world.server.issuer, "demo-app", "ann", email="ann@example.com"))
    await world.browser.log_in()
    for path in ("/logout/person", "/logout/person/default"):
        page = await world.get(path)
        said = await words(page)
        assert page.status == 200
        for part in (
            "Disconnect person/default?",
            "asks the authorization server to revoke them",
            "ann@example.com",
            "Routes that stop demo",
            "Cancel",
        ):
            assert part in said, part
        assert f'href="{world.config.public_url}/">Cancel' in await page.text()
    assert await state(world) == "valid"
    assert revoked(world) == 0


async def test_its_button_disconnects(world):
    await world.browser.log_in()
    done = await world.browser.press("/logout/person")
    assert (done.status, done.headers["Location"]) == (303, "/")
    assert await state(world) == "absent"
    assert revoked(world) == 1  # of the whole login


async def test_a_double_click_disconnects_once_and_never_a_login_in_between(world):
    await world.browser.log_in()
    form = {"csrf": await world.browser.csrf("/logout/person")}
    answers = await asyncio.gather(*(world.browser.post("/logout/person", form) for _ in range(3)))
    assert [each.status for each in answers] == [303] * 3
    assert revoked(world) == 1
    await world.browser.log_in()
    assert (await world.browser.post("/logout/person", form)).status == 303  # the same form again
    assert await state(world) == "valid"
    assert (await world.browser.press("/logout/person")).status == 303  # a page of its own
    assert await state(world) == "absent"


async def test_a_form_counts_for_its_own_account_only(a_world):
    async with a_world(lambda text: text + SECOND_ACCOUNT) as world:
        await world.browser.log_in()
        await world.browser.log_in("/login/person/second")
        form = {"csrf": await world.browser.csrf("/logout/person")}
        for path in ("/logout/person", "/logout/person/second"):
            assert (await world.browser.post(path, form)).status == 303
        states = [each["state"] for each in (await world.json("/api/status"))["tokens"]]
        assert states.count("valid") == 0


def nobody_revokes(text):
    endpoint = 'revocation_endpoint = "http://127.0.0.1:9/revoke"'
    return text.replace("[credentials.person]", f"[credentials.person]\n{endpoint}")


async def test_where_the_server_was_not_told_the_result_says_so(a_world):
    async with a_world(nobody_revokes) as world:
        await world.browser.log_in()
        form = {"csrf": await world.browser.csrf("/logout/person")}
        for _ in range(2):  # also when the form is sent again
            done = await world.browser.post("/logout/person", form)
            assert done.status == 200
            said = await words(done)
            assert "Disconnected" in said
            assert "(unreachable: connection refused)" in said
            assert "accepts them until they expire" in said
            assert "All accounts" in said
        assert await state(world) == "absent"


async def test_what_has_no_tokens_has_nothing_to_disconnect(world):
    said = await words(await world.get("/logout/person"))
    assert "There is nothing to disconnect: person/default has no tokens." in said
    assert "All accounts" in said
    assert "csrf" not in await (await world.get("/logout/person")).text()


@pytest.mark.parametrize("path", ["/logout/nothing", "/logout/person/%2e%2e", "/logout/person/a%20b"])
async def test_an_unknown_account_is_not_found(world, path):
    assert (await world.get(path)).status == 404


async def test_a_store_that_fails_is_said_and_the_form_can_be_sent_again(world, monkeypatch):
    await world.browser.log_in()
    form = {"csrf": await world.browser.csrf("/logout/person")}
    forget, broken = world.services.tokens.forget, [True]

    async def failing(key):
        if broken:
            raise StoreError("disk full")
        return await forget(key)

    monkeypatch.setattr(world.services.tokens, "forget", failing)
    refused = await world.browser.post("/logout/person", form)
    assert refused.status == 503
    assert "The token store is not available" in await words(refused)
    broken.clear()
    assert (await world.browser.post("/logout/person", form)).status == 303
    assert await state(world) == "absent"


async def test_a_refresh_leads_back_to_the_page_that_it_was_pressed_on(world):
    await world.browser.log_in()
    form = {"csrf": await world.browser.csrf("/"), "view": "q=person&state=valid&evil=//x"}
    done = await world.browser.post("/refresh/person", form)
    assert (done.status, done.headers["Location"]) == (303, "/?q=person&state=valid")


async def test_a_refresh_that_needs_a_login_leads_there(world):
    await world.browser.log_in()
    account = world.services.tokens.account("person", "default")
    world.server.script(*[faults.NAMED["invalid-grant"]] * 2)
    account.reject()
    failed = await world.browser.press("/refresh/person", page="/")
    assert failed.status == 503
    html = await failed.text()
    assert "<h1>Refresh of person/default failed</h1>" in html
    assert f'href="{world.config.public_url}/login/person/default">Reconnect<' in html
