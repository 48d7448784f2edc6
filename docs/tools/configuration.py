"""The reference of the configuration, from its schema. Pure.

A key without a description is an error: MissingText names all of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from docs.tools.markdown import code, table, text, toml

Node = Mapping[str, Any]
_HEADERS: Final = {  # of the tables of a file, in the order of config.example.toml
    "server": "[server]",
    "store": "[store]",
    "credentials": "[credentials.NAME]",
    "routes": "[[routes]]",
    "callers": "[callers.NAME]",
}
_REFERENCE: Final = {"env", "file", "keyring", "command"}


class MissingText(Exception):
    """Keys of the configuration without a description."""


def page(schema: Node) -> str:
    """Raises MissingText."""
    definitions: Mapping[str, Node] = schema["$defs"]
    tables = dict(_tables(schema))
    used = _used(definitions, tables)
    nodes = {"": schema, **definitions}
    missing = [
        f"{name}.{key}"
        for name, node in nodes.items()
        for key, each in node.get("properties", {}).items()
        if not each.get("description")
    ]
    missing += [name for name, node in nodes.items() if not node.get("description")]
    if missing:
        raise MissingText(", ".join(missing))
    titles = {name: header for header, name in tables.items()} | _titles(definitions, used)
    places = {name: _heading(title) for name, title in titles.items()}
    return "\n".join(_section(title, definitions[name], places) for name, title in titles.items())


def _tables(schema: Node) -> Iterator[tuple[str, str]]:
    """Header of a table of the file -> its definition."""
    properties: Mapping[str, Node] = schema["properties"]
    for key in sorted(properties, key=lambda key: list(_HEADERS).index(key) if key in _HEADERS else 99):
        yield _HEADERS.get(key, f"[{key}]"), _definition(properties[key])


def _definition(node: Node) -> str:
    """The name of the definition that a node refers to: itself, its items or its values."""
    for each in (node, node.get("items", {}), node.get("additionalProperties", {})):
        if isinstance(each, Mapping) and "$ref" in each:
            return str(each["$ref"]).rpartition("/")[2]
    raise ValueError(f"expected a table: {node}")


def _used(definitions: Mapping[str, Node], tables: Mapping[str, str]) -> dict[str, list[str]]:
    """Definition of a table within a key -> the keys that take it."""
    used: dict[str, list[str]] = defaultdict(list)
    waiting = list(tables.items())
    while waiting:
        header, name = waiting.pop(0)
        for key, node in definitions[name].get("properties", {}).items():
            for inner in _references(node):
                if inner not in used:
                    waiting.append((key, inner))
                path = f"{key} of {header}"
                if path not in used[inner]:
                    used[inner].append(path)
    return used


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "$ref" in node:
            yield str(node["$ref"]).rpartition("/")[2]
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def _titles(definitions: Mapping[str, Node], used: Mapping[str, list[str]]) -> dict[str, str]:
    """`tls of [server], admin_tls of [server]`; where a key takes one of several tables, with its meaning."""
    titles = {name: ", ".join(paths) for name, paths in used.items()}
    several = {title for title, count in Counter(titles.values()).items() if count > 1}
    return {
        name: f"{title}: {definitions[name]['description'].rstrip('.')}" if title in several else title
        for name, title in titles.items()
    }


def _heading(title: str) -> str:
    """The anchor of a heading, as GitHub and the site make it."""
    return "".join(each for each in title.lower() if each.isalnum() or each in "_- ").replace(" ", "-")


def _section(title: str, node: Node, places: Mapping[str, str]) -> str:
    required = set(node.get("required", ()))
    rows = [
        (code(key), kind(each, places) + _default(each, required=key in required), text(each["description"]))
        for key, each in node["properties"].items()
    ]
    head = ("key", "value", "meaning")
    intro = text(node["description"])
    return f"## {text(title)}\n\n{intro}\n\n{table(head, rows)}"


def _default(node: Node, *, required: bool) -> str:
    if required:
        return "; required"
    return f"; default {code(toml(node['default']))}" if "default" in node else ""


def kind(node: Node, places: Mapping[str, str]) -> str:
    """What a key takes."""
    if "$ref" in node:
        return f"[table](#{places[_definition(node)]})"
    if "enum" in node:
        return ", ".join(code(toml(each)) for each in node["enum"])
    if "const" in node:
        return code(toml(node["const"]))
    if choices := node.get("oneOf") or node.get("anyOf"):
        kinds = dict.fromkeys(kind(each, places) for each in choices)
        return " or ".join(kinds)
    simple = str(node.get("type", "any"))
    if simple == "array":
        inner = kind(node["items"], places) if node.get("items") else "any"
        return f"list of: {inner}"
    if simple == "object":
        return _object(node, places)
    return _number(node, simple) if simple in {"number", "integer"} else simple


def _object(node: Node, places: Mapping[str, str]) -> str:
    if node.get("properties", {}).keys() & _REFERENCE:
        return "[reference](#secrets)"
    more = node.get("additionalProperties")
    if isinstance(more, Mapping) and more:
        return f"table of: {kind(more, places)}"
    return "table"


def _number(node: Node, simple: str) -> str:
    """With its range."""
    words = [
        f"{word} {node[key]:.15g}"
        for key, word in (
            ("exclusiveMinimum", "more than"),
            ("minimum", "from"),
            ("exclusiveMaximum", "less than"),
            ("maximum", "to"),
        )
        if key in node
    ]
    return " ".join([simple, *words])
