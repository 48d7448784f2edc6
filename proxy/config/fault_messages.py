"""Turn pydantic's errors into complaints: a path in the file and a sentence for its author. Pure.

pydantic's own messages are for programmers, and its input may be a secret: neither is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from proxy.config.base import MissingKey
from proxy.config.model import Config
from proxy.config.positions import Path

Location = tuple[str | int, ...]

SENTENCES: Final = {  # pydantic's error type -> sentence; braces are filled from its context
    "bool_type": "expected true or false",
    "int_type": "expected a whole number, without quotes",
    "float_type": "expected a number, without quotes",
    "string_type": 'expected a string: "…"',
    "tuple_type": "expected a list: [ … ]",
    "dict_type": "expected a table: [ … ] on a line of its own, or {{ … }}",
    "model_type": "expected a table: [ … ] on a line of its own, or {{ … }}",
    "model_attributes_type": "expected a table: [ … ] on a line of its own, or {{ … }}",
    "finite_number": "expected a finite number",
    "greater_than": "too small: expected more than {gt:g}",
    "greater_than_equal": "too small: expected {ge:g} or more",
    "less_than_equal": "too large: expected at most {le:.10g}",
}
NOT_VALID: Final = "not a valid value - `token-proxy schema` describes the valid ones"
NOT_YET: Final = frozenset(  # keys and values reserved for later versions
    {
        "echo_guard",
        "old_keys",
        "provider",
    }
)
NOT_THIS_VERSION: Final = "not in this version of token-proxy"
KEY: Final = "[key]"  # pydantic's last step for a fault in a key, not in its value


@dataclass(frozen=True, slots=True)
class Complaint:
    """A fault at a path: in a value, in a key, or in a table that lacks a key."""

    path: Path
    sentence: str
    about: Literal["value", "key", "table"] = "value"
    unknown: bool = False  # the key is unknown
    missing: str = ""  # the key that the table lacks


def complaints(details: Iterable[ErrorDetails], data: object) -> list[Complaint]:
    return [_complaint(detail["type"], detail["loc"], detail.get("ctx", {}), data) for detail in details]


def _complaint(kind: str, location: Location, context: Mapping[str, Any], data: object) -> Complaint:
    path, value = _place(location, data)
    table, _ = _place(location[:-1], data)
    if kind == "missing":
        return Complaint(
            table, f"{location[-1]} is missing - this table requires it", "table", missing=str(location[-1])
        )
    if kind == "extra_forbidden":
        return Complaint(path, _unknown(path), "key", unknown=True)
    if kind == "literal_error":
        return Complaint(path, _not_a_choice(value, context["expected"].replace("'", '"')))
    if kind == "value_error":
        error = context["error"]
        if isinstance(error, MissingKey):
            return Complaint(table, str(error), "table", missing=str(location[-1]))
        return Complaint(path, str(error), "key" if location[-1] == KEY else "value")
    return Complaint(path, SENTENCES.get(kind, NOT_VALID).format(**context))


def _place(location: Location, data: object) -> tuple[Path, object]:
    """The part of pydantic's location that exists in the file, and the value there.

    Steps not in the file: a missing key, the index of a single item written without brackets, and the tags
    of unions.
    """
    path: Path = ()
    node: Any = data
    for step in location:
        is_inside = (
            step in node if isinstance(node, dict) else isinstance(node, list) and isinstance(step, int)
        )
        if is_inside:
            node = node[step]
            path = (*path, step)
    return path, node


def _not_a_choice(value: object, expected: str) -> str:
    if isinstance(value, str) and value in NOT_YET:
        return f"{value} is {NOT_THIS_VERSION}: expected {expected}"
    return f"expected {expected}"


def _unknown(path: Path) -> str:
    key = str(path[-1])
    if key in NOT_YET:
        return f"{key} is {NOT_THIS_VERSION} - leave it out"
    known = known_keys(path[:-1])
    remedy = suggestion(key, known) or "known here: " + ", ".join(known)
    return f"unknown key {key!r} - {remedy}"


def suggestion(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""


def known_keys(table: Path) -> list[str]:
    """The keys that the table at `table` may have."""
    model: type[BaseModel] = Config
    steps = iter(table)
    for step in steps:
        annotation = model.model_fields[str(step)].annotation
        model = _models_in(annotation)[0]
        if get_origin(annotation) in {dict, tuple}:
            next(steps, None)  # the table's name or index
    properties = model.model_json_schema()["properties"]  # without keys that only the program sets
    return list(properties)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
