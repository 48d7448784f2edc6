"""Resource indicators (RFC 8707) reach the server with every request for tokens."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from proxy.demo.serve import running
from proxy.tokens.login.logins import LoggedIn
from tests.tokens.conftest import HOUR
from tests.tokens.login.test_logins import BROWSER, KEY, refused, state_of

RESOURCES = ["https://one.example/mcp", "https://two.example/a?b=c&d"]


class Server:
    """A token endpoint that records each form, and rotates."""

    def __init__(self) -> None:
        self.forms: list[dict[str, list[str]]] = []
        self.error = ""

    async def token(self, request: web.Request) -> web.Response:
        self.forms.append(parse_qs(await request.text()))
        if self.error:
            return web.json_response({"error": self.error}, status=400)
        number = len(self.forms)
        tokens = {"access_token": f"AT-{number}", "token_type": "Bearer", "expires_in": HOUR}
        if self.forms[-1]["grant_type"] != ["client_credentials"]:
            tokens["refresh_token"] = f"RT-{number}"
        return web.json_response(tokens)


@pytest.fixture
async def server():
    made = Server()
    app = web.Application()
    app.router.add_post("/token", made.token)
    async with running(app) as made.url:
        yield made


def written(server: Server, grant: str) -> str:
    return f"""
client_id = "web"
grant = "{grant}"
token_endpoint = "{server.url}/token"
authorization_endpoint = "{server.url}/authorize"
resource = {RESOURCES}
"""


async def test_a_login_its_code_and_each_refresh_name_the_resources(make_side, server):
    async with make_side(credential=written(server, "authorization_code")) as side:
        begun = await side.logins.begin(KEY, browser=BROWSER)
        assert parse_qs(urlsplit(begun).query)["resource"] == RESOURCES
        callback = {"code": "C", "state": state_of(begun)}
        assert await side.logins.finish(callback, BROWSER) == LoggedIn(KEY, None)
        for _ in range(2):
            side.clock.advance(HOUR)
            await side.tokens.get(side.account("ann"))
    assert [form["grant_type"] for form in server.forms] == [
        ["authorization_code"],
        ["refresh_token"],
        ["refresh_token"],
    ]
    assert [form["resource"] for form in server.forms] == [RESOURCES] * 3


async def test_the_requests_of_a_client_for_itself_name_them_too(make_side, server):
    async with make_side(credential=written(server, "client_credentials")) as side:
        for _ in range(2):
            await side.tokens.get(side.account())
            side.clock.advance(HOUR)
    assert [form["resource"] for form in server.forms] == [RESOURCES] * 2


async def test_a_resource_that_the_server_does_not_know_is_named_as_the_key(make_side, server):
    server.error = "invalid_target"
    async with make_side(credential=written(server, "authorization_code")) as side:
        begun = await side.logins.begin(KEY, browser=BROWSER)
        sentence = await refused(side.logins.finish({"code": "C", "state": state_of(begun)}, BROWSER))
        assert sentence.endswith("check credentials.crm.resource and token_params")
        again = state_of(await side.logins.begin(KEY, browser=BROWSER))
        sentence = await refused(side.logins.finish({"error": "invalid_target", "state": again}, BROWSER))
        assert sentence.endswith("does not know the requested resource: check `resource` (invalid_target)")
