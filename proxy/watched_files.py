"""When the contents of a changed file are taken up: the second look that sees the same.

A file that is being written looks different at each look, or has half of its contents: two looks must agree.
Files that belong together, as a certificate and its key, are looked at as one. What has been refused is not
tried again before it changes. Pure, but for `look`.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.config.files import fingerprint

RECENT: Final = 2.0  # seconds; a file changed within the resolution of its time stamps may look the same
LARGEST: Final = 2**24  # bytes; bundles of authorities are smaller by far

Group = tuple[Path, ...]  # files that are taken up together
Prints = tuple[bytes, ...]  # the fingerprint of each; empty for a file that can't be used


@dataclass(frozen=True, slots=True)
class Same:
    """The files are as they were taken up."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One look has seen these contents."""

    prints: Prints


@dataclass(frozen=True, slots=True)
class Refused:
    """These contents can't be used: the earlier ones count until the files change again."""

    prints: Prints


State = Same | Changed | Refused
SAME: Final = Same()


def step(state: State, seen: Prints, accepted: Prints) -> tuple[State, bool]:
    """The state after a look, and whether the contents are to be taken up now."""
    if seen == accepted:
        return SAME, False
    match state:
        case Refused(known) if known == seen:
            return state, False
        case Changed(known) if known == seen:
            return state, True
    return Changed(seen), False


class Watch:
    """The states of all groups."""

    def __init__(self) -> None:
        self._states: dict[Group, State] = {}

    def looked(self, seen: Mapping[Group, Prints], accepted: Mapping[Group, Prints]) -> dict[Group, Prints]:
        """The groups to take up now, with what was seen of them. Groups that are not seen are forgotten."""
        due: dict[Group, Prints] = {}
        states: dict[Group, State] = {}
        for group, prints in seen.items():
            states[group], is_due = step(self._states.get(group, SAME), prints, accepted[group])
            if is_due:
                due[group] = prints
        self._states = states
        return due

    @property
    def refused(self) -> set[Path]:
        """The files whose contents can't be used now."""
        states = self._states.items()
        return {path for group, state in states if isinstance(state, Refused) for path in group}

    def refuse(self, group: Group, prints: Prints) -> None:
        self._states[group] = Refused(prints)


# -- looking


@dataclass(slots=True)
class Looks:
    """The last look at each file: it is only read again if its inode or times have changed."""

    _seen: dict[Path, tuple[object, bytes]] = field(default_factory=dict)
    wall: Callable[[], float] = time.time

    def at(self, groups: Iterable[Group]) -> dict[Group, Prints]:
        """Blocks. Files that are no regular ones are left out, with their group: a pipe can be read once."""
        found: dict[Group, Prints] = {}
        before, self._seen = self._seen, {}
        for group in groups:
            prints = [self._print(path, before) for path in group]
            if None not in prints:
                found[group] = tuple(each for each in prints if each is not None)
        return found

    def _print(self, path: Path, before: Mapping[Path, tuple[object, bytes]]) -> bytes | None:
        """None for what is no regular file."""
        if path in self._seen:
            return self._seen[path][1]
        try:
            status = path.stat()
        except OSError:
            return b""
        if not stat.S_ISREG(status.st_mode):
            return None
        mark = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = before.get(path)
        if known is None or known[0] != mark or abs(self.wall() - status.st_mtime) < RECENT:
            known = mark, _content_print(path)
        if known[1]:  # else it is read again: the cause may leave no mark
            self._seen[path] = known
        return known[1]


def _content_print(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return fingerprint(file.read(LARGEST))
    except OSError:
        return b""
