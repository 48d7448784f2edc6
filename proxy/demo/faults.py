"""What can be made to go wrong with a token request, and a few faults that have names.

The order of a fault's members is the order in which they act. Which side of the commit a fault is on
makes all the difference: a connection that drops before it cost nothing, one that drops after it has
rotated a refresh token that the client never got.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Wait = Callable[[], Awaitable[object]]  # a test gives an event's `wait`


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; a body that is a mapping is sent as JSON."""

    status: int
    body: str | Mapping[str, Any] = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one token request. `Fault()` lets it pass, to place the next one."""

    wait_before: Wait | None = None
    drop_before: bool = False  # close the connection; nothing was done
    answer: Answer | None = None  # sent in place of the server's own; nothing was done
    change: Mapping[str, Any] = field(default_factory=dict)  # members of a good answer; None leaves one out
    wait_after: Wait | None = None  # the rotation has happened, the client doesn't know yet
    drop_after: bool = False  # close the connection; the rotation has happened


def delay(seconds: float) -> Fault:
    return Fault(wait_before=lambda: asyncio.sleep(seconds))


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


NAMED: Final[Mapping[str, Fault]] = {
    "slow": delay(5),
    "slow-after-commit": Fault(wait_after=lambda: asyncio.sleep(5)),
    "drop-before": Fault(drop_before=True),
    "drop-after-commit": Fault(drop_after=True),
    "too-many-requests": status(429, {"error": "slow_down"}, headers={"Retry-After": "7"}),
    "outage": status(503, "<h1>503 Service Unavailable</h1>"),
    "html": status(200, "<!doctype html><title>Are you a robot?</title>"),
    "error-in-200": status(200, {"error": "bad_refresh_token"}),
    "invalid-grant": status(400, {"error": "invalid_grant"}),
    "invalid-client": status(401, {"error": "invalid_client"}, headers={"WWW-Authenticate": "Basic"}),
    "no-expires-in": expires_in(None),
    "short-expires-in": expires_in(1),
    "odd-expires-in": expires_in("59.5"),
}


async def suffer(fault: Fault, work: Callable[[], Answer]) -> Answer | None:
    """Do `work`, which commits, as far as `fault` lets it. None: the connection is to be dropped."""
    if fault.wait_before is not None:
        await fault.wait_before()
    if fault.drop_before:
        return None
    if fault.answer is not None:
        return fault.answer
    answer = _changed(work(), fault.change)
    if fault.wait_after is not None:
        await fault.wait_after()
    return None if fault.drop_after else answer


def _changed(answer: Answer, change: Mapping[str, Any]) -> Answer:
    if not change or isinstance(answer.body, str) or "access_token" not in answer.body:
        return answer
    body = {name: value for name, value in {**answer.body, **change}.items() if value is not None}
    return Answer(answer.status, body, answer.headers)
