"""The grammar of policies once more, without regular expressions and in the simplest way: by recursion.

A path is a tuple of segments. `ways` are the readings: split into segments after each number of decodings.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

Segments = tuple[bytes, ...]


def stable(text: bytes) -> bytes:
    return text if unquote_to_bytes(text) == text else stable(unquote_to_bytes(text))


def pieces(path: bytes) -> list[bytes]:
    """The decoded segments of a path, with their parameters; a slash decoded in one is data."""
    return [stable(piece) for piece in path.split(b"/")]


def cut(segments: list[bytes]) -> Segments:
    """Without parameters, and without empty segments."""
    return tuple(name for name in (segment.split(b";")[0] for segment in segments) if name)


def ways(path: bytes) -> Iterator[Segments]:
    yield cut(pieces(path))
    if unquote_to_bytes(path) != path:
        yield from ways(unquote_to_bytes(path))


def careless_ways(path: bytes, *, at_root: bool) -> Iterator[Segments]:
    """With parameters, or without those that are not encoded; parsed as a URL; without an authority."""
    cut_first = b"/".join(piece.split(b";")[0] for piece in path.split(b"/"))
    for text in (pieces(path), pieces(cut_first)):
        for each in (text, parsed_as_url(text)):
            yield from with_and_without_parameters(each)
            if at_root and each[:2] == [b"", b""]:
                authority = next((number for number, segment in enumerate(each) if segment), len(each))
                yield from with_and_without_parameters(each[authority + 1 :])
    if unquote_to_bytes(path) != path:
        yield from careless_ways(unquote_to_bytes(path), at_root=at_root)


def with_and_without_parameters(segments: list[bytes]) -> Iterator[Segments]:
    yield cut(segments)
    yield tuple(segment for segment in segments if segment)


def parsed_as_url(segments: list[bytes]) -> list[bytes]:
    """Up to "?" or "#", and without tabs and line breaks."""
    kept: list[bytes] = []
    for segment in segments:
        ends = [at for at in (segment.find(b"?"), segment.find(b"#")) if at >= 0]
        kept.append(segment[: min(ends)] if ends else segment)
        if ends:
            break
    return [bytes(byte for byte in segment if byte not in b"\t\r\n") for segment in kept]


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


def passes(allow: list[str] | None, deny: list[str], path: bytes, *, at_root: bool) -> bool:
    readings = list(ways(path))
    if allow is not None and not all(any(fits(pattern, each) for pattern in allow) for each in readings):
        return False
    readings += careless_ways(path, at_root=at_root)
    return not any(fits(pattern, each) for pattern in deny for each in readings)


def passes_by_contract(allow: list[str] | None, deny: list[str], path: bytes) -> bool:
    """By the sentence of the documentation alone: two readings."""
    *_, separating = ways(path)
    readings = [next(ways(path)), separating]
    if allow is not None and not all(any(fits(pattern, each) for pattern in allow) for each in readings):
        return False
    return not any(fits(pattern, each) for pattern in deny for each in readings)
