"""Text of the program as Markdown that GitHub and the site show alike. Pure."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`]*`)")
_MEANS_SOMETHING = re.compile(r"([*_|<>\[\]\\])")
_WORD = re.compile(r"(?<=\w)\\_(?=\w)")  # client_id: no emphasis begins within a word


def text(plain: str) -> str:
    """A sentence of the program; what stands in backticks stays code."""
    parts = _CODE.split(" ".join(plain.split()))
    return "".join(
        part if place % 2 else _WORD.sub("_", _MEANS_SOMETHING.sub(r"\\\1", part))
        for place, part in enumerate(parts)
    )


def code(plain: str) -> str:
    """As code, within a table too: there a | would end the cell."""
    if "|" not in plain:
        return f"`{plain}`"
    return f"<code>{html.escape(plain).replace('|', '&#124;')}</code>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def toml(value: object) -> str:
    """A value of JSON as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
