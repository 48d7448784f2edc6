"""Reads the secrets in files that a configuration names, and remembers what it has read.

While a process runs, a file may be empty or gone, for a moment or for good: its last good content counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from proxy.secret import Secret

LARGEST_SECRET: Final = 65536  # bytes; a larger file is the wrong one


class Files:
    """`instead`: secrets to use where a file can't be used now. `fixed`: secrets to use without a look."""

    def __init__(
        self, instead: Mapping[Path, Secret] | None = None, fixed: Mapping[Path, Secret] | None = None
    ) -> None:
        self._instead = instead or {}
        self._fixed = fixed or {}
        self.contents: dict[Path, Secret] = {}  # of all files that were asked for, as used
        self.unusable: dict[Path, str] = {}  # a sentence for each that `instead` has replaced

    def secret(self, path: Path) -> str:
        """The secret in a file. Raises ValueError."""
        found = self.contents[path] = self._fixed[path] if path in self._fixed else self._current(path)
        return found.reveal()

    def _current(self, path: Path) -> Secret:
        try:
            return read_secret(path)
        except ValueError as error:
            if path not in self._instead:
                raise
            self.unusable[path] = str(error)
            return self._instead[path]


def read_secret(path: Path) -> Secret:
    """The content of a file, without its last newline. Raises ValueError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_SECRET + 1)
        value = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise ValueError(f"{path} can't be read ({reason}): expected a file with the secret") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8: expected a text file with the secret") from None
    if not value:
        raise ValueError(f"{path} is empty: expected a file with the secret")
    if len(content) > LARGEST_SECRET:
        raise ValueError(f"{path} is too large: expected a file with nothing but the secret")
    return Secret(value)
