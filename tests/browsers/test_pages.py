"""Real pages of other origins, in real browsers, against a running proxy.

Each way in which a page can cause a request is tried against each kind of listener and, in the same run,
against a server that takes everything: a way that does not arrive there proves nothing.
"""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from proxy.demo.wiring import free_ports
from tests.browsers.arena import APP, NAMED, Arena, arena, until
from tests.browsers.sites import CANARY, HERE, page, serving

pytestmark = [pytest.mark.browsers, pytest.mark.timeout(600)]
BROWSERS = ("chromium", "firefox")
REDIRECTS = (301, 302, 303, 307, 308)
_TABLE = (HERE / "ways.js").read_text().partition("const WAYS = {")[2]
WAYS = (
    *re.findall(r"^  (\w+): ", _TABLE.partition("\n};")[0], re.MULTILINE),
    *(f"redirect_{code}_{what}" for code in REDIRECTS for what in ("img", "post", "form")),
    *re.findall(r"^WAYS\.(\w+) = ", _TABLE, re.MULTILINE),
)
ONLY_SECURE = {"service_worker", "audio_worklet"}  # on secure origins only
WINDOWS = {  # they open windows, which takes browsers long: so against fewer targets
    *("click", "download", "form_blank", "form_get_blank"),
    *("open", "open_noopener", "open_location", "open_refresh", "redirect_open"),
}
NOT = {"chromium": set(), "firefox": {"link_prefetch", "link_icon"}}  # what causes no request in a browser
SHORT = (
    *("img", "script", "link_css", "iframe", "object", "video", "ping", "fetch", "fetch_no_cors"),
    *(
        "fetch_credentials",
        "fetch_post_no_cors",
        "fetch_post_json",
        "fetch_put",
        "xhr",
        "beacon",
        "event_source",
    ),
    *("websocket", "import_module", "form_get", "form_post", "form_text", "frame_location", "sandboxed_post"),
    *("redirect_302_img", "redirect_307_form", "data_document"),
)


@pytest.fixture
async def world(tmp_path):
    async with arena(tmp_path) as made:
        yield made


def causing(browser, ways):
    return [way for way in ways if way not in NOT[browser]]


def both(*kinds):
    return [each for kind in kinds for each in (kind, f"control-{kind}")]


async def all_tried(world: Arena, attackers):
    """All ways have been tried, and have arrived at the control."""
    await until(lambda: world.attacker.done >= set(attackers), "all ways to be tried")
    expected = {
        f"{attacker}/{target['kind']}/{way}"
        for attacker in attackers
        for target in world.attacker.plans[attacker]
        if target["kind"].startswith("control-")
        for way in target["ways"]
    }
    try:
        await until(lambda: world.control.places >= expected, "each way to arrive at the control", 60)
    except AssertionError:
        pytest.fail(f"never arrived at the control: {sorted(expected - world.control.places)}")


def reads(world: Arena, *words):
    """What a page has read that is not the control's."""
    return {
        place: data
        for place, data in world.attacker.reads.items()
        if "/control-" not in place and any(word in data for word in words)
    }


