"""Reads the secrets in files that a configuration names, or of commands and keyrings, and remembers them.

While a process runs, a file may be empty or gone, for a moment or for good, and a command may fail: the last
good content counts.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.config.lookups import LARGEST, Lookup
from proxy.secret import Secret


@dataclass(frozen=True, slots=True)
class Content:
    """What a file held when it was read."""

    secret: Secret  # without the last newline
    print: bytes  # see `fingerprint`


Origin = Path | Lookup
Contents = Mapping[Origin, Content]


class Files:
    """`instead`: contents to use where a file can't be used now. `fixed`: contents to use without a look.

    `known`: files that have been there; for the moment they may be gone.
    """

    def __init__(
        self,
        instead: Contents | None = None,
        fixed: Contents | None = None,
        known: Collection[Path] = (),
    ) -> None:
        self._instead = instead or {}
        self._fixed = fixed or {}
        self._known = known
        self.contents: dict[Origin, Content] = {}  # of the secrets that were asked for, as used
        self.failed: dict[Lookup, str] = {}  # why an earlier content of it is used
        self.others: set[Path] = set()  # files that others read, like certificates

    def again(self) -> Files:
        """For reading all of them again, where they can be used now."""
        return Files(instead=self.contents, known=self.others)

    def but(self, changed: Collection[Origin]) -> Files:
        """With the contents as they were, but for the changed files, or what is to be looked up again."""
        fixed = {origin: content for origin, content in self.contents.items() if origin not in changed}
        return Files(fixed=fixed, known=self.others)

    def secret(self, path: Path) -> str:
        """The secret in a file. Raises ValueError."""
        found = self._fixed[path] if path in self._fixed else self._current(path)
        self.contents[path] = found
        return found.secret.reveal()

    def look_up(self, lookup: Lookup, environ: Mapping[str, str]) -> str:
        """What a command prints, or a keyring has. Blocks, but once for each. Raises ValueError."""
        known = self.contents.get(lookup) or self._fixed.get(lookup)
        if known is None:
            known = self._looked_up(lookup, environ)
        self.contents[lookup] = known
        return known.secret.reveal()

    def _looked_up(self, lookup: Lookup, environ: Mapping[str, str]) -> Content:
        try:
            return content_of(lookup.read(environ), str(lookup))
        except ValueError as error:
            known = self._instead.get(lookup)
            if known is None:
                raise
            self.failed[lookup] = str(error)
            return known

    def require(self, path: Path) -> None:
        """Check a file that is read elsewhere, like a certificate. Raises ValueError."""
        self.others.add(path)
        if path in self._known:
            return
        try:
            is_file = path.is_file()
        except OSError:  # a name too long
            is_file = False
        if not is_file:
            raise ValueError(f"there is no file {path} - check the name")
        if not os.access(path, os.R_OK):
            raise ValueError(f"{path} can't be read - check its permissions")

    def _current(self, path: Path) -> Content:
        known = self._instead.get(path)
        if known is not None and not is_regular(path):
            return known  # a pipe can be read once
        try:
            return read(path)
        except ValueError:
            if known is None:
                raise
            return known


def is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def read(path: Path) -> Content:
    """The secret in a file. Raises ValueError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise ValueError(f"{path} can't be read ({reason}): expected a file with the secret") from None
    return content_of(content, str(path))


def content_of(content: bytes, origin: str) -> Content:
    """Without its last newline. `origin`: for messages. Raises ValueError."""
    try:
        value = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{origin} is not UTF-8: expected the secret as text") from None
    if not value:
        raise ValueError(f"{origin} is empty: expected the secret")
    if len(content) > LARGEST:
        raise ValueError(f"{origin} is too large: expected nothing but the secret")
    return Content(Secret(value), fingerprint(content))


def fingerprint(content: bytes) -> bytes:
    """Tells contents apart without keeping them; empty for an empty file, which can't be used."""
    return hashlib.sha256(content).digest() if content else b""
