"""Logging in, refreshing and logging out on the pages."""

import html
import re

import pytest

from proxy.demo import faults
from proxy.errors import StoreError
from proxy.store.base import AccountId
from proxy.tokens.login import takeover
from proxy.tokens.login.pending import party
from tests.fakes.id_tokens import logs_in

PERSON = AccountId("person", "default")
COMMAND = "the secret of a command"
SECOND_ACCOUNT = """
[[routes]]
path = "/second"
upstream = "http://127.0.0.1:9"
credential = "person"
account = "second@example.com"
"""


TICKET = re.compile(r'name="ticket" value="([A-Za-z0-9_-]{43})"')
TAGS = re.compile(r"<[^>]*>")


async def is_let_in(world):
    return (await world.get(f"{world.data}/demo/x")).status == 200


async def log_in_as(world, subject, browser=None, **claims):
    """A login with an id_token of `subject`; the last response."""
    claims = {"email": f"{subject}@example.com", **claims}
    world.server.script(logs_in(world.server.issuer, "demo-app", subject, **claims))
    return await (browser or world.browser).log_in()


async def form_of(browser, asked, decision):
    page = await asked.text()
    return {"csrf": browser.csrf_in(page), "ticket": TICKET.search(page)[1], "decision": decision}


async def press(browser, asked, decision):
    return await browser.post("/callback", await form_of(browser, asked, decision))


async def words_of(response):
    """The visible text."""
    return " ".join(html.unescape(TAGS.sub(" ", await response.text())).split())


async def whose(world):
    return (await world.services.tokens.owner(world.services.tokens.account("person", "default").key)).subject


async def test_a_person_logs_in_by_the_page(world):
    page = await world.get("/login/person")
    shown = await page.text()
    redirect_uri = f"{world.config.public_url}/callback<"
    for what in (world.server.issuer, "demo-app", "default", "api", redirect_uri):
        assert what in shown
    assert world.granted() == []

    begun = await world.browser.press("/login/person")
    assert begun.status == 303
    assert begun.headers["Location"].startswith(f"{world.server.issuer}/authorize?")
    assert world.granted() == []

    callback = await world.browser.approve(begun.headers["Location"])
    assert callback.startswith(f"{world.config.public_url}/callback?")
    done = await world.get(callback)
    assert done.status == 200
    assert "person/default" in await done.text()
    assert world.granted() == ["authorization_code"]
    assert await is_let_in(world)


async def test_each_login_has_its_own_state_and_challenge(world, query_of):
    first, second = [
        query_of((await world.browser.press("/login/person")).headers["Location"]) for _ in range(2)
    ]
    for name in ("state", "code_challenge"):
        assert first[name] != second[name]
        assert len(first[name]) == 43
    assert first["code_challenge_method"] == "S256"
    assert first["redirect_uri"] == f"{world.config.public_url}/callback"


async def test_a_get_starts_nothing(world):
    before = await world.services.store.page(None, 10)
    for path in ("/login/person", "/login/person/other", "/", "/refresh/person", "/logout/person"):
        await world.get(path)
    assert await world.services.store.page(None, 10) == before
    assert world.granted() == []


async def test_a_callback_in_another_browser_is_refused_before_any_token_request(world):
    callback = await world.browser.approve((await world.browser.press("/login/person")).headers["Location"])
    refused = await world.another_browser().get(callback)
    assert refused.status == 400
    assert "No such login is under way in this browser" in await refused.text()
    assert world.granted() == []
    assert (await world.get(callback)).status == 200, "it took nothing from this one"


async def test_a_callback_works_once(world):
    callback = await world.browser.approve((await world.browser.press("/login/person")).headers["Location"])
    assert (await world.get(callback)).status == 200
    again = await world.get(callback)
    assert again.status == 400
    assert world.granted() == ["authorization_code"]
    assert await is_let_in(world)


@pytest.mark.parametrize(
    "repeated", ["code=x", "iss=https%3A%2F%2Fevil.example", "state=x", "error=a&error=b"]
)
async def test_a_callback_with_a_repeated_parameter_is_refused(world, repeated):
    callback = await world.browser.approve((await world.browser.press("/login/person")).headers["Location"])
    refused = await world.get(f"{callback}&{repeated}")
    assert refused.status == 400
    assert "a parameter more than once (RFC 6749 section 3.1)" in await refused.text()
    assert world.granted() == []


