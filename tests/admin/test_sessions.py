"""Who is behind a request on the admin listener, and what that is good for."""

import asyncio
import re
import socket
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

from proxy import startup
from proxy.admin import launch, sign_in
from proxy.admin.attempts import BURST
from proxy.admin.peers import NOBODY
from proxy.admin.sessions import SESSION_TIME, Sessions
from proxy.config.load import load
from proxy.demo.wiring import embedded, free_ports
from tests.admin.conftest import Browser, World
from tests.admin.test_login import log_in_as
from tests.fakes.id_tokens import logs_in
from tests.other_user import STRANGER, as_user

KEY = "correct-horse-battery-staple"
WITH_KEY = f'[server]\nadmin_key = "{KEY}"'
PROXY = "127.0.0.2"  # where the proxy in front connects from
TRUSTS = f'[server]\nadmin_trusts = {{ header = "X-Remote-User", from = ["{PROXY}"] }}'
ACTIONS = ["/login/person", "/refresh/person", "/logout/person"]
SIGN_IN_FIRST = "Sign in first"


def replaced(line):
    return lambda text: text.replace("[server]", line)


class Client(Browser):
    """A browser that connects from another address, or as another user."""

    def __init__(self, url, *, address=None, uid=None):
        def connecting(info):
            with as_user(uid):
                return socket.socket(info[0], info[1], info[2])

        self.url = url
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            connector=aiohttp.TCPConnector(
                local_addr=(address, 0) if address else None,
                socket_factory=connecting if uid is not None else None,
            ),
        )


@pytest.fixture
async def client():
    made = []

    def make(world, **options):
        made.append(Client(world.admin, **options))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def unchanged(world, granted):
    return (
        world.granted() == granted
        and (await world.json("/api/status"))["counts"]["person"] == {"valid": 1}
        and world.server.families_revoked == 0
    )


async def as_person(browser, name, path="/login/person"):
    """The headers of a person behind the proxy in front, and a CSRF token from the page."""
    headers = {"X-Remote-User": name}
    page = await (await browser.get(path, headers=headers)).text()
    return headers, browser.csrf_in(page)


async def post(browser, path, form, **headers):
    """As `Browser.post`, with more header fields."""
    given = {"Origin": browser.url, **headers}
    async with browser._session.post(
        browser.url + path, data=form, headers=given, allow_redirects=False
    ) as response:
        await response.read()
        return response


# -- our own user, and others


@pytest.mark.privileged
@pytest.mark.parametrize("path", [*ACTIONS, "/callback"])
async def test_another_user_of_this_machine_changes_nothing_and_is_told_how(world, client, path):
    await world.browser.log_in()
    granted = world.granted()
    stranger = client(world, uid=STRANGER)
    assert (await stranger.get("/")).status == 200, "it may look"
    form = {"csrf": await world.minted(stranger), "ticket": "x" * 43, "decision": "replace"}
    response = await stranger.post(path, form)
    assert response.status == 403
    assert SIGN_IN_FIRST in await response.text()
    assert "token-proxy open" in await response.text()
    assert await unchanged(world, granted)


@pytest.mark.privileged
async def test_another_user_sees_no_buttons_but_the_way_to_get_them(world, client):
    await world.browser.log_in()
    stranger = client(world, uid=STRANGER)
    page = await (await stranger.get("/")).text()
    assert re.findall("<button[^>]*>[^<]*", page) == ["<button>Search"]
    assert "/logout/" not in page
    assert "token-proxy open" in page
    page = await (await stranger.get("/login/person")).text()
    assert "<button" not in page
    assert "token-proxy open" in page


@pytest.mark.privileged
async def test_another_user_with_a_launch_link_is_let_in(world, client):
    stranger = client(world, uid=STRANGER)
    link = await launch.make(world.config, world.services.store)
    launched = await stranger.get(link)
    assert (launched.status, launched.headers["Location"]) == (303, "/")
    assert (await stranger.press("/login/person")).status == 303