@pytest.mark.parametrize("browser", BROWSERS)
async def test_pages_of_other_origins_reach_nothing_read_nothing_and_change_nothing(world, browser):
    await world.start_proxies(*free_ports(0, 0))
    plain = causing(browser, set(WAYS) - ONLY_SECURE)
    quiet = [way for way in plain if way not in WINDOWS]
    windows = [way for way in plain if way in WINDOWS]
    short, secure = causing(browser, SHORT), causing(browser, ONLY_SECURE)
    world.plan("evil", [*both("loopback", "plain"), "tls", "admin"], quiet)
    world.plan("evil", ["control-tls"], short)
    world.plan("evil", ["loopback", "plain", "control-plain", "admin"], windows)
    world.plan("evil", both("named", "host"), short)
    world.plan("secure", [*both("loopback", "tls"), "admin"], secure)
    world.plan("neighbour", [*both("loopback"), "admin"], short)  # another port of the same host
    world.plan("file", both("loopback", "plain"), short)
    before = await world.status()
    file = world.folder / "page.html"
    file.write_text(
        page(
            "ways.js",
            "run.js",
            then=f"open({world.driver!r}, 'd', 'popup'); attack('file')",
            origin=world.origin("evil.test"),
        )
    )
    world.browse(browser, file.as_uri())
    world.attack("evil", "evil.test")
    world.attack("secure", "evil.localhost")
    world.attack("neighbour", "127.0.0.1")
    await all_tried(world, ["evil", "secure", "neighbour", "file"])
    after = await world.status()
    assert sorted(world.upstream.hits) == []
    assert reads(world, CANARY, "token_proxy_", "urn:token-proxy") == {}
    assert after[0] == before[0]
    assert after[1] - before[1] > 200  # on the plain proxy and the admin listener: they did arrive
    assert {"fetch", "script", "websocket", "event_source", "import_module", "object", "open"} <= {
        place.split("/")[2] for place in world.attacker.reads if "/control-" in place
    }, "what reads nothing of the control proves nothing"


CORS = {  # in the mode cors: they arrive
    *(
        "img_cors",
        "script_cors",
        "script_module",
        "link_preload_fetch",
        "link_modulepreload",
        "import_module",
    ),
    *("fetch", "fetch_head", "fetch_post", "fetch_post_json", "fetch_put", "fetch_delete", "fetch_field"),
    *("fetch_basic", "xhr", "xhr_post", "xhr_upload", "event_source", "websocket", "css_font", "font_face"),
}
# They arrive too, but the page reads nothing: no response of ours permits cookies.
CREDENTIALS = {"img_credentials", "fetch_credentials", "xhr_credentials", "event_source_credentials"}
READ = {
    "fetch",
    "fetch_post",
    "fetch_post_json",
    "fetch_put",
    "fetch_delete",
    "fetch_field",
    "fetch_basic",
} | {
    *(
        "xhr",
        "xhr_post",
        "xhr_upload",
        "event_source",
        "websocket",
        "script_cors",
        "script_module",
        "import_module",
    )
}
UNREAD = {  # in modes in which a page needs no permission to send them
    *(
        "img",
        "script",
        "link_css",
        "iframe",
        "object",
        "video",
        "fetch_no_cors",
        "fetch_post_no_cors",
        "beacon",
    ),
    *(
        "form_get",
        "form_post",
        "frame_location",
        "sandboxed_fetch",
        "data_document",
        "redirect_302_img",
        "open",
    ),
}


@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_listed_origin_calls_its_route_and_reads_the_responses(world, browser):
    await world.start_proxies(*free_ports(0, 0))
    ways = causing(browser, CORS | CREDENTIALS | UNREAD)
    kinds = ("loopback", "named", "tls")
    world.plan("app", kinds, ways, route="app")
    world.plan(
        "app", ["plain"], ["fetch", "fetch_put", "xhr", "websocket"], route="app"
    )  # as the contract says
    dead = world.target("loopback", "dead", route="dead")
    world.attacker.plans["app"].append({"kind": "dead", "url": dead, "ways": ["fetch", "fetch_put"]})
    world.plan("other", ["loopback"], ["fetch", "fetch_put", "xhr", "websocket"], route="app")
    world.browse(browser)
    world.attack("app", APP)
    world.attack("other", NAMED)
    expected = {f"app/{kind}/{way}" for kind in kinds for way in CORS | CREDENTIALS}
    readable = {f"app/{kind}/{way}" for kind in kinds for way in READ}
    await until(lambda: world.attacker.done >= {"app", "other"}, "all ways to be tried")
    await until(
        lambda: world.upstream.places >= expected, f"to arrive: {expected - world.upstream.places}", 60
    )
    await until(
        lambda: reads(world, CANARY).keys() >= readable, f"{readable - reads(world, CANARY).keys()}", 60
    )
    assert world.upstream.places == expected
    assert reads(world, CANARY).keys() == readable
    assert {place for place, method in world.upstream.hits if method == "OPTIONS"} == set()
    for way in ("fetch", "fetch_put"):
        assert "urn:token-proxy:problem:upstream-unreachable" in world.attacker.reads[f"app/dead/{way}"]


