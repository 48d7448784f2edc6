"""The phases of an exchange: the peer it waits for, the timeout, and what becomes of it at the timeout. Pure.

An exchange is in one phase at a time. The peer that is waited for is the one to blame: a caller that stops
sending its body, or reading its response, is no fault of the upstream's and must not page its operator.

    ADMISSION ─► TOKEN ─► CONNECTING ─► EXPECTING, UPLOADING, BLOCKED ─► WAITING ─► RELAYING ◄─► CALLER_FULL
        └─ all is ready: at once ───────►     ▲                           │
                                              ├── HELD: a better token ◄──┤ 401
                              CONNECTING ◄────┘   or: RELAYING            ├─► TUNNEL ◄─► TUNNEL_FULL
                                   ▲── retry ◄────────────────────────────┘            each ends in OVER
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.config.model import Limits
from proxy.relay import problems
from proxy.relay.problems import Case

OVERDUE: Final = 1.0  # seconds that the owner of a limit has to end a phase before the sweep does
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """One row of the table. `case` and `detail`: the problem that the exchange ends with at its timeout."""

    number: int  # its place in `timeouts`
    name: str
    peer: str  # that is waited for
    limit: str  # the name of the limit in [limits]; empty: none
    slack: float  # seconds beyond the limit, where somebody else ends the phase in time
    case: Case
    detail: str
    sends: bool = False  # the request is on its way, and nothing of a final response has been taken
    begun: bool = False  # the final response's head has been passed to the caller


_SLOW: Final = "the upstream did not answer in time"
_STOPPED: Final = "the request's body stopped arriving"
_NOT_READ: Final = "the caller does not read the response"

# Nothing is awaited: a sweep that finds an exchange here has found a fault of ours.
ADMISSION: Final = Phase(0, "admission", "us", "", 0.0, problems.INTERNAL_ERROR, "the request was forgotten")
# TokenManager.get ends it.
TOKEN: Final = Phase(
    1, "token", "tokens", "token_wait", OVERDUE, problems.TOKEN_UNAVAILABLE, "no token came in time"
)
# dial() ends it.
CONNECTING: Final = Phase(
    2,
    "connecting",
    "upstream",
    "connect",
    OVERDUE,
    problems.CONNECT_TIMEOUT,
    "the upstream is slow to connect",
)
# The caller waits for a 100 (RFC 9110 section 10.1.1), which is the upstream's to send.
EXPECTING: Final = Phase(
    3, "expecting", "upstream", "first_byte", 0.0, problems.ANSWER_TIMEOUT, _SLOW, sends=True
)
UPLOADING: Final = Phase(
    4, "uploading", "caller", "body_stall", 0.0, problems.CALLER_TIMEOUT, _STOPPED, sends=True
)
# More of the request is here than the upstream takes.
BLOCKED: Final = Phase(
    5, "blocked", "upstream", "body_stall", 0.0, problems.ANSWER_TIMEOUT, _SLOW, sends=True
)
WAITING: Final = Phase(
    6, "waiting", "upstream", "first_byte", 0.0, problems.ANSWER_TIMEOUT, _SLOW, sends=True
)
# A 401 is kept until there is a better token. TokenManager.reject ends it; else the 401 passes.
HELD: Final = Phase(7, "held", "tokens", "token_wait", OVERDUE, problems.TOKEN_UNAVAILABLE, "")
RELAYING: Final = Phase(
    8, "relaying", "upstream", "body_stall", 0.0, problems.ANSWER_TIMEOUT, _SLOW, begun=True
)
# More of the response is here than the caller takes.
CALLER_FULL: Final = Phase(
    9, "caller full", "caller", "body_stall", 0.0, problems.CALLER_TIMEOUT, _NOT_READ, begun=True
)
TUNNEL: Final = Phase(10, "tunnel", "both", "body_stall", 0.0, problems.ANSWER_TIMEOUT, _SLOW, begun=True)
TUNNEL_FULL: Final = Phase(
    11, "tunnel full", "caller", "body_stall", 0.0, problems.CALLER_TIMEOUT, _NOT_READ, begun=True
)
OVER: Final = Phase(12, "over", "nobody", "", NEVER, problems.INTERNAL_ERROR, "", begun=True)

TABLE: Final = (
    *(ADMISSION, TOKEN, CONNECTING, EXPECTING, UPLOADING, BLOCKED, WAITING),
    *(HELD, RELAYING, CALLER_FULL, TUNNEL, TUNNEL_FULL, OVER),
)


def timeouts(limits: Limits) -> list[float]:
    """Seconds that an exchange may stay in each phase without progress, by the phase's number."""
    return [phase.slack + (getattr(limits, phase.limit) if phase.limit else 0.0) for phase in TABLE]


def while_sending(*, arriving: bool, expecting: bool, full: bool) -> Phase:
    """The phase of a request that is on its way to the upstream.

    `arriving`: more of its body is to come from the caller. `expecting`: the caller has asked for a 100, and
    neither that nor a byte of the body has come. `full`: the upstream takes no more for now.
    """
    if not arriving:
        return WAITING
    if full:
        return BLOCKED
    return EXPECTING if expecting else UPLOADING


def while_relaying(phase: Phase, *, full: bool) -> Phase:
    """The phase of a response on its way, or of a tunnel. `full`: the caller takes no more for now."""
    if phase is TUNNEL or phase is TUNNEL_FULL:
        return TUNNEL_FULL if full else TUNNEL
    return CALLER_FULL if full else RELAYING
