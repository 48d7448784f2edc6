"""When a token is fresh, stale or expired, and when its refresh token ends."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.clock import SystemClock
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.tokens import lifetime as lifetimes
from proxy.tokens.refresh import backoff
from tests.fakes.clock import FakeClock
from tests.tokens.made import HOUR, credential, token

INFINITY = float("inf")


def state(clock: FakeClock, made: Token, due_after: float | None) -> str:
    due_at = None if due_after is None else made.issued_at + due_after
    window = lifetimes.window(made, due_at, clock)
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
    (60, 48, 57, "expired"),  # a twentieth of its lifetime early
    (1, 0.8, 0.79, "fresh"),
    (1, 0.8, 0.9, "stale"),
    (1, 0.8, 0.96, "expired"),
    (3600, None, 3594, "fresh"),  # it can't be refreshed
    (3600, None, 3595, "expired"),
    (None, 2880, 2880, "stale"),
    (None, 2880, 10**9, "stale"),  # of unknown lifetime: until a 401
    (None, None, 10**9, "fresh"),
]


@pytest.mark.parametrize(("lifetime", "due_after", "age", "expected"), HISTORIES)
def test_a_token_of_this_age_is(lifetime, due_after, age, expected):
    clock = FakeClock()
    made = token(clock, lifetime)
    clock.advance(age)
    assert state(clock, made, due_after) == expected


EVENTS = [  # the event after half an hour of its hour, and the state then
    (lambda clock: clock.jump(3600), "fresh"),
    (lambda clock: clock.jump(-3600), "fresh"),
    (lambda clock: clock.jump(86400 * 365), "fresh"),
    (lambda clock: clock.advance(1200), "stale"),  # twenty minutes of suspension count
    (lambda clock: clock.advance(1800), "expired"),
    (lambda clock: clock.reboot(off=60), "fresh"),
    (lambda clock: clock.reboot(off=1200), "stale"),
    (lambda clock: clock.reboot(off=1800), "expired"),
]


@pytest.mark.parametrize(("event", "expected"), EVENTS)
def test_events_of_the_machine(event, expected):
    clock = FakeClock()
    made = token(clock)
    clock.advance(1800)
    event(clock)
    assert state(clock, made, 2880) == expected


def test_a_machine_that_boots_with_a_past_date_uses_a_token_one_lifetime_longer_and_not_years():
    clock = FakeClock()
    made = token(clock)
    clock.reboot()
    clock.jump(-clock.wall())  # 1970: no battery
    window = lifetimes.window(made, made.issued_at + 2880, clock)
    assert state(clock, made, 2880) == "fresh"
    assert window.expired - clock.boot() < HOUR


def test_the_clock_of_this_machine_counts_the_time_asleep():
    boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    before, now, after = time.clock_gettime(boot), SystemClock().boot(), time.clock_gettime(boot)
    assert before <= now <= after


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
    window = lifetimes.window(made, made.issued_at + lifetimes.due_after(lifetime, share, chance), clock)
    assert window.due <= window.expired
    if lifetime is not None:
        assert window.expired <= boot + lifetime
        assert window.expired >= boot + lifetime - 5 - 1e-6


@given(LIFETIMES, SHARES, CHANCES)
def test_jitter_is_a_tenth_at_most_and_only_ever_early(lifetime, share, chance):
    due = lifetimes.due_after(lifetime, share, chance)
    latest = lifetimes.due_after(lifetime, share, 0.0)
    assert latest == (lifetime or 3600.0) * share
    assert 0.9 * latest - 1e-9 <= due <= latest


DUE = [  # lifetime, other values, earliest and latest due time after issue
    (3600, {}, 2592, 2880),
    (3600, {"refresh_in": 1800}, 1620, 1800),  # stated by the server
    (86399, {"refresh_in": 43199}, 38879, 43199),
    (3600, {"refresh_in": 3590}, 2592, 2880),  # but not later than we would
    (3600, {"refresh_in": 1}, 324, 360),  # nor absurdly early
    (None, {"refresh_in": 600}, 540, 600),
    (600, {"window": 30}, 573, 576),  # not before the last thirty seconds, by its clock and ours
    (600, {"window": 600}, 60, 120),
    (600, {"window": 3600}, 0, 0),
    (600, {"window": 30, "refresh_in": 60}, 573, 576),
    (10, {}, 7.2, 8),
    (2, {}, 1.44, 1.6),
]


@pytest.mark.parametrize(("lifetime", "more", "earliest", "latest"), DUE)
def test_it_is_due(lifetime, more, earliest, latest):
    dues = [lifetimes.due_after(lifetime, 0.8, chance, **more) for chance in (0.0, 0.5, 1 - 1e-9)]
    assert min(dues) == pytest.approx(earliest, abs=0.2)
    assert max(dues) == pytest.approx(latest, abs=0.2)


@given(LIFETIMES, SHARES, CHANCES, st.none() | st.floats(1, 1e9), st.none() | st.floats(5.1, 1e9))
def test_a_refresh_is_due_within_the_lifetime_for_all_settings(lifetime, share, chance, refresh_in, window):
    due = lifetimes.due_after(lifetime, share, chance, refresh_in=refresh_in, window=window)
    assert 0 <= due <= (lifetime or 3600)
    if window is not None and lifetime is not None:
        assert due >= lifetime - window, "not before the window opens"


def test_no_refresh_before_the_window_opens():
    clock = FakeClock()
    exact = credential(refresh_window=30)
    assert lifetimes.closed_for(token(clock, 600), exact) == 570
    assert lifetimes.closed_for(token(clock, 20), exact) == 0
    assert lifetimes.closed_for(token(clock, None), exact) == 0
    assert lifetimes.closed_for(token(clock, 600), credential()) == 0


@given(LIFETIMES, st.floats(-1e8, 1e8), st.floats(0, 1e8))
def test_in_one_boot_the_wall_clock_changes_nothing(lifetime, jump, age):
    clock = FakeClock()
    made = token(clock, lifetime)
    clock.advance(age)
    before = lifetimes.window(made, made.issued_at + 10, clock)
    clock.jump(jump)
    assert lifetimes.window(made, made.issued_at + 10, clock) == before


@given(st.floats(1, 1e8), st.floats(0, 1e7), st.floats(-1e7, 1e7))
def test_after_a_reboot_no_token_outlives_its_life(lifetime, off, jump):
    clock = FakeClock()
    made = token(clock, lifetime)
    clock.reboot(off)
    clock.jump(jump)
    assume(clock.wall() > 0)
    assert lifetimes.window(made, None, clock).expired <= clock.boot() + lifetime


@given(st.integers(1, 10**6), CHANCES)
def test_backoff_doubles_from_one_second_to_thirty(failures, chance):
    longest = min(2.0 ** min(failures - 1, 20), 30.0)
    assert longest / 2 <= backoff.backoff(failures, chance) <= longest


# -- whose clock


def elsewhere(clock: FakeClock, skew: float | None, **more: object) -> Token:
    """A new token of another host, whose clock is off by `-skew`; the server's is right."""
    other = FakeClock(wall=clock.wall() - (skew or 0), boot=77.0, boot_id="other host")
    return token(other, skew=skew, **more)


