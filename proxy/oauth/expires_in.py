"""Token lifetime and server time, from any response field that states them. Pure.

Servers send a number, a string, milliseconds, a date or nothing. If a value can be read in several ways, the
shortest lifetime counts: a refresh too early costs a request, a token used for too long costs 401s. An odd
value that can be seconds counts as seconds: 900000 may be ten days or 15 minutes in milliseconds, which only
a 401 can tell (`access_token_lifetime` in the configuration is for these servers).
"""

from __future__ import annotations

import json
import math
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

_LATEST: Final = 1e15  # Unix seconds; more is no time
MAX_LIFETIME: Final = 10 * 365 * 86400.0  # seconds; a larger number is a date or milliseconds


def read(value: object, now: float) -> float | None:
    """Seconds from the value of a member like `expires_in`; None if it makes no sense.

    `now` is the server's time (Unix seconds), for dates.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    except ValueError:
        date = _date(str(value))
        return None if date is None else _sane(date - now)
    if not number > MAX_LIFETIME:
        return _sane(number)
    readings = (_sane(seconds) for seconds in (number - now, number / 1000 - now, number / 1000))
    return min((seconds for seconds in readings if seconds is not None), default=None)


def until(value: object, now: float) -> float | None:
    """Seconds left from the value of a member like `expires_at`: Unix seconds or milliseconds, as a number
    or a string of digits, or a date (ISO 8601, RFC 9110). None if it makes no sense or is in the past.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    except ValueError:
        date = _date(str(value).strip())
        return None if date is None else _sane(date - now)
    left = _sane(number - now)
    return _sane(number / 1000 - now) if left is None else left


def of_claims(claims: Mapping[str, Any], now: float) -> float | None:
    """Seconds left by `exp` (RFC 7519 section 4.1.4, RFC 7662 section 2.2), at most `exp` - `iat`.

    `now` is the server's time: it may return a token that it issued earlier.
    """
    expiry, issued = _number(claims.get("exp")), _number(claims.get("iat"))
    if expiry is None:
        return None
    left = _sane(expiry - now)
    whole = None if issued is None else _sane(expiry - issued)
    return left if left is None or whole is None else min(left, whole)


def of_jwt(token: str, now: float) -> float | None:
    """As `of_claims`, for an access token that is a JWT; None for any other.

    Its signature is not checked: the result only decides when to refresh.
    """
    return of_claims(_claims(token), now)


def end_of_jwt(token: str) -> float | None:
    """`exp` of a token that is a JWT, Unix seconds; None for any other. Its signature is not checked."""
    end = _claims(token).get("exp")
    is_time = isinstance(end, int | float) and not isinstance(end, bool) and abs(end) < _LATEST
    return float(end) if is_time and end is not None else None


def _claims(token: str) -> Mapping[str, Any]:
    """Empty for a token that is no JWT."""
    parts = token.split(".", 3)
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def server_time(headers: Mapping[str, str]) -> float | None:
    """Unix seconds by a response's Date (RFC 9110 section 6.6.1); None if it has none of its own."""
    if "Age" in headers:  # RFC 9111 section 5.1: from a cache, with its original Date
        return None
    return http_date(headers.get("Date", ""))


def skew(date: float, sent: float, received: float) -> tuple[float, float]:
    """The least and the most seconds that a server's clock is ahead of ours, by the Date of a response.

    The Date was written between `sent` and `received`, and is truncated to the second. If both clocks may
    agree, they are assumed to.
    """
    least, most = date - received, date + 1 - sent
    return (0.0, 0.0) if least <= 0 <= most else (least, most)


def http_date(text: str) -> float | None:
    """Unix seconds of a date in a header field (RFC 9110 section 5.6.7); None if it is not a date."""
    try:
        return _timestamp(parsedate_to_datetime(text))
    except (ValueError, OverflowError):
        return None


def _sane(seconds: float) -> float | None:
    return seconds if 0 < seconds <= MAX_LIFETIME else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> float | None:
    """Unix seconds of a date of RFC 9110 or ISO 8601, in UTC if it has no zone."""
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return http_date(text)
    return _timestamp(date)


def _timestamp(date: datetime) -> float | None:
    try:
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
