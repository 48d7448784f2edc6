"""A file that is not TOML: what is wrong, and where. Pure.

The sentences are ours where tomllib's message is one that is known, as its words differ between versions of
Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

EXPECTED: Final = """expected TOML, such as [server], and below it listen = "127.0.0.1:8080\""""
_PLACE: Final = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_HEADER: Final = re.compile(r"\s*(\[{1,2}[^\[\]]+\]{1,2})\s*(?:#.*)?")
_PAIR: Final = re.compile(r"\s*([\w-]+)\s*=\s*(.*)")
_CURLY: Final = frozenset("\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb")
_BOOLEANS: Final = frozenset({"true", "false", "yes", "no", "on", "off"})
_BARE: Final = re.compile(r"""[^\s"'\[{\]}#][^"'\[{#]*""")
_YAML: Final = re.compile(r"---|- .*|[\w-]+:(?: +[^\s].*)?")
_VARIABLE: Final = re.compile(r"(?:export\s+)?[A-Z][A-Z0-9_]*=")
_COMMENT: Final = re.compile(r"\s*(?:#.*)?")
_BRACES: Final = re.compile(r"[\w ./~^*-]+\{|[\w ]+;")


@dataclass(frozen=True, slots=True)
class SyntaxFault:
    offset: int
    sentence: str
    shows_line: bool = True


def syntax_fault(text: str, message: str) -> SyntaxFault:
    """For tomllib's message, which holds the position (attributes exist from Python 3.14 on)."""
    if other := other_language(text):
        return SyntaxFault(_first(text), f"this looks like {other}: {EXPECTED}", shows_line=False)
    place = _PLACE.fullmatch(message)
    said = place[1] if place else message
    offset = len(text.rstrip())
    if place is not None and place[2] is not None:
        offset = sum(len(line) + 1 for line in text.split("\n")[: int(place[2]) - 1]) + int(place[3]) - 1
    for start, sentence in _SENTENCES:
        if said.startswith(start):
            offset = _begin(text, offset) if start in _AT_THE_KEY else offset
            return SyntaxFault(offset, f"not TOML: {sentence(text, offset)}")
    return SyntaxFault(offset, f"not TOML: {said[:1].lower()}{said[1:]} - see https://toml.io")


def other_language(text: str) -> str:
    """The language in which a file seems to be written, if it is not TOML; else ""."""
    lines = [line for line in text.split("\n") if not _COMMENT.fullmatch(line)]
    if not lines:
        return ""
    first = lines[0].strip()
    if first.startswith("{"):
        return "JSON"
    if first.startswith(";"):
        return "INI"
    if first.startswith("<"):
        return "XML"
    if _VARIABLE.match(first):
        return "a file of environment variables"
    unindented = [line.rstrip() for line in lines if not line[0].isspace()]
    if all(_YAML.fullmatch(line) for line in unindented) and len(lines) > 1:
        return "YAML"
    return "nginx's configuration" if _BRACES.fullmatch(first) and "=" not in first else ""


def _first(text: str) -> int:
    """The offset of the first line with content."""
    offset = 0
    for line in text.split("\n"):
        if not _COMMENT.fullmatch(line):
            return offset + len(line) - len(line.lstrip())
        offset += len(line) + 1
    return 0


def _begin(text: str, offset: int) -> int:
    """The offset of the first character of the line at `offset`."""
    begin = text.rfind("\n", 0, offset) + 1
    return begin + len(text[begin:offset]) - len(text[begin:offset].lstrip())


def _line_at(text: str, offset: int) -> tuple[int, str]:
    """The index of the line, and the line."""
    index = text.count("\n", 0, offset)
    return index, text.split("\n")[index]


def _no_value(text: str, offset: int) -> str:
    pair = _PAIR.fullmatch(_line_at(text, offset)[1])
    if text[offset : offset + 1] in _CURLY:
        return 'curly quotes: expected straight ones, "…"'
    if pair and _BARE.fullmatch(pair[2]):
        if pair[2].strip().lower() in _BOOLEANS:
            return "expected true or false, in lower case"
        return f'a value without quotes: expected {pair[1]} = "…"'
    return 'a value is missing or incomplete: expected a string in "quotes", a number, true or false'


def _twice(text: str, offset: int) -> str:
    """A key that its table has already."""
    index, line = _line_at(text, offset)
    pair = _PAIR.match(line)
    before = text.split("\n")[:index]
    begin = max((at for at, each in enumerate(before) if _HEADER.fullmatch(each)), default=-1) + 1
    for at, each in enumerate(before[begin:], start=begin + 1):
        other = _PAIR.match(each)
        if pair and other and other[1] == pair[1]:
            return f"{pair[1]} is there twice: expected each key only once, and the first is in line {at}"
    return "a key is there twice: expected each key only once"


def _table_twice(text: str, offset: int) -> str:
    index, line = _line_at(text, offset)
    header = _HEADER.fullmatch(line)
    for at, each in enumerate(text.split("\n")[:index], start=1):
        other = _HEADER.fullmatch(each)
        if header and other and re.sub(r"[\s\[\]]", "", other[1]) == re.sub(r"[\s\[\]]", "", header[1]):
            return f"{header[1]} is there twice: expected each table only once, and the first is in line {at}"
    return "a table is there twice: expected each table only once"


def _no_equals(text: str, offset: int) -> str:
    return 'expected "=" in place of ":"' if text[offset : offset + 1] == ":" else "expected key = value"


def _said(sentence: str) -> Callable[[str, int], str]:
    return lambda _text, _offset: sentence


_NO_QUOTE: Final = _said("the closing quote is missing: expected it at the end of the text")
_AT_THE_KEY: Final = frozenset({"Cannot overwrite", "Cannot declare"})  # tomllib names the end
_SENTENCES: Final[tuple[tuple[str, Callable[[str, int], str]], ...]] = (  # by how tomllib's message starts
    ("Invalid value", _no_value),
    ("Illegal character '\\n'", _NO_QUOTE),
    ("Unterminated string", _NO_QUOTE),
    ('Expected "\'"', _NO_QUOTE),
    ("Unclosed array", _said("the closing bracket is missing: expected ]")),
    ("Unclosed inline table", _said("the closing brace is missing: expected }")),
    ("Cannot overwrite", _twice),
    ("Cannot declare", _table_twice),
    ("Expected '='", _no_equals),
    ("Expected newline", _said("expected one key = value per line")),
)