async def test_a_head_request_does_not_use_up_a_callback(world):
    callback = await world.browser.approve((await world.browser.press("/login/person")).headers["Location"])
    target = callback.removeprefix(world.admin)
    assert (await world.raw(f"HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 405
    assert (await world.get(callback)).status == 200


async def test_the_states_of_two_logins_can_not_be_swapped(world, query_of):
    mine, other = world.browser, world.another_browser()
    to_me = await mine.approve((await mine.press("/login/person")).headers["Location"])
    to_other = await other.approve((await other.press("/login/person")).headers["Location"])
    swapped = to_me.replace(query_of(to_me)["state"], query_of(to_other)["state"])
    assert (await mine.get(swapped)).status == 400
    assert world.granted() == []


async def test_a_declined_login_says_so_in_our_words(world, query_of):
    callback = await world.browser.approve(
        (await world.browser.press("/login/person")).headers["Location"], user=""
    )
    assert query_of(callback)["error"] == "access_denied"
    response = await world.get(f"{callback}&error_description=%3Cscript%3Ealert(1)%3C/script%3E")
    shown = await response.text()
    assert response.status == 400
    assert "The login was declined." in shown
    assert "script" not in shown


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?code=x",
        "?state=x",
        "?state=x&code=y",
        "?state=%00%ff&code=y",
        "?error=access_denied&error_description=<script>alert(1)</script>",
        "?state=<script>alert(1)</script>&error=<script>",
    ],
)
async def test_a_callback_of_no_login_is_refused_and_repeats_nothing(world, query):
    response = await world.get(f"/callback{query}")
    assert response.status == 400
    assert "script" not in await response.text()
    assert world.granted() == []


async def test_the_redirect_must_come_from_the_server_that_the_login_went_to(world, query_of):
    callback = await world.browser.approve((await world.browser.press("/login/person")).headers["Location"])
    assert query_of(callback)["iss"] == world.server.issuer
    response = await world.get(callback.replace("&iss=", "&iss=https%3A%2F%2Fevil.example%2F"))
    assert response.status == 400
    assert "another authorization server" in await response.text()
    assert world.granted() == []


async def test_a_code_that_the_server_refuses_gives_a_reason_and_no_token(world):
    world.server.script(faults.NAMED["invalid-grant"])
    response = await world.browser.log_in()
    assert response.status == 400
    assert "refuses the code" in await response.text()
    assert not await is_let_in(world)


async def test_where_the_server_can_not_be_asked_the_page_says_so(a_world):
    async with a_world(lambda text: text.replace("issuer =", 'issuer = "http://127.0.0.1:9"\n#', 1)) as world:
        response = await world.browser.press("/login/person")
        assert response.status == 502
        assert "discovery of http://127.0.0.1:9 failed" in (await response.text()).lower()


async def test_where_the_store_fails_the_page_says_so(world, monkeypatch):
    async def full(*_):
        raise StoreError("disk full")

    monkeypatch.setattr(world.services.store, "stash", full)
    response = await world.browser.press("/login/person")
    assert response.status == 503
    assert "token store" in await response.text()


async def test_each_account_of_a_credential_logs_in_for_itself(a_world):
    async with a_world(lambda text: text + SECOND_ACCOUNT) as world:
        await world.browser.log_in("/login/person/second@example.com")
        states = {entry["account"]: entry["state"] for entry in (await world.json("/api/status"))["tokens"]}
        assert (states["second@example.com"], states["default"]) == ("valid", "absent")


@pytest.mark.parametrize(
    "path", ["/login/nobody", "/login/person/%3Cimg%20onerror%3E", "/login/person/a%2Fb", "/login/person/.a"]
)
async def test_an_invalid_account_has_no_page(world, path):
    response = await world.get(path)
    assert response.status == 404
    assert "onerror" not in await response.text()
    form = {"csrf": await world.browser.csrf()}
    for action in ("login", "refresh", "logout"):
        assert (await world.browser.post(path.replace("login", action), form)).status == 404


async def test_client_credentials_have_no_login(world):
    assert "No login needed" in await (await world.get("/login/machine")).text()
    form = {"csrf": await world.browser.csrf()}
    response = await world.browser.post("/login/machine", form)
    assert response.status == 502
    assert world.granted() == []


async def test_the_refresh_button_refreshes(world):
    await world.browser.log_in()
    before = (await world.json("/api/status"))["tokens"][1]
    response = await world.browser.press("/refresh/person/default", page="/")
    assert (response.status, response.headers["Location"]) == (303, "/")
    after = (await world.json("/api/status"))["tokens"][1]
    assert after["generation"] == before["generation"] + 1
    assert world.granted() == ["authorization_code", "refresh_token"]


