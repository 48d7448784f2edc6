"""Device authorization responses (RFC 8628 section 3.2), and the pace of polls (section 3.5)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import NO_RESPONSE, AuthorizationServerError
from proxy.oauth import device
from proxy.oauth.device import Pace, parse

GOOD = {
    "device_code": "GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://login.example/device",
    "verification_uri_complete": "https://login.example/device?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 7,
}
JSON = {"Content-Type": "application/json"}


def read(status: int = 200, *, without: str = "", **changes: object) -> device.DeviceAuthorization:
    document = {name: value for name, value in {**GOOD, **changes}.items() if name != without}
    return parse(status, JSON, json.dumps(document).encode(), now=1000.0)


def refused(status: int = 200, *, without: str = "", **changes: object) -> str:
    with pytest.raises(AuthorizationServerError) as caught:
        read(status, without=without, **changes)
    return caught.value.error


def test_a_response_is_read():
    codes = read()
    assert codes.device_code.reveal() == GOOD["device_code"]
    assert (codes.user_code, codes.verification_uri) == ("WDJB-MJHT", "https://login.example/device")
    assert codes.link == GOOD["verification_uri_complete"]
    assert (codes.lifetime, codes.interval) == (1800, 7)
    assert GOOD["device_code"] not in repr(codes)
    assert "WDJB" not in repr(codes)


def test_google_names_the_url_otherwise_and_the_link_may_be_missing():
    document = {"device_code": "D", "user_code": "U", "verification_url": "https://g.example/d"}
    codes = parse(200, JSON, json.dumps(document).encode(), now=0.0)
    assert (codes.verification_uri, codes.complete_uri, codes.link) == (
        "https://g.example/d",
        "",
        "https://g.example/d",
    )
    assert (codes.lifetime, codes.interval) == (device.LIFETIME, device.INTERVAL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verification_uri", "http://login.example/device"),
        ("verification_uri", "javascript:alert(1)"),
        ("verification_uri", "file:///etc/passwd"),
        ("verification_uri", "--new-window"),
        ("verification_uri", "https://login.example/\x1b]0;x\x07"),
        ("verification_uri", "https://login.example/\u202e"),
        ("verification_uri", "https://" + "a" * 3000),
        ("verification_uri", 5),
        ("user_code", "AB\x1b[2J"),
        ("user_code", "AB\r\nCD"),
        ("user_code", "\u202eAB"),
        ("user_code", ""),
        ("user_code", "A" * 65),
        ("user_code", 1234),
        ("device_code", ""),
        ("device_code", "\ud800"),
        ("device_code", ["x"]),
    ],
)
def test_what_a_person_must_not_be_shown_is_refused(name, value):
    assert refused(**{name: value}) == device.MALFORMED


@pytest.mark.parametrize("name", ["device_code", "user_code", "verification_uri"])
def test_a_response_without_one_of_its_members_is_refused(name):
    assert refused(without=name) == device.MALFORMED


@pytest.mark.parametrize("link", ["javascript:alert(1)", "http://10.0.0.1/", "https://x/\x07", 7, None])
def test_an_unsafe_link_is_not_shown(link):
    codes = read(verification_uri_complete=link)
    assert codes.link == codes.verification_uri


@pytest.mark.parametrize(
    ("status", "document", "code"),
    [
        (400, {"error": "invalid_client"}, "invalid_client"),
        (200, {"error": "unauthorized_client"}, "unauthorized_client"),
        (503, {}, "http_503"),
        (404, {}, "http_404"),
        (302, {}, "redirect"),
        (200, {}, device.MALFORMED),
        (200, {"access_token": "x", "token_type": "Bearer"}, device.MALFORMED),
        (200, [], "not_json"),
    ],
)
def test_an_error_keeps_its_code(status, document, code):
    with pytest.raises(AuthorizationServerError) as caught:
        parse(status, JSON, json.dumps(document).encode(), now=0.0)
    assert caught.value.error == code


@pytest.mark.parametrize(
    ("given_", "counts"),
    [
        (0, 1.0),
        (0.2, 1.0),
        (-5, 5.0),
        ("8", 8.0),
        ("x", 5.0),
        (None, 5.0),
        (True, 5.0),
        (1e9, 60.0),
        (10**400, 5.0),
        (float("nan"), 5.0),
    ],
)
def test_an_interval_is_within_reason(given_, counts):
    assert read(interval=given_).interval == counts


@given(st.binary(max_size=300), st.sampled_from([200, 201, 400, 429, 500, 302]))
def test_any_bytes_are_codes_or_an_error(body, status):
    try:
        codes = parse(status, JSON, body, now=0.0)
    except AuthorizationServerError:
        return
    assert codes.user_code.isascii()
    assert codes.user_code.isprintable()


def error(code: str, **fields: object) -> AuthorizationServerError:
    outcome = fields.pop("outcome", "transient")
    return AuthorizationServerError(outcome, code, **fields)  # type: ignore[arg-type]


def test_a_pending_login_is_polled_at_the_interval_of_the_server():
    pace = Pace(5.0).after(error("authorization_pending"))
    assert pace == Pace(5.0)
    assert pace.delay == 5.0


def test_slow_down_adds_five_seconds_for_good():
    pace = Pace(5.0).after(error("slow_down"))
    assert pace is not None
    assert pace.delay == 10.0
    pace = pace.after(error("authorization_pending"))
    assert pace is not None
    assert pace.delay == 10.0
    pace = pace.after(error("slow_down"))
    assert pace is not None
    assert pace.delay == 15.0


@pytest.mark.parametrize("code", sorted(NO_RESPONSE))
def test_each_failed_connection_doubles_the_pause_until_a_response_comes(code):
    pace: Pace | None = Pace(5.0)
    delays = []
    for _ in range(6):
        assert pace is not None
        pace = pace.after(error(code))
        assert pace is not None
        delays.append(pace.delay)
    assert delays == [10, 20, 40, 60, 60, 60]
    assert pace is not None
    pace = pace.after(error("authorization_pending"))
    assert pace is not None
    assert pace.delay == 5.0


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_in_trouble_is_polled_less_and_after_its_retry_after(status):
    failed = error(f"http_{status}", status=status, retry_after=90.0)
    pace = Pace(5.0).after(failed)
    assert pace is not None
    assert pace.delay == 90.0


@pytest.mark.parametrize(
    "last",
    [
        error("access_denied", outcome="misconfigured"),
        error("expired_token", outcome="login_required"),
        error("invalid_grant", outcome="login_required"),
        error("invalid_client", outcome="misconfigured"),
        error("other", status=400),
        error("no_access_token"),
        error("not_json", status=200),
    ],
)
def test_everything_else_ends_the_login(last):
    assert Pace(5.0).after(last) is None


@given(st.lists(st.sampled_from(["authorization_pending", "slow_down", "timeout"]), max_size=60))
def test_no_server_is_ever_polled_faster_than_it_says(codes):
    pace = Pace(5.0)
    for code in codes:
        following = pace.after(error(code))
        assert following is not None
        assert following.delay >= following.interval >= pace.interval
        pace = following
    assert pace.interval == 5.0 + 5.0 * codes.count("slow_down")
