"""The ways an upstream can fail a request, and the response or retry that follows. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final

from proxy.config.model import Route
from proxy.failure_causes import CLOSED, TLS_ALERT, TLS_ENDED, Cause
from proxy.http.message import IDEMPOTENT
from proxy.relay import problems
from proxy.relay import upstream_causes as causes
from proxy.relay.problems import Refusal


class Failure(Enum):
    """Why there will be no (further) response."""

    UNSENT = "no byte of the request could be sent"
    EARLY = "the connection ended before the first byte of a response"
    ENDED = "the connection ended within a response"
    MALFORMED = "the response is malformed"
    ALERT = "the upstream ended TLS with an alert"
    RENEGOTIATION = "the upstream asked to renegotiate TLS"


# the case, and the cause where no error code tells more
_FAILURES: Final = {
    Failure.UNSENT: (problems.UPSTREAM_PROTOCOL, causes.ENDED_EARLY),
    Failure.EARLY: (problems.UPSTREAM_PROTOCOL, causes.ENDED_EARLY),
    Failure.ENDED: (problems.UPSTREAM_PROTOCOL, causes.INCOMPLETE),
    Failure.MALFORMED: (problems.UPSTREAM_PROTOCOL, causes.MALFORMED),
    # in TLS 1.3 the upstream rejects a missing client certificate only after our side of the handshake
    Failure.ALERT: (problems.UPSTREAM_TLS, TLS_ALERT),
    Failure.RENEGOTIATION: (problems.UPSTREAM_TLS, causes.RENEGOTIATION),
}


_ENDS: Final = (CLOSED, TLS_ENDED)  # `usual` is more precise: it has the time


def refusal_of(failure: Failure, cause: Cause | None, route: Route) -> Refusal:
    """The response to a request whose upstream has failed. `cause`: if an error code names one."""
    case, usual = _FAILURES[failure]
    return causes.refusal(case, usual if cause is None or cause in _ENDS else cause, route)


def may_repeat(failure: Failure, method: bytes) -> bool:
    """Whether a request that was sent on a reused connection may be sent again.

    The upstream may have closed it before the request arrived (RFC 9110 section 9.2.2). A request of which
    nothing was sent has had no effect, whatever its method.
    """
    return failure is Failure.UNSENT or (failure is Failure.EARLY and method in IDEMPOTENT)
