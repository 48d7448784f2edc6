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
# For upstreams that parse the decoded path as a URL: "?" and "#" end it, tabs and line breaks are dropped.
_NOT_IN_URLS: Final = re.compile(rb"[\t\r\n]|[?#].*", re.DOTALL)
_AUTHORITY: Final = re.compile(rb"\A//+[^/]*")
METHOD_OVERRIDES: Final = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})
PATH_OVERRIDES: Final = frozenset({b"x-original-url", b"x-rewrite-url"})  # IIS, Symfony, Zend

Kind = Literal["method", "field", "path"]


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
    readings: dict[bytes, None] = {}
    suspicions: set[bytes] = set()
    for level, text in _levels(path):
        texts = [text, _decoded(OVERLONG.sub(shortest, text))] if OVERLONG.search(text) else [text]
        readings.update(dict.fromkeys(_tidied(_PARAMETERS.sub(b"", each)) for each in texts))
        if b";" in level:  # servlets cut parameters before they decode
            texts.append(_decoded(_PARAMETERS.sub(b"", level)))
        for each in texts:
            suspicions |= _suspicions(each, at_root=at_root)
    return PathReadings(list(readings), list(suspicions.difference(readings)))


def _levels(path: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The path after each number of decodings, and then decoded until it is stable.

    Slashes that are encoded in the first are data in the second.
    """
    for _ in range(DECODINGS):
        text = _decoded(path)
        yield path, text
        if text == path or (_DATA_SLASH not in text and b";" not in text):
            return  # no delimiter is left to decode
        path = unquote_to_bytes(path)


def _suspicions(text: bytes, *, at_root: bool) -> set[bytes]:
    """A decoded path as it is, parsed as a URL, without an authority; with and without parameters."""
    seen = {text, _NOT_IN_URLS.sub(b"", text)}
    if at_root:
        seen |= {_AUTHORITY.sub(b"", each) for each in seen}
    seen |= {_PARAMETERS.sub(b"", each) for each in seen}
    return set(map(_tidied, seen))


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

    __slots__ = ("_allow", "_deny", "_methods", "_overriding", "judges_paths", "overrides")

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
        of_methods = METHOD_OVERRIDES if self._methods is not None else frozenset()
        of_paths = PATH_OVERRIDES if self.judges_paths else frozenset()
        self.overrides = of_methods | of_paths  # names of fields that would override what is judged
        self._overriding = Rules(read=(), cut=self.overrides)

    def judge_head(self, method: bytes, block: bytes) -> Denial | None:
        """Why a request may not be used, whatever its path. `block`: its fields, as they came."""
        if self._methods is not None and method not in self._methods:
            return Denial("method")
        if self.overrides and self._overriding.apply(block)[1] != block:
            return Denial("field")
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


def policy_of(
    methods: Iterable[str] | None, allow: Iterable[str] | None, deny: Iterable[str] | None
) -> Policy | None:
    """The policy of a route or caller; None if it permits everything."""
    return Policy(methods, allow, deny) if methods is not None or allow is not None or deny else None


def _fits_any(patterns: list[Pattern], reading: bytes) -> bool:
    return any(pattern.fits(reading) for pattern in patterns)
