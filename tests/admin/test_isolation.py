"""What a browser may send to the admin listener: a person's navigations, and nothing that a script begins."""

import re
from html import unescape

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.admin.isolation import FeedMarks, may_pass
from proxy.admin.sessions import SESSIONS, Sessions
from proxy.clock import SystemClock
from proxy.config.load import load
from proxy.http.cookies import BROWSER_COOKIE

MARKS = FeedMarks(b"k" * 32)
BROWSER = "b" * 43
CHROMIUM = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
SAFARI = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/26.0 Safari/605.1.15"
PERSON = {
    "User-Agent": FIREFOX,
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-User": "?1",
}
READABLE = ("/", "/api/status", "/metrics", "/healthz", "/readyz", "/login/person")


def marks(site, **others):
    """A person's navigation from `site`, but for `others` (Mode, Dest, User, …)."""
    changed = {f"Sec-Fetch-{name}": value for name, value in others.items()}
    return {name: value for name, value in {**PERSON, "Sec-Fetch-Site": site, **changed}.items() if value}


async def post(world, headers):
    """Press a button whose page has been loaded; the status."""
    form = {"csrf": await world.browser.csrf()}
    async with world.browser._session.post(
        f"{world.admin}/login/person",
        data=form,
        headers={"Origin": world.admin, **headers},
        allow_redirects=False,
    ) as response:
        return response.status


@pytest.mark.parametrize("path", READABLE)
async def test_a_person_and_a_program_open_every_page(world, path):
    expected = (await world.get(path)).status
    assert expected in {200, 503}
    for site in ("none", "cross-site", "same-site", "same-origin"):
        assert (await world.get(path, headers=marks(site))).status == expected
    assert (
        await world.get(path, headers={"Accept": "*/*", "Sec-Fetch-Mode": "cors"})
    ).status == expected  # Node


SCRIPTS = [  # what a script, a page's resources or a worker send, wherever they are
    {"Mode": "cors", "Dest": "empty"},
    {"Mode": "no-cors", "Dest": "empty"},
    {"Mode": "same-origin", "Dest": "empty"},
    {"Mode": "navigate", "Dest": "empty"},  # fetch(event.request) of a worker in Chromium
    *({"Mode": "navigate", "Dest": dest} for dest in ("iframe", "frame", "object", "embed", "")),
    *(
        {"Mode": "no-cors", "Dest": dest}
        for dest in ("image", "script", "style", "video", "font", "manifest")
    ),
    {"Mode": "websocket", "Dest": "empty"},
    {"Mode": ""},
]


@pytest.mark.parametrize("marked", SCRIPTS)
async def test_what_a_script_begins_is_refused_on_every_path(world, marked):
    for site in ("none", "cross-site", "same-site", "same-origin", "x"):
        headers = marks(site, **marked)
        for path in (*READABLE, "/callback?state=x&code=y", "/nothing"):
            response = await world.get(path, headers=headers)
            assert response.status == 403, (path, headers)
            assert "Set-Cookie" not in response.headers
            foreign = site == "same-origin" and marked.get("Dest") != "image"
            assert response.headers.get("Clear-Site-Data") == ('"storage"' if foreign else None)
        assert await post(world, headers) == 403
    assert world.services.metrics.refused.labels("browser-refused")._value.get() == 5 * 9


async def test_a_script_of_our_own_origin_opens_no_tab_that_it_could_read(world):
    script = marks("same-origin", User="")
    response = await world.get("/", headers=script)
    assert response.status == 403
    assert f'href="{world.admin}/"' in await response.text()
    assert (await world.get("/", headers=script | {"User-Agent": CHROMIUM})).status == 403
    assert (await world.get("/", headers=script | {"User-Agent": SAFARI})).status == 200


EVENT_SOURCE = {"Mode": "cors", "Dest": "empty", "User": ""}


async def feed_of(browser, path="/"):
    return unescape(re.search(r'data-feed="([^"]+)"', await (await browser.get(path)).text())[1])


async def status_of(world, path, headers, browser=None):
    """Of a response that may go on."""
    browser = browser or world.browser
    async with browser._session.get(world.admin + path, headers=headers) as response:
        return response.status


async def test_a_feed_is_for_the_page_that_was_given_its_address(world):
    feed = await feed_of(world.browser)
    own = marks("same-origin", **EVENT_SOURCE)
    assert await status_of(world, feed, own) == 200
    for site in ("cross-site", "same-site", "none"):
        assert await status_of(world, feed, marks(site, **EVENT_SOURCE)) == 403
    assert await status_of(world, feed[:-1], own) == 403
    assert await status_of(world, "/events", own) == 403
    assert await status_of(world, feed, own, world.another_browser()) == 403
    other = world.another_browser()
    assert await feed_of(other) != feed
    assert await status_of(world, feed, own, other) == 403
    for path in ("/", "/api/status", "/login/person", "/metrics"):  # the mark opens nothing else
        assert await status_of(world, feed.replace("/events", path), own) == 403
    no_cors = marks("same-origin", Mode="no-cors", Dest="empty", User="")
    assert await status_of(world, feed, no_cors) == 403
    assert await status_of(world, feed, own | {"Service-Worker": "script"}) == 403
    foreign = {"Origin": "http://evil.example"}
    assert await status_of(world, "/events", foreign) == 403, "a browser on a plain name"
    assert await status_of(world, "/events", {}) == 200, "a program"


