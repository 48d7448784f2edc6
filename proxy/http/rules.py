"""Which fields of a message are read, and which are cut: rules by name. Pure.

A field is read under its exact name only, but cut under any twin of it too: underscores for hyphens, or
either added at the ends, because CGI-like upstreams can't tell `X_Forwarded_For` from `X-Forwarded-For`. To
them the twin of a field that is read means the same: it never passes.

What a name means is a set of marks, one bit each. A name without marks passes unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from proxy.http.fields import spelled

CUT: Final = 1  # it does not pass
READ: Final = 2  # its values are read
KEY: Final = 4  # it is cut if its value is a caller's key
SECRET: Final = 8  # its value may be a credential: neither it nor its head is remembered
CHECKED: Final = 16  # relay/admission.py looks at it
LINKS: Final = 32  # it holds links or cookies, which rewrite.py maps
FRAMING: Final = 64  # it announces a body
OPTIONS: Final = 128  # Connection
HOST: Final = 256
BAD_HOST: Final = 512  # a Host that is neither a host nor host:port
COOKIE: Final = 1024  # of a request
SITE: Final = 2048  # it means another site where callers use localhost, see headers.NOT_ON_LOCALHOST
TOO_LARGE: Final = 4096  # of a whole head: a field is too large, or there are too many
PARSED: Final = 8192  # llhttp acts on its value: a block with it is not plain

# Parts of the names of fields with credentials: Authorization, Cookie, X-Api-Key, X-Auth-Token, and many of
# the upstreams' own. A name that has one by chance costs time only.
_SECRET: Final = (
    b"auth",
    b"cookie",
    b"key",
    b"passw",
    b"secret",
    b"session",
    b"token",
    b"signature",
)
MOST_NAMES: Final = (
    64  # remembered by `cut`; few are sent, and each route with `set` or `drop` has its own rules
)
LONGEST_NAME: Final = (
    64  # bytes of a name that is remembered; longer ones are rare, and only cost a judgement
)


class Rules:
    """The fields that are read, and those that are cut; all others pass unread."""

    __slots__ = ("_cuts", "_marks", "_prefix")

    def __init__(
        self,
        *,
        read: Iterable[bytes] = (),
        cut: Iterable[bytes],
        cut_prefix: bytes | None = None,
        keys: Iterable[bytes] = (),
        marks: Mapping[bytes, int] | None = None,
    ) -> None:
        """Names in lower case. Names that begin with `cut_prefix` are cut too.

        `keys`: fields that are read, and cut only if their value is a caller's key. Their twins pass.
        `marks`: more of what fields mean.
        """
        found: dict[bytes, int] = dict.fromkeys(cut, CUT)
        for name in keys:
            found[name] = found.get(name, KEY) | READ
        for name in read:
            found[name] = found.get(name, 0) | READ
        for name, more in (marks or {}).items():
            found[name] = found.get(name, 0) | more
        self._marks = found
        self._prefix = cut_prefix
        self._cuts: dict[bytes, bool] = {}  # by name as sent: whether it is cut

    def judge(self, name: bytes) -> tuple[bytes, int]:
        """The field's name in lower case, and its marks. `name`: as sent."""
        lower = name.lower()
        marks = self._marks.get(lower)
        if marks is None:
            marks = self._judge_twin(spelled(lower))
        for part in _SECRET:
            if part in lower:
                return lower, marks | SECRET
        return lower, marks

    def _judge_twin(self, name: bytes) -> int:
        marks = self._marks.get(name.strip(b"-"))
        if marks is not None:
            return CUT if marks & (READ | CUT) and not marks & KEY else 0
        if self._prefix is not None and name.lstrip(b"-").startswith(self._prefix):
            return CUT
        return 0

    def cut(self, block: bytes) -> bytes:
        """The block without the fields to cut, unread."""
        cuts = self._cuts
        kept: list[bytes] = []
        lines = block.split(b"\r\n")
        for line in lines:
            name = line.partition(b":")[0]
            is_cut = cuts.get(name)
            if is_cut is None:
                is_cut = self._learn(name)
            if not is_cut:
                kept.append(line)
        return block if len(kept) == len(lines) else b"\r\n".join(kept)

    def _learn(self, name: bytes) -> bool:
        is_cut = bool(self.judge(name)[1] & CUT)
        if len(name) <= LONGEST_NAME:
            if len(self._cuts) == MOST_NAMES:  # begin again: that costs each of them one judgement
                self._cuts.clear()
            self._cuts[name] = is_cut
        return is_cut
