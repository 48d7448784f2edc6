"""Pushed authorization requests (RFC 9126): what is pushed, what the browser gets, what a refusal says."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from email.utils import formatdate
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from aiohttp import web

from proxy.demo.serve import running
from proxy.errors import LoginFailed
from proxy.secret import Secret
from proxy.tokens.login.ends import LoggedIn
from tests.fakes.dpop import Verifier
from tests.tokens.conftest import CALLBACK
from tests.tokens.login.test_logins import BROWSER, KEY, refused

CLIENT = (
    'client_id = "web"\nscopes = ["api"]\nauthorize_params = { resource = ["https://a/", "https://b/"] }\n'
)


class Server:
    """It takes each request_uri once, and only requests that were pushed."""

    def __init__(self):
        self.metadata, self.pushed, self.fields, self.codes = {}, {}, [], {}
        self.answer = None  # instead of a request_uri
        self.verifier = None  # of proofs of possession (RFC 9449)
        self.revoked = []  # the fields of each request
        self.url = ""

    async def describe(self, _request):
        return web.json_response(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize?realm=1",
                "token_endpoint": f"{self.url}/token",
                "pushed_authorization_request_endpoint": f"{self.url}/par",
                "revocation_endpoint": f"{self.url}/revoke",
                **self.metadata,
            }
        )

    async def push(self, request):
        if self.answer is not None:
            return self.answer()
        if self.verifier is not None:
            try:
                self.proven = self.verifier.check(
                    request.headers.getall("DPoP", []), "POST", f"{self.url}/par"
                )
            except LookupError:
                date = formatdate(self.verifier.now(), usegmt=True)  # of the clock of these tests
                fields = {"DPoP-Nonce": self.verifier.nonce, "Date": date}
                return web.json_response({"error": "use_dpop_nonce"}, status=400, headers=fields)
        uri = f"urn:ietf:params:oauth:request_uri:{secrets.token_urlsafe(8)}"
        self.pushed[uri] = parse_qsl(await request.text(), keep_blank_values=True)
        self.fields.append(request.headers)
        return web.json_response({"request_uri": uri, "expires_in": 60}, status=201)

    async def revoke(self, request):
        self.revoked.append(request.headers)
        return web.Response()

    def authorize(self, url):
        """Open the URL as a browser does; the redirect's parameters."""
        sent = parse_qs(urlsplit(url).query)
        assert sent.keys() == {"realm", "client_id", "request_uri"}
        request = dict(self.pushed.pop(sent["request_uri"][0]))  # KeyError: used already
        assert sent["client_id"] == [request["client_id"]]
        code = secrets.token_urlsafe(8)
        self.codes[code] = request
        return {"code": code, "state": request["state"]}

    async def redeem(self, request):
        form = dict(parse_qsl(await request.text()))
        pushed = self.codes.pop(form["code"])
        assert form["redirect_uri"] == pushed["redirect_uri"]
        return web.json_response({"access_token": "AT-1", "token_type": "Bearer", "refresh_token": "R"})


@pytest.fixture
def push_side(make_side):
    @asynccontextmanager
    async def make(keys="par = true\n", **metadata):
        server = Server()
        server.metadata = metadata
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", server.describe)
        app.router.add_post("/par", server.push)
        app.router.add_post("/token", server.redeem)
        app.router.add_post("/revoke", server.revoke)
        async with running(app) as server.url:
            credential = f'issuer = "{server.url}"\n{CLIENT}{keys}'
            async with make_side(credential=credential) as side:
                yield side, server

    return make


def begin(side):
    return side.logins.begin(KEY, browser=BROWSER)


@pytest.mark.parametrize(
    ("keys", "metadata"),
    [("par = true\n", {}), ("", {"require_pushed_authorization_requests": True})],
    ids=["by the configuration", "by the metadata"],
)
async def test_the_browser_carries_a_reference_and_the_rest_is_pushed(push_side, keys, metadata):
    async with push_side(keys, **metadata) as (side, server):
        url = await begin(side)
        (pushed,) = server.pushed.values()
        names = [name for name, _ in pushed]
        assert sorted(names) == sorted(
            [
                "client_id",
                "response_type",
                "redirect_uri",
                "scope",
                "state",
                "code_challenge",
                "code_challenge_method",
                "resource",
                "resource",
            ]
        )
        assert dict(pushed)["redirect_uri"] == CALLBACK
        assert server.fields[0]["Authorization"].startswith("Basic ")
        assert await side.logins.finish(server.authorize(url), BROWSER) == LoggedIn(KEY, None)


@pytest.mark.parametrize("metadata", [{}, {"require_pushed_authorization_requests": "yes"}])
async def test_without_it_nothing_is_pushed(push_side, metadata):
    async with push_side("", **metadata) as (side, server):
        assert "code_challenge" in parse_qs(urlsplit(await begin(side)).query)
        assert server.pushed == {}


