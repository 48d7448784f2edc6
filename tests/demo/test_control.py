from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from proxy.demo.control import Control
from proxy.demo.faults import NAMED
from proxy.demo.serve import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def control(world: Any) -> AsyncIterator[aiohttp.ClientSession]:
    async with running(Control(world.server).application()) as url, aiohttp.ClientSession(url) as http:
        yield http


REFUSED = [  # path, body, a part of the message
    ("/faults", {"faults": ["nope"]}, "no fault 'nope'"),
    ("/faults", {"faults": [{"drop_befor": True}]}, "drop_befor"),
    ("/faults", {"faults": [{"answer": {"status": 200, "bodi": ""}}]}, "bodi"),
    ("/faults", {"faults": [{"body": "quarter"}]}, "body"),
    ("/faults", {"faults": ["slow"], "times": 0}, "times"),
    ("/faults", {"faults": ["slow"], "account": "alice"}, "account"),
    ("/issue", {"client_id": "web"}, "subject"),
    ("/issue", {"client_id": "nobody", "subject": "alice"}, "no such client"),
    ("/revoke", [], "object"),
]


@pytest.mark.parametrize(("path", "body", "named"), REFUSED)
async def test_an_invalid_call_is_refused_with_a_reason(
    control: aiohttp.ClientSession, world: Any, path: str, body: Any, named: str
) -> None:
    async with control.post(path, json=body) as answer:
        assert answer.status == 400
        assert named in (await answer.json())["error"]
    assert len(world.server.faults) == 0


async def test_a_form_that_a_foreign_page_could_send_is_refused(control: aiohttp.ClientSession) -> None:
    async with control.post("/faults", data='{"faults": ["slow"]}') as answer:
        assert answer.status == 415


async def test_the_logins_of_a_person_end(control: aiohttp.ClientSession, world: Any) -> None:
    mine = [world.server.issue("web", "alice") for _ in range(2)]
    other = world.server.issue("web", "bob")
    async with control.delete("/logins/alice") as answer:
        assert (answer.status, await answer.json()) == (200, {"logins_revoked": 2})
    assert [world.server.active(each["access_token"]) for each in (*mine, other)] == [None, None, "bob"]
    for subject in ("alice", "nobody"):
        async with control.delete(f"/logins/{subject}") as answer:
            assert (answer.status, await answer.json()) == (400, {"error": f"'{subject}' is not logged in"})


async def test_events_are_numbered_so_that_a_reader_can_go_on(
    control: aiohttp.ClientSession, world: Any
) -> None:
    for _ in range(3):
        await world.refresh("never issued")
    async with control.get("/events", params={"after": "1"}) as answer:
        assert answer.content_type == "application/x-ndjson"
        lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [(line["number"], line["event"]) for line in lines] == [(2, "token_request"), (3, "token_request")]
    for number in ("3", "9" * 50):
        async with control.get("/events", params={"after": number}) as answer:
            assert await answer.text() == ""
    async with control.get("/events", params={"after": "-1"}) as answer:
        assert answer.status == 400


async def test_the_named_faults_are_listed_with_descriptions(control: aiohttp.ClientSession) -> None:
    async with control.get("/faults/named") as answer:
        listed = await answer.json()
    assert list(listed) == list(NAMED)
    assert all(listed.values())
