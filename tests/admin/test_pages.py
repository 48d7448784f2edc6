"""What the pages show."""

import re
from html import unescape

import pytest
from hypothesis import given, settings
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


@settings(deadline=None)  # the first one compiles the templates
@given(st.text())
def test_messages_are_escaped(sentence):
    page = re.sub("</?code>", "", pages.message(sentence, sentence))
    around = pages.message("", ".")
    for mark in "<>":
        assert page.count(mark) == around.count(mark)


def test_a_page_has_no_scripts_and_no_other_resources():
    page = pages.message("Title", "sentence", "http://127.0.0.1:8081/")
    for tag in ("<script", "<link", "<img", "<iframe", " on", "url(", "@import", "style="):
        assert tag not in page.replace(f"<style>{pages.STYLE}", "").replace(
            '<link rel="icon" href="data:', ""
        )


async def test_the_status_page_has_one_script_which_the_policy_allows_by_its_hash(world):
    response = await world.get("/")
    html, policy = await response.text(), response.headers["Content-Security-Policy"]
    assert re.findall("<script[^>]*>", html) == ["<script>"]
    assert f"<script>{pages.SCRIPT}</script>" in html
    assert f"script-src {pages.SCRIPT_SOURCE};" in policy
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy
    shown = html.replace(pages.SCRIPT, "").replace(pages.STYLE, "")
    assert re.findall("<link [^>]*>", shown) == [f'<link rel="icon" href="{pages.icon(attention=True)}">']
    for inline in (" style=", " onclick", "javascript:", "src=", "http-equiv"):
        assert inline not in shown
    assert "Refresh" not in response.headers


def test_commands_in_a_sentence_are_marked():
    page = pages.message("t", "run `token-proxy login a<b` or `x")
    assert "<p>Run <code>token-proxy login a&lt;b</code> or `x.</p>" in page


async def shown(world, path="/"):
    html = await (await world.get(path)).text()
    return html, BUTTONS.findall(html)


def headline(html):
    return re.search(r"<h1[^>]*>(.*?)</h1>", html)[1]


async def test_the_status_page_shows_each_account_and_what_can_be_done(world):
    html, buttons = await shown(world)
    assert headline(html) == "1 of 2 accounts needs attention"
    assert "<title>(1) Accounts · token-proxy</title>" in html
    assert buttons == [("login", "person")]
    assert 'aria-label="Connect person/default">Connect<' in html
    assert "nobody yet" in html

    await world.browser.log_in()
    html, buttons = await shown(world)
    assert headline(html) == "All 2 accounts work"
    assert "<title>Accounts · token-proxy</title>" in html
    assert buttons == [("refresh", "person"), ("logout", "person")]
    assert 'aria-label="Refresh: person/default">Refresh<' in html
    assert 'aria-label="Disconnect person/default">Disconnect…<' in html

    account = world.services.tokens.account("person", "default")
    world.server.script(*[faults.NAMED["invalid-grant"]] * 2)
    assert account.reject() is False  # no second try with a token that an upstream has refused
    await world.browser.press("/refresh/person", page="/")
    html, buttons = await shown(world)
    assert "login required" in html
    assert "efuses the refresh token" in html
    assert "un <code>token-proxy login person</code>" in html
    assert "Reconnect<" in html
    assert buttons == [("login", "person"), ("logout", "person")]


async def test_what_needs_attention_comes_first_with_times_and_bars(world):
    await world.browser.log_in()
    world.server.script(*[faults.NAMED["outage"]] * 3)
    await world.browser.press("/refresh/person", page="/")
    html, _ = await shown(world)
    entry = next(e for e in (await world.json("/api/status"))["tokens"] if e["credential"] == "person")
    assert f'data-at="{entry["expires_at"]}"' in html
    assert re.search(
        r'<svg class="bar[^"]*" [^>]*data-from="[\d.]+" data-to="[\d.]+"><rect width="[\d.]+"', html
    )
    assert "next try <time" in html
    assert "failed <time" in html
    assert f"({entry['last_refresh']['error']})" in html
    assert ">Try now<" in html
    assert html.index("Working") < html.index('id="row-person/default"'), "it still serves"


async def test_the_footer_says_what_this_is(world):
    html, _ = await shown(world)
    foot = html[html.index('id="foot"') :]
    assert re.search(r"As of <time[^>]*>\d\d:\d\d:\d\d UTC</time>", foot)
    for link in ('href="/"', 'href="/api/status"', 'href="/metrics"', 'href="/readyz"'):
        assert link in foot
    assert str(world.config.path) in foot
    assert re.search(r"token-proxy \d+\.\d+", foot)


async def test_a_machine_has_no_logout_button(world):
    await world.get(f"{world.data}/machine/x")
    assert ("refresh", "machine") in (await shown(world))[1]
    assert ("logout", "machine") not in (await shown(world))[1]


async def test_without_credentials_the_page_says_what_to_write(a_world):
    async with a_world(lambda text: text.partition("[credentials")[0]) as world:
        html, _ = await shown(world)
        assert "[credentials.NAME]" in html
        assert headline(html) == "No credentials yet"


async def test_the_callback_of_a_command_links_to_no_status_page(world):
    done = await world.browser.log_in()
    assert f'href="{world.config.public_url}/"' in await done.text()
    assert "<a " not in pages.message("Logged in", "You can close this page.")


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
        assert "No credentials yet" not in html
        assert "No accounts yet." in html
        assert re.search(
            r'<form method="get" action="/login/person"><input id="account-person" name="account"', html
        )
        for name, location in (("anna", "/login/person/anna"), ("a.b@c+d", "/login/person/a.b@c+d")):
            response = await world.browser.get("/login/person", params={"account": name})
            assert (response.status, response.headers["Location"]) == (303, location)
            assert (await world.get(response.headers["Location"])).status == 200
        await world.browser.log_in("/login/person/anna")
        html, _buttons = await shown(world)
        assert "<bdi>anna</bdi>" in html
        assert 'name="account"' in html, "the next one, too"
        assert "1 account." in html


async def test_long_lists_have_pages_and_can_be_searched(world):
    for name in ("anna", "bert", "carl"):
        await world.browser.log_in(f"/login/person/{name}")
    rows, path = [], "/?limit=2&q=PERSON"
    while path:
        html, _ = await shown(world, path)
        found = re.findall(r'id="row-person/(\w+)"', html)
        assert 1 <= len(found) <= 2
        assert ('rel="first"' in html) == bool(rows)
        rows += found
        following = re.search(r'<a href="([^"]+)" rel="next"', html)
        path = following and unescape(following[1])
    assert rows == ["default", "anna", "bert", "carl"], "first the one that needs attention"
    html, _ = await shown(world, "/?q=n/B")
    assert re.findall(r'id="row-([^"]+)"', html) == ["person/bert"]
    html, _ = await shown(world, "/?state=attention")
    assert re.findall(r'id="row-([^"]+)"', html) == ["person/default"]
    html, _ = await shown(world, "/?state=nonsense")
    assert len(re.findall(r'id="row-([^"]+)"', html)) == 5, "an old link shows all"


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
    assert ">Try now</button>" in html
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
