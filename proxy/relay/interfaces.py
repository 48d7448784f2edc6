"""The two interfaces of an exchange: towards the caller, and towards the upstream.

The connection to the upstream knows the exchange only as a ResponseHandler; the exchange knows the connection
that the request came on only as a Downstream. Framing belongs to the two connections: an exchange sees heads
and payloads, and never where a message begins or ends in a stream of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from proxy.failure_causes import Cause
from proxy.http.body import Body
from proxy.http.message import ResponseHead
from proxy.relay.failures import Failure
from proxy.relay.peer_process import Process
from proxy.relay.problems import Refusal

if TYPE_CHECKING:
    from proxy.relay.callers import Standing


class Downstream(Protocol):
    """The connection that the request came on, and that the response goes to (inbound.py).

    It frames the response as the caller's HTTP version and the response's head require, and it alone decides
    whether the connection stays open after the response. After `finish`, `refuse`, `about_us` or `abort`
    the exchange is over: it is not called again.
    """

    is_full: bool  # its write buffer is full: pause the upstream until caller_drained
    is_tls: bool
    standing: Standing | None  # what it says of its caller; set by callers.py
    time: Callable[[], float]  # the loop's, in seconds

    @property
    def local_address(self) -> str:
        """Our IP address on this connection; empty on a unix socket."""
        ...

    @property
    def peer_address(self) -> str:
        """The caller's IP address; empty on a unix socket."""
        ...

    @property
    def peer_name(self) -> str:
        """The same, or its user on a unix socket, for the audit log."""
        ...

    def certificate_names(self) -> list[tuple[str, str]]:
        """The kind and value of each subjectAltName in the caller's certificate, which has been verified."""
        ...

    def process(self) -> Process | None:
        """The caller's process; None but on a unix socket."""
        ...

    def read_on(self, *, wanted: bool) -> None:
        """Resume or pause reading from the caller."""
        ...

    def inform(self, head: ResponseHead) -> None:
        """Pass a 1xx response on; another response follows (RFC 9110 section 15.2)."""
        ...

    def respond(self, head: ResponseHead) -> None:
        """Begin the response. Its head is sent with the first `send`, or with `finish`."""
        ...

    def send(self, payload: bytes) -> None:
        """Send more of the response's body, but not its end; `payload` may be empty."""
        ...

    def finish(self, payload: bytes, body: Body) -> None:
        """Send the last of the response; `body` is the upstream's, and holds its trailers."""
        ...

    def switch(self, head: ResponseHead) -> None:
        """Pass a 101 on: all data after the request, received already or later, belongs to the tunnel."""
        ...

    def end(self) -> bool:
        """In a tunnel: end our side of the caller's connection. False if it can only be closed whole."""
        ...

    def refuse(self, refusal: Refusal) -> None:
        """Send a response of our own instead of the upstream's. The rest of the request is not read."""
        ...

    def about_us(self, head: bytes, body: bytes = b"") -> None:
        """Send a response about this proxy: to an OPTIONS request, see `AboutUs`, or with a token itself.

        `head`: without its last line.
        """
        ...

    def close(self) -> None:
        """End the connection once everything has been sent."""
        ...

    def abort(self) -> None:
        """Reset the connection: the caller must not take a partial response for a complete one."""
        ...


class ResponseHandler(Protocol):
    """The exchange, as the connection to its upstream sees it (upstream.py)."""

    upgrades: bool  # the request asked for WebSocket

    def informed(self, head: ResponseHead) -> None:
        """A 1xx response has come; another one follows."""
        ...

    def switched(self, head: ResponseHead) -> None:
        """A 101 has come: what follows, in both directions, is not HTTP."""
        ...

    def response_head(self, head: ResponseHead) -> None:
        """The final response has begun. Its data or end follows; after `resume`, if this paused it."""
        ...

    def response_data(self, payload: bytes) -> None:
        """More of the response's body has come, but not its end; `payload` may be empty."""
        ...

    def response_end(self, payload: bytes, body: Body) -> None:
        """The rest of the response has come; the connection is no longer this exchange's."""
        ...

    def upstream_drained(self) -> None:
        """Some of the queued data has been sent to the upstream."""
        ...

    def upstream_ended(self) -> None:
        """In a tunnel: the upstream sends no more, but still reads."""
        ...

    def upstream_failed(self, failure: Failure, cause: Cause | None) -> None:
        """No (further) response will come; the connection is closed. `cause`: if an error code names one."""
        ...

    def fail(self, error: Exception) -> None:
        """An unexpected exception was raised; the connection has been closed."""
        ...
