"""The document of /api/status, from its TypedDicts: fields, types, and the comment behind each."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from docs.tools.markdown import code, table, text

_FIELD = re.compile(r"^ {4}(?P<name>\w+): (?P<type>[^#]+?)(?:  # (?P<comment>.*))?$")


class MissingText(Exception):
    """Fields without a comment."""


def page(source: Path) -> str:
    """Raises MissingText."""
    lines = source.read_text().splitlines()
    classes = [
        node
        for node in ast.parse("\n".join(lines)).body
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "TypedDict" for base in node.bases)
    ]
    sections = [_section(node, lines[node.lineno : node.end_lineno]) for node in reversed(classes)]
    return "\n".join(sections)


def _section(node: ast.ClassDef, lines: list[str]) -> str:
    fields = [found for line in lines if (found := _FIELD.match(line))]
    if missing := [found["name"] for found in fields if not found["comment"]]:
        raise MissingText(f"{node.name}: {', '.join(missing)}")
    rows = [(code(each["name"]), code(each["type"]), text(each["comment"])) for each in fields]
    about = ast.get_docstring(node) or ""
    return f"## {node.name}\n\n{text(about)}\n\n{table(('field', 'type', 'meaning'), rows)}"
