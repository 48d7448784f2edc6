"""For whom an exchange waits, and how long it may. Pure.

The one that is waited for is the one to blame: a caller that stops sending its body, or reading its answer,
is no fault of the upstream's, and must not page who looks after that.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.config.model import Limits
from proxy.relay import problems
from proxy.relay.problems import Case


class Wait(NamedTuple):
    seconds: float
    case: Case  # what it is when they are over
    detail: str


NOBODY: Final = Wait(float("inf"), problems.ANSWER_TIMEOUT, "")  # what is awaited has a limit of its own


def waiting_for(
    limits: Limits, *, answered: bool, arriving: bool, caller_is_full: bool, upstream_is_full: bool
) -> Wait:
    """`answered`: the answer has begun. `arriving`: more of the request's body is to come."""
    if answered:
        return _for_caller(limits) if caller_is_full else _for_upstream(limits.body_stall)
    if arriving:
        return _for_upstream(limits.body_stall) if upstream_is_full else _for_caller(limits)
    return _for_upstream(limits.first_byte)


def _for_caller(limits: Limits) -> Wait:
    return Wait(limits.body_stall, problems.CALLER_TIMEOUT, "the request's body stopped arriving")


def _for_upstream(seconds: float) -> Wait:
    return Wait(seconds, problems.ANSWER_TIMEOUT, "the upstream did not answer in time")
