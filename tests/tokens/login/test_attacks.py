"""A table of attacks on logins and token requests: refused, and nothing sent to the wrong place.

`bad` is an MCP server and an authorization server that lies; `elsewhere` stands for any place to which it
would like to lead us. Both are real servers that record what reaches them. The mix-up of two servers by a
whole browser is in tests/admin/test_mix_up.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from proxy.demo.serve import running
from proxy.errors import LoginFailed, TokenError
from tests.fakes.mcp import PLACE, mcp_world
from tests.tokens.clients.conftest import KEY
from tests.tokens.conftest import Side
from tests.tokens.login.test_logins import BROWSER, approve, refused, state_of

OAUTH = "/.well-known/oauth-authorization-server"
CALLBACK = "/callback/docs"


@dataclass
class Bad:
    """Everything that a login and a token's life need, at one place; `answers` replaces any of it."""

    url: str = ""
    answers: dict[str, Callable[[], web.Response]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    resource: dict[str, Any] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)
    state: str = ""  # of the last request that was pushed

    async def respond(self, request: web.Request) -> web.StreamResponse:
        self.hits.append(request.path)
        if request.path == "/par":
            self.state = str((await request.post())["state"])
        if request.path == "/token" and "/token refresh" in self.answers:
            form = await request.post()
            if form["grant_type"] == "refresh_token":
                self.hits.append("/token refresh")
                return self.answers["/token refresh"]()
        if request.path in self.answers:
            return self.answers[request.path]()
        document = self._documents().get(request.path)
        return web.Response(status=404) if document is None else web.json_response(document)

    def _documents(self) -> dict[str, dict[str, Any]]:
        return {
            f"{PLACE}/mcp": {
                "resource": f"{self.url}/mcp",
                "authorization_servers": [self.url],
                **self.resource,
            },
            OAUTH: {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "registration_endpoint": f"{self.url}/register",
                "introspection_endpoint": f"{self.url}/introspect",
                "revocation_endpoint": f"{self.url}/revoke",
                "pushed_authorization_request_endpoint": f"{self.url}/par",
                "device_authorization_endpoint": f"{self.url}/device",
                **self.metadata,
            },
            "/register": {"client_id": "id", "client_secret": "the-secret"},
            "/token": {"access_token": "AT", "refresh_token": "RT", "token_type": "Bearer"},
            "/introspect": {"active": True, "exp": 1},
            "/par": {"request_uri": "urn:it", "expires_in": 60},
            "/device": {
                "device_code": "D",
                "user_code": "U",
                "verification_uri": f"{self.url}/verify",
                "expires_in": 600,
            },
        }


@dataclass
class Elsewhere:
    url: str = ""
    hits: list[str] = field(default_factory=list)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        self.hits.append(f"{request.method} {request.path} {await request.text()}")
        return web.json_response({"access_token": "stolen", "client_id": "stolen"})


async def _serve(stack: AsyncExitStack, server: Any) -> Any:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.respond)
    server.url = await stack.enter_async_context(running(app))
    return server


@pytest.fixture
async def places() -> AsyncIterator[tuple[Bad, Elsewhere]]:
    async with AsyncExitStack() as stack:
        yield await _serve(stack, Bad()), await _serve(stack, Elsewhere())


@pytest.fixture
def make_victim(make_docs, world, places):
    """A process whose `docs` is the MCP server `bad`."""
    world.mcp.url = f"{places[0].url}/mcp"
    return make_docs


async def whole_life(side: Side, bad: Bad) -> list[str]:
    """A login, a refresh and a logout, as far as they go; what failed."""
    failures: list[str] = []
    try:
        await side.logins.begin(KEY, browser=BROWSER)
        await side.logins.finish({"code": "C", "state": bad.state}, BROWSER, path=CALLBACK)
    except LoginFailed as error:
        failures.append(error.error)
    account = side.tokens.account(*KEY)
    with suppress(TokenError):
        await side.tokens.refresh_now(account)
    if account.failure is not None:
        failures.append(account.failure.error)
    await side.logins.log_out(KEY)
    return failures


