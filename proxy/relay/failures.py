"""The ways an upstream can fail a request, and the response or retry that follows. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final

from proxy.http.message import IDEMPOTENT
from proxy.relay import problems
from proxy.relay.problems import Refusal


class Failure(Enum):
    """Why there will be no (further) response."""

    UNSENT = "no byte of the request could be sent"
    EARLY = "the connection ended before the first byte of a response"
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
    # in TLS 1.3 the upstream rejects a missing client certificate only after our side of the handshake
    Failure.ALERT: (problems.UPSTREAM_TLS, "the upstream refused TLS: it may want a certificate"),
    Failure.RENEGOTIATION: (
        problems.UPSTREAM_TLS,
        "the upstream asked to renegotiate TLS: it must ask for a certificate in the handshake",
    ),
}


def refusal_of(failure: Failure) -> Refusal:
    """The response to a request whose upstream has failed."""
    return Refusal(*_FAILURES[failure])


def may_repeat(failure: Failure, method: bytes) -> bool:
    """Whether a request that was sent on a reused connection may be sent again.

    The upstream may have closed it before the request arrived (RFC 9110 section 9.2.2). A request of which
    nothing was sent has had no effect, whatever its method.
    """
    return failure is Failure.UNSENT or (failure is Failure.EARLY and method in IDEMPOTENT)
