"""Which requests a route or a caller permits: `methods`, `allow` and `deny`. Pure.

A path is judged decoded until it is stable, without what follows ";" in a segment, empty segments and a last
"/"; once with encoded slashes as data, and once as separators. `allow` must fit both readings; `deny` applies
if it fits one of them. target.py has refused dot segments, backslashes and NUL: so NUL can stand for a slash
that is data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.http.rules import Rules
from proxy.http.target import DECODINGS

_SLASH: Final = re.compile(rb"%2[fF]")
_DATA_SLASH: Final = b"\0"
_SLASHES: Final = re.compile(rb"/{2,}")
_PARAMETERS: Final = re.compile(rb";[^/]*")
METHOD_OVERRIDES: Final = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})
PATH_OVERRIDES: Final = frozenset({b"x-original-url", b"x-rewrite-url"})  # IIS, Symfony, Zend

LONGEST: Final = 8192  # bytes of a path, as in nginx and Apache; to judge 128 KiB may take half a second

Kind = Literal["method", "field", "path", "length"]


class Denial(NamedTuple):
    """`pattern`: that of `deny` which fits; empty if none of `allow` does."""

    kind: Kind
    pattern: str = ""


class PathReadings(NamedTuple):
    """Each is empty, or segments with a slash before each. There is at least one."""

    readings: tuple[bytes, ...]
    is_too_long: bool = False  # so that it was not read


def read_path(path: bytes) -> PathReadings:
    """How an upstream may read `path`, which is below the route's prefix; its query is ignored."""
    path = path.partition(b"?")[0]
    if len(path) > LONGEST:
        return PathReadings((path,), is_too_long=True)
    if b"%" not in path and b";" not in path and b"//" not in path:
        return PathReadings((path[:-1] if path.endswith(b"/") else path,))
    text = _decoded(path)
    as_data = _tidied(text)
    if _DATA_SLASH not in text:
        return PathReadings((as_data,))
    return PathReadings((as_data, _tidied(text.replace(_DATA_SLASH, b"/"))))


def _decoded(path: bytes) -> bytes:
    for _ in range(DECODINGS):
        decoded = unquote_to_bytes(_SLASH.sub(_DATA_SLASH, path))
        if decoded == path:
            break
        path = decoded
    return path


def _tidied(text: bytes) -> bytes:
    text = _SLASHES.sub(b"/", _PARAMETERS.sub(b"", text))
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
        self._overriding = Rules(cut=self.overrides)

    def judge_head(self, method: bytes, block: bytes) -> Denial | None:
        """Why a request may not be used, whatever its path. `block`: its fields, as they came."""
        if self._methods is not None and method not in self._methods:
            return Denial("method")
        if self.overrides and self._overriding.cut(block) is not block:
            return Denial("field")
        return None

    def judge_path(self, path: PathReadings) -> Denial | None:
        """Why a path may not be used."""
        if path.is_too_long:
            return Denial("length")
        for pattern in self._deny:
            for reading in path.readings:
                if pattern.fits(reading):
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
