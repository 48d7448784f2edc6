"""The options of Connection fields (RFC 9110 section 7.6.1). Pure."""

from __future__ import annotations

from typing import Final

from proxy.http.fields import plain
from proxy.http.headers import HOP_BY_HOP

NEVER_NOMINATED: Final = HOP_BY_HOP | {  # those are cut in any case
    b"content-length",  # a Connection option must not remove the framing
    b"close",
    b"",
}


class Options:
    """What the Connection fields of a message say together; never changed."""

    __slots__ = ("close", "nominated")

    def __init__(self, *, close: bool, nominated: frozenset[bytes]) -> None:
        self.close = close
        self.nominated = nominated  # names of fields limited to this hop, in head and trailers

    def joined(self, more: Options) -> Options:
        """The options of both; most messages have one Connection field at most."""
        if self is NO_OPTIONS:
            return more
        return Options(close=self.close or more.close, nominated=self.nominated | more.nominated)


NO_OPTIONS: Final = Options(close=False, nominated=frozenset())


def read_options(value: bytes) -> Options:
    names = frozenset([plain(name) for name in value.split(b",")])
    return Options(close=b"close" in names, nominated=names - NEVER_NOMINATED)
