"""What people do on the page, in a real browser: with the real command and npm oidc-provider.

Our own authorization server is there too: it refuses, fails and revokes on demand.
"""

import re
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from proxy.demo import faults
from tests.browsers.stage import (
    Background,
    Stage,
    chromium,
    credential,
    our_server,
    press,
    route,
    row,
    served,
    two_ports,
)
from tests.e2e.authorization_servers import OIDC_PROVIDER, install_oidc_provider, server_environment
from tests.e2e.processes import Service
from tests.servers import programs

pytestmark = [pytest.mark.browsers, pytest.mark.timeout(300)]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SHORT = 5  # seconds that the access tokens of `hr` live
SCOPES = 'scopes = ["openid", "offline_access", "api"]\nauthorize_params = { prompt = "consent" }'


def config(issuer, ours, short):
    web = credential("crm", issuer, more=SCOPES).replace('client_id = "crm"', 'client_id = "web"')
    web = web.replace('client_secret = "secret"', 'client_secret = { env = "WEB_SECRET" }')
    return "".join(
        [
            web,
            credential("hr", short.issuer),
            credential("team", ours.issuer),
            credential("tv", ours.issuer, "device_code"),
            credential("nightly", ours.issuer, "client_credentials"),
            *(route(name) for name in ("crm", "hr", "tv", "nightly")),
            route("team", more='account = { header = "X-Remote-User" }'),
        ]
    )


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder, ports, background = tmp_path_factory.mktemp("stage"), two_ports(), Background()
    install_oidc_provider()
    environment = server_environment([f"http://127.0.0.1:{ports[1]}/callback"], "m2m") | {"ACCESS_TTL": "60"}
    with ExitStack() as stack:
        stack.callback(background.close)
        provider = Service(
            [programs.find("node"), str(OIDC_PROVIDER / "server.mjs")], folder / "op", environment
        )
        stack.callback(provider.stop)
        ours = stack.enter_context(
            our_server(background, ports[1], "team", "tv", "nightly", users=("alice", "bob"))
        )
        ours.devices.interval = 1
        short = stack.enter_context(our_server(background, ports[1], "hr", lifetime=SHORT))
        text = config(provider.ready["issuer"], ours, short)
        proxy = stack.enter_context(served(folder, ports, text, {"WEB_SECRET": environment["WEB_SECRET"]}))
        yield Stage(proxy, {"ours": ours, "short": short}, stack.enter_context(chromium()))


def log_in(page, credential="team", account="default", user="alice"):
    """At our own server, from the page that explains."""
    page.goto(page.url.partition("/login")[0].rstrip("/") + f"/login/{credential}/{account}")
    page.get_by_role("button", name="Continue to the authorization server").click()
    page.get_by_role("button", name=f"Continue as {user}").click()
    expect(page.get_by_role("heading", name="Logged in")).to_be_visible()


def connect_crm(page, user="carol"):
    """At npm oidc-provider: its own pages for the name and the consent."""
    press(page, "Connect", "crm")
    expect(page.get_by_text("Redirect URI")).to_be_visible()
    expect(page.get_by_text(f"{page.url.partition('/login')[0]}/callback")).to_be_visible()
    page.get_by_role("button", name="Continue to the authorization server").click()
    page.locator("input[name=login]").fill(user)
    page.locator("input[name=password]").fill("any")
    page.locator("button[type=submit]").click()
    page.locator("button[type=submit]").click()
    expect(page.get_by_role("heading", name="Logged in")).to_be_visible()


def test_a_person_connects_sees_it_count_down_refreshes_and_disconnects(stage):
    with stage.page() as page:
        expect(row(page, "crm")).to_contain_text("no tokens yet")
        connect_crm(page)
        page.get_by_role("link", name="All accounts").click()
        crm = row(page, "crm")
        expect(crm).to_contain_text("carol@people.example")
        expect(crm).to_contain_text("valid")
        expect(page.locator("#live")).to_have_text("live")

        time = crm.locator("td time").first
        first = time.inner_text()
        assert re.fullmatch(r"in \d+ s", first), first
        expect(time).not_to_have_text(first)
        bar = crm.locator("svg rect")
        width = bar.get_attribute("width")
        expect(bar).not_to_have_attribute("width", width)

        generation = stage.entry("crm")["generation"]
        press(page, "Refresh", "crm")
        expect(row(page, "crm")).to_contain_text(re.compile(r"last \d s ago"))
        assert stage.entry("crm")["generation"] > generation

        press(page, "Disconnect", "crm")
        expect(page.get_by_role("heading", name="Disconnect crm/default?")).to_be_visible()
        expect(page.get_by_text("Routes that stop")).to_be_visible()
        page.get_by_role("link", name="Cancel").click()
        expect(row(page, "crm")).to_contain_text("valid")
        press(page, "Disconnect", "crm")
        page.get_by_role("button", name="Disconnect crm/default").click()
        expect(row(page, "crm")).to_contain_text("no tokens yet")
        assert stage.entry("crm")["state"] == "absent"