async def test_a_refresh_that_fails_says_so(world):
    await world.browser.log_in()
    world.server.script(faults.NAMED["invalid-client"])
    response = await world.browser.press("/refresh/person", page="/")
    assert response.status == 503
    assert "does not accept this client" in await response.text()
    assert await is_let_in(world), "the access token is still good"


async def test_the_logout_button_ends_the_tokens_here_and_there(world):
    await world.browser.log_in()
    response = await world.browser.press("/logout/person", page="/")
    assert (response.status, response.headers["Location"]) == (303, "/")
    assert not await is_let_in(world)
    (entry, _) = (await world.json("/api/status"))["tokens"]
    assert (entry["state"], entry["reason"]) == ("absent", "logged out")
    assert world.server.families_revoked == 1, "RFC 7009: the server was told"


@pytest.mark.parametrize(
    ("origin", "status"), [("https://tokens.example", 303), ("https://tokens.example:444", 403)]
)
async def test_behind_a_reverse_proxy_the_origin_is_that_of_the_public_url(a_world, origin, status):
    public = 'public_url = "https://Tokens.example"'
    async with a_world(lambda text: text.replace("[server]", f"[server]\n{public}")) as world:
        there = {"Host": "tokens.example", "Cookie": await world.launched()}
        page = await world.get("/login/person", headers=there)
        assert "Secure" in page.headers["Set-Cookie"]
        form = {"csrf": world.browser.csrf_in(await page.text())}
        response = await world.browser.post("/login/person", form, origin=origin, cookie=there["Cookie"])
        assert response.status == status


# -- the user


async def test_the_page_after_a_login_shows_the_user_and_can_undo_it(world):
    done = await log_in_as(world, "ann")
    assert done.status == 200
    for shown in ("Account person/default", "Logged in as ann@example.com", "subject ann"):
        assert shown in await words_of(done)
    assert f'href="{world.admin}/logout/person/default"' in await done.text()
    assert (await world.browser.press("/logout/person/default")).status == 303
    assert not await is_let_in(world)
    assert world.server.families_revoked == 1


async def test_claims_of_an_id_token_are_escaped(world):
    done = await log_in_as(world, "<script>a</script>", email="<img src=x onerror=alert(1)>\x1b\u202e")
    shown = await done.text()
    assert "<script" not in shown
    assert "<img" not in shown
    assert "&lt;img src=x onerror=alert(1)&gt;\ufffd\ufffd" in shown


async def test_only_known_visitors_see_the_user_and_probes_and_metrics_do_not(world):
    await log_in_as(world, "ann-7")
    for path in ("/login/person", "/metrics", "/readyz"):
        response = await world.another_browser().get(path)
        assert "ann-7" not in await response.text() + str(response.headers)
    unknown = {"X-Forwarded-For": "192.0.2.1"}  # a proxy in front: nobody knows for whom
    for path in ("/", "/api/status"):
        assert "ann-7" in await (await world.get(path)).text()
        assert "ann-7" not in await (await world.get(path, headers=unknown)).text()
    async with world.browser._session.get(f"{world.admin}/events", headers=unknown) as stream:
        assert b"ann-7" not in await stream.content.readuntil(b"</main>")


async def test_without_an_id_token_the_page_shows_no_user(world):
    done = await world.browser.log_in()
    assert "Logged in" in await done.text()
    assert "<form" not in await done.text()


async def test_a_bad_id_token_fails_the_login_with_a_sentence(world):
    response = await log_in_as(world, "ann", aud="another-client")
    assert response.status == 400
    assert "The id_token is for another client: check client_id." in await words_of(response)
    assert not await is_let_in(world)


# -- another person


async def test_another_person_is_asked_first(world):
    await log_in_as(world, "ann")
    asked = await log_in_as(world, "bob")
    assert asked.status == 409
    words = await words_of(asked)
    for shown in (
        "It belongs to ann@example.com subject ann",
        "You logged in as bob@example.com subject bob",
    ):
        assert shown in words
    assert await whose(world) == "ann"

    done = await press(world.browser, asked, "replace")
    assert done.status == 200
    assert "Logged in as bob@example.com" in await words_of(done)
    assert await whose(world) == "bob"
    assert await is_let_in(world)


async def test_a_cancelled_login_changes_nothing_and_says_so(world):
    await log_in_as(world, "ann")
    done = await press(world.browser, await log_in_as(world, "bob"), "cancel")
    assert done.status == 200
    assert "Nothing has changed: person/default keeps its tokens." in await words_of(done)
    assert await whose(world) == "ann"
    assert await is_let_in(world)
    assert world.server.families_revoked == 1


