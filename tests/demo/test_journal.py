from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.authorization_server import AuthorizationServer, Client
from proxy.demo.faults import NAMED, Fault
from proxy.demo.journal import (
    ApiRequest,
    Event,
    Journal,
    Revocation,
    TokenRecord,
    TokenRequest,
    fingerprint,
    from_json,
    to_json,
)
from proxy.demo.serve import running

from .conftest import HandClock

ROBOT = {"Authorization": aiohttp.encode_basic_auth("robot", "s3cret")}


async def test_a_login_and_a_refresh_are_recorded_with_their_tokens(world: Any) -> None:
    first = await world.log_in()
    world.clock.now += 5
    _, second = await world.refresh(first["refresh_token"])
    assert world.server.token_requests == [
        TokenRequest(
            arrived_at=1000.0,
            acted_at=1000.0,
            answered_at=1000.0,
            grant_type="authorization_code",
            client_id="web",
            family=1,
            subject="alice",
            outcome="granted",
            status=200,
            error=None,
            issued_access_token=fingerprint(first["access_token"]),
            issued_refresh_token=fingerprint(first["refresh_token"]),
        ),
        TokenRequest(
            arrived_at=1005.0,
            acted_at=1005.0,
            answered_at=1005.0,
            grant_type="refresh_token",
            client_id="web",
            refresh_token=fingerprint(first["refresh_token"]),
            family=1,
            generation=1,
            subject="alice",
            outcome="granted",
            status=200,
            error=None,
            issued_access_token=fingerprint(second["access_token"]),
            issued_refresh_token=fingerprint(second["refresh_token"]),
        ),
    ]


async def test_repetition_reuse_and_refusal_are_different_outcomes(a_world: Any) -> None:
    async with a_world(grace=30) as world:
        token = (await world.log_in())["refresh_token"]
        for seconds in (0, 29, 1, 0):
            world.clock.now += seconds
            await world.refresh(token)
        await world.refresh("never issued")
        told = [(request.outcome, request.error) for request in world.server.token_requests[1:]]
        assert told == [
            ("granted", None),
            ("repeated", None),
            ("reuse_detected", "invalid_grant"),
            ("refused", "invalid_grant"),
            ("refused", "invalid_grant"),
        ]
        assert [request.generation for request in world.server.token_requests] == [None, 1, 1, 1, 1, None]
        repeated, granted = world.server.token_requests[2], world.server.token_requests[1]
        assert repeated.issued_refresh_token == granted.issued_refresh_token
        assert world.server.revocations == [
            Revocation(at=1030.0, family=1, client_id="web", subject="alice", reason="reuse")
        ]


async def test_a_code_used_twice_is_a_reuse_too(world: Any) -> None:
    code = (await world.click("alice"))["code"]
    for _ in range(2):
        await world.exchange(code)
    assert [request.outcome for request in world.server.token_requests] == ["granted", "reuse_detected"]
    assert world.server.token_requests[1].subject == "alice"


@pytest.mark.parametrize(
    ("fault", "outcome", "status"),
    [
        ("drop-before", "nothing_done", None),
        ("drop-after-commit", "granted", None),
        ("outage", "nothing_done", 503),
        ("no-expires-in", "granted", 200),
    ],
)
async def test_the_response_and_the_action_are_recorded_separately(
    world: Any, fault: str, outcome: str, status: int | None
) -> None:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": world.server.issue("cli", "bob")["refresh_token"],
        "client_id": "cli",
    }
    world.server.script(NAMED[fault])
    try:
        async with world.http.post("/token", data=form):
            pass
    except aiohttp.ServerDisconnectedError:
        assert status is None
    (request,) = world.server.token_requests
    assert (request.outcome, request.status, request.subject) == (outcome, status, "bob")
    assert (request.acted_at is not None) == (outcome == "granted") == bool(request.issued_access_token)


async def test_the_subject_of_client_credentials_is_the_client(world: Any) -> None:
    world.server.script(NAMED["outage"], subject="robot")
    form = {"grant_type": "client_credentials"}
    for expected in (503, 200):
        async with world.http.post("/token", data=form, headers=ROBOT) as answer:
            assert answer.status == expected
    assert [request.subject for request in world.server.token_requests] == ["robot", "robot"]
    assert [request.family for request in world.server.token_requests] == [None, 1]


async def test_arrival_commit_and_response_have_their_own_times(world: Any) -> None:
    token = (await world.log_in())["refresh_token"]

    async def a_second() -> None:
        world.clock.now += 1

    world.server.script(Fault(wait_before=a_second, wait_after=a_second))
    await world.refresh(token)
    request = world.server.token_requests[-1]
    assert (request.arrived_at, request.acted_at, request.answered_at) == (1000.0, 1001.0, 1002.0)


async def test_a_request_is_recorded_before_its_response(world: Any) -> None:
    for number in range(1, 20):
        await world.refresh("never issued")
        assert len(world.server.token_requests) == number


