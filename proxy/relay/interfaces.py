"""Whom an exchange stands between, as each side sees the other.

The connection to the upstream knows its user only as an Asker; the exchange knows the connection that the
request came on only as a Caller. So neither needs to know how the other is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from proxy.http.body import Body
from proxy.http.message import ResponseHead


class Downstream(Protocol):
    """Where the request came from, and where its answer goes (inbound.py)."""

    local_address: str
    is_full: bool
    is_tls: bool
    write: Callable[[bytes], None]

    @property
    def peer_address(self) -> str:
        """The caller's IP address; empty on a unix socket."""
        ...

    def read_on(self, *, wanted: bool) -> None: ...

    def keep(self, data: bytes) -> None: ...

    def abort(self) -> None: ...

    def hand_over(self) -> None:
        """Give the exchange whatever arrived behind the request: it is not a request."""
        ...

    def exchange_done(self, *, close: bool, unread: bool) -> None: ...


class ResponseHandler(Protocol):
    """Whose request is on the connection; it gets the answer piece by piece."""

    upgrades: bool  # it asked for WebSocket

    @property
    def wants_body(self) -> bool:
        """Whether the request's body is still arriving from the caller."""
        ...

    def switched(self, head: ResponseHead) -> None:
        """A 101: what follows, both ways, is no HTTP."""
        ...

    def interim(self, head: ResponseHead) -> None:
        """A 1xx answer; another one follows."""
        ...

    def answer_head(self, head: ResponseHead) -> None:
        """`answer_data` follows, unless this pauses the connection."""
        ...

    def answer_data(self, payload: bytes) -> None:
        """More of the answer, which goes on."""
        ...

    def answer_end(self, payload: bytes, body: Body) -> None:
        """The rest of the answer, whose body has ended; the connection has been dealt with."""
        ...

    def upstream_drained(self) -> None:
        """Some of what was written has left."""
        ...

    def upstream_failed(self, *, malformed: bool, early: bool, alerted: bool) -> None:
        """There will be no (further) answer. `early`: not a byte of one arrived. `alerted`: by TLS."""
        ...