@pytest.mark.parametrize(
    "field", ["X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Host", "Forwarded", "Via", "X-Real-IP"]
)
async def test_a_proxy_that_runs_as_our_user_makes_nobody_our_user(world, field):
    form = {"csrf": await world.browser.csrf()}
    for value in ("192.0.2.1", ""):
        assert (await post(world.browser, "/login/person", form, **{field: value})).status == 403
    assert (await post(world.browser, "/login/person", form)).status == 303


async def test_under_another_name_than_loopback_our_user_needs_a_session_too(a_world):
    """A proxy in front, as our own user or root, may keep the Host field that it was called by."""
    async with a_world(replaced('[server]\nallowed_hosts = ["tokens.example"]')) as world:
        form = {"csrf": await world.browser.csrf()}
        for host, status in (("tokens.example", 403), ("localhost:1", 303)):
            origin = f"http://{host}"
            response = await post(world.browser, "/login/person", form, Host=host, Origin=origin)
            assert (response.status, host) == (status, host)


async def test_a_login_without_a_session_says_how_to_get_one(a_world):
    async with a_world(replaced('[server]\npublic_url = "https://tokens.example"')) as world:
        page = await (await world.get("/login/person", headers={"Host": "tokens.example"})).text()
        assert "token-proxy open" in page
        assert "<button" not in page


# -- launch links


async def test_a_launch_link_gives_a_session_once(a_world):
    async with a_world(replaced('[server]\npublic_url = "https://tokens.example"')) as world:
        link = await launch.make(world.config, world.services.store)
        path = link.removeprefix(world.config.public_url)
        response = await world.get(path, headers={"Host": "tokens.example"})
        assert (response.status, response.headers["Location"]) == (303, "/")
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        for field in response.headers.getall("Set-Cookie"):
            assert field.startswith("__Host-token_proxy_")
            for attribute in ("HttpOnly", "SameSite=Lax", "Secure", "Path=/"):
                assert attribute in field
            assert "Domain" not in field
        again = await world.get(path, headers={"Host": "tokens.example"})
        assert again.status == 403
        assert "Set-Cookie" not in again.headers
        assert "used already" in await again.text()


async def test_a_launch_link_is_used_by_one_of_many_at_once(world):
    link = await launch.make(world.config, world.services.store)
    responses = await asyncio.gather(*[world.another_browser().get(link) for _ in range(20)])
    assert sorted(response.status for response in responses) == [303] + [403] * 19


@pytest.mark.parametrize(
    "headers", [{"Sec-Purpose": "prefetch"}, {"Sec-Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"}]
)
async def test_a_page_loaded_ahead_of_time_uses_nothing_up(world, headers):
    link = await launch.make(world.config, world.services.store)
    assert (await world.get(link, headers=headers)).status == 503
    assert (await world.raw(f"HEAD {link.removeprefix(world.admin)} HTTP/1.1\r\nHost: localhost\r\n\r\n"))[
        0
    ] == 405
    assert (await world.get(link)).status == 303


async def test_a_launch_link_expires(world, monkeypatch):
    monkeypatch.setattr(launch, "VALID", -1.0)
    assert (await world.get(await launch.make(world.config, world.services.store))).status == 403


@pytest.mark.parametrize("token", ["x", "x" * 43, "%00", "login:x", "x" * 5000])
async def test_a_made_up_link_gives_nothing(world, token):
    response = await world.get(f"/launch/{token}")
    assert response.status in {403, 404}
    assert "Set-Cookie" not in response.headers


# -- sessions