async def test_a_request_cut_off_by_the_stop_is_recorded_as_dropped(world: Any) -> None:
    server = world.server
    arrived = asyncio.Event()

    async def hold() -> None:
        arrived.set()
        await asyncio.Event().wait()

    server.script(Fault(wait_after=hold))
    form = {
        "grant_type": "refresh_token",
        "refresh_token": server.issue("cli", "bob")["refresh_token"],
        "client_id": "cli",
    }
    async with aiohttp.ClientSession() as http:
        async with running(server.application()) as url:
            held = asyncio.create_task(http.post(f"{url}/token", data=form))
            await arrived.wait()
            assert server.token_requests == []
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await held
    (request,) = server.token_requests
    assert (request.outcome, request.status) == ("granted", None)


async def test_the_record_of_a_token_has_its_origin_and_validity(world: Any) -> None:
    first = await world.log_in()
    world.clock.now += 5
    _, second = await world.refresh(first["refresh_token"])
    world.clock.now += 5
    world.server.revoke_family(second["access_token"])

    def record(token: str) -> TokenRecord:
        found = world.server.token_record(fingerprint(token))
        assert found is not None
        return found

    old, new = record(first["access_token"]), record(second["access_token"])
    assert (old.family, old.generation, old.client_id, old.subject) == (1, 1, "web", "alice")
    assert (new.family, new.generation) == (1, 2)
    assert [old.good_at(time) for time in (999, 1000, 1009, 1010)] == [False, True, True, False]
    assert [new.good_at(time) for time in (1004, 1005, 1009, 1010)] == [False, True, True, False]
    spent = record(first["refresh_token"])
    assert (spent.spent_at, spent.revoked_at, spent.expires_at) == (1005.0, 1010.0, None)
    assert [spent.good_at(time) for time in (1004, 1005)] == [True, False]
    assert len(world.server.token_records()) == 4
    assert world.server.token_record("0" * 64) is None


steps = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1, 30, 60])),
    st.tuples(st.just("revoke"), st.just(0)),
    st.tuples(st.just("revoke_family"), st.sampled_from([0, 1, 30])),
)


@given(st.lists(steps, max_size=8))
def test_good_at_agrees_with_the_verdicts(story: list[tuple[str, float]]) -> None:
    clock = HandClock()
    server = AuthorizationServer(clients=[Client("web")], clock=clock)
    token = server.issue("web", "alice")["access_token"]
    judged = []
    for step, seconds in story:
        if step == "wait":
            clock.now += seconds
        elif step == "revoke":
            server.revoke(token)
        else:
            server.revoke_family(token, after=seconds)
        judged.append((clock.now, server.judge(token, clock.now)[0] == "good"))
        record = server.token_record(fingerprint(token))
        assert record is not None
        assert record.good_at(clock.now) == judged[-1][1]
    for time in {time for time, _ in judged}:
        last_of_its_time = [good for at, good in judged if at == time][-1]
        assert record.good_at(time) == last_of_its_time


async def test_the_record_of_a_revoked_or_expired_access_token(world: Any) -> None:
    tokens = world.server.issue("web", "alice")
    of = fingerprint(tokens["access_token"])
    assert not world.server.token_record(of).good_at(1060)
    world.clock.now += 10
    world.server.revoke(tokens["access_token"])
    assert world.server.token_record(of).revoked_at == 1010.0
    assert world.server.revocations == []
    assert world.server.token_record(fingerprint(tokens["refresh_token"])).revoked_at is None


async def test_no_event_contains_a_token(world: Any) -> None:
    tokens = await world.log_in()
    _, more = await world.refresh(tokens["refresh_token"])
    told = repr(world.server.journal.after(0)) + repr(world.server.token_records())
    for answer in (tokens, more):
        assert answer["access_token"] not in told
        assert answer["refresh_token"] not in told


async def test_with_a_limit_it_keeps_the_newest_events_and_live_tokens(a_world: Any) -> None:
    async with a_world(limit=10) as world:
        unused = world.server.issue("web", "bob")
        token = (await world.log_in())["refresh_token"]
        for _ in range(100):
            world.clock.now += 60
            _, answer = await world.refresh(token)
            token = answer["refresh_token"]
        assert len(world.server.token_requests) == 10
        assert len(world.server.token_records()) <= 10
        assert world.server.active(answer["access_token"]) == "alice"
        assert (await world.refresh(unused["refresh_token"]))[0] == 200
        codes = [(await world.click("alice"))["code"] for _ in range(11)]
        assert [(await world.exchange(code))[0] for code in codes] == [400] + [200] * 10


events = st.one_of(st.builds(TokenRequest, fault=st.just("")), st.builds(ApiRequest), st.builds(Revocation))


@given(events)
def test_an_event_survives_json(event: Event) -> None:
    assert repr(from_json(json.loads(json.dumps(to_json(event))))) == repr(
        event
    )  # by repr, as NaN differs from itself


@given(st.lists(st.builds(Revocation), max_size=20), st.none() | st.integers(0, 10), st.integers(0, 25))
def test_after_returns_the_unread_events(noted: list[Revocation], limit: int | None, read: int) -> None:
    journal = Journal(limit)
    for event in noted:
        journal.note(event)
    kept = noted if limit is None else noted[max(len(noted) - limit, 0) :]
    unread = noted[read:]
    assert journal.after(read) == (unread if len(unread) <= len(kept) else kept)
    assert journal.all(Revocation) == kept
