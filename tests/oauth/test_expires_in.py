"""Token lifetime and server time, from all fields that state them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.oauth import expires_in

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
YEAR = 365 * 86400.0
VALUES = [  # expires_in, seconds
    (3600, 3600),
    ("3600", 3600),
    (" 3600 ", 3600),
    (59.5, 59.5),
    ("59.5", 59.5),
    (1, 1),
    (10 * YEAR, 10 * YEAR),
    (0, None),
    (0.5, 0.5),
    (-1, None),
    (True, None),
    (None, None),
    ([3600], None),
    ({"seconds": 3600}, None),
    ("", None),
    ("soon", None),
    ("nan", None),
    ("inf", None),
    (float("-inf"), None),
    (10**400, None),
    # milliseconds: 900000 could be ten days, eleven years can't be seconds
    (900_000, 900_000),
    (400_000_000, 400_000),
    # dates
    (NOW + 3600, 3600),
    (str(int(NOW + 3600)), 3600),
    ((NOW + 3600) * 1000, 3600),
    (NOW - 3600, (NOW - 3600) / 1000),  # in the past as seconds, so it can only be milliseconds
    ("2027-01-15T09:00:00Z", 3600),
    ("2027-01-15T09:00:00", 3600),
    ("2027-01-15T09:00:00+01:00", None),  # now
    ("2027-01-15 10:00:00+01:00", 3600),
    ("Fri, 15 Jan 2027 09:00:00 GMT", 3600),
    ("Fri, 15 Jan 2027 07:00:00 GMT", None),
    ("9999-12-31T23:59:59-14:00", None),
]


@pytest.mark.parametrize(("value", "seconds"), VALUES)
def test_lifetimes_of_all_forms_are_read(value, seconds):
    assert expires_in.read(value, NOW) == seconds


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
NOWS = st.floats(0, 4e9)


UNTIL = [  # expires_at, seconds
    (NOW + 3600, 3600),
    (str(int(NOW + 3600)), 3600),
    (f" {NOW + 3600} ", 3600),
    ((NOW + 3600) * 1000, 3600),
    (str(int((NOW + 3600) * 1000)), 3600),
    ("2027-01-15T09:00:00Z", 3600),
    ("2027-01-15T09:00:00.000+00:00", 3600),
    ("2027-01-15T09:00:00", 3600),
    ("Fri, 15 Jan 2027 09:00:00 GMT", 3600),
    (NOW, None),
    (NOW - 3600, None),  # in the past: a time, not milliseconds of a lifetime
    ((NOW - 3600) * 1000, None),
    (3600, None),  # not a time of this century
    (0, None),
    (-1, None),
    (True, None),
    (None, None),
    ("soon", None),
    ("nan", None),
    ("inf", None),
    (10**400, None),
    ([NOW + 3600], None),
    ("9999-12-31T23:59:59-14:00", None),
]


@pytest.mark.parametrize(("value", "seconds"), UNTIL)
def test_times_of_expiry_of_all_forms_are_read(value, seconds):
    assert expires_in.until(value, NOW) == seconds


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text())
def test_no_time_of_expiry_makes_it_raise_or_outlast_ten_years(value):
    seconds = expires_in.until(value, NOW)
    assert seconds is None or 0 < seconds <= expires_in.MAX_LIFETIME


@given(ANYTHING | st.integers(10**8, 10**14), NOWS)
def test_any_value_gives_a_sane_number_of_seconds_or_none(value, now):
    seconds = expires_in.read(value, now)
    assert seconds is None or 0 < seconds <= 10 * YEAR


@given(st.floats(1, 10 * YEAR), NOWS)
def test_a_value_that_can_be_seconds_counts_as_seconds(value, now):
    assert expires_in.read(value, now) == value


@given(st.floats(60, YEAR), st.floats(1.5e9, 4e9))
def test_a_date_is_never_read_as_more_than_it_says(life, now):
    for value in (now + life, (now + life) * 1000):
        assert expires_in.read(value, now) <= life + 0.01


CLAIMS = [  # claims of a token, its remaining seconds
    ({"exp": NOW + 600}, 600),
    ({"exp": NOW + 600, "iat": NOW}, 600),
    ({"exp": NOW + 600, "iat": NOW - 3000}, 600),  # returned again
    ({"exp": NOW + 600, "iat": NOW + 300}, 300),  # its own clock is ahead of its Date
    ({"exp": NOW + 600, "iat": NOW + 900}, 600),  # an iat that makes no sense
    ({"exp": NOW + 600, "iat": "now"}, 600),
    ({"exp": NOW}, None),
    ({"exp": NOW - 1}, None),
    ({"exp": NOW + 11 * YEAR}, None),
    ({"exp": True}, None),
    ({"exp": "2027"}, None),
    ({"exp": 10**400}, None),
    ({"exp": float("nan")}, None),
    ({"iat": NOW}, None),
    ({}, None),
]


def jwt(claims: object) -> str:
    return ".".join(
        urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({}, claims, "signature")
    )


@pytest.mark.parametrize(("claims", "seconds"), CLAIMS)
def test_a_token_lives_by_its_claims(claims, seconds):
    assert expires_in.of_claims(claims, NOW) == seconds
    assert expires_in.of_jwt(jwt(claims), NOW) == seconds


NO_JWT = [
    "",
    "opaque",
    "a.b.c",
    "..",
    jwt({"exp": NOW + 600}) + ".d.e",  # encrypted: five parts
    jwt([NOW + 600]),
    "x." + urlsafe_b64encode(b"[" * 9000).decode() + ".y",
    "x." + urlsafe_b64encode(b"\xff\xfe").decode() + ".y",
    "x.é.y",
]


@pytest.mark.parametrize("token", NO_JWT)
def test_a_token_that_is_not_a_jwt_has_no_lifetime(token):
    assert expires_in.of_jwt(token, NOW) is None


@given(st.text(), st.binary())
def test_no_token_makes_it_raise(text, payload):
    expires_in.of_jwt(text, NOW)
    expires_in.of_jwt(f"a.{urlsafe_b64encode(payload).decode()}.c", NOW)


DATES = [
    ({"Date": "Fri, 15 Jan 2027 08:00:00 GMT"}, NOW),
    ({"date": "Fri, 15 Jan 2027 08:00:00 GMT"}, NOW),
    ({"Date": "Fri, 15 Jan 2027 08:00:00 GMT", "Age": "30"}, None),  # from a cache
    ({"Date": "yesterday"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("fields", "seconds"), DATES)
def test_the_server_time_is_its_date(fields, seconds):
    assert expires_in.server_time(CIMultiDict(fields)) == seconds


SKEWS = st.sampled_from([0.0]) | st.floats(-1e6, 1e6)


@given(SKEWS, st.floats(0, 10), st.floats(0, 1), st.floats(0, 1))
def test_the_true_skew_lies_between_least_and_most_unless_the_clocks_may_agree(skew, took, moment, fraction):
    sent = NOW + fraction
    written = expires_in.http_date(formatdate(sent + took * moment + skew, usegmt=True))
    least, most = expires_in.skew(written, sent, sent + took)
    if (least, most) == (0.0, 0.0):
        assert abs(skew) <= took + 1 + 1e-3
        return
    assert least - 1e-3 <= skew <= most + 1e-3
    assert most - least <= took + 1 + 1e-3
    assert least * most > 0, "what may be nothing is taken for nothing"
