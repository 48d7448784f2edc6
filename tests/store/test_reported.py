"""What was reported of an account is a record of every store, and no account of a credential."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import GenerationConflict
from proxy.notify import reported
from proxy.notify.decide import Reported
from proxy.oauth.token import Token
from proxy.store.base import AccountId, Record
from proxy.tokens.login.revoke import has_account

ANN = AccountId("crm", "Ann.O+x@example.com")
NEEDS = Reported(needs=True, tokens=1_799_999_000.25, at=1_800_000_000.0, flaps=False)
WORKS = Reported(needs=False, tokens=None, at=1_800_000_600.0, flaps=True)


async def test_it_is_shared_and_replaced(pair: Any) -> None:
    assert await reported.read(pair.other, ANN) == (0, None)
    await reported.put(pair.store, ANN, NEEDS, expected=0)
    assert await reported.read(pair.other, ANN) == (1, NEEDS)
    await reported.put(pair.other, ANN, WORKS, expected=1)
    assert await reported.read(pair.store, ANN) == (2, WORKS)


async def test_of_two_that_report_the_same_one_notes_it(pair: Any) -> None:
    await reported.put(pair.store, ANN, NEEDS, expected=0)
    with pytest.raises(GenerationConflict):
        await reported.put(pair.other, ANN, WORKS, expected=0)
    assert await reported.read(pair.other, ANN) == (1, NEEDS)


async def test_the_open_ones_are_those_that_need_a_person(
    pair: Any, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reported, "_PAGE", 10)
    keys = [AccountId("crm", f"a{number}") for number in range(25)]  # several pages
    for number, key in enumerate(keys):
        await reported.put(pair.store, key, NEEDS if number % 2 else WORKS, expected=0)
    await pair.store.put(record(), expected=0)
    found = {key: last async for key, last in reported.all_open(pair.other)}
    assert found == dict.fromkeys(keys[1::2], NEEDS)


async def test_it_counts_as_no_account_and_is_no_token(pair: Any, record: Any) -> None:
    await reported.put(pair.store, ANN, NEEDS, expected=0)
    token = Token(None, None, "https://login.example", "client-1", 0.0, 0.0, "boot")
    assert await has_account(pair.store, token) is False
    await pair.store.put(record(), expected=0)
    assert await pair.store.due_before(["crm"], 10.0**12, 10) == []
    first, second = await pair.store.page(None, 10)
    assert (first.key, second.key.credential) == (AccountId("crm", "ann"), reported.CREDENTIAL)


@pytest.mark.parametrize("body", [b"", b"null", b"{", b'{"needs": true}', b'{"needs": 1, "tokens": "x"}'])
async def test_one_that_can_not_be_read_is_none(pair: Any, record: Any, body: bytes) -> None:
    damaged = replace(record(), key=AccountId(reported.CREDENTIAL, str(ANN)), state="logged_out", body=body)
    await pair.store.put(damaged, expected=0)
    assert [each async for each in reported.all_open(pair.other)] == []
    assert await reported.read(pair.other, ANN) == (0, None)
    await reported.put(pair.other, ANN, NEEDS, expected=0)
    assert await reported.read(pair.store, ANN) == (1, NEEDS)


async def test_a_damaged_one_in_the_store_does_not_stop_the_others(pair: Any) -> None:
    await reported.put(pair.store, ANN, NEEDS, expected=0)
    key = AccountId(reported.CREDENTIAL, "crm/bob")
    below = getattr(pair.store, "_store", pair.store)
    await below.put(Record(key, 1, "logged_out", None, None, b"\x00not sealed"), expected=0)
    assert [each async for each in reported.all_open(pair.other)] == [(ANN, NEEDS)]
    assert await reported.read(pair.other, AccountId("crm", "bob")) == (0, None)