REDIRECTING = [  # the path, what is said of it (an introspection and a revocation are only logged)
    (f"{PLACE}/mcp", ["mcp_no_authorization"]),
    ("/mcp", []),
    (OAUTH, ["discovery_redirect"]),
    ("/register", ["registration_redirect"]),
    ("/token", ["redirect"]),
    ("/token refresh", ["redirect"]),
    ("/introspect", []),
    ("/revoke", []),
    ("/par", ["par_redirect"]),
]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(("path", "failures"), REDIRECTING)
async def test_no_endpoint_leads_us_elsewhere(make_victim, places, path, failures, status, caplog):
    bad, elsewhere = places
    target = f"{elsewhere.url}{path.split()[0]}"
    bad.answers[path] = lambda: web.Response(status=status, headers={"Location": target})
    if path == f"{PLACE}/mcp":  # with the older ways, it would be found otherwise
        bad.answers[PLACE] = lambda: web.json_response({"resource": f"{bad.url}/mcp"})
    if path == "/mcp":  # it is asked only without metadata at the well-known place
        bad.answers[f"{PLACE}/mcp"] = lambda: web.Response(status=404)
    async with make_victim("par = true") as side:
        assert await whole_life(side, bad) == failures
    assert path in bad.hits, "else nothing was tried"
    assert elsewhere.hits == []
    assert "stolen" not in caplog.text


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_nor_does_the_endpoint_of_logins_on_another_device(make_victim, places, status):
    bad, elsewhere = places
    redirect = web.Response(status=status, headers={"Location": f"{elsewhere.url}/device"})
    bad.answers["/device"] = lambda: redirect
    async with make_victim() as side:
        with pytest.raises(LoginFailed):
            await side.logins.begin_on_device(KEY)
    assert "/device" in bad.hits
    assert elsewhere.hits == []


UNSAFE = [
    "javascript:alert(1)",
    "file:///etc/passwd",
    "-flag",
    "--version",
    "data:text/html,x",
    "$(touch x)",
    '"&calc',
    "//127.0.0.1/x",
    "http://192.0.2.1/x",
    "http://127.0.0.1.example/x",
    "https://user@127.0.0.1/x",
    " https://127.0.0.1/x",
    "https://127.0.0.1/x\r\nX: y",
    "",
    7,
    ["https://127.0.0.1/x"],
]
ENDPOINTS = {
    "authorization_endpoint": "/authorize",
    "token_endpoint": "/token",
    "registration_endpoint": "/register",
    "revocation_endpoint": "/revoke",
    "introspection_endpoint": "/introspect",
    "pushed_authorization_request_endpoint": "/par",
}
OF_LOGOUTS = {"revocation_endpoint", "introspection_endpoint"}


@pytest.mark.parametrize("value", UNSAFE, ids=repr)
@pytest.mark.parametrize("name", ENDPOINTS)
async def test_an_endpoint_that_is_no_safe_url_is_neither_called_nor_given_to_a_browser(
    make_victim, places, name, value, caplog
):
    bad, _ = places
    bad.metadata[name] = value
    async with make_victim("par = true") as side:
        assert await whole_life(side, bad) == ([] if name in OF_LOGOUTS else ["unsafe_endpoint"])
    assert ENDPOINTS[name] not in bad.hits
    assert str(value) not in caplog.text or value in {"", 7}


@pytest.mark.parametrize("value", UNSAFE, ids=repr)
@pytest.mark.parametrize("name", ["verification_uri", "verification_uri_complete"])
async def test_an_address_for_another_device_that_is_no_safe_url_is_not_shown(
    make_victim, places, name, value
):
    bad, _ = places
    page = {"verification_uri": f"{bad.url}/verify", "device_code": "D", "user_code": "U", "expires_in": 9}
    bad.answers["/device"] = lambda: web.json_response({**page, name: value})
    async with make_victim() as side:
        with suppress(LoginFailed):
            login = await side.logins.begin_on_device(KEY)
            assert name != "verification_uri"
            assert value in ("", 7) or str(value) not in repr(login.codes)
            await side.logins._devices.close()  # as at the end of the process


@pytest.mark.parametrize("value", UNSAFE, ids=repr)
async def test_an_authorization_server_that_is_no_safe_url_is_not_asked(make_victim, places, value):
    bad, _ = places
    bad.resource["authorization_servers"] = [value]
    async with make_victim() as side:
        assert await whole_life(side, bad) == ["mcp_unsafe_issuer"]
    assert set(bad.hits) == {f"{PLACE}/mcp"}, "asked for the login, and by the logout for a client to give up"


@pytest.mark.parametrize("where", ["registered", "tokens"])
async def test_an_mcp_server_can_not_send_what_it_got_to_another_server(make_victim, places, where):
    """Once there is a login, its metadata may change: the client and the tokens stay where they are from."""
    bad, elsewhere = places
    async with make_victim() as side:
        begun = await side.logins.begin(KEY, browser=BROWSER)
        if where == "tokens":
            callback = {"code": "C", "state": state_of(begun)}
            await side.logins.finish(callback, BROWSER, path=CALLBACK)
        bad.resource["authorization_servers"] = [elsewhere.url]
        if where == "registered":
            callback = {"code": "C", "state": state_of(begun)}
            await side.logins.finish(callback, BROWSER, path=CALLBACK)
        await side.tokens.refresh_now(side.tokens.account(*KEY))
    assert "/token" in bad.hits
    assert elsewhere.hits == []


