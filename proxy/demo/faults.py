"""Faults of token requests, composed of parts, and a table of named ones.

The members of a fault act in their order. What matters is whether it acts before or after the commit: a
connection that drops before it costs nothing; after it, the server has rotated a refresh token that the
client never received.

Faults are data and can be sent as JSON (`proxy.demo.control`), except a `Wait` provided by a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal

Wait = Callable[[], Awaitable[object]]  # e.g. the `wait` of an event
Body = Literal[
    "whole",
    "half",  # the connection closes in the middle
    "slow",  # a byte a second
    "endless",  # never ends, and is no JSON
]

Renewal = Literal[
    "new",  # a refresh replaces the refresh token
    "same",  # a refresh returns the presented token, which stays valid; a login issues one as usual
    "none",  # neither a refresh nor a login returns one; the presented token stays valid
]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response; a mapping as body is sent as JSON."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    status: int
    body: str | Mapping[str, Any] = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after_date: float | None = None  # seconds from now; sent as a date in Retry-After


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to a token request. `Fault()` does nothing, to delay the next fault by a request."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str = ""  # for the journal
    about: str = field(default="", compare=False)  # a description

    wait_before: Wait | float | None = None  # a number means seconds
    drop_before: bool = False  # close the connection without acting
    answer: Answer | None = None  # send this instead of acting
    revoke_family: bool = False  # revoke the login of the presented token, then process the request
    renewal: Renewal | None = None  # overrides the server's setting
    change: Mapping[str, Any] = field(default_factory=dict)  # members of a token response; None removes
    wait_after: Wait | float | None = None  # after the rotation, before the client learns of it
    drop_after: bool = False  # close the connection after the rotation
    body: Body = "whole"
    reset: bool = False  # close the connection with a reset (RST) instead of in order (FIN)


def delay(seconds: float) -> Fault:
    return Fault(wait_before=seconds)


def status(
    code: int,
    body: str | Mapping[str, Any] = "",
    *,
    headers: Mapping[str, str] | None = None,
    content_type: str = "text/html",
) -> Fault:
    """Respond with status `code` without acting. A mapping as body is sent as JSON."""
    kind = "application/json" if isinstance(body, Mapping) else content_type
    return Fault(answer=Answer(code, body, {"Content-Type": kind, **(headers or {})}))


def expires_in(value: object) -> Fault:
    """State this lifetime (None: state none). The actual lifetime stays the same."""
    return Fault(change={"expires_in": value})


_SLOW_DOWN: Final = {"error": "slow_down"}
_TABLE: Final[Mapping[str, tuple[str, Fault]]] = {
    "slow": ("responds after five seconds", delay(5)),
    "slow-after-commit": ("acts, and responds after five seconds", Fault(wait_after=5)),
    "drop-before": ("closes the connection before acting", Fault(drop_before=True)),
    "drop-after-commit": ("acts, then closes the connection: the response is lost", Fault(drop_after=True)),
    "reset-before": ("like drop-before, but with a reset", Fault(drop_before=True, reset=True)),
    "reset-after-commit": ("like drop-after-commit, but with a reset", Fault(drop_after=True, reset=True)),
    "half-answer": ("acts, then closes the connection in the middle of the response", Fault(body="half")),
    "slow-body": ("acts, then responds with a byte a second", Fault(body="slow")),
    "endless-body": ("acts, then responds without end", Fault(body="endless")),
    "too-many-requests": (
        "429 with Retry-After: 7",
        status(429, _SLOW_DOWN, headers={"Retry-After": "7"}),
    ),
    "too-many-requests-date": (
        "429 with Retry-After: a date in seven seconds",
        Fault(answer=Answer(429, _SLOW_DOWN, {"Content-Type": "application/json"}, retry_after_date=7)),
    ),
    "outage": ("503 with an HTML page", status(503, "<h1>503 Service Unavailable</h1>")),
    "html": ("200 with an HTML page", status(200, "<!doctype html><title>Are you a robot?</title>")),
    "error-in-200": ("200 with a JSON error, like GitHub", status(200, {"error": "bad_refresh_token"})),
    "unknown-error": ("400 with an unknown error code", status(400, {"error": "mercury_retrograde"})),
    "redirect": (
        "307 to itself: a client that follows it sends its secrets again",
        status(307, headers={"Location": "/token"}),
    ),
    "invalid-grant": ("refuses a valid refresh token", status(400, {"error": "invalid_grant"})),
    "invalid-client": (
        "refuses the client",
        status(401, {"error": "invalid_client"}, headers={"WWW-Authenticate": "Basic"}),
    ),
    "revoke-family": ("revokes the login, access tokens included", Fault(revoke_family=True)),
    "same-refresh-token": ("does not rotate, and returns the same refresh token", Fault(renewal="same")),
    "no-refresh-token": ("does not rotate, and returns no refresh token", Fault(renewal="none")),
    "no-expires-in": ("states no lifetime of the access token", expires_in(None)),
    "zero-expires-in": ("states a lifetime of 0 seconds", expires_in(0)),
    "short-expires-in": ("states a lifetime of 1 second", expires_in(1)),
    "odd-expires-in": ('states the lifetime "59.5", a string', expires_in("59.5")),
    "float-expires-in": ("states the lifetime 59.5, a fraction", expires_in(59.5)),
    "text-expires-in": ('states the lifetime "soon"', expires_in("soon")),
    "milliseconds-expires-in": ("states the lifetime in milliseconds: 60000", expires_in(60_000)),
    "refresh-in": ("requests a refresh in ten seconds (refresh_in)", Fault(change={"refresh_in": 10})),
    "refresh-expires-in": (
        "states a lifetime of two minutes for the refresh token",
        Fault(change={"refresh_expires_in": 120}),
    ),
}
NAMED: Final[Mapping[str, Fault]] = {
    name: replace(fault, name=name, about=about) for name, (about, fault) in _TABLE.items()
}


def named(name: str) -> Fault:
    """The fault with this name. Raises ValueError with a message that lists all names."""
    if name not in NAMED:
        raise ValueError(f"there is no fault {name!r}; there are: {', '.join(NAMED)}")
    return NAMED[name]


async def apply_fault(fault: Fault, work: Callable[[], Answer]) -> Answer | None:
    """Run `work`, which commits, as far as `fault` permits. None: close the connection."""
    await _wait(fault.wait_before)
    if fault.drop_before:
        return None
    if fault.answer is not None:
        return fault.answer
    answer = _changed(work(), fault.change)
    await _wait(fault.wait_after)
    return None if fault.drop_after else answer


async def _wait(wait: Wait | float | None) -> None:
    if callable(wait):
        await wait()
    elif wait is not None:
        await asyncio.sleep(wait)


def _changed(answer: Answer, change: Mapping[str, Any]) -> Answer:
    if not change or isinstance(answer.body, str) or "access_token" not in answer.body:
        return answer
    body = {name: value for name, value in {**answer.body, **change}.items() if value is not None}
    return Answer(answer.status, body, answer.headers)
