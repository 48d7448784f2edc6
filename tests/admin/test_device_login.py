"""The page of a login on another device (RFC 8628): it works without scripts; with one it shows the end."""

import asyncio
import re
from html import unescape

import pytest

from proxy.admin import pages
from proxy.oauth import device
from tests.fakes.id_tokens import logs_in

USER_CODE = re.compile(r"<strong>([A-Z]{4}-[A-Z]{4})</strong>")
LINK = re.compile(r'<a href="([^"]+/device[^"]*)"')
LOGIN = "/login/person/default"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(device, "SHORTEST_INTERVAL", 0.02)


def by_device(text):
    return text.replace('grant = "authorization_code"', 'grant = "device_code"', 1)


@pytest.fixture
async def world(a_world):
    async with a_world(by_device) as made:
        made.server.devices.interval = 0
        yield made


async def begin(browser):
    """Press the button; the page that it leads to."""
    begun = await browser.press("/login/person")
    assert begun.status == 303
    page = await browser.get(begun.headers["Location"])
    assert page.status == 200
    return begun.headers["Location"], page, await page.text()


async def decide(world, shown, user="alice"):
    async with world.browser._session.post(
        f"{world.server.issuer}/device", data={"user_code": USER_CODE.search(shown)[1], "user": user}
    ) as response:
        assert response.status == 200, await response.text()


async def result(browser, url):
    """The page once it shows no code any more, as its browser loads it again."""
    async with asyncio.timeout(60):
        while True:
            page = await browser.get(url)
            text = await page.text()
            if not USER_CODE.search(text):
                return page, text
            await asyncio.sleep(0.05)


async def test_a_person_logs_in_by_the_page_and_another_device(world):
    explained = await (await world.get("/login/person")).text()
    assert "Get a code to enter on any device" in explained
    assert "Redirect URI" not in explained
    assert world.granted() == []
    url, page, shown = await begin(world.browser)
    assert (
        unescape(LINK.search(shown)[1])
        == f"{world.server.issuer}/device?user_code=" + (USER_CODE.search(shown)[1])
    )
    assert "http-equiv" not in shown
    assert f'href="{LOGIN}?device">reload it<' in shown
    assert page.headers["Cache-Control"] == "no-store"
    await decide(world, shown)
    page, done = await result(world.browser, url)
    assert page.status == 200
    assert "person/default has its tokens" in done
    assert (await world.browser.get(url)).status == 200  # loading it again changes nothing
    assert set(world.granted()) == {DEVICE}


async def test_the_page_has_only_the_common_script_no_style_of_its_own_and_no_other_resource(world):
    _, page, shown = await begin(world.browser)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "img-src data:;" in policy, "for the icon"
    (svg,) = re.findall(r"<svg.*?</svg>", shown, re.DOTALL)
    assert not re.search(r"style=|data:|href|url\(|<script|<image|<use", svg)
    assert shown.count("<script>") == 1
    rest = shown.replace(pages.STYLE, "").replace(f"<script>{pages.SCRIPT}", "")
    assert not re.search(r"<script|style=|src=", rest)
    assert re.findall('[^"]*data:[^;]*', rest) == ["data:image/svg+xml"]


async def test_the_page_is_told_the_end_by_its_feed(world):
    _, _, shown = await begin(world.browser)
    feed = unescape(re.search(r'data-feed="([^"]+)"', shown)[1])
    assert feed.startswith(f"/events{LOGIN}?mark=")
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    async with world.browser._session.get(world.admin + feed, headers=own) as stream:
        assert stream.status == 200
        await decide(world, shown)
        async with asyncio.timeout(60):
            told = (await stream.read()).decode()  # the end is the last event
    assert "event: end\n" in told
    assert "data: <h1>Logged in</h1>" in told
    assert "csrf" not in told or world.browser.csrf_in(told)


async def test_another_browsers_feed_ends_at_once_and_tells_nothing(world):
    await begin(world.browser)
    async with world.another_browser()._session.get(f"{world.admin}/events{LOGIN}") as stream:
        async with asyncio.timeout(60):
            assert "data:" not in (await stream.read()).decode()


async def test_the_login_goes_on_without_its_browser(world):
    _, _, shown = await begin(world.browser)
    await world.browser.close()
    world.browser = world.another_browser()
    await decide(world, shown)
    async with asyncio.timeout(60):
        while world.services.tokens.account("person", "default").state() != "valid":
            await asyncio.sleep(0.02)


async def test_another_browser_sees_no_code(world):
    url, _, shown = await begin(world.browser)
    other = await world.another_browser().get(url)
    assert other.status == 404
    text = await other.text()
    assert USER_CODE.search(shown)[1] not in text
    assert "started elsewhere" in text


async def test_a_declined_login_says_so_and_a_new_code_can_be_had(world):
    url, _, shown = await begin(world.browser)
    await decide(world, shown, "")
    page, text = await result(world.browser, url)
    assert page.status == 400
    assert "The login was declined." in text
    _, _, again = await begin(world.browser)
    assert USER_CODE.search(again)[1] != USER_CODE.search(shown)[1]


async def test_another_persons_tokens_ask_on_this_page(a_world):
    async with a_world(by_device) as world:
        world.server.devices.interval = 0
        for user in ("alice", "bob"):
            world.server.script(logs_in(world.server.issuer, "demo-app", user), grant_type=DEVICE, times=None)
            url, _, shown = await begin(world.browser)
            await decide(world, shown)
            page, text = await result(world.browser, url)
            world.server.faults.clear()
        assert page.status == 409
        assert "bob" in text
        owner = await world.services.tokens.owner(world.services.tokens.account("person", "default").key)
        assert owner.subject == "alice"


async def test_a_get_begins_nothing(world):
    for path in ("/login/person", "/login/person?device", "/login/person/default?device"):
        await world.get(path)
    assert world.granted() == []
    assert await (await world.get("/login/person?device")).text()


async def test_a_server_that_can_not_be_reached_is_named(a_world):
    def elsewhere(text):
        endpoint = 'device_authorization_endpoint = "http://127.0.0.1:1/d"'
        return by_device(text).replace('client_id = "demo-app"', f'client_id = "demo-app"\n{endpoint}', 1)

    async with a_world(elsewhere) as world:
        begun = await world.browser.press("/login/person")
        assert begun.status == 502
        assert "can&#39;t be reached" in await begun.text()