HOURS = [-13 * HOUR, -HOUR, 0.0, HOUR, 13 * HOUR]


@pytest.mark.parametrize("theirs", HOURS)
@pytest.mark.parametrize("ours", HOURS)
def test_with_a_server_time_the_age_of_others_tokens_is_right_whatever_the_clocks(theirs, ours):
    clock = FakeClock()
    made = elsewhere(clock, theirs)
    clock.heard[made.server] = clock.wall() - clock.boot()
    clock.jump(ours)
    assert state(clock, made, 2880) == "fresh"
    clock.advance(2881)
    assert state(clock, made, 2880) == "stale"
    clock.jump(ours)
    clock.advance(720)
    assert state(clock, made, 2880) == "expired"


UNHEARD = [  # error of the other host's clock, of ours, whether the token counts as fresh here
    (0.0, 0.0, True),
    (HOUR, 0.0, False),  # it was behind, so its token seems old: better too old than too young
    (-HOUR, 0.0, True),  # it was ahead, by a known skew
    (HOUR, -HOUR, True),  # ours is behind by as much: the same machine, after a reboot
    (-HOUR, HOUR, False),  # ahead by as much; but it may also have been corrected
    (0.0, -HOUR, False),  # from the future: an unknown clock is wrong
    (0.0, HOUR, False),
    (0.0, -4.0, True),  # they differ a little
    (-100 * HOUR, 0.0, False),  # from the future: such a Date is ignored
]