async def test_a_session_belongs_to_one_browser(a_world):
    async with a_world(replaced('[server]\npublic_url = "https://tokens.example"')) as world:
        mine = dict(pair.split("=", 1) for pair in (await world.launched()).split("; "))
        theirs = dict(pair.split("=", 1) for pair in (await world.launched()).split("; "))
        browser, session = "__Host-token_proxy_browser", "__Host-token_proxy_session"
        sessions = {
            "mine": (mine, True),
            "without the browser's": ({session: mine[session]}, False),
            "in another browser": ({browser: theirs[browser], session: mine[session]}, False),
            "without one": ({browser: mine[browser]}, False),
            "empty": ({**mine, session: ""}, False),
            "longer": ({**mine, session: mine[session] + "0"}, False),
            "changed": ({**mine, session: mine[session][:-1] + "x"}, False),
            "of another kind": ({**mine, session: "k" + mine[session][1:]}, False),
            "that lasts longer": ({**mine, session: mine[session].replace("l1", "l9", 1)}, False),
            "under the name for http": ({browser[7:]: mine[browser], session[7:]: mine[session]}, False),
        }
        for name, (cookies, may) in sessions.items():
            cookie = "; ".join(f"{key}={value}" for key, value in cookies.items())
            headers = {"Cookie": cookie, "Host": "tokens.example"}
            page = await (await world.get("/login/person", headers=headers)).text()
            assert ("<button" in page) == may, name


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def wall(self):
        return self.now

    boot = wall


class Request:
    """As much of a request as tells who sent it."""

    transport = None
    host = "127.0.0.1"

    def __init__(self, **cookies):
        self.cookies = cookies
        self.headers = CIMultiDict()


def sessions_of(text, tmp_path, clock=None, key=b"k" * 32):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return Sessions(load(path).config, key, clock or Clock())


def begun(sessions, kind, person=""):
    """A request of a browser that has a session, and whose person a proxy in front may name."""
    response = web.Response()
    browser = f"{sessions.new_browser(Request())} {person}".strip()
    sessions.begin(response, browser, kind)
    return Request(**{name: morsel.value for name, morsel in response.cookies.items()})


def test_a_session_ends(tmp_path):
    clock = Clock()
    sessions = sessions_of("", tmp_path, clock)
    request = begun(sessions, "l")
    clock.now += SESSION_TIME - 1
    assert sessions.visitor(request) is not None
    clock.now += 1
    assert sessions.visitor(request) is None


def test_with_another_admin_key_the_sessions_of_the_old_one_end(tmp_path):
    with_key, another, without = WITH_KEY, WITH_KEY.replace("correct", "another"), ""
    request = begun(sessions_of(with_key, tmp_path), "k")
    assert sessions_of(with_key, tmp_path).visitor(request) is not None
    assert sessions_of(another, tmp_path).visitor(request) is None
    assert sessions_of(without, tmp_path).visitor(request) is None
    launched = begun(sessions_of(with_key, tmp_path), "l")
    for text in (with_key, another, without):
        assert sessions_of(text, tmp_path).visitor(launched) is not None


def test_with_another_store_key_all_sessions_and_forms_end(tmp_path):
    one, other = sessions_of("", tmp_path), sessions_of("", tmp_path, key=b"x" * 32)
    request = begun(one, "l")
    assert one.visitor(request) is not None
    assert other.visitor(request) is None
    assert one.csrf_token("b", "s" * 32) != other.csrf_token("b", "s" * 32)


# -- the admin key


async def test_the_admin_key_signs_a_browser_in(a_world):
    async with a_world(replaced(f'{WITH_KEY}\npublic_url = "https://localhost"')) as world:
        browser = world.another_browser()
        page = await browser.get("/sign-in")
        cookie = page.headers["Set-Cookie"].partition(";")[0]
        form = {"csrf": browser.csrf_in(await page.text()), "key": f" {KEY}\n", "next": "/login/person"}
        response = await browser.post("/sign-in", form, cookie=cookie)
        assert (response.status, response.headers["Location"]) == (303, "/login/person")
        assert any("session=k" in field for field in response.headers.getall("Set-Cookie"))


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/x?y", "", "/a//b"],
)
async def test_after_signing_in_the_browser_stays_here(a_world, target):
    async with a_world(replaced(WITH_KEY)) as world:
        form = {"csrf": await world.browser.csrf("/sign-in"), "key": KEY, "next": target}
        response = await world.browser.post("/sign-in", form)
        assert (response.status, response.headers["Location"]) == (303, "/")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("/login/person/a.b@c", "/login/person/a.b@c"), ("//evil", "/"), ("https://evil", "/"), ('"><x', "/")],
)
async def test_the_form_keeps_the_page_to_come_back_to(a_world, given, kept):
    async with a_world(replaced(WITH_KEY)) as world:
        page = await (await world.browser.get("/sign-in", params={"next": given})).text()
        assert f'name="next" value="{kept}"' in page


