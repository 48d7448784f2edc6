"""The configuration file: its text, the parsed TOML, and faults at a position in it."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxy.config.fault_messages import Complaint
from proxy.config.positions import Positions, find_positions
from proxy.config.redact import Span, masks_of_broken, masks_of_toml, shown_line
from proxy.config.syntax import syntax_fault
from proxy.config.variable_checks import variables_read
from proxy.errors import ConfigError, Fault


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
            found = syntax_fault(text, str(error))
            masks = masks_of_broken(text, found.offset)
            fault = _fault(text, found.offset, found.sentence, masks)
            fault = fault if found.shows_line else replace(fault, source="")
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
        return sorted({_fault(self.text, self._offset(each), self._said(each), masks) for each in complaints})

    def _said(self, complaint: Complaint) -> str:
        """The sentence, with the line of the other place that it is about."""
        see, positions = complaint.see, self.positions
        while see and see not in positions.values and see not in positions.tables:
            see = see[:-1] if isinstance(see[-1], int) else ()  # one address in place of a list
        return complaint.said(self.text.count("\n", 0, positions.of_value(see)) + 1 if see else 0)

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


def _fault(text: str, offset: int, sentence: str, masks: Collection[Span]) -> Fault:
    line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
    return Fault(line, column, sentence, shown_line(text, offset, masks))