@pytest.mark.parametrize(
    "headers", [{"Service-Worker": "script"}, {"Service-Worker-Navigation-Preload": "true"}]
)
async def test_nothing_is_served_to_a_service_worker(world, headers):
    for more in ({}, marks("none"), marks("same-origin")):
        response = await world.get("/", headers=headers | more)
        assert response.status == 403
        clears = response.headers.get("Clear-Site-Data") is not None
        assert clears == ("Service-Worker" not in headers)  # see isolation.CLEAR


FORMS = [  # marks of a form, status
    ({}, 303),  # a program
    (marks("same-origin"), 303),
    (marks("same-origin", User=""), 403),
    (marks("same-origin", User="?0"), 403),
    (marks("same-origin", User="") | {"User-Agent": SAFARI}, 303),
    (marks("same-origin", User="") | {"User-Agent": CHROMIUM}, 403),
    (marks("cross-site"), 403),
    (marks("same-site"), 403),
    (marks("none"), 403),
    (marks("same-origin", Dest="iframe"), 403),
]


@pytest.mark.parametrize(("headers", "status"), FORMS)
async def test_a_form_counts_if_a_person_has_sent_it(world, headers, status):
    assert await post(world, headers) == status


async def test_without_marks_a_foreign_origin_reads_nothing(world):
    """On a plain name browsers mark nothing, but a script that is to read sends its Origin."""
    assert (await world.get("/", headers={"Origin": "http://evil.example"})).status == 403
    assert (await world.get("/", headers={"Origin": "null"})).status == 403
    assert (await world.get("/", headers={"Origin": world.admin})).status == 200


# -- any combination, against an independent model

OPTIONAL = {
    "Sec-Fetch-Site": ("none", "cross-site", "same-site", "same-origin", ""),
    "Sec-Fetch-Mode": ("navigate", "cors", "no-cors", "same-origin", "websocket"),
    "Sec-Fetch-Dest": ("document", "empty", "iframe", "image", "serviceworker"),
    "Sec-Fetch-User": ("?1", "?0"),
    "Origin": ("http://localhost:8081", "http://evil.example", "null"),
    "User-Agent": (CHROMIUM, FIREFOX, SAFARI, "curl/8"),
    "Service-Worker": ("script",),
    "Service-Worker-Navigation-Preload": ("true",),
    "Cookie": (f"{BROWSER_COOKIE}={BROWSER}", f"{BROWSER_COOKIE}={'c' * 43}", f"{BROWSER_COOKIE}=x"),
}
HEADERS = st.fixed_dictionaries({}, optional={name: st.sampled_from(each) for name, each in OPTIONAL.items()})


def expected(method, path, headers):
    """Written as the cases that pass."""
    if headers.keys() & {"Service-Worker", "Service-Worker-Navigation-Preload"}:
        return False
    site, mode, dest = (headers.get(f"Sec-Fetch-{name}") for name in ("Site", "Mode", "Dest"))
    person = headers.get("Sec-Fetch-User") == "?1" or headers.get("User-Agent") == SAFARI
    ours = path == MARKS.url(BROWSER) and headers.get("Cookie") == f"{BROWSER_COOKIE}={BROWSER}"
    tab = (mode, dest) == ("navigate", "document")
    return (
        (site is None and (method == "POST" or headers.get("Origin") in {None, "http://localhost:8081"}))
        or (site == "same-origin" and tab and person)
        or (site == "same-origin" and (mode, dest) == ("cors", "empty") and method == "GET" and ours)
        or (site in {"none", "cross-site", "same-site", ""} and tab and method != "POST")
    )


CONFIG = """
[credentials.crm]
token_endpoint = "https://login.example/token"
grant = "client_credentials"
client_id = "x"
client_secret = { env = "PATH" }
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    file = tmp_path_factory.mktemp("isolation") / "config.toml"
    file.write_text(CONFIG)
    made = web.Application()
    made[SESSIONS] = Sessions(load(file).config, b"k" * 32, SystemClock())
    return made


@given(
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from(["/", MARKS.url(BROWSER), "/events?mark=", "/callback?code=x", "/api/status"]),
    HEADERS,
)
@example(
    "GET",
    MARKS.url(BROWSER),
    {
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Mode": "cors",
        "Sec-Fetch-Dest": "empty",
        "Cookie": f"{BROWSER_COOKIE}={BROWSER}",
    },
)
@example(
    "POST", "/", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
)
def test_each_combination_is_judged_as_the_model_says(app, method, path, headers):
    request = make_mocked_request(method, path, {"Host": "localhost:8081", **headers}, app=app)
    assert may_pass(request, MARKS) == expected(method, path, headers)