async def test_a_wrong_key_is_refused_and_guesses_are_limited(a_world, client):
    async with a_world(replaced(WITH_KEY)) as world:
        form = {"csrf": await world.browser.csrf("/sign-in"), "next": "/"}
        wrong = ["", "x", KEY[:-1], KEY + "x", KEY.upper(), "\N{SNOWMAN}", *["guess"] * BURST][:BURST]
        for key in wrong:
            response = await world.browser.post("/sign-in", {**form, "key": key})
            assert response.status == 403, key
            assert all("session" not in field for field in response.headers.getall("Set-Cookie"))
        limited = await world.browser.post("/sign-in", {**form, "key": KEY})
        assert limited.status == 429
        assert int(limited.headers["Retry-After"]) >= 1
        assert sign_in.TOO_MANY in await limited.text()
        assert (await world.get("/")).status == 200, "only keys are limited"


@pytest.mark.privileged
async def test_a_user_who_guesses_locks_out_no_other_user(a_world, client):
    async with a_world(replaced(WITH_KEY)) as world:
        stranger = client(world, uid=STRANGER)
        form = {"csrf": await stranger.csrf("/sign-in"), "next": "/", "key": "guess"}
        statuses = [(await stranger.post("/sign-in", form)).status for _ in range(BURST + 1)]
        assert statuses == [403] * BURST + [429]
        form = {"csrf": await world.browser.csrf("/sign-in"), "next": "/", "key": KEY}
        assert (await world.browser.post("/sign-in", form)).status == 303


@pytest.mark.privileged
async def test_a_user_without_a_number_guesses_no_more_often_by_many_addresses(a_world, client):
    async with a_world(replaced(WITH_KEY)) as world:
        statuses = []
        while 429 not in statuses and len(statuses) < 5 * BURST:  # a slow machine may have time for some more
            browser = client(world, uid=NOBODY, address=f"127.0.0.{len(statuses) + 10}")
            form = {"csrf": await browser.csrf("/sign-in"), "key": "guess"}
            statuses.append((await browser.post("/sign-in", form)).status)
        assert statuses[:BURST] == [403] * BURST
        assert statuses[-1] == 429


async def test_to_sign_in_takes_a_form_of_ours(a_world):
    async with a_world(replaced(WITH_KEY)) as world:
        form = {"csrf": await world.browser.csrf("/sign-in"), "key": KEY}
        assert (await world.browser.post("/sign-in", form, origin="http://evil.com")).status == 403
        assert (await world.browser.post("/sign-in", {"key": KEY, "csrf": "0" * 64})).status == 403


async def test_signing_out_ends_the_session(a_world):
    async with a_world(replaced(WITH_KEY)) as world:
        form = {"csrf": await world.browser.csrf("/sign-in"), "key": KEY}
        await world.browser.post("/sign-in", form)
        assert "/sign-out" in await (await world.get("/")).text()
        assert (await world.browser.press("/sign-out", page="/")).status == 303
        assert "/sign-out" not in await (await world.get("/")).text()


# -- programs


async def test_a_program_with_the_admin_key_needs_neither_page_nor_origin(a_world):
    async with a_world(replaced(WITH_KEY)) as world:
        await world.browser.log_in()
        headers = {"Authorization": f"Bearer {KEY}", "X-Forwarded-For": "192.0.2.1"}
        async with aiohttp.ClientSession() as program:
            for path in ("/refresh/person", "/logout/person"):
                async with program.post(
                    world.admin + path, headers=headers, allow_redirects=False
                ) as response:
                    assert (response.status, path) == (303, path)
        assert (await world.json("/api/status"))["counts"]["person"] == {"absent": 1}


