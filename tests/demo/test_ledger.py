from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.journal import Journal
from proxy.demo.ledger import Ledger, new_access_token, new_refresh_token

from .conftest import HandClock

GRACE = 10


def new_answer() -> dict[str, Any]:
    return {"access_token": new_access_token(), "refresh_token": new_refresh_token(), "expires_in": 60}


def verdict(ledger: Ledger, answer: dict[str, Any], now: float) -> str:
    token = ledger.find(answer["access_token"])
    assert token is not None
    return token.verdict(now)


uses = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from([0, 0.6, 1, GRACE - 1, GRACE, 59.5, 61])), max_size=20
)


@given(uses=uses, grace=st.sampled_from([0, GRACE]))
def test_a_family_lives_until_a_spent_token_is_presented_after_the_grace(
    uses: list[tuple[int, float]], grace: int
) -> None:
    """Each use presents some token of the family, some seconds after the previous use."""
    clock = HandClock()
    ledger = Ledger(clock, Journal(), lifetime=60, rotation=True, grace=grace)
    family = ledger.new_family("web", "alice", "api")
    issued = [new_answer()]
    ledger.save(issued[0], family)
    spent_at: dict[str, float] = {}
    for pick, seconds in uses:
        clock.now += seconds
        value = issued[pick % len(issued)]["refresh_token"]
        answered = ledger.present(value, "web")
        if value in spent_at and clock.now - spent_at[value] >= grace:
            assert answered is None
            assert family.revoked_at == clock.now
            break
        assert answered is not None
        if value in spent_at:
            again = ledger.repeat(answered)
            successor = issued[[token["refresh_token"] for token in issued].index(value) + 1]
            assert again["refresh_token"] == successor["refresh_token"]
            assert verdict(ledger, again, clock.now) == "good"
            assert 0 < again["expires_in"] <= 60
            assert clock.now + again["expires_in"] <= ledger.find(again["access_token"]).expires_at
            continue
        issued.append(new_answer())
        ledger.save(issued[-1], family, answered)
        spent_at[value] = clock.now
    assert ledger.families_revoked == (family.revoked_at is not None)
    if family.revoked_at is not None:
        assert all(ledger.present(token["refresh_token"], "web") is None for token in issued)
        assert {verdict(ledger, token, clock.now) for token in issued} == {"revoked"}
