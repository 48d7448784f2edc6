"""When a token is fresh, stale or expired, and when to try again."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.clock import SystemClock
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.tokens import life
from tests.fakes.clock import FakeClock

HOUR = 3600.0
INFINITY = float("inf")


def token(clock: FakeClock, lifetime: float | None = HOUR, access_token: str | None = "A") -> Token:
    return Token(
        access_token=access_token and Secret(access_token),
        refresh_token=None,
        server="https://login.example",
        client_id="web",
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=lifetime,
    )


def state(clock: FakeClock, made: Token, due_after: float | None) -> str:
    due_at = None if due_after is None else made.issued_at + due_after
    window = life.window(made, due_at, clock)
    if clock.boot() >= window.expired:
        return "expired"
    return "stale" if clock.boot() >= window.due else "fresh"


HISTORIES = [  # lifetime, due after, age, state
    (3600, 2880, 0, "fresh"),
    (3600, 2880, 2879.9, "fresh"),
    (3600, 2880, 2880, "stale"),
    (3600, 2880, 3594.9, "stale"),
    (3600, 2880, 3595, "expired"),  # five seconds early
    (60, 48, 56.9, "stale"),
    (60, 48, 57, "expired"),  # a twentieth of its life early
    (1, 0.8, 0.79, "fresh"),
    (1, 0.8, 0.9, "stale"),
    (1, 0.8, 0.96, "expired"),
    (3600, None, 3594, "fresh"),  # nothing can refresh it
    (3600, None, 3595, "expired"),
    (None, 2880, 2880, "stale"),
    (None, 2880, 10**9, "stale"),  # of unknown life: until a 401
    (None, None, 10**9, "fresh"),
]


@pytest.mark.parametrize(("lifetime", "due_after", "age", "expected"), HISTORIES)
def test_a_token_of_this_age_is(lifetime, due_after, age, expected):
    clock = FakeClock()
    made = token(clock, lifetime)
    clock.advance(age)
    assert state(clock, made, due_after) == expected


EVENTS = [  # what happens after half an hour of its hour, and what it is then
    (lambda clock: clock.jump(3600), "fresh"),
    (lambda clock: clock.jump(-3600), "fresh"),
    (lambda clock: clock.jump(86400 * 365), "fresh"),
    (lambda clock: clock.advance(1200), "stale"),  # twenty minutes asleep count
    (lambda clock: clock.advance(1800), "expired"),
    (lambda clock: clock.reboot(off=60), "fresh"),
    (lambda clock: clock.reboot(off=1200), "stale"),
    (lambda clock: clock.reboot(off=1800), "expired"),
]


@pytest.mark.parametrize(("event", "expected"), EVENTS)
def test_what_happens_to_the_machine(event, expected):
    clock = FakeClock()
    made = token(clock)
    clock.advance(1800)
    event(clock)
    assert state(clock, made, 2880) == expected


def test_a_machine_that_comes_up_in_the_past_gives_a_token_one_more_life_and_not_years():
    clock = FakeClock()
    made = token(clock)
    clock.reboot()
    clock.jump(-clock.wall())  # 1970: no battery
    window = life.window(made, made.issued_at + 2880, clock)
    assert state(clock, made, 2880) == "fresh"
    assert window.expired - clock.boot() < HOUR


def test_the_clock_of_this_machine_counts_the_time_asleep():
    boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    assert 0 <= time.clock_gettime(boot) - SystemClock().boot() + 1e-3 < 1


def test_a_token_set_without_access_token_is_due_at_once():
    clock = FakeClock()
    assert state(clock, token(clock, 0.0, access_token=None), 0.0) == "expired"


LIFETIMES = st.none() | st.floats(1e-3, 10 * 365 * 86400)
SHARES = st.floats(0.1, 0.95)
CHANCES = st.floats(0, 1, exclude_max=True)
MOMENTS = st.floats(0, 4e9)


@given(LIFETIMES, SHARES, CHANCES, MOMENTS, MOMENTS)
def test_due_is_never_after_expired_and_expired_never_after_the_expiry(lifetime, share, chance, wall, boot):
    clock = FakeClock(wall, boot)
    made = token(clock, lifetime)
    window = life.window(made, made.issued_at + life.due_after(lifetime, share, chance), clock)
    assert window.due <= window.expired
    if lifetime is not None:
        assert window.expired <= boot + lifetime
        assert window.expired >= boot + lifetime - 5 - 1e-6


@given(LIFETIMES, SHARES, CHANCES)
def test_jitter_is_a_tenth_at_most_and_only_ever_early(lifetime, share, chance):
    due = life.due_after(lifetime, share, chance)
    latest = life.due_after(lifetime, share, 0.0)
    assert latest == (lifetime or 3600.0) * share
    assert 0.9 * latest - 1e-9 <= due <= latest


@given(LIFETIMES, st.floats(-1e8, 1e8), st.floats(0, 1e8))
def test_in_one_boot_the_wall_clock_changes_nothing(lifetime, jump, age):
    clock = FakeClock()
    made = token(clock, lifetime)
    clock.advance(age)
    before = life.window(made, made.issued_at + 10, clock)
    clock.jump(jump)
    assert life.window(made, made.issued_at + 10, clock) == before


@given(st.floats(1, 1e8), st.floats(0, 1e7), st.floats(-1e7, 1e7))
def test_after_a_reboot_no_token_outlives_its_life(lifetime, off, jump):
    clock = FakeClock()
    made = token(clock, lifetime)
    clock.reboot(off)
    clock.jump(jump)
    assume(clock.wall() > 0)
    assert life.window(made, None, clock).expired <= clock.boot() + lifetime


@given(st.integers(1, 10**6), CHANCES)
def test_backoff_doubles_from_one_second_to_thirty(failures, chance):
    longest = min(2.0 ** min(failures - 1, 20), 30.0)
    assert longest / 2 <= life.backoff(failures, chance) <= longest
