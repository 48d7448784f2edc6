"""What pydantic found -> where in the file, and a sentence for the person who wrote it. Pure.

pydantic's own texts are for programmers, and its input may be a secret: neither is shown.
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
    "bool_type": "not a switch - true or false is meant",
    "int_type": "not a whole number - digits without quotes are meant",
    "float_type": "not a number - digits without quotes are meant",
    "string_type": 'not a text - "…" is meant',
    "tuple_type": "not a list - [ … ] is meant",
    "dict_type": "not a table - [ … ] on a line of its own, or {{ … }} is meant",
    "model_type": "not a table - [ … ] on a line of its own, or {{ … }} is meant",
    "model_attributes_type": "not a table - [ … ] on a line of its own, or {{ … }} is meant",
    "finite_number": "not a number that can be used - digits are meant",
    "greater_than": "too small - more than {gt:g} is meant",
    "greater_than_equal": "too small - expected {ge:g} or more",
    "less_than_equal": "too large - at most {le:.10g} is meant",
}
NOT_MEANT: Final = "not what can stand here - config.example.toml shows what is meant"
NOT_YET: Final = frozenset(  # keys and values of the contract that later versions bring
    {
        "callers",
        "device_authorization_endpoint",
        "device_code",
        "forwarded",
        "jwt_bearer",
        "password",
        "private_key_jwt",
        "client_secret_jwt",
        "provider",
        "static",
        "tls_client_auth",
        "token_exchange",
    }
)
NOT_THIS_VERSION: Final = "not in this version of token-proxy"
KEY: Final = "[key]"  # pydantic's step for "the key itself, not its value"


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong, and where: with a value, with a key, or with a table that lacks something."""

    path: Path
    sentence: str
    about: Literal["value", "key", "table"] = "value"
    unknown: bool = False  # the key should not be there at all


def complaints(details: Iterable[ErrorDetails], data: object) -> list[Complaint]:
    return [_complaint(detail["type"], detail["loc"], detail.get("ctx", {}), data) for detail in details]


def _complaint(kind: str, location: Location, context: Mapping[str, Any], data: object) -> Complaint:
    path, value = _place(location, data)
    table, _ = _place(location[:-1], data)
    if kind == "missing":
        return Complaint(table, f"{location[-1]} is missing - this table needs it", "table")
    if kind == "extra_forbidden":
        return Complaint(path, _unknown(path), "key", unknown=True)
    if kind == "literal_error":
        return Complaint(path, _not_a_choice(value, context["expected"].replace("'", '"')))
    if kind == "value_error":
        error = context["error"]
        if isinstance(error, MissingKey):
            return Complaint(table, str(error), "table")
        return Complaint(path, str(error), "key" if location[-1] == KEY else "value")
    return Complaint(path, SENTENCES.get(kind, NOT_MEANT).format(**context))


def _place(location: Location, data: object) -> tuple[Path, object]:
    """The part of pydantic's location that is in the file, and the value there.

    Not in it: a key that is missing, the index in a list of one written without brackets, and the names of
    types that pydantic puts between.
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
        return f"{value} is {NOT_THIS_VERSION} - {expected} is meant"
    return f"not one of the choices - {expected} is meant"


def _unknown(path: Path) -> str:
    key = str(path[-1])
    if key in NOT_YET:
        return f"{key} is {NOT_THIS_VERSION} - leave it out"
    known = known_keys(path[:-1])
    meant = suggestion(key, known) or "known here: " + ", ".join(known)
    return f"unknown key {key!r} - {meant}"


def suggestion(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""


def known_keys(table: Path) -> list[str]:
    """The keys that a table may have."""
    model: type[BaseModel] = Config
    steps = iter(table)
    for step in steps:
        annotation = model.model_fields[str(step)].annotation
        model = _models_in(annotation)[0]
        if get_origin(annotation) in {dict, tuple}:
            next(steps, None)  # the table's name or index
    properties = model.model_json_schema()["properties"]  # without what only the program sets
    return list(properties)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