@pytest.mark.parametrize("decision", ["", "REPLACE", "yes"])
async def test_only_replace_replaces(world, decision):
    await log_in_as(world, "ann")
    await press(world.browser, await log_in_as(world, "bob"), decision)
    assert await whose(world) == "ann"


async def test_a_decision_counts_once(world):
    await log_in_as(world, "ann")
    asked = await log_in_as(world, "bob")
    assert (await press(world.browser, asked, "cancel")).status == 200
    again = await press(world.browser, asked, "replace")
    assert again.status == 400
    assert "There is nothing to decide" in await words_of(again)
    assert await whose(world) == "ann"


async def test_another_browser_can_not_decide(world):
    other = world.another_browser()
    await log_in_as(world, "ann")
    asked = await log_in_as(world, "bob")
    form = {**await form_of(world.browser, asked, "replace"), "csrf": await other.csrf()}
    refused = await other.post("/callback", form)
    assert refused.status == 400
    assert "another browser was asked" in (await words_of(refused)).lower()
    assert await whose(world) == "ann"
    assert (await press(world.browser, asked, "replace")).status == 200, "it took nothing from this one"
    assert await whose(world) == "bob"


async def test_a_decision_must_come_from_our_own_page(world):
    await log_in_as(world, "ann")
    asked = await log_in_as(world, "bob")
    form = await form_of(world.browser, asked, "replace")
    for origin in ("http://evil.com", "null", ""):
        assert (await world.browser.post("/callback", form, origin=origin)).status == 403
    for csrf in ("", "0" * 64):
        assert (await world.browser.post("/callback", {**form, "csrf": csrf})).status == 403
    assert await whose(world) == "ann"
    assert (await world.browser.post("/callback", form)).status == 200, "and none of that used it up"


async def test_a_decision_that_comes_too_late_is_refused(world):
    await log_in_as(world, "ann")
    asked = await log_in_as(world, "bob")
    form = await form_of(world.browser, asked, "replace")
    browser = party(world.browser.cookie())
    assert await takeover.take(world.services.store, form["ticket"], browser), "as after ten minutes"
    assert (await world.browser.post("/callback", form)).status == 400
    assert await whose(world) == "ann"


async def test_an_owner_that_has_changed_meanwhile_is_shown(world):
    await log_in_as(world, "ann")
    asked, later = await log_in_as(world, "bob"), await log_in_as(world, "dora")
    await press(world.browser, later, "replace")
    again = await press(world.browser, asked, "replace")
    assert again.status == 409
    assert "It belongs to dora@example.com" in await words_of(again)
    assert (await press(world.browser, again, "replace")).status == 200
    assert await whose(world) == "bob"


async def test_a_browser_that_was_never_here_is_asked_too(world, query_of):
    """A command has begun the login; the invitation is the first request of this browser."""
    await log_in_as(world, "ann")
    invited = await world.services.logins.invite(PERSON, COMMAND)
    browser = world.another_browser()
    world.server.script(logs_in(world.server.issuer, "demo-app", "bob"))
    begun = await browser.get(invited)
    asked = await browser.get(await browser.approve(begun.headers["Location"]))
    assert asked.status == 409
    assert (await press(browser, asked, "replace")).status == 200
    assert await world.services.logins.outcome(COMMAND) == ""


async def test_where_the_store_fails_nothing_is_decided(world, monkeypatch):
    await log_in_as(world, "ann")
    asked = await log_in_as(world, "bob")

    async def full(*_args, **_options):
        raise StoreError("disk full")

    monkeypatch.setattr(world.services.store, "put", full)
    assert (await press(world.browser, asked, "replace")).status == 503
    monkeypatch.undo()
    assert await whose(world) == "ann"


MAIL = """
[credentials.mail]
issuer = "http://127.0.0.1:9"
grant = "refresh_token"
client_id = "demo-app"
client_secret = "demo"
refresh_token = "seed"
"""


async def test_the_login_page_of_a_configured_refresh_token_says_what_to_change_and_leads_back(a_world):
    async with a_world(lambda text: text + MAIL) as world:
        response = await world.get("/login/mail")
        html = await response.text()
        assert "No login to mail/default is needed: its grant is refresh_token." in html
        assert f'href="{world.config.public_url}/"' in html
        begun = await world.browser.post("/login/mail", {"csrf": await world.browser.csrf("/login/person")})
        assert "set credentials.mail.refresh_token to a new refresh token" in await begun.text()
