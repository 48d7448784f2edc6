"""The commands of docs/runbooks, as a person would type them: with names in place of the placeholders."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.e2e.proxy_process import REPOSITORY

RUNBOOKS = REPOSITORY / "docs" / "runbooks"
PAGES = sorted(path.stem for path in RUNBOOKS.glob("*.md") if path.stem != "README")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"(?:^|\s+)# .*$")
PLACEHOLDER = re.compile(r"(?<![\w$])[A-Z][A-Z_]+(?![\w=])")  # not a variable of the shell


def text_of(page: str) -> str:
    return (RUNBOOKS / f"{page}.md").read_text()


def lines_of(text: str) -> list[str]:
    """The command lines of a page, without comments."""
    lines = (COMMENT.sub("", line) for block in BLOCK.findall(text) for line in block.splitlines())
    return [line for line in lines if line]


def filled_in(line: str, names: Mapping[str, str]) -> str:
    """Longer names first, as one may be part of another."""
    for name in sorted(names, key=len, reverse=True):
        line = line.replace(name, names[name])
    return line
