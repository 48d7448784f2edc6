"""A request's body on its way through: what has come, and what may be sent again. Pure.

The body is kept while it fits the spool; what doesn't fit is passed on and forgotten, and then the request
can't be sent a second time.
"""

from __future__ import annotations

from typing import Final

from proxy.http import headers
from proxy.http.body import Body, Chunked, encode_chunk


class Upload:
    __slots__ = ("_begun", "_body", "_kept", "_spool", "arriving", "received")

    def __init__(self, body: Body | None, spool: int) -> None:
        self._body = body
        self._spool = spool  # bytes
        self._kept: list[bytes] | None = []  # the payload so far; None once it is too long
        self._begun = False  # sending
        self.received = 0  # bytes of payload
        self.arriving = body is not None and not body.done  # more of it is to come

    @property
    def repeatable(self) -> bool:
        """Whether all of it is here, to be sent again."""
        return self._kept is not None and not self.arriving

    @property
    def fills_spool(self) -> bool:
        return self.received > self._spool

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Returns what is to be sent on now, and what lies behind the body. Raises MalformedBody."""
        assert self._body is not None
        payload, rest = self._body.feed(data)
        self.arriving = not self._body.done
        self.received += len(payload)
        if self._kept is not None:
            self._kept.append(payload)
            self._forget_if_long()
        return self._framed(payload), rest

    def begin(self) -> bytes:
        """All that is there so far, to be sent behind the head: at first, or once more."""
        if self._body is None:
            return b""
        assert self._kept is not None
        data = self._framed(b"".join(self._kept))
        self._begun = True
        self._forget_if_long()
        return data

    def _forget_if_long(self) -> None:
        """Until sending has begun, what was kept is all that there is of it."""
        if self._begun and self.fills_spool:
            self._kept = None

    def _framed(self, payload: bytes) -> bytes:
        """As it goes over the wire, with the end if that has been reached."""
        if not isinstance(self._body, Chunked):
            return payload
        chunk = encode_chunk(payload) if payload else b""
        return (
            chunk + headers.trailers(self._body.trailers, self._body.nominated) if self._body.done else chunk
        )


NO_UPLOAD: Final = Upload(None, 0)  # of all requests without a body: there is nothing in it to change
