"""The body of a response from an authorization server: bytes -> members by name. Pure.

Every unambiguous way to write a mapping is read: JSON or a form, in UTF-8 or another encoding, compressed or
not, whatever the header fields say. Deviations are reported by code, for the log; a body is never refused
for them, because a refused token response is a lost refresh token.
Limits stay strict: size before and after decompression, depth, and the number of compressed layers.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes

MAX_SIZE: Final = 256 * 1024  # bytes, compressed or not; the largest token responses seen are a few KiB
MAX_FIELDS: Final = 1000  # of a form; token responses have a dozen, and parsing each takes time
LAYERS: Final = 2  # of compression; a server and a CDN in front of it may each add one

# Deviations of a document, as sentences for the log.
ODDITIES: Final[Mapping[str, str]] = {
    "compression": "it is compressed although we asked for identity, or its Content-Encoding is wrong",
    "byte_order_mark": "it starts with a byte-order mark",
    "charset": "it is not in UTF-8",
    "padding": "it has NUL bytes or the like before or after it",
    "surrounded": "it has other text before or after the JSON",
    "number": "it has NaN, Infinity or a number that is too long",
    "repeated": "it repeats a member",
    "form": "it is a form with another Content-Type",
    "nested": 'the members are inside a list or a member "data"',
}

_GZIP: Final = b"\x1f\x8b"
_ZLIB: Final = b"\x78"
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_FORM: Final = re.compile(r"[\w.\-]+=[^<>{}\r\n\"]*", re.ASCII)
_WHITE: Final = " \t\r\n"
_PADDING: Final = _WHITE + "\0\x0b\x0c\x1a\x85\xa0\ufeff"  # insignificant before and after a document


class UnreadableDocument(Exception):
    """`error` is "not_json" or "too_large". It has no cause: a JSONDecodeError carries the whole body."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class Document:
    """Members by name; a repeated name has its last value that is not empty (see `_merged`)."""

    members: Mapping[str, Any]
    oddities: tuple[str, ...] = ()  # keys of ODDITIES
    repeated: frozenset[str] = frozenset()  # names repeated with different values


class _Members(list[tuple[str, Any]]):
    """The pairs of a JSON object, repeated names included."""


def read(headers: Mapping[str, str], body: bytes, sought: tuple[str, ...]) -> Document:
    """Read a complete body. `headers` is case-insensitive. Raises UnreadableDocument.

    A mapping inside other text or another object must have one of the names `sought`; an object that is the
    whole body need not.
    """
    if len(body) > MAX_SIZE:
        raise UnreadableDocument("too_large")
    encodings = headers.get("Content-Encoding", "").lower().replace(",", " ").split()
    said = any(encoding not in {"", "identity"} for encoding in encodings)
    plain, was_compressed = _decompressed(body, "deflate" in encodings)
    oddities = {"compression"} if was_compressed or said else set()
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    for text, in_encoding in _decoded(plain):
        stripped = text.strip(_PADDING)
        found = _json(stripped, sought) or _form(stripped, sought, content_type)
        if found is not None:
            members, repeated, odd = found
            oddities |= in_encoding | odd
            oddities |= {"repeated"} if repeated else set()
            oddities |= {"padding"} if stripped != text.strip(_WHITE) else set()
            return Document(members, tuple(name for name in ODDITIES if name in oddities), repeated)
    raise UnreadableDocument("not_json")


def members_of(value: object) -> dict[str, Any]:
    """The members of an object inside a document; {} for anything else."""
    return _merged(value)[0] if isinstance(value, _Members) else {}


def _decompressed(body: bytes, may_be_raw: bool) -> tuple[bytes, bool]:
    """Undo gzip and deflate (RFC 1950, or raw as some servers send it) by the bytes alone."""
    was_compressed = False
    for _ in range(LAYERS):
        plain = None
        if body.startswith(_GZIP):
            plain = _inflated(body, 31)
        elif body.startswith(_ZLIB):  # a form may start with "x", too: it is not zlib data then
            plain = _inflated(body, 15)
        if plain is None and may_be_raw and not was_compressed and body.lstrip()[:1] not in {b"{", b"["}:
            plain = _inflated(body, -15)
        if plain is None:
            break
        body, was_compressed = plain, True
    return body, was_compressed