@pytest.mark.parametrize(
    "value", ["Bearer wrong", "Bearer", f"Basic {KEY}", KEY, f"bearer  {KEY[:-1]}", "Bearer \xe9"]
)
async def test_a_program_with_another_key_changes_nothing(a_world, value):
    async with a_world(replaced(WITH_KEY)) as world:
        await world.browser.log_in()
        granted = world.granted()
        headers = {"Authorization": value, "X-Forwarded-For": "192.0.2.1"}
        async with (
            aiohttp.ClientSession() as program,
            program.post(f"{world.admin}/logout/person", headers=headers) as response,
        ):
            assert response.status == 403
        assert await unchanged(world, granted)


async def test_a_program_begins_no_login_that_any_browser_could_end(a_world):
    async with a_world(replaced(WITH_KEY)) as world:
        headers = {"Authorization": f"Bearer {KEY}", "Origin": world.admin}
        async with (
            aiohttp.ClientSession() as program,
            program.post(f"{world.admin}/login/person", headers=headers, allow_redirects=False) as response,
        ):
            assert response.headers["Location"] == f"{world.admin}/login/person/default"


async def test_a_token_for_somebody_else_does_no_harm(a_world):
    """A proxy in front may pass one on: it neither hinders nor counts as a guess."""
    async with a_world(replaced(WITH_KEY)) as world:
        form = {"csrf": await world.browser.csrf()}
        for _ in range(BURST + 2):
            response = await post(world.browser, "/login/person", form, Authorization="Bearer eyJ.eyJ.x")
            assert response.status == 303


# -- a proxy in front


async def test_a_person_whom_the_proxy_names_logs_in(a_world, client):
    async with a_world(replaced(TRUSTS)) as world:
        browser = client(world, address=PROXY)
        headers, csrf = await as_person(browser, "Zoë O'Neill")
        begun = await post(browser, "/login/person", {"csrf": csrf}, **headers)
        assert begun.status == 303
        done = await browser.get(await browser.approve(begun.headers["Location"]), headers=headers)
        assert done.status == 200


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [""],
        [" "],
        ["ann", "bob"],
        ["ann", "ann"],
        ["a" * 257],
        ["a\x7fb"],
        ["a\tb"],
        ["a\x01b"],
        ["\udcff"],
    ],
)
async def test_a_name_that_is_none_is_nobodys(a_world, client, fields):
    async with a_world(replaced(TRUSTS)) as world:
        browser = client(world, address=PROXY)
        form = {"csrf": await world.minted(browser)}
        body = "&".join(f"{name}={value}" for name, value in form.items())
        lines = b"".join(
            b"X-Remote-User: %b\r\n" % field.encode("utf-8", "surrogateescape") for field in fields
        )
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies().items())
        head = (
            f"POST /login/person HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: {world.admin}\r\nCookie: {cookie}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        )
        port = world.config.server.admin.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(PROXY, 0))
        writer.write(head.encode() + lines + b"\r\n" + body.encode())
        status = int((await reader.readline()).split()[1])
        rest = await reader.readuntil(b"</html>") if status == 403 else b""
        writer.close()
        assert status == 400 or SIGN_IN_FIRST in rest.decode()


async def test_a_name_from_anywhere_else_is_nothing(a_world, client):
    """Not from the trusted peer: forged, or set by another proxy."""
    async with a_world(replaced(TRUSTS)) as world:
        browser = client(world, address="127.0.0.3")
        for person in ("", "proxy:admin"):
            form = {"csrf": await world.minted(browser, person)}
            response = await post(browser, "/login/person", form, **{"X-Remote-User": "admin", "Via": "x"})
            assert response.status == 403


async def test_of_the_trusted_proxy_itself_the_user_counts_for_nothing(a_world, client):
    """It runs as root or as our own user, and whoever it serves would be that."""
    async with a_world(replaced(TRUSTS)) as world:
        browser = client(world, address=PROXY)
        response = await browser.post("/login/person", {"csrf": await world.minted(browser)})
        assert response.status == 403
        assert SIGN_IN_FIRST in await response.text()


