"""The configuration file: its text, the parsed TOML, and faults at a position in it."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy.config.fault_messages import Complaint
from proxy.config.positions import Positions, find_positions
from proxy.config.redact import Span, masks_of_broken, masks_of_toml, shown_line
from proxy.config.variable_checks import variables_read
from proxy.errors import ConfigError, Fault

_TOML_PLACE: Final = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
# How tomllib's message starts, and a remedy; the first match counts
_REMEDIES: Final = (
    ("Invalid value", 'expected a string in "quotes", a number, true or false'),
    ("Illegal character", "expected a closing quote"),
    ("Unterminated string", "expected a closing quote"),
    ('Expected "\'"', "expected a closing quote"),
    ("Unclosed array", "expected a closing bracket ]"),
    ("Unclosed inline table", "expected a closing brace }"),
    ("Cannot overwrite", "expected each key only once"),
    ("Cannot declare", "expected each table only once"),
    ("Expected '='", "expected key = value"),
    ("Expected newline", "expected one key = value per line"),
    ("", "see https://toml.io"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """A file of valid TOML."""

    text: str
    data: dict[str, Any]
    positions: Positions

    @property
    def digest(self) -> str:
        """The SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def read(cls, path: Path) -> Source:
        """Raises ConfigError."""
        text = _read(path)
        try:
            return cls(text, tomllib.loads(text), find_positions(text))
        except tomllib.TOMLDecodeError as error:
            fault = _syntax_fault(text, str(error))
        except RecursionError:
            fault = Fault(1, 1, "nested too deeply - use fewer levels")
        except ValueError:  # from int(): Python limits the number of digits
            fault = Fault(1, 1, "a number is too long - use fewer digits")
        raise ConfigError(str(path), [fault])

    @property
    def variables(self) -> frozenset[str]:
        """The environment variables to which it refers."""
        return variables_read(self.data)

    @property
    def found(self) -> list[Complaint]:
        """Faults found while reading: none, as each of them raises ConfigError."""
        return []

    def faults(self, complaints: Iterable[Complaint]) -> list[Fault]:
        """A fault for each complaint, at its position."""
        complaints = list(complaints)
        masks = masks_of_toml(self.text, self.positions, [each.path for each in complaints if each.unknown])
        return sorted({_fault(self.text, self._offset(each), each.sentence, masks) for each in complaints})

    def _offset(self, complaint: Complaint) -> int:
        positions = self.positions
        return (positions.of_key if complaint.about == "key" else positions.of_value)(complaint.path)


def _read(path: Path) -> str:
    """The text, with CRLF turned into LF. Raises ConfigError."""
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
        fault = Fault(1, 1, "starts with a byte order mark - save the file without it")
    raise ConfigError(str(path), [fault])


def _syntax_fault(text: str, message: str) -> Fault:
    """The fault for tomllib's message, which holds the position (attributes exist from Python 3.14 on)."""
    place = _TOML_PLACE.fullmatch(message)
    said = place[1] if place else message
    remedy = next(remedy for start, remedy in _REMEDIES if said.startswith(start))
    sentence = f"not TOML: {said[:1].lower()}{said[1:]} - {remedy}"
    offset = len(text.rstrip())
    if place is not None and place[2] is not None:
        offset = sum(len(line) + 1 for line in text.split("\n")[: int(place[2]) - 1]) + int(place[3]) - 1
    return _fault(text, offset, sentence, masks_of_broken(text, offset))


def _fault(text: str, offset: int, sentence: str, masks: Collection[Span]) -> Fault:
    line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
    return Fault(line, column, sentence, shown_line(text, offset, masks))
