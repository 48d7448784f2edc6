from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from proxy.demo.faults import NAMED, Fault, delay, expires_in, status

INSTEAD = [  # a fault; the answer's status, a piece of its body, a field of its header
    (NAMED["too-many-requests"], 429, "slow_down", ("Retry-After", "7")),
    (NAMED["outage"], 503, "<h1>", ("Content-Type", "text/html")),
    (NAMED["html"], 200, "robot", ("Content-Type", "text/html")),
    (NAMED["error-in-200"], 200, "bad_refresh_token", ("Content-Type", "application/json")),
    (NAMED["invalid-grant"], 400, "invalid_grant", ("Content-Type", "application/json")),
    (NAMED["invalid-client"], 401, "invalid_client", ("WWW-Authenticate", "Basic")),
    (status(418, "tea", headers={"X": "y"}, content_type="text/plain"), 418, "tea", ("X", "y")),
]
CLAIMS = [  # a fault; what the answer says of the lifetime
    (NAMED["no-expires-in"], None),
    (NAMED["short-expires-in"], 1),
    (NAMED["odd-expires-in"], "59.5"),
    (expires_in(0), 0),
]


@pytest.mark.parametrize(("fault", "code", "piece", "field"), INSTEAD)
async def test_an_answer_instead_of_the_servers_commits_nothing(
    world: Any, fault: Fault, code: int, piece: str, field: tuple[str, str]
) -> None:
    tokens = world.server.issue("cli", "alice")
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "cli"}
    world.server.script(fault)
    async with world.http.post("/token", data=form) as answer:
        assert answer.status == code
        assert piece in await answer.text()
        assert answer.headers[field[0]] == field[1]
    async with world.http.post("/token", data=form) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(("fault", "claim"), CLAIMS)
async def test_the_claimed_lifetime_can_be_anything(world: Any, fault: Fault, claim: object) -> None:
    tokens = await world.log_in()
    world.server.script(fault)
    _, answer = await world.refresh(tokens["refresh_token"])
    assert answer.get("expires_in") == claim
    assert ("expires_in" in answer) == (claim is not None)
    assert world.server.expires_in(answer["access_token"]) == 60


async def test_a_connection_dropped_before_the_commit_costs_nothing(world: Any) -> None:
    token = (await world.log_in())["refresh_token"]
    world.server.script(NAMED["drop-before"])
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await world.refresh(token)
    assert (await world.refresh(token))[0] == 200


async def test_a_connection_dropped_after_the_commit_has_spent_the_token(world: Any) -> None:
    token = (await world.log_in())["refresh_token"]
    world.server.script(NAMED["drop-after-commit"])
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await world.refresh(token)
    (request,) = world.server.token_requests[1:]
    assert (request.outcome, request.status) == ("granted", None)
    assert (await world.refresh(token))[1]["error"] == "invalid_grant"
    assert world.server.families_revoked == 1


async def test_a_grace_saves_who_lost_the_answer(a_world: Any) -> None:
    async with a_world(grace=30) as world:
        token = (await world.log_in())["refresh_token"]
        world.server.script(NAMED["drop-after-commit"])
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await world.refresh(token)
        assert (await world.refresh(token))[0] == 200
        assert world.server.families_revoked == 0


async def test_a_test_can_hold_a_request_on_either_side_of_the_commit(world: Any) -> None:
    token = (await world.log_in())["refresh_token"]
    arrived, go_on, committed, answer_now = (asyncio.Event() for _ in range(4))

    async def wait_before() -> None:
        arrived.set()
        await go_on.wait()

    async def wait_after() -> None:
        committed.set()
        await answer_now.wait()

    world.server.script(Fault(wait_before=wait_before, wait_after=wait_after))
    held = asyncio.create_task(world.refresh(token))
    await arrived.wait()
    assert not committed.is_set()
    go_on.set()
    await committed.wait()
    assert (await world.refresh(token))[1]["error"] == "invalid_grant"  # it is spent already
    answer_now.set()
    assert (await held)[0] == 200


async def test_a_client_that_hangs_up_does_not_stop_the_commit(world: Any) -> None:
    token = (await world.log_in())["refresh_token"]
    arrived, go_on, committed = (asyncio.Event() for _ in range(3))

    async def wait_before() -> None:
        arrived.set()
        await go_on.wait()

    async def wait_after() -> None:
        committed.set()

    world.server.script(Fault(wait_before=wait_before, wait_after=wait_after))
    gone = asyncio.create_task(world.refresh(token))
    await arrived.wait()
    gone.cancel()
    await asyncio.wait([gone])
    go_on.set()
    await committed.wait()
    assert (await world.refresh(token))[1]["error"] == "invalid_grant"


async def test_a_request_that_is_held_does_not_hold_up_the_servers_stop(a_world: Any) -> None:
    async with a_world() as world:
        arrived = asyncio.Event()

        async def wait_before() -> None:
            arrived.set()
            await asyncio.Event().wait()

        world.server.script(Fault(wait_before=wait_before))
        held = asyncio.create_task(world.refresh(world.server.issue("web", "alice")["refresh_token"]))
        await arrived.wait()
    with pytest.raises(aiohttp.ClientError):
        await held


async def test_faults_are_for_one_request_each_and_an_empty_one_lets_it_pass(world: Any) -> None:
    token = (await world.log_in())["refresh_token"]
    world.server.script(delay(0.01), Fault(), NAMED["invalid-grant"])
    for _ in range(2):
        code, answer = await world.refresh(token)
        assert code == 200
        token = answer["refresh_token"]
    assert (await world.refresh(token))[0] == 400
    assert (await world.refresh(token))[0] == 200


async def test_an_error_of_the_servers_own_is_not_changed(world: Any) -> None:
    world.server.script(expires_in(1))
    _, answer = await world.refresh("never issued")
    assert "expires_in" not in answer
