"""The mix-up attack (RFC 9700 section 4.4): a malicious authorization server wants the honest one's code.

The person logs in to `bad`, whose authorization endpoint sends the browser on to the honest server with the
same query, but the client id that it has there. So the honest server's code comes back with the state of the
login to `bad`. Wherever it is not noticed, `bad` gets that code, and the PKCE verifier.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from aiohttp import web

from proxy.config.load import load
from proxy.demo.authorization_server import AuthorizationServer, Client
from proxy.demo.serve import running

ADMIN = re.compile(r'admin = "([^"]+)"')
CREDENTIAL = """
[credentials.{name}]
client_id = "{name}-app"
client_secret = "s3cret"
{endpoints}
callback = "{callback}"
[[routes]]
path = "/{name}"
upstream = "http://127.0.0.1:9"
credential = "{name}"
"""


class Bad:
    """A malicious authorization server."""

    def __init__(self):
        self.victim = ""  # the honest server's authorization endpoint
        self.changes = {"client_id": "good-app"}
        self.forms = []

    def application(self):
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        return app

    async def _metadata(self, request):
        issuer = str(request.url.origin())
        endpoints = {"authorization_endpoint": f"{issuer}/authorize", "token_endpoint": f"{issuer}/token"}
        return web.json_response({"issuer": issuer, **endpoints})

    async def _authorize(self, request):
        raise web.HTTPFound(f"{self.victim}?{urlencode({**request.query, **self.changes})}")

    async def _token(self, request):
        self.forms.append(dict(parse_qsl(await request.text())))
        return web.json_response({"access_token": "AT", "expires_in": 3600})


class Attack:
    def __init__(self, world, good, bad):
        self.world = world
        self.good = good
        self.bad = bad

    async def callback(self, *, sends_iss=True):
        """The person logs in to `bad`; where the browser ends."""
        browser = self.world.browser
        begun = await browser.press("/login/bad")
        led_on = await browser.get(begun.headers["Location"])
        url = urlsplit(await browser.approve(led_on.headers["Location"], "alice"))
        query = dict(parse_qsl(url.query))
        assert query["code"], "the honest server's"
        assert query["iss"] == self.good.issuer
        if not sends_iss:
            del query["iss"]
        return url._replace(query=urlencode(query)).geturl()


def endpoints_of(url, how):
    if how == "an issuer":
        return f'issuer = "{url}"'
    return f'authorization_endpoint = "{url}/authorize"\ntoken_endpoint = "{url}/token"'


@pytest.fixture
def an_attack(a_world):
    @asynccontextmanager
    async def make(how, good_callback="shared", bad_callback="shared"):
        bad, uris = Bad(), []
        good = AuthorizationServer(clients=[Client("good-app", "s3cret", redirect_uris=uris)])
        async with running(bad.application()) as bad_url, running(good.application()) as good_url:
            bad.victim = f"{good_url}/authorize"

            def edit(text):
                callback = f"http://{ADMIN.search(text)[1]}/callback"
                registered = {"shared": callback, "own": f"{callback}/good"}[good_callback]
                uris.append(registered)  # the honest server redirects nowhere else
                bad.changes["redirect_uri"] = registered
                for name, url, kind in (("good", good_url, good_callback), ("bad", bad_url, bad_callback)):
                    endpoints = endpoints_of(url, how)
                    text += CREDENTIAL.format(name=name, endpoints=endpoints, callback=kind)
                return text.replace('callback = "shared"\n', "")

            async with a_world(edit) as world:
                yield Attack(world, good, bad)

    return make


async def check_nothing_was_sent(attack, callback):
    """Neither by this callback, nor when it is tried again at each callback that there is."""
    for path in ("", "/callback", "/callback/good", "/callback/bad"):
        url = urlsplit(callback)
        tried = await attack.world.get(url._replace(path=path or url.path).geturl())
        assert tried.status == 400
        assert attack.bad.forms == []
        assert attack.good.token_requests == []


@pytest.mark.parametrize("how", ["an issuer", "endpoints by hand"])
async def test_where_the_honest_server_sends_iss_it_is_noticed(an_attack, how):
    async with an_attack(how) as attack:
        callback = await attack.callback()
        page = await attack.world.get(callback)
        assert page.status == 400
        assert "another authorization server" in await page.text()
        await check_nothing_was_sent(attack, callback)


@pytest.mark.parametrize("how", ["an issuer", "endpoints by hand"])
@pytest.mark.parametrize(("good", "bad"), [("own", "shared"), ("shared", "own"), ("own", "own")])
async def test_where_it_sends_none_an_own_callback_of_either_helps(an_attack, how, good, bad):
    async with an_attack(how, good, bad) as attack:
        callback = await attack.callback(sends_iss=False)
        page = await attack.world.get(callback)
        assert page.status == 400
        assert "another callback address" in await page.text()
        await check_nothing_was_sent(attack, callback)


@pytest.mark.parametrize("how", ["an issuer", "endpoints by hand"])
async def test_what_remains_is_what_check_warns_about(an_attack, how):
    """Without iss and own callbacks nothing tells the two servers apart. Should this fail: rejoice."""
    async with an_attack(how) as attack:
        await attack.world.get(await attack.callback(sends_iss=False))
        assert attack.bad.forms[0]["code_verifier"]
        (advice,) = [
            fault.message for fault in load(attack.world.config.path).advice if "bad" in fault.message
        ]
        assert 'callback = "own"' in advice


async def test_an_own_callback_serves_its_own_login(an_attack):
    async with an_attack("an issuer", "own", "own") as attack:
        done = await attack.world.browser.log_in("/login/good")
        assert done.status == 200
        assert "good/default" in await done.text()
        assert attack.good.token_requests[0].outcome == "granted"
