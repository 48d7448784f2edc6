"""The file: its text, what it holds, and a fault at a place in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy.config.positions import Path as KeyPath
from proxy.config.positions import Positions, find_positions
from proxy.config.redact import Span, masks_of_broken, masks_of_toml, shown_line
from proxy.errors import ConfigError, Fault

_TOML_PLACE: Final = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
# What tomllib says, and what was probably meant; the first that fits
_MEANT: Final = (
    ("Invalid value", 'a text in "quotes", a number, true or false is meant'),
    ("Illegal character", "a quote at the end of the text is meant"),
    ("Unterminated string", "a quote at the end of the text is meant"),
    ('Expected "\'"', "a quote at the end of the text is meant"),
    ("Unclosed array", "a bracket ] at the end of the list is meant"),
    ("Unclosed inline table", "a brace } at the end of the table is meant"),
    ("Cannot overwrite", "each key once is meant"),
    ("Cannot declare", "each table once is meant"),
    ("Expected '='", "key = value is meant"),
    ("Expected newline", "one key = value in each line is meant"),
    ("", "see https://toml.io"),
)


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
        masks = masks_of_toml(self.text, self.positions, unknown)
        return [_fault(self.text, offset, sentence, masks) for offset, sentence in complaints]


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
    meant = next(meant for beginning, meant in _MEANT if said.startswith(beginning))
    sentence = f"not TOML: {said[:1].lower()}{said[1:]} - {meant}"
    offset = len(text.rstrip())
    if place is not None and place[2] is not None:
        offset = sum(len(line) + 1 for line in text.split("\n")[: int(place[2]) - 1]) + int(place[3]) - 1
    return _fault(text, offset, sentence, masks_of_broken(text, offset))


def _fault(text: str, offset: int, sentence: str, masks: Collection[Span]) -> Fault:
    line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
    return Fault(line, column, sentence, shown_line(text, offset, masks))
