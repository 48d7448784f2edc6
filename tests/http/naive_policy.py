"""The grammar of policies once more, without regular expressions and in the simplest way: by recursion.

A path is a tuple of segments.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

Segments = tuple[bytes, ...]


def stable(text: bytes) -> bytes:
    return text if unquote_to_bytes(text) == text else stable(unquote_to_bytes(text))


def cut(segments: list[bytes]) -> Segments:
    """Without parameters, and without empty segments."""
    return tuple(name for name in (segment.split(b";")[0] for segment in segments) if name)


def readings(path: bytes) -> list[Segments]:
    """Encoded slashes as data, and as separators."""
    return [cut([stable(piece) for piece in path.split(b"/")]), cut(stable(path).split(b"/"))]


def fits(pattern: str, path: Segments) -> bool:
    return _fit([part.encode() for part in pattern.split("/") if part], path)


def _fit(pattern: list[bytes], path: Segments) -> bool:
    if not pattern:
        return not path
    if pattern[0] == b"**":
        return any(_fit(pattern[1:], path[skipped:]) for skipped in range(len(path) + 1))
    return bool(path) and _is_like(pattern[0], path[0]) and _fit(pattern[1:], path[1:])


def _is_like(pattern: bytes, segment: bytes) -> bool:
    if not pattern:
        return not segment
    if pattern[:1] == b"*":
        return any(_is_like(pattern[1:], segment[skipped:]) for skipped in range(len(segment) + 1))
    return segment[:1] == pattern[:1] and _is_like(pattern[1:], segment[1:])


def passes(allow: list[str] | None, deny: list[str], path: bytes) -> bool:
    read = readings(path)
    if allow is not None and not all(any(fits(pattern, each) for pattern in allow) for each in read):
        return False
    return not any(fits(pattern, each) for pattern in deny for each in read)
