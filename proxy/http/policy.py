"""Which requests a route or a caller permits: `methods`, `allow` and `deny`. Pure.

A path is judged as an upstream may read it, decoded until it is stable:

    reading     what follows ";" in a segment is cut; empty segments and a last "/" are dropped. There are
                two: encoded slashes are data, or they separate segments. There are more where slashes are
                encoded to different depths, or ASCII in too many bytes (RFC 3629 section 10).
    suspicion   what a careless upstream makes of a reading

`allow` must fit each reading; `deny` applies if it fits any reading or suspicion. target.py has refused dot
segments, backslashes and NUL: so NUL can stand for a slash that is data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.http.fields import Rules
from proxy.http.target import DECODINGS, OVERLONG, shortest

_SLASH: Final = re.compile(rb"%2[fF]")
_DATA_SLASH: Final = b"\0"
_SLASHES: Final = re.compile(rb"/{2,}")
_PARAMETERS: Final = re.compile(rb";[^/]*")
_ONLY_PARAMETERS: Final = re.compile(rb"/;[^/]*")
_URL_END: Final = re.compile(rb"[?#].*", re.DOTALL)  # of the path, for upstreams that parse it once decoded
_AUTHORITY: Final = re.compile(rb"//+[^/]*")
METHOD_OVERRIDES: Final = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})
PATH_OVERRIDES: Final = frozenset({b"x-original-url", b"x-rewrite-url"})  # IIS, Symfony, Zend
_METHOD_OVERRIDE: Final = Rules(read=(), cut=METHOD_OVERRIDES)
_PATH_OVERRIDE: Final = Rules(read=(), cut=PATH_OVERRIDES)

Kind = Literal["method", "method-field", "path", "path-field"]


class Denial(NamedTuple):
    """`pattern`: that of `deny` which fits; empty if none of `allow` does."""

    kind: Kind
    pattern: str = ""


class PathReadings(NamedTuple):
    """Each is empty, or segments with a slash before each. There is at least one reading."""

    readings: list[bytes]
    suspicions: list[bytes]


def read_path(path: bytes, *, at_root: bool) -> PathReadings:
    """How an upstream may read `path`, which is below the route's prefix; its query is ignored.

    `at_root`: upstream there is nothing before it, so that "//" at its beginning may begin an authority.
    """
    path = path.partition(b"?")[0]
    if b"%" not in path and b";" not in path and b"//" not in path:
        return PathReadings([path[:-1] if path.endswith(b"/") else path], [])
    readings: list[bytes] = []
    suspicions: list[bytes] = []
    for text in _texts(path):
        readings.append(_tidied(_PARAMETERS.sub(b"", text)))
        if b";" in text:
            suspicions.append(_tidied(_ONLY_PARAMETERS.sub(b"", text)))
        if _URL_END.search(text):
            suspicions.append(_tidied(_PARAMETERS.sub(b"", _URL_END.sub(b"", text))))
        if at_root and text.startswith(b"//"):
            suspicions.append(_tidied(_PARAMETERS.sub(b"", _AUTHORITY.sub(b"", text, 1))))
    return PathReadings(readings, suspicions)


def _texts(path: bytes) -> Iterator[bytes]:
    """The decoded path, once for each way to split it; encoded slashes that are data are _DATA_SLASH."""
    last = b""
    for _ in range(DECODINGS):
        text = _decoded(path)
        if text != last:
            yield text
            if OVERLONG.search(text):
                yield _decoded(OVERLONG.sub(shortest, text))
        if _DATA_SLASH not in text:
            return  # no encoded slash is left: further splits are the same
        last, path = text, unquote_to_bytes(path)


def _decoded(path: bytes) -> bytes:
    for _ in range(DECODINGS):
        decoded = unquote_to_bytes(_SLASH.sub(_DATA_SLASH, path))
        if decoded == path:
            break
        path = decoded
    return path


def _tidied(text: bytes) -> bytes:
    text = _SLASHES.sub(b"/", text)
    return text[:-1] if text.endswith(b"/") else text


class Pattern:
    """A pattern of `allow` or `deny`; `text` is valid (config/policy.py)."""

    __slots__ = ("_expression", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._expression = _expression(text)

    def fits(self, reading: bytes) -> bool:
        return self._expression.fullmatch(reading) is not None


def _expression(pattern: str) -> re.Pattern[bytes]:
    """No backtracking: "*" and "**" take the fewest bytes that let what follows begin, which is enough."""
    first, *others = pattern.strip("/").split("**")
    parts = [_block(first)]
    if others:
        last = others.pop()
        parts += [rb"(?>.*?%b)" % _block(each) for each in others]
        parts.append(b".*" if not last else rb".*?%b" % _block(last))
    return re.compile(b"".join(parts), re.DOTALL)


def _block(text: str) -> bytes:
    """The segments between two "**", each up to its end."""
    segments = [each for each in text.split("/") if each]
    return b"".join(rb"/%b(?![^/])" % _segment(each.encode()) for each in segments) or b"(?![^/])"


def _segment(text: bytes) -> bytes:
    if text == b"*":
        return b"[^/]++"
    head, *rest = map(re.escape, text.split(b"*"))
    if not rest:
        return head
    tail = rest.pop()
    middle = b"".join(b"(?>[^/]*?%b)" % each for each in rest)
    return head + middle + b"[^/]*" + tail


class Policy:
    """`methods`, `allow` and `deny` of one table; None: not given."""

    __slots__ = ("_allow", "_deny", "_methods", "judges_paths")

    def __init__(
        self,
        methods: Iterable[str] | None = None,
        allow: Iterable[str] | None = None,
        deny: Iterable[str] | None = None,
    ) -> None:
        self._methods = None if methods is None else frozenset(name.encode("ascii") for name in methods)
        self._allow = None if allow is None else [Pattern(text) for text in allow]
        self._deny = [Pattern(text) for text in deny or ()]
        self.judges_paths = self._allow is not None or bool(self._deny)

    @property
    def judges_methods(self) -> bool:
        return self._methods is not None

    def judge_head(self, method: bytes, block: bytes) -> Denial | None:
        """Why a request may not be used, whatever its path. `block`: its fields, as they came."""
        if self._methods is not None:
            if method not in self._methods:
                return Denial("method")
            if has_method_override(block):
                return Denial("method-field")
        if self.judges_paths and has_path_override(block):
            return Denial("path-field")
        return None

    def judge_path(self, path: PathReadings) -> Denial | None:
        """Why a path may not be used."""
        for pattern in self._deny:
            for reading in path.readings:
                if pattern.fits(reading):
                    return Denial("path", pattern.text)
            for suspicion in path.suspicions:
                if pattern.fits(suspicion):
                    return Denial("path", pattern.text)
        if self._allow is not None:
            for reading in path.readings:
                if not _fits_any(self._allow, reading):
                    return Denial("path")
        return None

    def allowing(self, path: PathReadings) -> str:
        """The pattern of `allow` that fits the first reading; empty if there is none."""
        return next((each.text for each in self._allow or () if each.fits(path.readings[0])), "")


def _fits_any(patterns: list[Pattern], reading: bytes) -> bool:
    return any(pattern.fits(reading) for pattern in patterns)


def has_method_override(block: bytes) -> bool:
    return _METHOD_OVERRIDE.apply(block)[1] != block


def has_path_override(block: bytes) -> bool:
    return _PATH_OVERRIDE.apply(block)[1] != block
