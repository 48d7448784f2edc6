"""Responses on the wire, read from a raw socket, as a library would hide how they end."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import pytest

from proxy.demo.faults import NAMED, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@pytest.fixture
async def refresh_on_a_socket(
    world: Any,
) -> AsyncIterator[Callable[[Fault], Awaitable[asyncio.StreamReader]]]:
    writers = []

    async def send(fault: Fault) -> asyncio.StreamReader:
        world.server.script(fault)
        form = urlencode(
            {
                "grant_type": "refresh_token",
                "refresh_token": world.server.issue("cli", "alice")["refresh_token"],
                "client_id": "cli",
            }
        )
        address = urlsplit(world.server.issuer)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writers.append(writer)
        writer.write(
            f"POST /token HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(form)}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}".encode()
        )
        return reader

    yield send
    for writer in writers:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("fault", "outcome"), [("drop-before", "nothing_done"), ("drop-after-commit", "granted")]
)
async def test_a_drop_closes_the_connection_in_order(
    world: Any, refresh_on_a_socket: Any, fault: str, outcome: str
) -> None:
    assert await (await refresh_on_a_socket(NAMED[fault])).read() == b""
    assert [request.outcome for request in world.server.token_requests] == [outcome]


@pytest.mark.parametrize(
    ("fault", "outcome"), [("reset-before", "nothing_done"), ("reset-after-commit", "granted")]
)
async def test_a_reset_resets_the_connection(
    world: Any, refresh_on_a_socket: Any, fault: str, outcome: str
) -> None:
    with pytest.raises(ConnectionResetError):
        await (await refresh_on_a_socket(NAMED[fault])).read()
    assert [request.outcome for request in world.server.token_requests] == [outcome]


async def read_head(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


def content_length(head: str) -> int:
    (value,) = [line.partition(": ")[2] for line in head.splitlines() if line.startswith("Content-Length")]
    return int(value)


async def test_half_a_response_states_its_full_length(world: Any, refresh_on_a_socket: Any) -> None:
    reader = await refresh_on_a_socket(NAMED["half-answer"])
    head = await read_head(reader)
    assert "application/json" in head
    body = await reader.read()
    assert 0 < len(body) == content_length(head) // 2
    assert [request.outcome for request in world.server.token_requests] == ["granted"]


async def test_half_a_response_may_end_in_a_reset(refresh_on_a_socket: Any) -> None:
    reader = await refresh_on_a_socket(Fault(body="half", reset=True))
    with pytest.raises(ConnectionResetError):
        await reader.read()


async def test_a_slow_response_arrives_byte_by_byte_and_complete(
    refresh_on_a_socket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await refresh_on_a_socket(NAMED["slow-body"])
    await read_head(reader)
    assert await reader.read(100) == b"{"
    monkeypatch.setattr("proxy.demo.delivery._BYTE_EVERY", 0)
    reader = await refresh_on_a_socket(NAMED["slow-body"])
    body = await reader.readexactly(content_length(await read_head(reader)))
    assert "access_token" in json.loads(body)


async def test_an_endless_response_goes_on(refresh_on_a_socket: Any) -> None:
    reader = await refresh_on_a_socket(NAMED["endless-body"])
    assert "chunked" in await read_head(reader)
    for _ in range(10):
        await reader.readexactly(50_000)


@pytest.mark.parametrize("fault", ["half-answer", "slow-body", "endless-body", "slow"])
async def test_a_client_that_disconnects_causes_no_error(
    world: Any, refresh_on_a_socket: Any, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    before = asyncio.all_tasks()
    reader = await refresh_on_a_socket(replace(NAMED[fault], wait_before=0.05))
    reader._transport.abort()
    async with asyncio.timeout(60):
        while asyncio.all_tasks() - before or not world.server.token_requests:
            await asyncio.sleep(0.01)
    assert caplog.text == ""


async def test_a_fault_of_delivery_applies_to_its_own_response_too(refresh_on_a_socket: Any) -> None:
    reader = await refresh_on_a_socket(Fault(answer=NAMED["outage"].answer, body="half"))
    assert "503" in await read_head(reader)
    assert (await reader.read()).startswith(b"<h1>")
