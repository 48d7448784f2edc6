from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from proxy.demo.api import api_application
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.journal import ApiRequest, fingerprint
from proxy.demo.serve import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class House:
    """The API, and a server that has issued alice a token with 41.7 seconds left."""

    def __init__(self, server: AuthorizationServer, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.http = http
        self.tokens = server.issue("web", "alice")
        self.good = {"Authorization": f"Bearer {self.tokens['access_token']}"}


@pytest.fixture
async def house(a_world: Any) -> AsyncIterator[House]:
    async with (
        a_world() as world,
        running(api_application(world.server)) as url,
        aiohttp.ClientSession(url) as http,
    ):
        made = House(world.server, http)
        world.clock.now += 18.3
        yield made


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/a/b", "/a%2Fb"])
async def test_it_greets_the_subject_of_the_token(house: House, method: str, path: str) -> None:
    async with house.http.request(method, path, headers=house.good, data=b"12345") as answer:
        assert answer.status == 200
        assert await answer.json() == {
            "hello": "alice",
            "method": method,
            "path": path,
            "bytes": 5,
            "authorization": f"Bearer {house.tokens['access_token'][:12]}...",
            "token_expires_in": 42,
        }


async def test_the_scheme_may_be_in_any_case(house: House) -> None:
    headers = {"Authorization": f"bearer {house.tokens['access_token']}"}
    async with house.http.get("/", headers=headers) as answer:
        assert answer.status == 200


async def test_a_body_of_any_size_is_counted(house: House) -> None:
    async with house.http.post("/", headers=house.good, data=io.BytesIO(b"x" * 3_000_000)) as answer:
        assert (await answer.json())["bytes"] == 3_000_000


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, 'Bearer realm="demo"'),
        ({"Authorization": "Basic YTpi"}, 'Bearer realm="demo"'),
        ({"Authorization": "Bearer"}, 'Bearer realm="demo", error="invalid_token"'),
        ({"Authorization": "Bearer wrong"}, 'Bearer realm="demo", error="invalid_token"'),
    ],
)
async def test_without_a_good_token_it_is_401(house: House, headers: dict[str, str], challenge: str) -> None:
    async with house.http.post("/x", headers=headers, data=b"12345") as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == challenge
        assert "wrong" not in await answer.text()


async def test_the_journal_has_the_subject_and_the_verdict(house: House) -> None:
    server, access_token = house.server, house.tokens["access_token"]

    async def come(headers: dict[str, str]) -> ApiRequest:
        async with house.http.get("/a?secret=1", headers=headers):
            return server.api_requests[-1]

    assert await come(house.good) == ApiRequest(
        at=1018.3,
        verdict="good",
        access_token=fingerprint(access_token),
        family=1,
        generation=1,
        subject="alice",
        method="GET",
        path="/a",
    )
    assert (await come({})).verdict == "missing"
    stranger = await come({"Authorization": "Bearer stranger"})
    assert (stranger.verdict, stranger.access_token) == ("unknown", fingerprint("stranger"))
    assert (await come({"Authorization": f"Bearer {house.tokens['refresh_token']}"})).verdict == "unknown"
    server.clock.now += 60
    assert (await come(house.good)).verdict == "expired"
    server.revoke(access_token)
    revoked = await come(house.good)
    assert (revoked.verdict, revoked.subject) == ("revoked", "alice")
