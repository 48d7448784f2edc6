"""What can be made to go wrong with a token request, and the faults that have names.

The order of a fault's members is the order in which they act. Which side of the commit a fault is on
makes all the difference: a connection that drops before it cost nothing, one that drops after it has
rotated a refresh token that the client never got.

Faults are data: but for a `Wait` that a test brings, they can be told in JSON (`proxy.demo.control`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal

Wait = Callable[[], Awaitable[object]]  # a test gives an event's `wait`
Body = Literal[
    "whole",
    "half",  # the connection ends in the middle
    "slow",  # a byte a second
    "endless",  # it never ends, and is no JSON
]

Renewal = Literal[
    "new",  # a refresh spends the refresh token and gives its successor
    "same",  # it repeats the one presented, which stays good; a login gives one as ever
    "none",  # neither a refresh nor a login gives one; the one presented stays good
]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; a body that is a mapping is sent as JSON."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    status: int
    body: str | Mapping[str, Any] = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after_date: float | None = None  # seconds from the answer to the date that Retry-After then names


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to a token request. `Fault()` lets it pass, to place the next one."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str = ""  # for the journal
    about: str = field(default="", compare=False)  # a sentence for people

    wait_before: Wait | float | None = None  # a number is seconds
    drop_before: bool = False  # end the connection; nothing was done
    answer: Answer | None = None  # sent in place of the server's own; nothing was done
    revoke_family: bool = False  # the server ends the login of the token presented, then looks at the request
    renewal: Renewal | None = None  # whatever the server's way is
    change: Mapping[str, Any] = field(default_factory=dict)  # members of a good answer; None leaves one out
    wait_after: Wait | float | None = None  # the rotation has happened, the client doesn't know yet
    drop_after: bool = False  # end the connection; the rotation has happened
    body: Body = "whole"
    reset: bool = False  # where the connection ends, it ends by a reset (RST) and not in good order (FIN)


def delay(seconds: float) -> Fault:
    return Fault(wait_before=seconds)


def status(
    code: int,
    body: str | Mapping[str, Any] = "",
    *,
    headers: Mapping[str, str] | None = None,
    content_type: str = "text/html",
) -> Fault:
    """Answer with `code` and do nothing. A body that is a mapping is sent as JSON."""
    kind = "application/json" if isinstance(body, Mapping) else content_type
    return Fault(answer=Answer(code, body, {"Content-Type": kind, **(headers or {})}))


def expires_in(value: object) -> Fault:
    """Claim this lifetime (None: none at all). The token itself lives as long as ever."""
    return Fault(change={"expires_in": value})


_SLOW_DOWN: Final = {"error": "slow_down"}
_TABLE: Final[Mapping[str, tuple[str, Fault]]] = {
    "slow": ("it answers after five seconds", delay(5)),
    "slow-after-commit": ("it acts, and answers after five seconds", Fault(wait_after=5)),
    "drop-before": ("the connection ends before it acts", Fault(drop_before=True)),
    "drop-after-commit": ("it acts, then the connection ends: the answer is lost", Fault(drop_after=True)),
    "reset-before": ("as drop-before, but by a reset", Fault(drop_before=True, reset=True)),
    "reset-after-commit": ("as drop-after-commit, but by a reset", Fault(drop_after=True, reset=True)),
    "half-answer": ("it acts, then the connection ends in the middle of the answer", Fault(body="half")),
    "slow-body": ("it acts, then answers a byte a second", Fault(body="slow")),
    "endless-body": ("it acts, then answers without end", Fault(body="endless")),
    "too-many-requests": (
        "429 with Retry-After: 7",
        status(429, _SLOW_DOWN, headers={"Retry-After": "7"}),
    ),
    "too-many-requests-date": (
        "429 with Retry-After: the date in seven seconds",
        Fault(answer=Answer(429, _SLOW_DOWN, {"Content-Type": "application/json"}, retry_after_date=7)),
    ),
    "outage": ("503 with a page", status(503, "<h1>503 Service Unavailable</h1>")),
    "html": ("200 with a page", status(200, "<!doctype html><title>Are you a robot?</title>")),
    "error-in-200": ("200 with an error in JSON, GitHub's", status(200, {"error": "bad_refresh_token"})),
    "unknown-error": ("400 with an error that no RFC knows", status(400, {"error": "mercury_retrograde"})),
    "redirect": (
        "307 to itself: a client that follows sends its secrets again",
        status(307, headers={"Location": "/token"}),
    ),
    "invalid-grant": ("it calls a good refresh token dead", status(400, {"error": "invalid_grant"})),
    "invalid-client": (
        "it refuses the client",
        status(401, {"error": "invalid_client"}, headers={"WWW-Authenticate": "Basic"}),
    ),
    "revoke-family": ("it has ended the login, access tokens included", Fault(revoke_family=True)),
    "same-refresh-token": ("it does not rotate, and repeats the token", Fault(renewal="same")),
    "no-refresh-token": ("it does not rotate, and gives no refresh token", Fault(renewal="none")),
    "no-expires-in": ("it does not say how long the access token lives", expires_in(None)),
    "zero-expires-in": ("it says that the access token lives 0 seconds", expires_in(0)),
    "short-expires-in": ("it says 1 second", expires_in(1)),
    "odd-expires-in": ('it says "59.5", a string', expires_in("59.5")),
    "float-expires-in": ("it says 59.5, a fraction", expires_in(59.5)),
    "text-expires-in": ('it says "soon"', expires_in("soon")),
    "milliseconds-expires-in": ("it says 60000, as if it were asked for milliseconds", expires_in(60_000)),
    "refresh-in": ("it asks to be asked again in ten seconds", Fault(change={"refresh_in": 10})),
    "refresh-expires-in": (
        "it says that the refresh token lives two minutes",
        Fault(change={"refresh_expires_in": 120}),
    ),
}
NAMED: Final[Mapping[str, Fault]] = {
    name: replace(fault, name=name, about=about) for name, (about, fault) in _TABLE.items()
}


def named(name: str) -> Fault:
    """Raises ValueError, with a sentence that lists the right names."""
    if name not in NAMED:
        raise ValueError(f"there is no fault {name!r}; there are: {', '.join(NAMED)}")
    return NAMED[name]


async def suffer(fault: Fault, work: Callable[[], Answer]) -> Answer | None:
    """Do `work`, which commits, as far as `fault` lets it. None: the connection is to be ended."""
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
