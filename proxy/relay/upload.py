"""The body of a request on its way to the upstream, kept for a replay as long as it is small. Pure.

The body is kept while it fits the spool. A larger one is passed on without being kept, and the request then
can't be sent a second time.
"""

from __future__ import annotations

from typing import Final

from proxy.http.body import Body


class Upload:
    """The payload of `body`, fed by the caller's connection."""

    __slots__ = ("_begun", "_kept", "_spool", "body", "received")

    def __init__(self, body: Body | None, spool: int) -> None:
        self.body = body
        self._spool = spool  # bytes
        self._kept: list[bytes] | None = []  # the payload so far; None once it is too long
        self._begun = False  # sending
        self.received = 0  # bytes of payload

    @property
    def arriving(self) -> bool:
        """Whether more of it is to come."""
        return self.body is not None and not self.body.done

    @property
    def repeatable(self) -> bool:
        """Whether all of it is kept, so that it can be sent again."""
        return self._kept is not None and not self.arriving

    @property
    def fills_spool(self) -> bool:
        return self.received > self._spool

    def add(self, payload: bytes) -> None:
        """`payload` has come; once sending has begun, it is passed on too."""
        self.received += len(payload)
        if self._kept is not None:
            self._kept.append(payload)
            self._forget_if_long()

    def begin(self) -> bytes:
        """The payload so far, to be sent after the head: the first time, or again."""
        assert self._kept is not None
        payload = b"".join(self._kept)
        self._begun = True
        self._forget_if_long()
        return payload

    def _forget_if_long(self) -> None:
        """Not before sending has begun: until then, nothing else holds the payload."""
        if self._begun and self.fills_spool:
            self._kept = None


NO_UPLOAD: Final = Upload(None, 0)  # shared by all requests without a body: it never changes