def test_a_revoked_login_shows_by_itself_and_one_click_leads_to_the_mending(stage):
    short = stage.servers["short"]
    with stage.page() as page:
        log_in(page, "hr")
        page.get_by_role("link", name="All accounts").click()
        expect(row(page, "hr")).to_contain_text("valid")
        search = page.get_by_role("searchbox")
        search.fill("my search")
        short.script(faults.NAMED["invalid-grant"], times=None, client_id="hr")
        expect(row(page, "hr")).to_contain_text("login required")
        expect(page).to_have_title(re.compile(r"^\(\d+\) Accounts"))
        expect(search).to_have_value("my search")
        expect(search).to_be_focused()  # nothing was lost
        short.faults.clear()
        press(page, "Reconnect", "hr")
        page.get_by_role("button", name="Continue to the authorization server").click()
        page.get_by_role("button", name="Continue as alice").click()
        page.get_by_role("link", name="All accounts").click()
        expect(row(page, "hr")).to_contain_text("valid")


def test_an_outage_shows_its_next_try_and_try_now_ends_it(stage):
    short = stage.servers["short"]
    with stage.page() as page:
        log_in(page, "hr")
        short.script(faults.NAMED["outage"], times=None, client_id="hr")
        page.get_by_role("link", name="All accounts").click()
        hr = row(page, "hr")
        expect(hr).to_contain_text(re.compile(r"failed \d+ s ago \(http_503\)"))
        expect(hr).to_contain_text("next try")
        press(page, "Try now", "hr")
        expect(page.get_by_role("heading", name="Refresh of hr/default failed")).to_be_visible()
        expect(page.get_by_text("http_503")).to_be_visible()
        page.get_by_role("link", name="All accounts").click()
        short.faults.clear()
        press(page, "Try now", "hr")
        expect(row(page, "hr")).to_contain_text(re.compile(r"last \d+ s ago"))


def test_two_people_in_two_browsers_see_each_others_work(stage):
    with stage.page() as alice, stage.page() as bob:
        for page, name in ((alice, "alice"), (bob, "bob")):
            page.get_by_role("textbox", name="Name of a new account of team").fill(name)
            page.get_by_role("button", name="Connect a new account of team").click()
            page.get_by_role("button", name="Continue to the authorization server").click()
            page.get_by_role("button", name=f"Continue as {name}").click()
            page.get_by_role("link", name="All accounts").click()
        for page in (alice, bob):
            for name in ("alice", "bob"):
                expect(row(page, "team", name)).to_contain_text("valid")
        mine = alice.get_by_role("link", name="Disconnect team/alice")
        mine.focus()
        press(bob, "Disconnect", "team", "bob")
        bob.get_by_role("button", name="Disconnect team/bob").click()
        expect(row(alice, "team", "bob")).not_to_contain_text("valid")  # without a reload
        expect(row(alice, "team", "alice")).to_contain_text("valid")
        expect(mine).to_be_focused()


def test_a_login_on_another_device_ends_on_the_page_by_itself(stage):
    with stage.page() as page, stage.context() as phone:
        press(page, "Connect", "tv")
        page.get_by_role("button", name="Get a code to enter on any device").click()
        expect(page.get_by_role("img", name="QR code of that page")).to_be_visible()
        code = page.locator(".code strong").inner_text()
        device = phone.new_page()
        device.goto(page.locator(".code a").get_attribute("href"))
        expect(device.locator("[name=user_code]")).to_have_value(code)
        device.get_by_role("button", name="Continue as alice").click()
        expect(page.get_by_role("heading", name="Logged in")).to_be_visible()
        page.get_by_role("link", name="All accounts").click()
        expect(row(page, "tv")).to_contain_text("valid")


def test_denied_consent_expired_links_and_the_back_button_lead_on(stage):
    with stage.page("/login/team/denied") as page:
        page.get_by_role("button", name="Continue to the authorization server").click()
        page.get_by_role("button", name="Refuse").click()
        expect(page.get_by_role("heading", name="Login failed")).to_be_visible()
        expect(page.get_by_text("The login was declined.")).to_be_visible()
        used = page.url
        page.get_by_role("link", name="All accounts").click()
        expect(page.locator("#headline")).to_be_visible()
        page.go_back()
        expect(page.locator("h1")).to_be_visible()
        for expired in (used, f"{stage.url}/launch/{'x' * 43}"):
            page.goto(expired)
            page.get_by_role("link", name="All accounts").click()
            expect(page.locator("#headline")).to_be_visible()
        page.goto(f"{stage.url}/login/tv")
        page.get_by_role("link", name="Cancel").click()
        expect(page.locator("#headline")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name="Connect tv/default")).to_be_visible()


# Whether the button takes clicks, at its first moment and later: its animation is begun again, and stopped.
TAKES_CLICKS = """() => {
  const button = document.querySelector("button.danger");
  const takes = () => getComputedStyle(button).pointerEvents !== "none";
  button.style.animationName = "none";
  takes();
  button.style.animationName = "";
  const [arming] = button.getAnimations();
  arming.pause();
  arming.currentTime = 600;
  const early = takes();
  arming.finish();
  return [early, takes()];
}"""