async def test_two_people_in_one_browser_share_no_form_and_no_login(a_world, client):
    async with a_world(replaced(TRUSTS)) as world:
        browser = client(world, address=PROXY)
        ann, csrf = await as_person(browser, "ann")
        bob, _ = await as_person(browser, "bob")
        assert (await post(browser, "/login/person", {"csrf": csrf}, **bob)).status == 403
        begun = await post(browser, "/login/person", {"csrf": csrf}, **ann)
        callback = await browser.approve(begun.headers["Location"])
        assert (await browser.get(callback, headers=bob)).status == 400
        assert world.granted() == []


async def test_only_the_person_who_was_asked_decides(a_world, client):
    async with a_world(replaced(TRUSTS)) as world:
        await log_in_as(world, "ann", client(world, address="127.0.0.1"))
        browser = client(world, address=PROXY)
        bob, csrf = await as_person(browser, "bob")
        eve, eves = await as_person(browser, "eve")
        begun = await post(browser, "/login/person", {"csrf": csrf}, **bob)
        world.server.script(logs_in(world.server.issuer, "demo-app", "bob", email="bob@example.com"))
        asked = await browser.get(await browser.approve(begun.headers["Location"]), headers=bob)
        assert asked.status == 409
        text = await asked.text()
        ticket = text.partition('name="ticket" value="')[2][:43]
        form = {"csrf": eves, "ticket": ticket, "decision": "replace"}
        assert (await post(browser, "/callback", form, **eve)).status == 400
        owner = await world.services.tokens.owner(world.services.tokens.account("person", "default").key)
        assert owner.subject == "ann"


# -- replicas and restarts


@asynccontextmanager
async def two_replicas(edit=lambda text: text):
    """Two servers with one store and one public_url, and their authorization server."""
    async with embedded(*free_ports(0, 0)) as (server, plain):
        text = edit(plain.path.read_text())
        plain.path.write_text(text)
        first = load(plain.path).config
        data, admin = free_ports(0, 0)
        second_path = plain.path.with_name("second.toml")
        second_path.write_text(
            text.replace(f"127.0.0.1:{first.server.listen[0].port}", f"127.0.0.1:{data}")
            .replace(f"127.0.0.1:{first.server.admin.port}", f"127.0.0.1:{admin}")
            .replace("[server]", f'[server]\npublic_url = "{first.public_url}"')
        )
        second = load(second_path).config
        async with startup.serving(first) as one, startup.serving(second) as other:
            yield server, World(server, first, one), World(server, second, other)


async def test_forms_sessions_and_logins_work_at_any_replica():
    async with two_replicas(replaced(WITH_KEY)) as (_server, one, other):
        cookie = await one.launched(headers={"Via": "x"})
        behind = {"Via": "x", "Cookie": cookie, "Origin": one.admin}
        page = await (await one.get("/login/person", headers=behind)).text()
        form = {"csrf": one.browser.csrf_in(page)}
        begun = await post(other.browser, "/login/person", form, **behind)
        assert begun.status == 303
        callback = await one.browser.approve(begun.headers["Location"])
        assert callback.startswith(f"{one.admin}/callback")
        assert (await one.get(callback, headers=behind)).status == 200
        assert (await post(other.browser, "/logout/person", form, **behind)).status == 303
        await one.close()
        await other.close()


async def test_forms_and_sessions_survive_a_restart(a_world):
    async with embedded(*free_ports(0, 0)) as (server, config):
        async with startup.serving(config) as services:
            world = World(server, config, services)
            cookie = await world.launched()
            behind = {"Via": "x", "Cookie": cookie}
            page = await (await world.get("/login/person", headers=behind)).text()
            await world.close()
        async with startup.serving(config) as services:
            world = World(server, config, services)
            form = {"csrf": world.browser.csrf_in(page)}
            assert (await post(world.browser, "/login/person", form, **behind)).status == 303
            await world.close()
