from __future__ import annotations

import io
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.demo.api import api_application
from proxy.demo.serve import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKEN = "access-abc"
GOOD = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def api() -> AsyncIterator[aiohttp.ClientSession]:
    app = api_application({TOKEN: "alice"}.get, expires_in=lambda _token: 41.7)
    async with running(app) as url, aiohttp.ClientSession(url) as http:
        yield http


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/a/b", "/a%2Fb"])
async def test_it_greets_whose_token_it_is(api: aiohttp.ClientSession, method: str, path: str) -> None:
    async with api.request(method, path, headers=GOOD, data=b"12345") as answer:
        assert answer.status == 200
        assert await answer.json() == {
            "hello": "alice",
            "method": method,
            "path": path,
            "bytes": 5,
            "token_expires_in": 42,
        }


async def test_the_scheme_may_be_in_any_case(api: aiohttp.ClientSession) -> None:
    async with api.get("/", headers={"Authorization": f"bearer {TOKEN}"}) as answer:
        assert answer.status == 200


async def test_a_body_of_any_size_is_counted(api: aiohttp.ClientSession) -> None:
    async with api.post("/", headers=GOOD, data=io.BytesIO(b"x" * 3_000_000)) as answer:
        assert (await answer.json())["bytes"] == 3_000_000


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, 'Bearer realm="demo"'),
        ({"Authorization": "Basic YTpi"}, 'Bearer realm="demo"'),
        ({"Authorization": "Bearer"}, 'Bearer realm="demo", error="invalid_token"'),
        ({"Authorization": "Bearer wrong"}, 'Bearer realm="demo", error="invalid_token"'),
        ({"Authorization": f"Bearer {TOKEN}x"}, 'Bearer realm="demo", error="invalid_token"'),
    ],
)
async def test_without_a_good_token_it_is_401(
    api: aiohttp.ClientSession, headers: dict[str, str], challenge: str
) -> None:
    async with api.post("/x", headers=headers, data=b"12345") as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == challenge
        assert "wrong" not in await answer.text()


async def test_the_remaining_life_is_told_only_where_it_is_known() -> None:
    app = api_application({TOKEN: "alice"}.get)
    async with running(app) as url, aiohttp.ClientSession() as http, http.get(url, headers=GOOD) as answer:
        assert "token_expires_in" not in await answer.json()
