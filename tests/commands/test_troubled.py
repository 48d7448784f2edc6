"""The real command where a server refuses some of its accounts, or a person has ended a login."""

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
    answer = bench.server.issue("demo-app", name)
    return Token(
        access_token=Secret(answer["access_token"]),
        refresh_token=Secret(answer["refresh_token"]),
        server=server_of(credential),
        client_id="demo-app",
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=float(answer["expires_in"]),
    )


async def log_in_all(bench, names) -> None:
    async with open_services(bench.config) as state:
        for name in names:
            await state.tokens.adopt(AccountId("person", name), issued(bench, name))


async def ask(bench, session, name: str) -> int:
    async with session.get(f"{bench.data}/demo/x", headers={"Token-Proxy-Account": name}) as answer:
        await answer.read()
        return answer.status


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


async def test_a_login_that_was_ended_at_the_server_is_told_with_one_voice(bench):
    await bench.log_in()
    await bench.run()
    assert await bench.whose() == "alice"
    token = (await bench.call("token", "person")).stdout.strip()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{bench.data}/demo/x") as answer:
            assert answer.status == 200
        bench.server.revoke_family(token)
        async with session.get(f"{bench.data}/demo/x") as answer:
            assert answer.status == 401  # the upstream's own
        async with session.get(f"{bench.data}/demo/x") as answer:
            problem = await answer.json()
            assert (answer.status, problem["type"]) == (503, "urn:token-proxy:problem:login-required")
            assert problem["login_url"] == f"{bench.config.public_url}/login/person/default"
        async with session.get(f"{bench.admin}/readyz") as answer:
            assert answer.status == 503
            assert {"credential": "person", "account": "default", "state": "login_required"} in (
                await answer.json()
            )["reasons"]
    assert (await bench.call("token", "person")).exit_code == LOGIN_NEEDED
    assert (await bench.call("status")).exit_code == LOGIN_NEEDED