async def test_each_login_pushes_a_request_of_its_own(push_side):
    async with push_side() as (side, server):
        urls = [await begin(side) for _ in range(3)]
        assert len(set(urls)) == 3
        assert len({dict(each)["state"] for each in server.pushed.values()}) == 3
        for url in urls:
            assert await side.logins.finish(server.authorize(url), BROWSER) == LoggedIn(KEY, None)
        with pytest.raises(KeyError):
            server.authorize(urls[0])


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_jwt"])
async def test_no_parameter_is_pushed_twice(push_side, method):
    async with push_side(f'par = true\nclient_auth = "{method}"\n') as (side, server):
        await begin(side)
        (pushed,) = server.pushed.values()
        assert [name for name, _ in pushed].count("client_id") == 1
        assert ("client_secret" if method == "client_secret_post" else "client_assertion") in dict(pushed)


def error(code, status=400, **more):
    return lambda: web.json_response({"error": code, **more}, status=status)


ANSWERS = [  # the endpoint's response, words of the sentence, its code
    (error("invalid_request"), ("redirect URI", "authorize_params"), "invalid_request"),
    (error("invalid_scope"), ("scopes",), "invalid_scope"),
    (error("unauthorized_client"), ("not registered for logins",), "unauthorized_client"),
    (error("invalid_client", 401), ("client_id", "client_secret"), "invalid_client"),
    (error("something of its own", error_description="EVIL"), ("non-standard",), "other"),
    (lambda: web.Response(status=404), ("without an OAuth error code",), "http_404"),
    (lambda: web.Response(status=405), ("without an OAuth error code",), "http_405"),
    (lambda: web.Response(status=503), ("internal error",), "http_503"),
    (lambda: web.Response(status=429), ("limits the rate",), "http_429"),
    (
        lambda: web.Response(status=307, headers={"Location": "/token"}),
        ("pushed authorization request endpoint redirects",),
        "par_redirect",
    ),
    (lambda: web.Response(status=201, text="<html>"), ("not JSON",), "not_json"),
    *(
        (
            lambda uri=uri: web.json_response({"request_uri": uri}, status=201),
            ("request_uri",),
            "no_request_uri",
        )
        for uri in (None, "", 5, "no-uri", "urn:a b", "urn:a\r\nX: y", "urn:" + "x" * 4000, "urn:é")
    ),
]


@pytest.mark.parametrize(("answer", "words", "code"), ANSWERS)
async def test_a_refused_push_says_what_to_do_and_keeps_nothing(push_side, answer, words, code):
    async with push_side() as (side, server):
        server.answer = answer
        with pytest.raises(LoginFailed) as caught:
            await begin(side)
        assert caught.value.error == code
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert "EVIL" not in str(caught.value)
        server.answer = None
        assert await side.logins.finish(server.authorize(await begin(side)), BROWSER) == LoggedIn(KEY, None)


@pytest.mark.parametrize("value", [201, 200, 202])
async def test_any_success_is_one(push_side, value):
    async with push_side() as (side, server):
        server.answer = lambda: web.json_response({"request_uri": "urn:x", "expires_in": 60}, status=value)
        assert "request_uri=urn%3Ax" in await begin(side)


async def test_metadata_without_the_endpoint_are_told_of(push_side):
    async with push_side(pushed_authorization_request_endpoint=None) as (side, _server):
        assert "pushed_authorization_request_endpoint" in await refused(begin(side))


async def test_an_unsafe_endpoint_gets_nothing(push_side):
    async with push_side(pushed_authorization_request_endpoint="http://login.example/par") as (side, _server):
        assert "not https" in await refused(begin(side))


async def test_an_endpoint_may_be_given_by_hand(make_side):
    server = Server()
    app = web.Application()
    app.router.add_post("/par", server.push)
    app.router.add_post("/token", server.redeem)
    async with running(app) as url:
        endpoints = f'token_endpoint = "{url}/token"\nauthorization_endpoint = "{url}/authorize?realm=1"\n'
        by_hand = f'{endpoints}pushed_authorization_request_endpoint = "{url}/par"\npar = true\n'
        async with make_side(credential=CLIENT + by_hand) as side:
            callback = server.authorize(await begin(side))
            assert await side.logins.finish(callback, BROWSER) == LoggedIn(KEY, None)


@pytest.mark.parametrize("nonce", ["", "N-1"])
async def test_with_dpop_the_key_is_named_and_proven(push_side, clock, nonce):
    """RFC 9449 section 10.1: either is enough, and some servers require the proof."""
    async with push_side("par = true\ndpop = true\n") as (side, server):
        server.verifier = Verifier(clock.wall, nonce)
        await begin(side)
        ((_, pushed),) = server.pushed.items()
        assert dict(pushed)["dpop_jkt"] == server.proven
        assert len(server.fields) == 1  # the second request, where the server has a nonce


async def test_without_dpop_nothing_is_proven(push_side):
    async with push_side() as (side, server):
        await begin(side)
        ((_, pushed),) = server.pushed.items()
        assert "dpop_jkt" not in dict(pushed)
        assert "DPoP" not in server.fields[0]


async def test_a_revocation_needs_no_proof(push_side):
    """RFC 9449 has none for RFC 7009: the client authenticates as always."""
    async with push_side("dpop = true\n") as (side, server):
        assert await side.servers.revoke(side.config.credentials["crm"], Secret("RT"), "refresh_token")
        (fields,) = server.revoked
        assert "DPoP" not in fields
