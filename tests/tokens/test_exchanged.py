"""The accounts of subjects: found by the whole of what they were made for, and by nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.config.model import Credential
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens.exchanged import WITHOUT_TOKEN, Exchanged
from proxy.tokens.refresh import exchange
from proxy.tokens.refresh.throttle import ServerThrottle
from proxy.tokens.stored_token import StoredToken
from tests.fakes.clock import FakeClock

TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
SCOPES = st.lists(st.sampled_from(["a", "b", "a b", "ab"]).filter(lambda each: " " not in each), max_size=3)


def credential(name: str = "crm", scopes: tuple[str, ...] = (), audience: str | None = None) -> Credential:
    return Credential.model_validate(
        {
            "grant": "token_exchange",
            "token_endpoint": "https://login.example/token",
            "client_id": "web",
            "subject_token": {"header": "Authorization"},
            "name": name,
            "scopes": scopes,
            "audience": audience,
        }
    )


def given_token(account: object, clock: FakeClock, lifetime: float, subject: str) -> None:
    token = Token(
        access_token=Secret(f"AT-of-{subject}"),
        refresh_token=None,
        server="https://login.example/token",
        client_id="web",
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=lifetime,
        grant="token_exchange",
    )
    account.apply(StoredToken(account.held.generation + 1, "valid", token, clock.wall() + lifetime * 0.8))


@given(
    one=st.tuples(TEXTS, SCOPES, st.none() | TEXTS, TEXTS),
    other=st.tuples(TEXTS, SCOPES, st.none() | TEXTS, TEXTS),
)
def test_two_subjects_share_an_account_only_if_everything_is_the_same(one, other):
    clock = FakeClock()
    made, throttle = Exchanged(clock), ServerThrottle(clock, 100.0)
    first, second = (
        made.account(credential(name, tuple(scopes), audience), throttle, Secret(subject))
        for name, scopes, audience, subject in (one, other)
    )
    assert (first is second) == (one == other)


class Subjects(RuleBasedStateMachine):
    """People come and go, tokens end: an account never has a token of another subject, or a dead one."""

    @initialize()
    def begin(self) -> None:
        self.clock = FakeClock()
        self.made = Exchanged(self.clock, most=4)
        self.throttle = ServerThrottle(self.clock, 100.0)
        self.credential = credential()
        self.ends: dict[str, float] = {}
        self.changes = 0

    @rule(person=st.sampled_from("abcdefg"), lifetime=st.floats(10, 1000))
    def comes(self, person: str, lifetime: float) -> None:
        account = self.made.account(self.credential, self.throttle, Secret(person))
        assert account.subject == Secret(person)
        now = self.clock.boot()
        if account.attachment is not None and now < account.usable_until:
            assert account.attachment.access_token.reveal() == f"AT-of-{person}"
            assert now < self.ends[person]
        else:
            given_token(account, self.clock, lifetime, person)
            self.ends[person] = now + lifetime

    @rule(seconds=st.floats(0.1, 600))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def the_client_changes(self) -> None:
        self.changes += 1
        self.credential = credential(audience=f"audience-{self.changes}")
        self.ends = {}

    @invariant()
    def it_is_bounded(self) -> None:
        if hasattr(self, "made"):
            assert len(self.made) <= 4


TestSubjects = Subjects.TestCase


def test_a_subject_is_forgotten_when_its_token_ends():
    clock = FakeClock()
    made, throttle, crm = Exchanged(clock), ServerThrottle(clock, 100.0), credential()
    account = made.account(crm, throttle, Secret("ann"))
    given_token(account, clock, 600.0, "ann")
    assert made.account(crm, throttle, Secret("ann")) is account
    clock.advance(WITHOUT_TOKEN + 1)
    assert made.account(crm, throttle, Secret("ann")) is account
    clock.advance(600)
    assert len(made) == 0
    assert made.account(crm, throttle, Secret("ann")) is not account


def test_a_subject_without_a_token_is_forgotten_after_a_minute():
    clock = FakeClock()
    made, throttle, crm = Exchanged(clock), ServerThrottle(clock, 100.0), credential()
    account = made.account(crm, throttle, Secret("ann"))
    clock.advance(WITHOUT_TOKEN + 1)
    assert made.account(crm, throttle, Secret("ann")) is not account


def test_an_account_shows_neither_its_subject_nor_a_hash_that_a_guess_confirms():
    clock = FakeClock()
    throttle, crm = ServerThrottle(clock, 100.0), credential()
    first = Exchanged(clock).account(crm, throttle, Secret("ann"))
    second = Exchanged(clock).account(crm, throttle, Secret("ann"))
    assert isinstance(first.key, AccountId)
    assert "ann" not in repr(first.key)
    assert first.key != second.key


@pytest.mark.parametrize(
    ("stated", "subject_left", "counts"),
    [
        (600.0, None, 600.0),
        (600.0, 20.0, 20.0),
        (None, 20.0, 20.0),
        (10.0, 20.0, 10.0),
        (None, None, exchange.UNKNOWN_LIFETIME),
    ],
)
def test_a_token_lives_as_long_as_both(stated, subject_left, counts):
    clock = FakeClock()
    made = Exchanged(clock).account(credential(), ServerThrottle(clock, 100.0), Secret("ann"))
    given_token(made, clock, 1.0, "ann")
    token = made.held.token
    from dataclasses import replace

    assert exchange._lifetime(replace(token, lifetime=stated), subject_left) == counts
