"""For whom an exchange waits, and how long it may. Pure.

The one that is waited for is the one to blame: a caller that stops sending its body, or reading its answer,
is no fault of the upstream's, and must not page who looks after that.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.config.model import Limits
from proxy.relay import answer
from proxy.relay.answer import Case


class Wait(NamedTuple):
    seconds: float
    case: Case  # what it is when they are over


NOBODY: Final = Wait(float("inf"), answer.ANSWER_TIMEOUT)  # what is awaited has a limit of its own


def waiting_for(
    limits: Limits, *, answered: bool, arriving: bool, caller_is_full: bool, upstream_is_full: bool
) -> Wait:
    """`answered`: the answer has begun. `arriving`: more of the request's body is to come."""
    if answered:
        case = answer.CALLER_TIMEOUT if caller_is_full else answer.ANSWER_TIMEOUT
        return Wait(limits.body_stall, case)
    if arriving:
        case = answer.ANSWER_TIMEOUT if upstream_is_full else answer.CALLER_TIMEOUT
        return Wait(limits.body_stall, case)
    return Wait(limits.first_byte, answer.ANSWER_TIMEOUT)