def test_a_double_click_disconnects_nothing_and_then_nothing_twice(stage):
    for options in ({}, PHONE):
        with stage.page(**options) as page:
            log_in(page, "team", "double")
            page.get_by_role("link", name="All accounts").click()
            link = page.get_by_role("link", name="Disconnect team/double")
            link.scroll_into_view_if_needed()
            box = link.bounding_box()
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.dblclick(x, y)
            expect(page.get_by_role("heading", name="Disconnect team/double?")).to_be_visible()
            assert page.evaluate(TAKES_CLICKS) == [False, True]
            assert stage.entry("team", "double")["state"] == "valid"
            page.get_by_role("button", name="Disconnect team/double").dblclick()
            expect(page.locator("h1")).to_be_visible()
            page.goto(stage.url)
            expect(page.locator("#headline")).to_be_visible()
            assert stage.entry("team", "double")["state"] == "absent"


def test_without_javascript_all_of_it_works_by_links_and_forms(stage):
    with stage.page(java_script_enabled=False) as page:
        log_in(page, "team", "plain")
        page.get_by_role("link", name="All accounts").click()
        page.get_by_role("searchbox").fill("team/pla")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("#filter")).to_contain_text("team/pla")
        expect(row(page, "team", "plain")).to_be_visible()
        expect(row(page, "nightly")).to_have_count(0)
        press(page, "Refresh", "team", "plain")
        expect(row(page, "team", "plain")).to_contain_text(re.compile(r"last \d+ s ago"))
        assert "q=team" in page.url
        page.get_by_role("link", name="reload").click()
        expect(row(page, "team", "plain")).to_be_visible()
        press(page, "Disconnect", "team", "plain")
        page.get_by_role("button", name="Disconnect team/plain").click()
        page.goto(f"{stage.url}/?state=valid")
        expect(row(page, "team", "plain")).to_have_count(0)


def test_on_a_phone_every_button_is_on_the_screen(stage):
    with stage.page(**PHONE) as page:
        log_in(page, "team", "a-very-long-name.of-an-account@subsidiary.example.com")
        for path in (
            "/",
            "/login/crm",
            "/login/tv",
            "/logout/team/a-very-long-name.of-an-account@subsidiary.example.com",
        ):
            page.goto(stage.url + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
            found = page.locator("a.button:visible, button:visible, input:visible")
            assert found.count() > 0
            for each in found.all():
                box = each.bounding_box()
                assert box["x"] >= 0, (path, each.inner_text())
                assert box["x"] + box["width"] <= 390, (path, each.inner_text())


def test_pages_request_nothing_from_anybody_else_and_break_no_policy(stage):
    with stage.context() as context:
        hosts, complaints = set(), []
        context.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        context.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page = context.new_page()
        for path in ("/", "/login/crm", "/logout/crm", "/login/tv", "/sign-in"):
            response = page.goto(stage.url + path)
            policy = response.headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "default-src 'none'" in policy
        assert hosts == {urlsplit(stage.url).netloc}
        assert complaints == []


REGISTER = """<!doctype html><h1>before</h1><script>
navigator.serviceWorker.register("/worker.js").then(() => navigator.serviceWorker.ready)
  .then(() => document.querySelector("h1").textContent = "registered");
</script>"""
WORKER = """
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { url } = event.request;
  if (url.includes("/events")) fetch("SPY", { method: "POST", mode: "no-cors", body: url });
});
"""


@contextmanager
def earlier_program(port, spy):
    """A program that had the port before us, and leaves a service worker that spies on feeds."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            is_worker = self.path == "/worker.js"
            body = WORKER.replace("SPY", spy) if is_worker else REGISTER
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if is_worker else "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class Spied(BaseHTTPRequestHandler):
    seen: ClassVar[list[bytes]] = []

    def do_POST(self):
        self.seen.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_worker_that_another_program_left_sees_no_feed_and_is_removed(stage, tmp_path):
    ports = two_ports()
    with ThreadingHTTPServer(("127.0.0.1", 0), Spied) as spy, stage.context() as context:
        thread = threading.Thread(target=spy.serve_forever)
        thread.start()
        page = context.new_page()
        with earlier_program(ports[1], f"http://127.0.0.1:{spy.server_port}/"):
            page.goto(f"http://127.0.0.1:{ports[1]}/")
            expect(page.get_by_role("heading", name="registered")).to_be_visible()
        config = credential("nightly", stage.servers["ours"].issuer, "client_credentials") + route("nightly")
        with served(tmp_path, ports, config, {}) as proxy:
            page.goto(proxy.public_url)
            expect(page.locator("#live")).to_have_text("not live: reload the page")
            page.goto(proxy.public_url)  # by then it is gone
            expect(page.locator("#live")).to_have_text("live")
            page.close()
        spy.shutdown()
        thread.join()
    assert Spied.seen == []
