"""A device authorization response (RFC 8628 section 3.2), and when to poll for its tokens. Pure.

A person is shown the codes and URLs of this response, in a terminal and on a page: so they are refused unless
they are harmless there. The pauses between polls are the server's; they grow while it can't be reached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.errors import NO_RESPONSE, AuthorizationServerError
from proxy.oauth import documents, expires_in, token_response
from proxy.oauth.discovery import is_safe
from proxy.oauth.documents import UnreadableDocument
from proxy.secret import Secret

LIFETIME: Final = 600.0  # seconds, of a code whose server states none
LONGEST_LIFETIME: Final = 3600.0  # seconds; polling must end some time
INTERVAL: Final = 5.0  # seconds; RFC 8628 section 3.5, where the server states none
SHORTEST_INTERVAL: Final = 1.0  # seconds; a server that says 0 is not polled in a busy loop
LONGEST_INTERVAL: Final = 60.0  # seconds; a person who has entered the code waits for this
SLOW_DOWN: Final = 5.0  # seconds; RFC 8628 section 3.5: added to the interval, permanently
MALFORMED: Final = "device_response"
PENDING: Final = "authorization_pending"
_BUSY: Final = "slow_down"
_USER_CODE: Final = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?")  # some have blanks between groups
_URL: Final = re.compile(r"[!-~]{1,2048}")
_SOUGHT: Final = ("device_code", "user_code", "error")
_URI_NAMES: Final = ("verification_uri", "verification_url")  # the second: Google


@dataclass(frozen=True, slots=True)
class DeviceAuthorization:
    """`lifetime` and `interval` in seconds; the first of the codes, from when the response came."""

    device_code: Secret
    user_code: str = field(repr=False)
    verification_uri: str
    complete_uri: str = field(repr=False)  # with the user code in it; "" if there is none
    lifetime: float
    interval: float

    @property
    def link(self) -> str:
        """The URL to open, and to show as a QR code (RFC 8628 section 3.3.1)."""
        return self.complete_uri or self.verification_uri


def parse(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> DeviceAuthorization:
    """Read a complete response. `headers` is case-insensitive; `now`: Unix seconds.

    Raises AuthorizationServerError.
    """
    if not 200 <= status < 300:
        raise _refusal(status, headers, body, now)
    try:
        members = documents.read(headers, body, _SOUGHT).members
    except UnreadableDocument as error:
        raise AuthorizationServerError("transient", error.error) from None
    device_code, user_code = members.get("device_code"), members.get("user_code")
    if not isinstance(device_code, str) or not isinstance(user_code, str):
        raise _refusal(status, headers, body, now)  # some servers send errors with status 200
    uri = next((members[name] for name in _URI_NAMES if members.get(name)), None)
    complete = next((members[f"{name}_complete"] for name in _URI_NAMES if f"{name}_complete" in members), "")
    if not (_is_token(device_code) and _USER_CODE.fullmatch(user_code) and _is_link(uri)):
        raise AuthorizationServerError("transient", MALFORMED)
    return DeviceAuthorization(
        device_code=Secret(device_code),
        user_code=user_code,
        verification_uri=str(uri),
        complete_uri=str(complete) if _is_link(complete) else "",
        lifetime=min(expires_in.read(members.get("expires_in"), now) or LIFETIME, LONGEST_LIFETIME),
        interval=_interval(members.get("interval")),
    )


def _refusal(status: int, headers: Mapping[str, str], body: bytes, now: float) -> AuthorizationServerError:
    """The error that a token response like this would mean."""
    try:
        token_response.parse(status, headers, body, now=now)
    except AuthorizationServerError as error:
        if error.error != "no_access_token":
            return error
    return AuthorizationServerError("transient", MALFORMED)


def _is_token(value: str) -> bool:
    try:
        return 0 < len(value.encode()) <= token_response.MAX_TOKEN
    except UnicodeEncodeError:  # a lone surrogate, which no form can carry
        return False


def _is_link(value: Any) -> bool:
    """Whether it may be shown and opened: https, or http on loopback, in visible ASCII."""
    return isinstance(value, str) and _URL.fullmatch(value) is not None and is_safe(value)


def _interval(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return INTERVAL
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return INTERVAL
    if not seconds >= 0:  # NaN too
        return INTERVAL
    return min(max(seconds, SHORTEST_INTERVAL), LONGEST_INTERVAL)


@dataclass(frozen=True, slots=True)
class Pace:
    """When to poll next (RFC 8628 section 3.5)."""

    interval: float  # seconds, as the server wants it
    failures: int = 0  # polls in a row without a response, or with one that asks for a pause
    pause: float = 0.0  # seconds, at least: a Retry-After

    @property
    def delay(self) -> float:
        """Seconds until the next poll: doubled with each failure in a row."""
        backed_off = min(self.interval * 2.0 ** min(self.failures, 16), LONGEST_INTERVAL)
        return max(self.interval, backed_off, self.pause)

    def after(self, error: AuthorizationServerError) -> Pace | None:
        """The pace after a poll without tokens; None if the login has ended."""
        if error.error == _BUSY:
            return Pace(self.interval + SLOW_DOWN)
        if error.error == PENDING:
            return Pace(self.interval)
        is_away = error.about == "server" or error.error in NO_RESPONSE
        if error.outcome == "transient" and is_away:
            return Pace(self.interval, self.failures + 1, error.retry_after or 0.0)
        return None