async def test_a_malicious_mcp_server_gets_no_token_for_an_honest_one(make_victim, places):
    """It names the honest one's resource and authorization server: the person would log in there."""
    bad, _ = places
    async with mcp_world() as honest, make_victim() as side:
        bad.resource |= {"resource": honest.mcp.url, "authorization_servers": [honest.auth.issuer]}
        assert await whole_life(side, bad) == ["resource_mismatch"]
        bad.resource["resource"] = f"{bad.url}/mcp"
        begun = await side.logins.begin(KEY, browser=BROWSER)
        assert parse_qs(urlsplit(begun).query)["resource"] == [f"{bad.url}/mcp"], "for that alone"


# -- with an honest server: the redirect is forged

FORGED = [  # what is done to the redirect's parameters, the code of the refusal
    ("another iss", {"iss": "https://bad.example"}, "other_server"),
    ("an iss with a slash more", {"iss": "{issuer}/"}, "other_server"),
    ("no iss, although it is promised", {"iss": None}, "no_issuer"),
    ("no code", {"code": None}, "no_code"),
    ("an error beside the code", {"error": "server_error"}, "server_error"),
]


@pytest.mark.parametrize(("_", "changes", "error"), FORGED, ids=[row[0] for row in FORGED])
async def test_a_forged_redirect_sends_no_code(docs, world, _, changes, error):
    begun = await docs.logins.begin(KEY, browser=BROWSER)
    callback = await approve(begun) | {
        name: value and value.format(issuer=world.auth.issuer) for name, value in changes.items()
    }
    sent = {name: value for name, value in callback.items() if value is not None}
    with pytest.raises(LoginFailed) as caught:
        await docs.logins.finish(sent, BROWSER, path=CALLBACK)
    assert caught.value.error == error
    assert world.auth.token_requests == []


SWAPPED = [  # a callback of one login that uses the other's: state, code; who sends it; to which path
    ("the other login's code", "mine", "theirs", "me", CALLBACK),
    ("the other login's state", "theirs", "mine", "me", CALLBACK),
    ("a whole redirect of another browser", "theirs", "theirs", "me", CALLBACK),
    ("the shared callback", "mine", "mine", "me", "/callback"),
    ("another credential's callback", "mine", "mine", "me", "/callback/crm"),
    ("no browser", "mine", "mine", "", CALLBACK),
]


@pytest.mark.parametrize(("_", "state", "code", "who", "path"), SWAPPED, ids=[row[0] for row in SWAPPED])
async def test_swapped_callbacks_give_no_tokens(docs, world, _, state, code, who, path):
    mine = await approve(await docs.logins.begin(KEY, browser="me"))
    theirs = await approve(await docs.logins.begin(KEY, browser="them"))
    picked = {"mine": mine, "theirs": theirs}
    callback = {**mine, "state": picked[state]["state"], "code": picked[code]["code"]}
    await refused(docs.logins.finish(callback, who, path=path))
    granted = [request for request in world.auth.token_requests if request.outcome == "granted"]
    assert granted == []
    assert docs.tokens.account(*KEY).held.token is None


async def test_a_code_that_was_stolen_from_another_login_is_worthless(docs, world):
    """Injected into our own login (RFC 9700 section 4.5): the verifier that goes with it is another one."""
    mine = await docs.logins.begin(KEY, browser="me")
    stolen = await approve(await docs.logins.begin(KEY, browser="victim"))
    await refused(docs.logins.finish({**stolen, "state": state_of(mine)}, "me", path=CALLBACK))
    (request,) = world.auth.token_requests
    assert (request.outcome, request.error) == ("refused", "invalid_grant")


@pytest.mark.parametrize("methods", [["plain"], [], ["s256"], "plain"])
async def test_a_server_that_denies_s256_gets_no_login_unless_that_is_configured(
    make_docs, docs, world, methods
):
    world.auth.metadata = {"code_challenge_methods_supported": methods}
    assert "(no_pkce)" in await refused(docs.logins.begin(KEY, browser=BROWSER))
    async with make_docs("pkce = false") as side:
        assert "code_challenge" not in await side.logins.begin(KEY, browser=BROWSER)


@pytest.mark.parametrize("methods", [None, ["plain", "S256"]])
async def test_the_challenge_is_s256_whatever_else_is_offered(docs, world, methods):
    world.auth.metadata = {"code_challenge_methods_supported": methods}
    asked = parse_qs(urlsplit(await docs.logins.begin(KEY, browser=BROWSER)).query)
    assert asked["code_challenge_method"] == ["S256"]
