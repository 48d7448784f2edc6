"""Positions of keys and values in a TOML document.

tomllib gives no positions, so this scans the document a second time. It only sees documents that tomllib
has accepted and therefore detects no errors, only where tokens start and end.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Final

Path = tuple[str | int, ...]

_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'", re.DOTALL
)
_SCALAR: Final = re.compile(r"[^,\]}#\r\n]+")


@dataclass(slots=True)
class Positions:
    """Offsets into the text.

    A table's position is its header or opening brace; that of an implicit one (from `[a.b]` or `a.b = 1`)
    the key that mentions it first. In an array of tables each element has its header.
    """

    keys: dict[Path, int] = field(default_factory=dict)
    values: dict[Path, int] = field(default_factory=dict)  # of `key = value`, and of an array's elements
    tables: dict[Path, int] = field(default_factory=dict)
    scalars: dict[Path, int] = field(default_factory=dict)  # the end of each value that is no array or table

    def of_value(self, path: Path) -> int:
        """Where the value starts; for a missing one, its nearest table or array."""
        while path:
            for places in (self.values, self.tables, self.keys):
                if path in places:
                    return places[path]
            path = path[:-1]
        return 0

    def of_key(self, path: Path) -> int:
        found = self.keys.get(path)
        return self.of_value(path) if found is None else found


def find_positions(text: str) -> Positions:
    """`text` is valid TOML, with LF for CRLF."""
    walk = _Walk(text)
    walk.document()
    return walk.found


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found = Positions()
        self._lengths: dict[Path, int] = {}  # of arrays of tables so far

    def document(self) -> None:
        table: Path = ()
        self._skip()
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                table = self._header()
            else:
                self._pair(table)
            self._skip()

    def _skip(self) -> None:
        space = _SPACE.match(self.text, self.at)
        assert space is not None
        self.at = space.end()

    def _header(self) -> Path:
        start = self.at
        is_array = self.text.startswith("[[", start)
        self.at += 2 if is_array else 1
        path = self._key(())
        self._skip()
        self.at += 2 if is_array else 1
        if is_array:
            self._lengths[path] = self._lengths.get(path, 0) + 1
            path = self._current(path)
        self.found.tables[path] = start
        return path

    def _key(self, table: Path) -> Path:
        """Read a dotted key below `table`; record the position of each part."""
        path = table
        while True:
            self._skip()
            path = (*self._current(path), self._part(path))
            self._skip()
            if not self.text.startswith(".", self.at):
                return path
            self.at += 1

    def _part(self, path: Path) -> str:
        start = self.at
        quoted = _STRING.match(self.text, start)
        token = quoted or _BARE.match(self.text, start)
        assert token is not None
        self.at = token.end()
        name: str = tomllib.loads(f"x = {token[0]}")["x"] if quoted else token[0]
        self.found.keys.setdefault((*self._current(path), name), start)
        return name

    def _current(self, path: Path) -> Path:
        """The path of the last element, if `path` is an array of tables."""
        length = self._lengths.get(path)
        return path if length is None else (*path, length - 1)

    def _pair(self, table: Path) -> None:
        path = self._key(table)
        self._skip()
        self.at += 1  # the equals sign
        self._skip()
        self._value(path)

    def _value(self, path: Path) -> None:
        self.found.values[path] = self.at
        opening = self.text[self.at]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            token = _STRING.match(self.text, self.at) or _SCALAR.match(self.text, self.at)
            assert token is not None
            self.at = token.end()
            self.found.scalars[path] = token.start() + len(token[0].rstrip())

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while self._more("]"):
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        self.found.tables[path] = self.found.values[path]
        while self._more("}"):
            self._pair(path)

    def _more(self, closing: str) -> bool:
        self._skip()
        if self.text.startswith(",", self.at):
            self.at += 1
            self._skip()
        if not self.text.startswith(closing, self.at):
            return True
        self.at += 1
        return False
