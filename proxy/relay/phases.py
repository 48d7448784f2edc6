"""The phases of an exchange: the peer it waits for, the timeout, and the problem that a timeout causes. Pure.

An exchange is in one phase at a time. A timeout is blamed on the peer it waits for: a caller that stops
sending its body, or reading its response, is not the upstream's fault and must not page its operator.

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
from proxy.failure_causes import CONNECT_TIMEOUT, Cause
from proxy.relay import problems
from proxy.relay import upstream_causes as causes
from proxy.relay.problems import Case

OVERDUE: Final = 1.0  # seconds past a limit after which the sweep ends a phase whose owner has not
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """One row of the table. `case`, and `cause` or `detail`: the problem response at its timeout."""

    number: int  # its place in `timeouts`
    name: str
    peer: str  # the one it waits for
    limit: str  # the name of the limit in [limits]; empty: none
    slack: float  # seconds beyond the limit, if something other than the sweep enforces it
    case: Case
    detail: str = ""
    cause: Cause | None = None  # of the upstream's failure, if it is one
    sends: bool = False  # the request is on its way, and no final response has begun
    begun: bool = False  # the final response's head has been passed to the caller


_STOPPED: Final = "the request's body stopped arriving, for longer than limits.body_stall"
_NOT_READ: Final = "the caller does not read the response"

# Nothing is awaited: a sweep that finds an exchange here has found a bug of ours.
ADMISSION: Final = Phase(0, "admission", "us", "", 0.0, problems.INTERNAL_ERROR, "the request was abandoned")
# TokenManager.get enforces the limit.
TOKEN: Final = Phase(
    1,
    "token",
    "tokens",
    "token_wait",
    OVERDUE,
    problems.TOKEN_UNAVAILABLE,
    "no token came within limits.token_wait: send the request again, `token-proxy status` shows the cause",
)
# The pool enforces the limit.
CONNECTING: Final = Phase(
    2,
    "connecting",
    "upstream",
    "connect",
    OVERDUE,
    problems.CONNECT_TIMEOUT,
    cause=CONNECT_TIMEOUT,
)
# The caller waits for a 100 (RFC 9110 section 10.1.1), which is the upstream's to send.
EXPECTING: Final = Phase(
    *(3, "expecting", "upstream", "first_byte", 0.0, problems.RESPONSE_TIMEOUT),
    cause=causes.NO_RESPONSE,
    sends=True,
)
UPLOADING: Final = Phase(
    4, "uploading", "caller", "body_stall", 0.0, problems.CALLER_TIMEOUT, _STOPPED, sends=True
)
# The upstream takes the request more slowly than the caller sends it.
BLOCKED: Final = Phase(
    *(5, "blocked", "upstream", "body_stall", 0.0, problems.RESPONSE_TIMEOUT),
    cause=causes.NOT_READING,
    sends=True,
)
WAITING: Final = Phase(
    *(6, "waiting", "upstream", "first_byte", 0.0, problems.RESPONSE_TIMEOUT),
    cause=causes.NO_RESPONSE,
    sends=True,
)
# A 401 is kept until there is a better token. TokenManager.reject enforces the limit; then the 401 passes.
HELD: Final = Phase(7, "held", "tokens", "token_wait", OVERDUE, problems.TOKEN_UNAVAILABLE, "")
RELAYING: Final = Phase(
    *(8, "relaying", "upstream", "body_stall", 0.0, problems.RESPONSE_TIMEOUT),
    cause=causes.STALLED,
    begun=True,
)
# The caller takes the response more slowly than the upstream sends it.
CALLER_FULL: Final = Phase(
    9, "caller full", "caller", "body_stall", 0.0, problems.CALLER_TIMEOUT, _NOT_READ, begun=True
)
TUNNEL: Final = Phase(10, "tunnel", "both", "body_stall", 0.0, problems.RESPONSE_TIMEOUT, begun=True)
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
    neither that nor a byte of the body has come. `full`: the buffer towards the upstream is full.
    """
    if not arriving:
        return WAITING
    if full:
        return BLOCKED
    return EXPECTING if expecting else UPLOADING


def while_relaying(phase: Phase, *, full: bool) -> Phase:
    """The phase of a response on its way, or of a tunnel. `full`: the buffer towards the caller is full."""
    if phase is TUNNEL or phase is TUNNEL_FULL:
        return TUNNEL_FULL if full else TUNNEL
    return CALLER_FULL if full else RELAYING