@pytest.mark.parametrize(("skew", "ours", "is_fresh"), UNHEARD)
def test_without_a_server_time_the_larger_of_two_ages_counts(skew, ours, is_fresh):
    clock = FakeClock()
    made = elsewhere(clock, skew)
    clock.jump(ours)
    assert state(clock, made, 2880) == ("fresh" if is_fresh else "expired")


def test_an_absurd_date_changes_nothing_on_a_running_boot_clock():
    clock = FakeClock()
    made = token(clock, skew=-(10**9))
    clock.reboot(off=60)
    assert state(clock, made, 2880) == "fresh"
    clock.advance(HOUR)
    assert state(clock, made, 2880) == "expired"


def test_where_nothing_could_refresh_it_a_token_from_the_future_is_tried():
    clock = FakeClock()
    made = elsewhere(clock, 0.0)
    clock.jump(-HOUR)
    assert state(clock, made, None) == "fresh"


@given(LIFETIMES, st.floats(-1e8, 1e8), st.floats(-1e8, 1e8))
def test_a_clock_that_is_set_back_makes_no_token_younger(lifetime, skew, jump):
    clock = FakeClock()
    made = elsewhere(clock, skew, lifetime=lifetime)
    first = lifetimes.window(made, made.issued_at + 10, clock)
    clock.jump(jump)
    second = lifetimes.window(made, made.issued_at + 10, clock, known=first.begun)
    assert second.begun <= first.begun or second.begun == INFINITY
    assert second.expired <= first.expired or first.expired == -INFINITY


@given(LIFETIMES, st.none() | st.floats(-1e9, 1e9), st.none() | st.floats(-1e9, 4e9), st.floats(-1e9, 1e9))
def test_no_clock_gives_a_token_more_than_one_life(lifetime, skew, heard, jump):
    clock = FakeClock()
    made = elsewhere(clock, skew, lifetime=lifetime)
    if heard is not None:
        clock.heard[made.server] = heard
    clock.jump(jump)
    window = lifetimes.window(made, made.issued_at + 10, clock)
    assert window.due <= window.expired
    assert window.due <= clock.boot() + 10 + 1e-3
    if lifetime is not None:
        assert window.expired <= clock.boot() + lifetime


# -- what 401s teach


def refused_at(*observed_lifetimes: float, lifetime: float | None = None) -> Token:
    made = token(FakeClock(), lifetime)
    for age in observed_lifetimes:
        made = lifetimes.learned_from_401(made, age)
    return made


TAUGHT = [  # ages at a 401, the assumed lifetime of the next token
    ((), 3600),
    ((1800,), 1800),
    ((1800, 1200, 1500), 1200),
    ((90, 1800, 1800, 1800), 1800),  # the last three
    ((3,), 3600),  # not for its age
    ((1800, 3), 3600),  # then perhaps neither was the one before
    ((1800, 1200, 3), 1800),
    ((86400,), 86400),
]


@pytest.mark.parametrize(("observed_lifetimes", "lifetime"), TAUGHT)
def test_the_lifetime_is_learned_from_the_age_at_a_401(observed_lifetimes, lifetime):
    made = refused_at(*observed_lifetimes)
    assert lifetimes.due_at(made, credential(), 0.0) == made.issued_at + 0.8 * lifetime
    assert made.lifetime is None, "it is attached until the next 401"


