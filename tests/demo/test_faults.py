from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from proxy.demo.faults import NAMED, Fault, delay, expires_in, named, status
from proxy.demo.journal import fingerprint

INSTEAD = [  # a fault; the response's status, a part of its body, a header field
    (NAMED["too-many-requests"], 429, "slow_down", ("Retry-After", "7")),
    (NAMED["outage"], 503, "<h1>", ("Content-Type", "text/html")),
    (NAMED["html"], 200, "robot", ("Content-Type", "text/html")),
    (NAMED["error-in-200"], 200, "bad_refresh_token", ("Content-Type", "application/json")),
    (NAMED["invalid-grant"], 400, "invalid_grant", ("Content-Type", "application/json")),
    (NAMED["invalid-client"], 401, "invalid_client", ("WWW-Authenticate", "Basic")),
    (NAMED["unknown-error"], 400, "mercury", ("Content-Type", "application/json")),
    (NAMED["redirect"], 307, "", ("Location", "/token")),
    (status(418, "tea", headers={"X": "y"}, content_type="text/plain"), 418, "tea", ("X", "y")),
]
CLAIMS = [  # a fault; the lifetime stated in the response
    (NAMED["no-expires-in"], None),
    (NAMED["short-expires-in"], 1),
    (NAMED["odd-expires-in"], "59.5"),
    (NAMED["zero-expires-in"], 0),
    (NAMED["float-expires-in"], 59.5),
    (NAMED["text-expires-in"], "soon"),
    (NAMED["milliseconds-expires-in"], 60_000),
]


@pytest.mark.parametrize(("fault", "code", "piece", "field"), INSTEAD)
async def test_a_scripted_response_commits_nothing(
    world: Any, fault: Fault, code: int, piece: str, field: tuple[str, str]
) -> None:
    tokens = world.server.issue("cli", "alice")
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "cli"}
    world.server.script(fault)
    async with world.http.post("/token", data=form, allow_redirects=False) as answer:
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


async def test_retry_after_may_be_a_date(world: Any) -> None:
    world.clock.now = time.time()
    world.server.script(NAMED["too-many-requests-date"])
    async with world.http.post("/token", data={"client_id": "cli"}) as answer:
        assert answer.status == 429
        date = parsedate_to_datetime(answer.headers["Retry-After"])
    assert 7 <= date.timestamp() - world.clock.now < 8


async def test_a_client_that_follows_a_redirect_is_in_the_journal(world: Any) -> None:
    token = (await world.log_in())["refresh_token"]
    world.server.script(NAMED["redirect"])
    assert (await world.refresh(token))[0] == 200
    assert [request.status for request in world.server.token_requests[1:]] == [307, 200]


@pytest.mark.parametrize(("fault", "name"), [("refresh-in", "refresh_in"), ("refresh-expires-in",) * 2])
async def test_other_stated_lifetimes(world: Any, fault: str, name: str) -> None:
    token = (await world.log_in())["refresh_token"]
    world.server.script(NAMED[fault])
    _, answer = await world.refresh(token)
    assert answer[name.replace("-", "_")] > 0
    assert answer["expires_in"] == 60


async def test_a_server_may_return_the_same_refresh_token_or_none(world: Any) -> None:
    token = (await world.log_in())["refresh_token"]
    world.server.script(NAMED["same-refresh-token"], NAMED["no-refresh-token"])
    _, same = await world.refresh(token)
    _, none = await world.refresh(token)
    _, rotated = await world.refresh(token)
    assert same["refresh_token"] == token
    assert "refresh_token" not in none
    assert rotated["refresh_token"] != token
    assert {world.server.active(each["access_token"]) for each in (same, none, rotated)} == {"alice"}
    assert [request.generation for request in world.server.token_requests] == [None, 1, 1, 1]
    assert world.server.token_record(fingerprint(rotated["access_token"])).generation == 4


async def test_a_login_may_return_no_refresh_token_but_never_an_old_one(world: Any) -> None:
    world.server.script(NAMED["no-refresh-token"], NAMED["same-refresh-token"])
    assert "refresh_token" not in await world.log_in()
    assert "refresh_token" in await world.log_in()


async def test_a_server_without_rotation_can_rotate_once(a_world: Any) -> None:
    async with a_world(rotation=False) as world:
        token = (await world.log_in())["refresh_token"]
        world.server.script(Fault(renewal="new"))
        _, answer = await world.refresh(token)
        assert answer["refresh_token"] != token
        assert (await world.refresh(token))[0] == 400


async def test_the_server_may_revoke_a_login(world: Any) -> None:
    tokens = await world.log_in()
    world.server.script(NAMED["revoke-family"])
    status, answer = await world.refresh(tokens["refresh_token"])
    assert (status, answer["error"]) == (400, "invalid_grant")
    assert world.server.active(tokens["access_token"]) is None
    assert world.server.token_requests[-1].outcome == "refused"
    assert [revocation.reason for revocation in world.server.revocations] == ["server"]


async def test_a_grace_saves_a_client_that_lost_the_response(a_world: Any) -> None:
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
    assert (await world.refresh(token))[1]["error"] == "invalid_grant"  # already spent
    answer_now.set()
    assert (await held)[0] == 200


async def test_a_disconnecting_client_does_not_stop_the_commit(world: Any) -> None:
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


async def test_a_delayed_request_does_not_delay_the_stop_of_the_server(a_world: Any) -> None:
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


async def test_faults_apply_to_one_request_each_and_an_empty_one_does_nothing(world: Any) -> None:
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


def test_the_error_about_an_unknown_name_lists_the_known_ones() -> None:
    assert named("outage") is NAMED["outage"]
    with pytest.raises(ValueError, match=r"no fault 'outrage'; there are: slow, .*outage"):
        named("outrage")


def test_every_named_fault_has_its_name_and_a_description() -> None:
    assert [fault.name for fault in NAMED.values()] == list(NAMED)
    assert all(fault.about for fault in NAMED.values())
    assert len({repr(fault) for fault in NAMED.values()}) == len(NAMED)