# -- a service worker that another program has left on our ports

REGISTER = """(async () => {
  await navigator.serviceWorker.register("/worker.js");
  await navigator.serviceWorker.ready;
  const body = JSON.stringify({place: PLACE, data: "registered"});
  await fetch(ORIGIN + "/read", {method: "POST", mode: "no-cors", body});
})()"""
OWN = (  # what a page of our own origin may try
    *(
        "fetch",
        "fetch_no_cors",
        "fetch_credentials",
        "fetch_head",
        "fetch_post",
        "fetch_post_json",
        "fetch_put",
    ),
    *(
        "fetch_field",
        "fetch_agent",
        "xhr",
        "xhr_post",
        "event_source",
        "websocket",
        "iframe",
        "object",
        "embed",
    ),
    *(
        "script",
        "img",
        "canvas",
        "link_css",
        "import_module",
        "beacon",
        "form_get",
        "form_post",
        "form_button",
    ),
    *("frame_location", "video", "ping"),
    *("open", "open_location", "form_blank", "click"),
)


def stale(attacker: str, place: str) -> web.Application:
    """A program that had this port before us: its page registers a worker."""
    origin = f"const ORIGIN = {json.dumps(attacker)};"
    attack = page("ways.js", "run.js", then=f"attack({json.dumps(place)})", origin=attacker)
    worker = f"{origin} const PAGE = {json.dumps(attack)};\n{(HERE / 'worker.js').read_text()}"
    start = f"<!doctype html><script>{origin} const PLACE = {json.dumps(place)}; {REGISTER}</script>"

    async def take(request: web.Request) -> web.Response:
        is_worker = request.path == "/worker.js"
        return web.Response(
            text=worker if is_worker else start, content_type="text/javascript" if is_worker else "text/html"
        )

    app = web.Application()
    app.router.add_get("/{tail:.*}", take)
    return app


@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_stale_service_worker_reaches_nothing_reads_nothing_and_is_removed(world, browser):
    ports = dict(zip(("data", "admin", "control"), free_ports(0, 0, 0), strict=True))
    world.browse(browser)
    async with AsyncExitStack() as before_us:
        for place, port in ports.items():
            await before_us.enter_async_context(serving(stale(world.origin("evil.test"), place), port))
            world.attacker.orders.put_nowait(f"http://127.0.0.1:{port}/")
        await until(lambda: world.attacker.reads.keys() >= ports.keys(), "the workers to be registered")
    await world.stack.enter_async_context(serving(world.control.application(), ports["control"]))
    await world.start_proxies(ports["data"], ports["admin"])
    for place, port in ports.items():
        base = f"http://127.0.0.1:{port}"
        for way_in in ("own", "pass"):  # by the page itself, or through the worker
            kind = f"{'control-' if place == 'control' else ''}{way_in}"
            paths = {"data": [f"/crm/{place}/{kind}/WAY"], "control": [f"/{place}/{kind}/WAY"]}
            paths["admin"] = [f"/metrics?place={place}/{kind}/WAY", f"/?place={place}/{kind}-page/WAY"]
            paths["admin"].append(f"/events?place={place}/{kind}-feed/WAY")
            targets = [{"kind": kind, "url": base + path, "ways": list(OWN)} for path in paths[place]]
            world.attacker.plans.setdefault(place, []).extend(targets)
    before = await world.status()
    for port in ports.values():
        world.attacker.orders.put_nowait(f"http://127.0.0.1:{port}/")
    await all_tried(world, ports)
    after = await world.status()
    assert sorted(world.upstream.hits) == []
    assert reads(world, CANARY, "token_proxy_", 'name="csrf"', "crm") == {}
    assert after[0] == before[0]
    assert after[1] - before[1] > len(OWN) * 2
    assert world.attacker.reads["admin/workers"] == "0"
    assert {"fetch", "iframe", "open"} <= {
        place.split("/")[2] for place in world.attacker.reads if place.startswith("control/control-")
    }
