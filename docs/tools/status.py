"""The document of /api/status, from its TypedDicts: fields, types, and the comment behind each."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from docs.tools.markdown import code, table, text

_FIELD = re.compile(r"^ {4}(?P<name>\w+): (?P<type>[^#]+?)(?:  # (?P<comment>.*))?$")
_KINDS = {"float": "number", "int": "number", "bool": "boolean"}


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
    names = {node.name for node in classes}
    return "\n".join(
        _section(node, lines[node.lineno : node.end_lineno], names) for node in reversed(classes)
    )


def _section(node: ast.ClassDef, lines: list[str], names: set[str]) -> str:
    fields = [found for line in lines if (found := _FIELD.match(line))]
    if missing := [found["name"] for found in fields if not found["comment"]]:
        raise MissingText(f"{node.name}: {', '.join(missing)}")
    rows = [
        (code(each["name"]), kind(ast.parse(each["type"], mode="eval").body, names), text(each["comment"]))
        for each in fields
    ]
    about = ast.get_docstring(node) or ""
    return f"## {node.name}\n\n{text(about)}\n\n{table(('field', 'type', 'meaning'), rows)}"


def kind(node: ast.expr, names: set[str]) -> str:
    """What JSON calls a type. `names`: of the objects that have a table; other names are kinds of strings."""
    match node:
        case ast.Name(id=name) if name in names:
            return f"[{name}](#{name.lower()})"
        case ast.Name(id=name):
            return _KINDS.get(name, "string")
        case ast.Constant():
            return "null"
        case ast.BinOp(left=left, right=right):
            return f"{kind(left, names)} or {kind(right, names)}"
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return f"list of {kind(item, names)}"
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[_, value])):
            return f"object of {kind(value, names)}"
    raise MissingText(f"a type that has no word here: {ast.unparse(node)}")
