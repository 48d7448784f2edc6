"""The errors raised for unusable messages. Their text is ours, never text of the message."""

from __future__ import annotations

from typing import Literal

from proxy.errors import ProxyError

Kind = Literal["malformed", "too-large", "method-unknown"]
ResponseKind = Literal["malformed", "too-large", "not-http"]


class MalformedRequest(ProxyError):
    """A request can't be relayed. `kind` selects the status of the response: 400, 431 or 501."""

    def __init__(self, detail: str, kind: Kind = "malformed") -> None:
        super().__init__(detail)
        self.detail = detail
        self.kind = kind


class MalformedResponse(ProxyError):
    """An upstream's response can't be relayed: malformed, ambiguous, or over a limit. `kind`: for the log."""

    def __init__(self, detail: str, kind: ResponseKind = "malformed") -> None:
        super().__init__(detail)
        self.kind: ResponseKind = kind


class MalformedBody(ProxyError):
    """The framing of a body is broken: the bytes after this point must not be read."""
