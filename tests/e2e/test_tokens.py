"""Tokens that live five seconds, without any effect on callers."""

import asyncio
import hashlib
import time
from itertools import pairwise
from typing import Any

import aiohttp
import requests

from .authorization_servers import ACCESS_TTL, ALICE, AuthorizationServer
from .conftest import MakeProxy
from .processes import wait_until
from .proxy_process import Proxy
from .reference import call_upstream, refresh

REQUESTS = 200
PAUSE = 0.05  # seconds between two requests: over all of them there are some four refreshes
HERD = 500
AT_THE_END = 0.95  # of its life: the refresh that the herd waits for is not sent long before
EARLIEST_REFRESH = ACCESS_TTL * AT_THE_END * 0.9  # seconds after the last one, with the most of jitter
LOGIN_REQUIRED = "urn:token-proxy:problem:login-required"


def fingerprint(token: str) -> str:
    """The upstream's identifier of a token."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]


def call_at_leisure(proxy: Proxy, count: int) -> list[dict[str, Any]]:
    responses = []
    with requests.Session() as caller:
        for _ in range(count):
            response = caller.get(proxy.api("/whoami"), timeout=20)
            assert response.status_code == 200, f"{response.status_code} {response.text}\n{proxy.log()}"
            responses.append(response.json())
            time.sleep(PAUSE)
    return responses


def test_200_requests_over_several_expiries_and_a_restart_have_no_failure_and_one_refresh_each(
    server: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(server)
    proxy.start()
    proxy.login_by_page(ALICE)
    responses = call_at_leisure(proxy, REQUESTS // 2)
    proxy.stop()
    proxy.start()
    responses += call_at_leisure(proxy, REQUESTS // 2)

    refreshes = server.token_requests("refresh_token")
    assert {response["subject"] for response in responses} == {"alice"}
    assert [request["outcome"] for request in refreshes] == ["success"] * len(refreshes)
    assert len(refreshes) >= 3
    gaps = [later["at"] - earlier["at"] for earlier, later in pairwise(refreshes)]
    assert min(gaps) > ACCESS_TTL / 3, f"refreshed again too soon: {gaps}"
    issued = [fingerprint(got["got"][0]) for got in server.token_requests("authorization_code") + refreshes]
    used = {response["token"] for response in responses}
    assert set(issued[:-1]) <= used <= set(issued), "a refresh was for nothing"
    assert server.revoked_families() == []


def test_a_family_revoked_elsewhere_results_in_a_401_and_then_in_a_503_with_the_login_url(
    server: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(server)
    proxy.start()
    proxy.login_by_page(ALICE)
    (login,) = server.token_requests("authorization_code")
    access_token, refresh_token = login["got"]
    refresh(server, refresh_token)
    refresh(server, refresh_token)
    wait_until(lambda: call_upstream(server, access_token).status_code == 401, "the token to be refused")

    assert requests.get(proxy.api("/whoami"), timeout=10).status_code == 401
    wait_until(lambda: requests.get(proxy.api("/whoami"), timeout=10).status_code == 503, "its end")
    problem = requests.get(proxy.api("/whoami"), timeout=10).json()
    assert (problem["type"], problem["login_url"]) == (LOGIN_REQUIRED, proxy.admin("/login/crm/default"))
    outcomes = [request["outcome"] for request in server.token_requests("refresh_token")]
    assert outcomes == ["success", "invalid_grant", "invalid_grant"], (
        "the last is ours, and it is our only one"
    )


async def test_500_requests_that_find_an_expired_token_cause_one_refresh(
    server: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(server, server.person_credential(refresh_at=AT_THE_END))
    proxy.start()
    proxy.login_by_page(ALICE)
    server.service.pause()
    try:
        await asyncio.sleep(seconds_to_live(proxy))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as callers:
            herd = [asyncio.create_task(status_of(callers, proxy.api("/whoami"))) for _ in range(HERD)]
            await asyncio.to_thread(wait_until, lambda: in_flight(proxy) == HERD, "all requests to wait")
            server.service.resume()
            resumed = time.monotonic()
            statuses = await asyncio.gather(*herd)
            lives = (time.monotonic() - resumed) / EARLIEST_REFRESH
    finally:
        server.service.resume()

    assert statuses == [200] * HERD
    outcomes = [request["outcome"] for request in server.token_requests("refresh_token")]
    assert outcomes == ["success"] * len(outcomes)
    # the token is as old as its request; on a slow machine it is due again before all have their responses
    assert 1 <= len(outcomes) <= 1 + int(lives + 0.4)
    assert server.revoked_families() == []


async def status_of(callers: aiohttp.ClientSession, url: str) -> int:
    async with callers.get(url) as response:
        await response.read()
        return response.status


def seconds_to_live(proxy: Proxy) -> float:
    (token,) = requests.get(proxy.admin("/api/status"), timeout=5).json()["tokens"]
    return max(0.0, float(token["expires_at"]) - time.time())


def in_flight(proxy: Proxy) -> float:
    text = requests.get(proxy.admin("/metrics"), timeout=5).text
    (line,) = [
        row for row in text.splitlines() if row.startswith('token_proxy_requests_in_flight{route="api"}')
    ]
    return float(line.split()[-1])
