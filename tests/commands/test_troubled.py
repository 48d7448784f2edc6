"""The real command if a server refuses some accounts, or a login was revoked there."""

import asyncio
from collections import Counter

import aiohttp

from proxy.clock import SystemClock
from proxy.demo import faults
from proxy.oauth.endpoint import server_of
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.services import open_services
from proxy.store.base import AccountId

LIFETIME = 6  # seconds; a refresh every four
ASK_EVERY = 2  # seconds
ROUNDS = 25  # until the pauses would be longer than a token lives
LOGIN_NEEDED = 3
HEALTHY = ("ann", "bob", "eve")
INACTIVE_USER = faults.status(400, {"error": "inactive_user"})  # Salesforce's, for one that was deactivated


def issued(bench, name: str) -> Token:
    """Tokens as from a login."""
    clock, credential = SystemClock(), bench.config.credentials["person"]
    issued = bench.server.issue("demo-app", name)
    return Token(
        access_token=Secret(issued["access_token"]),
        refresh_token=Secret(issued["refresh_token"]),
        server=server_of(credential),
        client_id="demo-app",
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=float(issued["expires_in"]),
    )


async def log_in_all(bench, names) -> None:
    async with open_services(bench.config) as services:
        for name in names:
            await services.tokens.adopt(AccountId("person", name), issued(bench, name))


async def ask(bench, session, name: str) -> int:
    async with session.get(f"{bench.data}/demo/x", headers={"Token-Proxy-Account": name}) as response:
        await response.read()
        return response.status


async def test_accounts_that_are_refused_cost_no_other_a_request(a_bench):
    async with a_bench(access_token_lifetime=LIFETIME) as bench:
        bench.edit(
            'credential = "person"', 'credential = "person"\naccount = { header = "Token-Proxy-Account" }'
        )
        await log_in_all(bench, (*HEALTHY, "bad1", "bad2"))
        for name in ("bad1", "bad2"):
            bench.server.script(INACTIVE_USER, times=None, subject=name)
        await bench.run()
        statuses = Counter()
        async with aiohttp.ClientSession() as session:
            for _ in range(ROUNDS):
                statuses.update(await asyncio.gather(*(ask(bench, session, name) for name in HEALTHY)))
                await asyncio.sleep(ASK_EVERY)
        assert statuses == {200: ROUNDS * len(HEALTHY)}


async def test_all_outputs_agree_on_a_login_that_was_revoked_at_the_server(bench):
    await bench.log_in()
    await bench.run()
    assert await bench.whose() == "alice"
    token = (await bench.call("token", "person")).stdout.strip()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{bench.data}/demo/x") as response:
            assert response.status == 200
        bench.server.revoke_family(token)
        async with session.get(f"{bench.data}/demo/x") as response:
            assert response.status == 401  # the upstream's own
        async with session.get(f"{bench.data}/demo/x") as response:
            problem = await response.json()
            assert (response.status, problem["type"]) == (503, "urn:token-proxy:problem:login-required")
            assert problem["login_url"] == f"{bench.config.public_url}/login/person/default"
        async with session.get(f"{bench.admin}/readyz") as response:
            assert response.status == 503
            assert {"credential": "person", "account": "default", "state": "login_required"} in (
                await response.json()
            )["reasons"]
    assert (await bench.call("token", "person")).exit_code == LOGIN_NEEDED
    assert (await bench.call("status")).exit_code == LOGIN_NEEDED
