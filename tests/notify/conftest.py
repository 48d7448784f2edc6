"""A program that takes notifications, and the token side that they are about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.config.lookups import Command
from tests.tokens.conftest import clock, make_server, make_side, open_sqlite, short_backoff

__all__ = ["clock", "make_server", "make_side", "open_sqlite", "short_backoff"]  # fixtures


@dataclass
class Program:
    """Adds what it gets to a file, one line each."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "notified"

    @property
    def command(self) -> Command:
        """It fails while there is a file `broken`."""
        return Command(("sh", "-c", "test ! -e broken && cat >> notified"), self.folder)

    def got(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def said(self) -> list[tuple[str, str]]:
        """Account and state of each."""
        return [(each["account"], each["state"]) for each in self.got()]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    folder = tmp_path / "program"
    folder.mkdir()
    return Program(folder)
