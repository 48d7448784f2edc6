"""A request's body on its way through: what has come, and what may be sent again. Pure.

The body is kept while it fits the spool; what doesn't fit is passed on and forgotten, and then the request
can't be sent a second time.
"""

from __future__ import annotations

from typing import Final

from proxy.http.body import Body


class Upload:
    """The payload of `body`, which the caller's connection feeds."""

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
        """Whether all of it is here, to be sent again."""
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
        """All that is there so far, to be sent behind the head: at first, or once more."""
        assert self._kept is not None
        payload = b"".join(self._kept)
        self._begun = True
        self._forget_if_long()
        return payload

    def _forget_if_long(self) -> None:
        """Until sending has begun, what was kept is all that there is of it."""
        if self._begun and self.fills_spool:
            self._kept = None


NO_UPLOAD: Final = Upload(None, 0)  # of all requests without a body: there is nothing in it to change
