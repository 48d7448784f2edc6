"""The events of a run, each with its time on the boot clock, as JSON lines.

Each process writes a file of its own, one write per line, so that SIGKILL loses no recorded event.

    by a worker     started late | leased renewed released read intended | sending answered abandoned
                    saving, then saved, conflict or unsaved | request denied
                    logged-in logging-out logged-out | end proof
    by "server"     token asked revoked: its journal, written at the end of the run
    by "nemesis"    terms | paused resumed killed | fault store-down store-up flushed | calm stored

`saved` means acknowledged; what was `unsaved` (the store failed) or is only `saving` may have been saved.
Tokens appear as the first digits of their fingerprints.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.demo import journal
from proxy.secret import Secret

DIGITS = 10  # of a fingerprint: enough to tell a run's tokens apart


@dataclass(frozen=True, slots=True)
class Event:
    at: float  # boot clock
    who: str
    what: str
    about: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.about[name]

    def get(self, name: str) -> Any:
        return self.about.get(name)


def event(at: float, who: str, what: str, **about: Any) -> Event:
    return Event(at, who, what, about)


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Recorder:
    def __init__(self, path: Path, who: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._who = who

    def note(self, what: str, **about: Any) -> None:
        self.note_at(now(), what, **about)

    def note_at(self, at: float, what: str, **about: Any) -> None:
        line = json.dumps({"at": round(at, 4), "who": self._who, "what": what, **about})
        os.write(self._file, line.encode() + b"\n")


def read(paths: Iterable[Path]) -> list[Event]:
    """All events of these files, in the order of their times. A line that a kill cut off is left out."""
    events = []
    for path in paths:
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                about = json.loads(line)
                events.append(Event(about.pop("at"), about.pop("who"), about.pop("what"), about))
    return sorted(events, key=lambda one: one.at)


def fingerprint(token: str | Secret | None) -> str | None:
    if token is None:
        return None
    return short(journal.fingerprint(token.reveal() if isinstance(token, Secret) else token))


def short(of_token: str | None) -> str | None:
    return of_token and of_token[:DIGITS]
