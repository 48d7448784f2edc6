"""Registered clients are records of every store, and no accounts of a credential."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.clock import SystemClock
from proxy.config.found import Registration
from proxy.config.model import Credential
from proxy.errors import GenerationConflict
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens.login.revoke import has_account
from proxy.tokens.refresh import lease
from proxy.tokens.saved import registrations

CREDENTIAL = Credential.model_validate(
    {"name": "docs", "mcp": "https://mcp.example/mcp", "issuer": "https://login.example"}
)
PLACE = registrations.place_of(CREDENTIAL, "http://127.0.0.1:8081/callback/docs")


def made(number: int) -> Registration:
    return Registration(f"client-{number}", Secret("s"), "client_secret_basic", 1.0, None, PLACE)


async def test_a_client_is_shared_replaced_and_given_up(pair: Any) -> None:
    assert await registrations.read(pair.other, PLACE) == (0, None)
    await registrations.put(pair.store, PLACE, made(1), expected=0)
    assert await registrations.read(pair.other, PLACE) == (1, made(1))
    await registrations.put(pair.other, PLACE, None, expected=1)
    assert await registrations.read(pair.store, PLACE) == (2, None)
    await registrations.put(pair.store, PLACE, made(2), expected=2)
    assert await registrations.read(pair.other, PLACE) == (3, made(2))


async def test_of_two_at_once_one_registers(pair: Any) -> None:
    clock, registered = SystemClock(), []

    async def register(store: Any, name: str) -> Registration:
        async with lease.holding(store, f"register:{PLACE}", name, clock):
            generation, current = await registrations.read(store, PLACE)
            if current is not None:
                return current
            registered.append(name)
            await registrations.put(store, PLACE, made(len(registered)), expected=generation)
            return made(len(registered))

    got = await asyncio.gather(*(register(store, str(id(store))) for store in (pair.store, pair.other) * 3))
    assert len(registered) == 1
    assert set(got) == {made(1)}


async def test_it_counts_as_no_account_and_is_no_token(pair: Any, record: Any) -> None:
    await registrations.put(pair.store, PLACE, made(1), expected=0)
    await pair.store.put(record(), expected=0)
    counts = await pair.other.counts(0.0)
    assert {name: sum(states.values()) for name, states in counts.items()} == {"+client": 1, "crm": 1}
    assert await pair.store.due_before(["docs", "crm"], 10.0**12, 10) == []
    first, second = await pair.store.page(None, 10)
    assert (first.key.credential, second.key) == (registrations.CREDENTIAL, AccountId("crm", "ann"))


async def test_looking_for_a_persons_tokens_passes_it_over(pair: Any) -> None:
    await registrations.put(pair.store, PLACE, made(1), expected=0)
    token = Token(None, None, "https://login.example", "client-1", 0.0, 0.0, "boot")
    assert await has_account(pair.store, token) is False


async def test_a_late_put_is_refused(pair: Any) -> None:
    await registrations.put(pair.store, PLACE, made(1), expected=0)
    with pytest.raises(GenerationConflict):
        await registrations.put(pair.other, PLACE, made(2), expected=0)
    assert await registrations.read(pair.store, PLACE) == (1, made(1))