def test_a_401_teaches_nothing_where_the_lifetime_is_known():
    assert refused_at(90, lifetime=HOUR).observed_lifetimes == ()


@given(st.lists(st.floats(0, 1e7)), CHANCES)
def test_no_401s_lead_to_more_than_a_refresh_in_three_quarters_of_a_minute(observed_lifetimes, chance):
    made = refused_at(*observed_lifetimes)
    assert lifetimes.due_at(made, credential(), chance) - made.issued_at >= 43


def test_a_learned_lifetime_is_inherited_and_after_twenty_tokens_without_a_401_a_longer_one_is_tried():
    first, clock = refused_at(1800, 1200), FakeClock()
    heirs = [first]
    for _ in range(42):
        heirs.append(lifetimes.successor(token(clock, None), heirs[-1]))
    lengths = [min(made.observed_lifetimes, default=3600) for made in heirs]
    assert lengths == [1200] * 21 + [1800] * 21 + [3600]


def test_the_successor_inherits_only_what_was_learned_from_its_predecessor():
    old, clock = token(FakeClock(), None), FakeClock()
    refused = lifetimes.learned_from_401(old, 1800)
    assert lifetimes.successor(token(clock, None), old, refused).observed_lifetimes == (1800,)
    another = lifetimes.learned_from_401(token(clock, None, "another"), 1800)
    assert lifetimes.successor(token(clock, None), old, another).observed_lifetimes == ()


# -- the refresh token

DAY = 86400.0


def ends(**keys: object) -> dict[str, object]:
    """The times of the refresh token of a token issued now, after a login two days ago."""
    clock = FakeClock()
    now = clock.wall()
    said = keys.pop("said", None)
    renews = keys.pop("renews", None)
    made = token(
        clock,
        refresh_expires_at=None if said is None else now + said * DAY,
        refresh_renews=renews,
        login_at=now - 2 * DAY,
    )
    found = {
        "ends": lifetimes.refresh_ends_at(made, credential(**keys)),
        "keep alive": lifetimes.keep_alive_at(made, credential(**keys)),
        "near": lifetimes.near_end_at(made, credential(**keys)),
    }
    return {name: at and (at - now) / DAY for name, at in found.items() if at is not None}


ENDS = [  # known values, and the results in days from now
    ({}, {}),
    ({"said": 60}, {"ends": 60, "keep alive": 48, "near": 53}),
    ({"said": 60, "renews": True}, {"ends": 60, "keep alive": 48, "near": 53}),
    ({"said": 60, "renews": False}, {"ends": 60, "near": 53}),
    ({"said": 60, "keep_alive": False}, {"ends": 60, "near": 53}),
    ({"refresh_token_idle": 8 * DAY}, {"ends": 8, "keep alive": 6.4, "near": 7}),
    ({"refresh_token_idle": 8 * DAY, "said": 16}, {"ends": 16, "keep alive": 12.8, "near": 14}),
    ({"refresh_token_lifetime": 365 * DAY}, {"ends": 363, "near": 356}),
    ({"refresh_token_lifetime": 8 * DAY}, {"ends": 6, "near": 5}),
    ({"refresh_token_lifetime": DAY}, {"ends": -1, "near": -1.125}),  # the server accepts it for longer
    (
        {"refresh_token_idle": 8 * DAY, "refresh_token_lifetime": 365 * DAY},
        {"ends": 8, "keep alive": 6.4, "near": 7},
    ),
    ({"refresh_token_idle": 8 * DAY, "refresh_token_lifetime": 8.1 * DAY}, {"ends": 6.1, "near": 5.0875}),
]


@pytest.mark.parametrize(("keys", "expected"), ENDS)
def test_a_refresh_token_ends(keys, expected):
    assert ends(**keys) == pytest.approx(expected)


def test_without_a_refresh_token_there_is_nothing_to_keep_alive():
    made = replace(token(FakeClock()), refresh_token=None)
    known = credential(refresh_token_idle=HOUR, refresh_token_lifetime=DAY)
    assert lifetimes.refresh_ends_at(made, known) is None
    assert lifetimes.keep_alive_at(made, known) is None
    assert lifetimes.near_end_at(made, known) is None


