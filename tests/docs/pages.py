"""Our pages as data: fenced blocks, and rows of tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md"), *(REPOSITORY / "deploy").rglob("*.md")],
)
BLOCK = re.compile(
    r"^(?:<!-- run: (?P<name>[a-z]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
CODE = re.compile(r"`([^`]+)`")


class Block(NamedTuple):
    name: str  # what stands in its marker; empty: it has none
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [
        Block(found["name"] or "", found["language"], found["text"])
        for found in BLOCK.finditer(page.read_text())
    ]


def section(text: str, heading: str) -> str:
    """From a heading (with its #s) to the next of its level or above. Raises ValueError."""
    start = text.index(f"\n{heading}\n") + 1
    level = len(heading) - len(heading.lstrip("#"))
    end = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(text, start + len(heading))
    return text[start : end.start() if end else len(text)]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of each table, without the heads."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" |")]


def words(cell: str) -> set[str]:
    """What is set as code."""
    return set(CODE.findall(cell))
