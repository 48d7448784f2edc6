"""The file: its text, what it holds, and how a line of it is shown beside a fault.

A shown line hides what may be a secret: the values of keys that are secrets or look like one, of unknown
keys (`client_secrt`), and the user part of URLs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy.config.positions import Path as KeyPath
from proxy.config.positions import Positions, find_positions
from proxy.errors import ConfigError, Fault
from proxy.secret import MASK

Span = tuple[int, int]

_TOML_PLACE: Final = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_SECRET_NAME: Final = re.compile(
    r"secr|passw|refresh_token|access_token|assertion|private|api_?key", re.IGNORECASE
)
# Where the text is no TOML there are no keys to go by, only what looks like one
_SECRET_PAIR: Final = re.compile(
    rf"""(?:{_SECRET_NAME.pattern}|\bkey)[\w"'-]*[ \t]*=[ \t]*"""
    r"""(?P<value>\"{3}.*?(?:\"{3}|\Z)|'{3}.*?(?:'{3}|\Z)|(?!\{\s*(?:env|file|keyring)\b)[^\n]+)""",
    re.DOTALL | re.IGNORECASE,
)
_URL_USER: Final = re.compile(r"://(?P<value>[^/\s\"'@]+)@")
_REFERENCES: Final = frozenset({"env", "file", "keyring"})


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is TOML."""

    text: str
    data: dict[str, Any]
    positions: Positions

    @classmethod
    def read(cls, path: Path) -> Source:
        """Raises ConfigError."""
        text = _read(path)
        try:
            return cls(text, tomllib.loads(text), find_positions(text))
        except tomllib.TOMLDecodeError as error:
            fault = _syntax_fault(text, str(error))
        except RecursionError:
            fault = Fault(1, 1, "nested too deeply - a table or two are meant")
        except ValueError:  # from int(): Python reads no number of thousands of digits
            fault = Fault(1, 1, "not TOML that can be read: a number is too long - fewer digits are meant")
        raise ConfigError(str(path), [fault])

    def faults(self, complaints: Collection[tuple[int, str]], unknown: Collection[KeyPath]) -> list[Fault]:
        """One for each complaint (an offset and a sentence); `unknown` are keys that should not be there."""
        masks = [*self._secrets(unknown), *_values(_URL_USER, self.text)]
        return [_fault(self.text, offset, sentence, masks) for offset, sentence in complaints]

    def _secrets(self, unknown: Collection[KeyPath]) -> Iterator[Span]:
        for path, end in self.positions.scalars.items():
            is_unknown = any(path[: len(key)] == key for key in unknown)
            if path[-1] not in _REFERENCES and (is_unknown or _may_be_secret(path)):
                yield self.positions.values[path], end


def _may_be_secret(path: KeyPath) -> bool:
    if path[:2] == ("store", "key"):
        return True
    keys = path[2:] if path[0] == "credentials" else path  # a credential's name says nothing
    return any(isinstance(key, str) and _SECRET_NAME.search(key) for key in keys)


def _read(path: Path) -> str:
    """The text, with LF for CRLF as TOML allows both. Raises ConfigError."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        reason = (error.strerror or "it can't be read").lower()
        fault = Fault(1, 1, f"{reason} - give the configuration with -c FILE")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1
        fault = Fault(line, column, "not UTF-8 - save the file as UTF-8")
    else:
        if not text.startswith("\ufeff"):
            return text.replace("\r\n", "\n")
        fault = Fault(1, 1, "begins with a byte order mark - save the file without")
    raise ConfigError(str(path), [fault])


def _syntax_fault(text: str, message: str) -> Fault:
    """tomllib tells the place only in its message (as attributes from Python 3.14 on)."""
    place = _TOML_PLACE.fullmatch(message)
    said = place[1] if place else message
    sentence = f"not TOML: {said[:1].lower()}{said[1:]} - see https://toml.io"
    masks = [*_values(_SECRET_PAIR, text), *_values(_URL_USER, text)]
    if place is None or place[2] is None:
        return _fault(text, len(text.rstrip()), sentence, masks)
    line, column = int(place[2]), int(place[3])
    before = sum(len(each) + 1 for each in text.split("\n")[: line - 1])
    return _fault(text, before + column - 1, sentence, masks)


def _values(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    return (found.span("value") for found in pattern.finditer(text))


def _fault(text: str, offset: int, sentence: str, masks: Collection[Span]) -> Fault:
    start = text.rfind("\n", 0, offset) + 1
    return Fault(text.count("\n", 0, offset) + 1, offset - start + 1, sentence, _shown(text, offset, masks))


def _shown(text: str, offset: int, masks: Collection[Span]) -> str:
    """The line around `offset`, masked, and nothing in it that a terminal would obey."""
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    line = text[start : end if end >= 0 else len(text)]
    for begin, stop in sorted(masks, reverse=True):
        left, right = max(begin - start, 0), min(stop - start, len(line))
        if left < right:
            width = right - left if begin < offset else 0  # what the fault points at stays in its column
            line = line[:left] + MASK.ljust(width) + line[right:]
    return "".join(character if character.isprintable() else " " for character in line)
