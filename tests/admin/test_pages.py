"""What the pages show."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin import access, pages
from proxy.demo import faults
from proxy.oauth.grants import GRANTS
from proxy.oauth.token import Principal
from proxy.store.base import AccountId
from proxy.tokens.diagnosis import Facts, Reason, diagnose

BUTTONS = re.compile(r'(?:href="http://127.0.0.1:\d+|action=")/(\w+)/(\w+)/default"')
NOW = 1_000_000.0
FINE = diagnose(
    Facts("crm", "default", GRANTS["authorization_code"], "valid", Reason.NONE, usable=True, now=NOW)
)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (None, "–"),  # noqa: RUF001 (an en dash for an empty cell)
        (NOW, "in 0 s"),
        (NOW + 59.9, "in 59 s"),
        (NOW + 60, "in 1 min"),
        (NOW + 7199, "in 1 h"),
        (NOW + 86400 * 30, "in 30 d"),
        (NOW - 0.5, "0 s ago"),
        (NOW - 61, "1 min ago"),
    ],
)
def test_relative_times(at, words):
    assert pages.relative(at, NOW) == words


@given(st.text())
def test_messages_are_escaped(sentence):
    page = pages.message(sentence, sentence)
    around = pages.message("", ".")
    for mark in "<>":
        assert page.count(mark) == around.count(mark)


def test_a_page_has_no_scripts_and_no_other_resources():
    page = pages.message("Title", "sentence", "http://127.0.0.1:8081/")
    for tag in ("<script", "<link", "<img", "<iframe", " on", "url(", "@import", "style="):
        assert tag not in page.replace("<style>", "")


async def shown(world):
    html = await (await world.get("/")).text()
    return html, BUTTONS.findall(html)


async def test_the_status_page_shows_each_account_and_what_can_be_done(world):
    html, buttons = await shown(world)
    assert "2 accounts, not ready" in html
    assert buttons == [("login", "person")]

    await world.browser.log_in()
    html, buttons = await shown(world)
    assert "2 accounts, ready" in html
    assert buttons == [("refresh", "person"), ("logout", "person")]

    account = world.services.tokens.account("person", "default")
    world.server.script(*[faults.NAMED["invalid-grant"]] * 2)
    assert account.reject() is False  # no second try with a token that an upstream has refused
    await world.browser.press("/refresh/person", page="/")
    html, buttons = await shown(world)
    assert "login required" in html
    assert "refuses the refresh token" in html
    assert "run `token-proxy login person`" in html
    assert buttons == [("login", "person"), ("logout", "person")]


async def test_a_machine_has_no_logout_button(world):
    await world.get(f"{world.data}/machine/x")
    assert ("refresh", "machine") in (await shown(world))[1]
    assert ("logout", "machine") not in (await shown(world))[1]


async def test_the_page_loads_itself_again(world):
    response = await world.get("/?after=machine/default")
    seconds, _, url = response.headers["Refresh"].partition("; url=")
    assert seconds == "10"
    assert url.startswith("/?after=machine%2Fdefault&again=")
    assert (await world.get(url)).headers["Refresh"] == f"10; url={url}"


async def test_without_credentials_the_page_says_what_to_write(a_world):
    async with a_world(lambda text: text.partition("[credentials")[0]) as world:
        assert "[credentials.NAME]" in (await shown(world))[0]


async def test_the_callback_of_a_command_links_to_no_status_page(world):
    done = await world.browser.log_in()
    assert f'href="{world.config.public_url}/"' in await done.text()
    assert "href" not in pages.message("Logged in", "You can close this page.")


def test_an_errors_message_becomes_a_sentence():
    for said in ("it failed", "It failed", "It failed."):
        assert "<p>It failed.</p>" in pages.message("Title", said)


@given(st.text(), st.text(min_size=1))
def test_names_of_people_are_escaped(name, subject):
    page, around = (
        pages.logged_in_page(AccountId("crm", "default"), person, FINE, "", "")
        for person in (Principal("i", subject, name), Principal("i", "248289761001", ""))
    )
    for mark in "<>":
        assert page.count(mark) == around.count(mark)


BY_HEADER = 'credential = "person"\naccount = { header = "X-Remote-User" }'


async def test_where_requests_name_the_account_the_page_can_begin_one(a_world):
    async with a_world(lambda text: text.replace('credential = "person"', BY_HEADER)) as world:
        html, _ = await shown(world)
        assert "no credentials yet" not in html
        assert re.search(r'<form method="get" action="/login/person"><input name="account"', html)
        for name, location in (("anna", "/login/person/anna"), ("a.b@c+d", "/login/person/a.b@c+d")):
            response = await world.browser.get("/login/person", params={"account": name})
            assert (response.status, response.headers["Location"]) == (303, location)
            assert (await world.get(response.headers["Location"])).status == 200
        await world.browser.log_in("/login/person/anna")
        html, _buttons = await shown(world)
        assert "anna" in html
        assert '<input name="account"' in html, "the next one, too"


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "//evil.example", "a b", "x" * 129, "a\r\nSet-Cookie: x"]
)
async def test_an_invalid_account_name_is_not_found(world, name):
    response = await world.browser.get("/login/person", params={"account": name})
    assert response.status == 404
    assert "Location" not in response.headers


async def test_a_machine_that_was_refused_can_be_tried_again_at_once(world):
    world.server.script(*[faults.NAMED["invalid-client"]] * 3)
    await world.get(f"{world.data}/machine/x")
    html, buttons = await shown(world)
    assert ("refresh", "machine") in buttons
    assert "<button>Try now</button>" in html
    world.server.faults.clear()  # the configuration at the server was corrected
    assert (await world.browser.press("/refresh/machine/default", page="/")).status == 303
    assert (await world.get(f"{world.data}/machine/x")).status == 200


async def test_while_a_login_without_refresh_token_lasts_the_page_offers_another(world):
    world.server.script(faults.Fault(change={"refresh_token": None}))
    await world.browser.log_in()
    html, buttons = await shown(world)
    assert buttons == [("login", "person"), ("logout", "person")]
    assert "the access token expires at" in html


async def test_a_browsers_first_request_compiles_the_templates_in_a_thread(world, monkeypatch):
    threads = []

    async def to_thread(function, *arguments):
        threads.append(function)
        return function(*arguments)

    monkeypatch.setattr(access.asyncio, "to_thread", to_thread)
    pages.prepare.cache_clear()
    for accept, asked in (("*/*", 0), ("text/html", 1), ("text/html", 1)):
        assert (await world.get("/", headers={"Accept": accept})).status == 200
        assert threads.count(pages.prepare) == asked
    assert "login.html" in pages._environment().list_templates()
