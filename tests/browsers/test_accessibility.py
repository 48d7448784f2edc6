"""axe-core finds nothing to complain about: on any page, in any state, light, dark, and on a phone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from proxy.endings import ENDINGS
from tests.browsers.screenshots import DESKTOP, PHONE, logs_in_as, staged

pytestmark = [pytest.mark.browsers, pytest.mark.timeout(300)]
PAGES = {  # path → what it shows
    "/": "need attention",
    "/?state=expired": "Only accounts in the state",
    "/?q=nothing-of-that-name": "No accounts whose name has",
    "/?limit=2": "Next page",
    "/login/new": "Redirect URI",
    "/login/nightly": "No login needed",
    "/login/nothing": "Not found",
    "/logout/crm": "Routes that stop",
    "/logout/new": "There is nothing to disconnect",
    "/sign-in": "Sign in",
    "/launch/expired": "Link not valid",
    "/callback?state=x&code=y": "Login failed",
    "/nothing": "There is no such page",
    "/help": "Help",
    f"/help/{next(iter(ENDINGS))}": "What to do",
}
ON_A_PHONE = ("/", "/login/new", "/logout/crm", "/sign-in")  # the layout differs, the words do not
LOOKS = {
    "light": ("light", DESKTOP, PAGES),
    "dark": ("dark", DESKTOP, PAGES),
    "phone": ("dark", PHONE, ON_A_PHONE),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with staged(tmp_path_factory.mktemp("stage"), more=True) as made:
        yield made


def complaints(page):
    found = Axe().run(page).response["violations"]
    return [(each["id"], node["html"][:200]) for each in found for node in each["nodes"]]


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_has_a_fault(stage, look):
    colours, screen, paths = LOOKS[look]
    with stage.context(color_scheme=colours, **screen) as context:
        page = context.new_page()
        faults = {}
        for path in paths:
            page.goto(stage.url + path)
            expect(page.locator("main")).to_contain_text(PAGES[path])
            expect(page.locator("h1")).to_have_count(1)
            home = page.locator(f'a[href="{stage.url}/"], a[href="/"]')
            assert home.count() > 0, f"{path} has no way back"
            if found := complaints(page):
                faults[path] = found
        assert faults == {}


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_pages_of_a_login_have_no_fault(stage, look):
    colours, screen, _ = LOOKS[look]
    ours, account = stage.servers["ours"], f"a-{colours}"
    with stage.context(color_scheme=colours, **screen) as context:
        page = context.new_page()
        for person, heading in (("alice", "Logged in"), ("bob", "This account belongs to another person")):
            ours.script(logs_in_as(ours, "team", person), client_id="team")
            page.goto(f"{stage.url}/login/team/{account}")
            page.get_by_role("button", name="Continue to the authorization server").click()
            page.get_by_role("button", name=f"Continue as {person}").click()
            expect(page.get_by_role("heading", name=heading)).to_be_visible()
            assert complaints(page) == []
        page.get_by_role("button", name="Cancel: keep the tokens").click()
        expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
        assert complaints(page) == []
        page.goto(f"{stage.url}/login/tv/{account}")
        page.get_by_role("button", name="Get a code to enter on any device").click()
        expect(page.locator("#live")).to_have_text("live")
        assert complaints(page) == []


def test_a_fault_would_be_found(stage):
    with stage.context() as context:
        context.route("**/events*", lambda route: route.abort())  # which would mend the page
        page = context.new_page()
        page.goto(stage.url)
        for name in ("aria-label", "placeholder"):
            page.evaluate(f"document.querySelector('#search').removeAttribute('{name}')")
        assert {fault for fault, _ in complaints(page)} == {"label"}
