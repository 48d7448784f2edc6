"""How an upstream can fail a request, and what becomes of the request then. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final

from proxy.http.message import IDEMPOTENT
from proxy.relay import problems
from proxy.relay.problems import Refusal


class Failure(Enum):
    """Why there will be no (further) response."""

    UNSENT = "not a byte of the request could be sent"
    EARLY = "the connection ended before a byte of a response"
    ENDED = "the connection ended within a response"
    MALFORMED = "the response is malformed"
    ALERT = "the upstream ended TLS with an alert"
    RENEGOTIATION = "the upstream asked to renegotiate TLS"


_ENDED: Final = "the upstream ended the connection before its response did"
_FAILURES: Final = {
    Failure.UNSENT: (problems.UPSTREAM_PROTOCOL, _ENDED),
    Failure.EARLY: (problems.UPSTREAM_PROTOCOL, _ENDED),
    Failure.ENDED: (problems.UPSTREAM_PROTOCOL, _ENDED),
    Failure.MALFORMED: (problems.UPSTREAM_PROTOCOL, "the upstream's response is malformed"),
    # in TLS 1.3 a certificate of ours is asked for, and missed, behind the handshake
    Failure.ALERT: (problems.UPSTREAM_TLS, "the upstream refused TLS: it may want a certificate"),
    Failure.RENEGOTIATION: (
        problems.UPSTREAM_TLS,
        "the upstream asked to renegotiate TLS: it must ask for a certificate in the handshake",
    ),
}


def refusal_of(failure: Failure) -> Refusal:
    """The response to a request that an upstream has failed."""
    return Refusal(*_FAILURES[failure])


def may_repeat(failure: Failure, method: bytes) -> bool:
    """Whether a request may be sent again that was sent on a connection that had been idle.

    The upstream may have closed it before the request came (RFC 9110 section 9.2.2). A request of which
    nothing could be sent has done nothing, whatever its method.
    """
    return failure is Failure.UNSENT or (failure is Failure.EARLY and method in IDEMPOTENT)