def test_a_hard_end_of_a_token_from_before_logins_were_noted_is_not_known():
    assert lifetimes.refresh_ends_at(token(FakeClock()), credential(refresh_token_lifetime=DAY)) is None


def refreshed(old: Token, after: float, says: float | None, *, rotates: bool = True) -> Token:
    clock = FakeClock(wall=old.issued_at + after)
    new = token(clock, refresh_expires_at=None if says is None else clock.wall() + says)
    return lifetimes.successor(replace(new, refresh_token=Secret("R2") if rotates else None), old)


RENEWALS = [  # the end in the first response, in the second, the time between; refresh_renews
    (DAY, DAY, HOUR, True),
    (DAY, DAY - HOUR, HOUR, False),
    (DAY, DAY - HOUR + 2, HOUR, False),  # rounded
    (DAY, 2 * DAY, HOUR, True),
    (DAY, DAY, 5.0, None),  # too soon to tell
    (DAY, DAY - 5, 5.0, None),
    (None, DAY, HOUR, None),
    (DAY, None, HOUR, None),  # another refresh token, without a stated end
]


@pytest.mark.parametrize(("first", "second", "between", "renews"), RENEWALS)
def test_two_responses_show_whether_a_refresh_extends_the_end(first, second, between, renews):
    clock = FakeClock()
    old = token(clock, refresh_expires_at=first and clock.wall() + first)
    new = refreshed(old, between, second)
    assert new.refresh_renews is renews
    assert new.refresh_expires_at == (second and new.issued_at + second)


def test_a_refresh_token_that_stays_and_of_which_nothing_more_is_said_has_its_old_end():
    clock = FakeClock()
    old = token(clock, refresh_expires_at=clock.wall() + DAY, login_at=clock.wall())
    new = refreshed(old, HOUR, None, rotates=False)
    assert (new.refresh_expires_at, new.refresh_renews) == (old.refresh_expires_at, False)
    assert new.refresh_token == old.refresh_token
    assert lifetimes.keep_alive_at(new, credential()) is None, "it would be refreshed more and more often"


@given(st.floats(HOUR, 1e8), st.floats(61, HOUR), st.integers(2, 6))
def test_a_count_that_starts_anew_is_idle_and_one_that_shrinks_is_hard(lifetime, between, refreshes):
    clock = FakeClock()
    first = token(clock, refresh_expires_at=clock.wall() + lifetime, login_at=clock.wall())
    idle = hard = first
    for number in range(1, refreshes):
        idle = refreshed(idle, between, lifetime)
        left = lifetime - number * between
        if left > 0:
            hard = refreshed(hard, between, left)
    assert lifetimes.keep_alive_at(idle, credential()) == pytest.approx(idle.issued_at + 0.8 * lifetime)
    assert lifetimes.refresh_ends_at(hard, credential()) == pytest.approx(first.issued_at + lifetime)
    if hard is not first:
        assert lifetimes.keep_alive_at(hard, credential()) is None


KNOWN_ENDS = st.none() | st.floats(1, 1e9)


@given(KNOWN_ENDS, st.none() | st.booleans(), KNOWN_ENDS, KNOWN_ENDS, st.floats(0, 1e8))
def test_a_refresh_token_is_kept_alive_before_its_end_and_warned_of_a_week_before_at_most(
    said, renews, idle, lifetime, since_login
):
    clock = FakeClock()
    now = clock.wall()
    made = token(
        clock,
        refresh_expires_at=said and now + said,
        refresh_renews=renews,
        login_at=now - since_login,
    )
    known = credential().model_copy(update={"refresh_token_idle": idle, "refresh_token_lifetime": lifetime})
    end, at, near = (
        of(made, known) for of in (lifetimes.refresh_ends_at, lifetimes.keep_alive_at, lifetimes.near_end_at)
    )
    assert (end is None) == (near is None)
    if at is not None:
        assert now < at < end
    if near is not None:
        assert end - 7 * DAY - 1e-3 <= near <= end