def _inflated(body: bytes, wbits: int) -> bytes | None:
    """None if it is not compressed like that. Raises UnreadableDocument at the size limit."""
    try:
        plain = zlib.decompressobj(wbits=wbits).decompress(body, MAX_SIZE + 1)
    except zlib.error:
        return None
    if len(plain) > MAX_SIZE:
        raise UnreadableDocument("too_large")
    return plain


def _decoded(body: bytes) -> Iterator[tuple[str, set[str]]]:
    """The text in each possible encoding, the likeliest first (RFC 8259 section 8.1: UTF-8)."""
    detected = json.detect_encoding(body)
    if not detected.startswith("utf-8"):
        with suppress(UnicodeDecodeError):  # a NUL byte before JSON looks like UTF-16
            yield body.decode(detected).removeprefix("\ufeff"), {"charset"}
    try:
        text = body.decode()
    except UnicodeDecodeError:
        # Tokens and the names we read are ASCII: any encoding that maps each byte will do for the rest.
        yield body.removeprefix(b"\xef\xbb\xbf").decode("latin-1"), {"charset"}
        return
    plain = text.removeprefix("\ufeff")
    yield plain, set() if plain == text else {"byte_order_mark"}


_Found = tuple[dict[str, Any], frozenset[str], set[str]]


def _json(text: str, sought: tuple[str, ...]) -> _Found | None:
    odd: set[str] = set()

    def integer(digits: str) -> int | None:
        try:
            return int(digits)
        except ValueError:  # thousands of digits
            odd.add("number")
            return None

    def constant(_name: str) -> None:
        odd.add("number")

    decoder = json.JSONDecoder(object_pairs_hook=_Members, parse_int=integer, parse_constant=constant)
    # Only from the first brace: after a truncated object, an inner one must not be taken for the whole.
    begin = 0 if text.startswith("[") else text.find("{")
    try:
        value, end = decoder.raw_decode(text, begin) if begin >= 0 else (None, 0)
    except (ValueError, RecursionError):
        return None
    members, is_nested = _unwrapped(value, sought)
    if members is None:
        return None
    merged, repeated = _merged(members)
    odd |= {"nested"} if is_nested else set()
    if begin == 0 and end == len(text):
        return merged, repeated, odd
    return (merged, repeated, odd | {"surrounded"}) if merged.keys() & set(sought) else None


def _unwrapped(value: object, sought: tuple[str, ...]) -> tuple[_Members | None, bool]:
    """The object, and whether it is nested: some servers send `[{…}]` or `{"data": {…}}`."""
    if isinstance(value, _Members):
        names = {name for name, _ in value}
        inner = next((each for name, each in reversed(value) if name == "data"), None)
        if isinstance(inner, _Members) and not names & set(sought) and {n for n, _ in inner} & set(sought):
            return inner, True
        return value, False
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], _Members):
        return value[0], True
    return None, False


def _form(text: str, sought: tuple[str, ...], content_type: str) -> _Found | None:
    """A form; with another Content-Type than a form's, it must have one of the names `sought`."""
    if not _FORM.fullmatch(text):
        return None
    encoding = "utf-8" if _is_utf8(text) else "latin-1"
    try:
        pairs = parse_qsl(text, keep_blank_values=True, encoding=encoding, max_num_fields=MAX_FIELDS)
    except ValueError:
        return None
    merged, repeated = _merged(pairs)
    if content_type == _FORM_TYPE:
        return merged, repeated, set()
    return (merged, repeated, {"form"}) if merged.keys() & set(sought) else None


def _is_utf8(form: str) -> bool:
    try:
        unquote_to_bytes(form).decode()
    except UnicodeDecodeError:
        return False
    return True


def _merged(pairs: list[tuple[str, Any]]) -> tuple[dict[str, Any], frozenset[str]]:
    """RFC 8259 section 4 leaves a repeated name open. Nearly every parser takes the last value, so that is
    what the server's other clients use; but an empty value never replaces one that is not empty.
    """
    merged: dict[str, Any] = {}
    repeated = set()
    for name, value in pairs:
        if name not in merged or merged[name] == value:
            merged[name] = value
            continue
        repeated.add(name)
        if value or not merged[name]:
            merged[name] = value
    return merged, frozenset(repeated)
