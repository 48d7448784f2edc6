"""A caller that ends its side of the connection before its response: it waits for the response, or is gone.

While the connection is read, the transport notices; else the sweep does.
"""

from __future__ import annotations

from proxy.http.body import Body
from proxy.relay import peer
from proxy.relay.connection import NEVER, Connection, ConnectionOwner
from proxy.relay.exchange import Exchange


class HalfClosable(Connection):
    """A connection with its exchange; `Inbound` adds the messages."""

    __slots__ = ("_body", "_exchange", "_gone_at")

    def __init__(self, server: ConnectionOwner) -> None:
        super().__init__(server)
        self._body: Body | None = None  # of the request or tunnel, until it is complete
        self._exchange: Exchange | None = None
        self._gone_at = NEVER  # loop time: when a caller that has ended its side counts as gone

    def _await_end(self, exchange: Exchange) -> None:
        """The caller has sent a whole request: it may be waiting for the response, or gone."""
        seconds = exchange.half_closed
        if seconds:
            self._gone_at = self.time() + seconds
        else:
            self._leave()

    def _relayed(self) -> None:
        """Some of the response was sent: start the half-closed timeout again."""
        if self._gone_at != NEVER and self._exchange is not None:
            self._gone_at = self.time() + self._exchange.half_closed

    def _leave(self) -> None:
        """The caller is gone."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
        self.abort()

    def _look_for_end(self, exchange: Exchange) -> None:
        """Check whether the caller has gone or ended its side: while nothing is read, no event reports it."""
        if peer.is_gone(self.descriptor):
            self._leave()
        elif (
            not self._eof
            and self._gone_at == NEVER
            and self._body is None
            and peer.has_ended(self.descriptor)
        ):
            self._await_end(exchange)
