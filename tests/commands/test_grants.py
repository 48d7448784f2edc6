"""Each grant by the real command, against a real server: `check`, requests, a restart, `status`, `token`."""

import json

import aiohttp
import pytest

from proxy.demo.clients import TOKEN_EXCHANGE
from tests.config.test_grant_keys import service_account
from tests.fakes import signing

DONE, FAILED = 0, 1
ROBOT = "robot@p.iam.gserviceaccount.com"
TABLES = {
    "service-account": """
[credentials.it]
issuer = "{issuer}"
grant = "jwt_bearer"
key = {{ file = "sa.json" }}
scopes = ["api"]
""",
    "key": """
[credentials.it]
issuer = "{issuer}"
grant = "jwt_bearer"
client_id = "billing"
key = {{ file = "billing.pem" }}
""",
    "password": """
[credentials.it]
issuer = "{issuer}"
grant = "password"
client_id = "demo-machine"
client_secret = {{ file = "secret" }}
username = "ann"
password = {{ file = "ann" }}
""",
    "exchange-file": """
[credentials.it]
issuer = "{issuer}"
grant = "token_exchange"
client_id = "demo-machine"
client_secret = {{ file = "secret" }}
subject_token = {{ file = "subject" }}
""",
    "exchange-caller": """
[credentials.it]
issuer = "{issuer}"
grant = "token_exchange"
client_id = "demo-machine"
client_secret = {{ file = "secret" }}
subject_token = {{ header = "Authorization" }}
""",
}
ROUTE = """
[[routes]]
path = "/it"
upstream = "{api}"
credential = "it"
"""
SUBJECTS = {"service-account": ROBOT, "key": "billing", "password": "ann", "exchange-file": "pod"}


@pytest.fixture
def make(a_bench):
    """A configuration with one more credential and its route; the server and the files that it needs."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def made(kind):
        async with a_bench() as bench:
            folder = bench.path.parent
            (folder / "sa.json").write_text(service_account())
            (folder / "billing.pem").write_text(signing.pem("p256"))
            (folder / "ann").write_text("wonderland\n")
            (folder / "subject").write_text(bench.server.issue("demo-app", "pod")["access_token"])
            for name in ("sa.json", "billing.pem", "ann", "subject"):
                (folder / name).chmod(0o600)
            bench.server.trust.keys.update(
                {ROBOT: signing.public_pem("rsa"), "billing": signing.public_pem("p256")}
            )
            bench.server.passwords["ann"] = "wonderland"
            api = bench.config.routes[0].upstream.origin
            text = TABLES[kind].format(issuer=bench.server.issuer) + ROUTE.format(api=api)
            bench.path.write_text(bench.path.read_text() + text)
            yield bench

    return made


async def whose(bench, **fields):
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{bench.data}/it/x", headers=fields) as response,
    ):
        body = await response.json(content_type=None)
        return response.status, body.get("hello") or body


@pytest.mark.parametrize("kind", SUBJECTS)
async def test_a_grant_without_a_login_serves_from_the_first_request_and_over_a_restart(make, kind):
    async with make(kind) as bench:
        checked = await bench.call("check")
        assert checked.exit_code == DONE, checked.output
        assert ("know a person's password" in checked.output) == (kind == "password")
        for _ in range(2):
            server = await bench.run()
            assert await whose(bench) == (200, SUBJECTS[kind])
            status = json.loads((await bench.call("status", "--json")).output)
            (entry,) = (each for each in status["tokens"] if each["credential"] == "it")
            assert (entry["state"], entry["routes"]) == ("valid", ["it"])
            assert entry["login_url"] is None
            printed = await bench.call("token", "it")
            assert printed.exit_code == DONE
            assert bench.server.active(printed.output.strip()) == SUBJECTS[kind]
            server.signal()
            assert await server.end() == DONE
        explained = await bench.call("explain", "GET", "/it/x")
        assert explained.exit_code == DONE


async def test_callers_exchange_their_own_tokens(make):
    async with make("exchange-caller") as bench:
        assert (await bench.call("check")).exit_code == DONE
        await bench.run()
        for person in ("ann", "bob", "ann"):
            own = bench.server.issue("demo-app", person)["access_token"]
            assert await whose(bench, Authorization=f"Bearer {own}") == (200, person)
        status, problem = await whose(bench)
        assert (status, problem["type"]) == (401, "urn:token-proxy:problem:caller-unknown")
        status, problem = await whose(bench, Authorization="Bearer of-nobody")
        assert (status, problem["type"]) == (401, "urn:token-proxy:problem:caller-unknown")
        explained = await bench.call("explain", "GET", "/it/x")
        assert "of each caller's own token, in the field authorization" in explained.output
        entries = json.loads((await bench.call("status", "--json")).output)["tokens"]
        (entry,) = (each for each in entries if each["credential"] == "it")
        assert "each caller's own token is exchanged" in entry["reason"]
        printed = await bench.call("token", "it")
        assert printed.exit_code == FAILED
        assert "each caller's own token is exchanged" in printed.output
        assert {each.grant_type for each in bench.server.token_requests} == {TOKEN_EXCHANGE}


@pytest.mark.parametrize("kind", ["service-account", "password"])
async def test_no_secret_is_in_the_log_or_in_what_commands_print(make, kind):
    async with make(kind) as bench:
        bench.server.trust.keys.clear()
        bench.server.passwords.clear()
        server = await bench.run()
        status, problem = await whose(bench)
        assert (status, problem["type"]) == (503, "urn:token-proxy:problem:credential-misconfigured")
        shown = (await bench.call("check", "-v")).output + (await bench.call("status")).output
        server.signal()
        assert await server.end() == DONE
        everything = shown + "".join(server.log) + json.dumps(problem)
        assert "wonderland" not in everything
        assert "PRIVATE KEY" not in everything
        assert "eyJ" not in everything  # an assertion
