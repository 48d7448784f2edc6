"""Turn pydantic's errors into complaints: a path in the file and a sentence for its author. Pure.

pydantic's own messages are for programmers, and its input may be a secret: neither is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal

from pydantic_core import ErrorDetails

from proxy.config.base import MissingKey
from proxy.config.keys import known_keys, table_with
from proxy.config.meanings import Meaning, choice, meant
from proxy.config.positions import Path
from proxy.config.value_forms import as_list, as_number

Location = tuple[str | int, ...]
About = Literal["value", "key", "table"]

SENTENCES: Final = {  # pydantic's error type -> sentence; braces are filled from its context
    "bool_type": "expected true or false",
    "int_type": "expected a whole number{unit}, without quotes{number}",
    "float_type": "expected a number{unit}, without quotes{number}",
    "string_type": 'expected a string: "…"',
    "tuple_type": "expected a list: {list}",
    "dict_type": "expected a table: [ … ] on a line of its own, or {{ … }}",
    "model_type": "expected a table: [ … ] on a line of its own, or {{ … }}",
    "model_attributes_type": "expected a table: [ … ] on a line of its own, or {{ … }}",
    "finite_number": "expected a finite number",
    "greater_than": "too small: expected more than {gt:g}",
    "greater_than_equal": "too small: expected {ge:g} or more",
    "less_than_equal": "too large: expected at most {le:.10g}",
}
SHAPES: Final = frozenset({"tuple_type", "dict_type", "model_type", "model_attributes_type"})
WITHOUT_A_NAME: Final = "not a table: expected keys below a header with a name, [{}.NAME]"
NOT_VALID: Final = "not a valid value - `token-proxy schema` describes the valid ones"
NOT_YET: Final = frozenset(  # keys and values reserved for later versions
    {
        "echo_guard",
        "old_keys",
        "provider",
    }
)
NOT_THIS_VERSION: Final = "not in this version of token-proxy"
SEE_LINE: Final = "{line}"
LISTED: Final = 5  # known keys in a message
USUAL: Final = (  # those first
    *("path", "upstream", "credential", "account", "headers"),
    *("issuer", "client_id", "client_secret", "scopes", "grant"),
    *("listen", "admin", "public_url", "health", "allowed_hosts"),
)
KEY: Final = "[key]"  # pydantic's last step for a fault in a key, not in its value


@dataclass(frozen=True, slots=True)
class Complaint:
    """A fault at a path: in a value, in a key, or in a table that lacks a key."""

    path: Path
    sentence: str
    about: About = "value"
    unknown: bool = False  # the key, or those in its value, are unknown: their values may be secrets
    missing: str = ""  # the key that the table lacks
    see: Path = ()  # another place in the file, whose line stands for SEE_LINE in the sentence

    def said(self, line: int = 0) -> str:
        """The sentence. `line`: of `see`; 0: it is not in the file."""
        if not self.see:
            return self.sentence
        return self.sentence.replace(SEE_LINE, f" (line {line})" if line else "", 1)


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
        return unknown_key(path, _where_it_belongs(path))
    if kind == "literal_error":
        choices = re.findall("'([^']*)'", context["expected"])
        if not choices:  # Literal[True]
            return Complaint(path, f"expected {context['expected'].lower()}")
        return Complaint(path, not_a_choice(str(path[-1]), value, choices))
    if kind == "value_error":
        error = context["error"]
        if isinstance(error, MissingKey):
            return Complaint(table, str(error), "table", missing=str(location[-1]))
        about: About = "key" if location[-1] == KEY else "value"
        return Complaint(path, str(error), about, unknown=path == ("routes",))
    if kind in SHAPES and len(path) == len(("credentials", "NAME")) and path[0] in {"credentials", "callers"}:
        return Complaint(path, WITHOUT_A_NAME.format(path[0]), unknown=True)
    sentence = SENTENCES.get(kind, NOT_VALID).format(**context, **_forms(kind, path, value))
    return Complaint(path, sentence, unknown=kind in SHAPES and isinstance(value, dict | list))


def _forms(kind: str, path: Path, value: object) -> dict[str, str]:
    """What SENTENCES say of the value, beside pydantic's context."""
    if kind == "tuple_type":
        return {"list": as_list(str(path[-1]), value)}
    unit, number = as_number(value, whole=kind == "int_type")
    return {"unit": unit, "number": number}


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


def unknown_key(path: Path, remedy: str, *, is_public: bool = False) -> Complaint:
    """A fault of the key at `path`, which is ours in a later version, or in none.

    `is_public`: its value is certainly no secret.
    """
    key = str(path[-1])
    if key in NOT_YET:
        return Complaint(path, f"{key} is {NOT_THIS_VERSION} - leave it out", "key", unknown=True)
    return Complaint(path, f"unknown key {key!r} - {remedy}", "key", unknown=not is_public)


def meaning_of(table: Path, key: str) -> Meaning | None:
    """What an unknown key of the table means, unless it is one of another table."""
    known = known_keys(table)
    found = meant(table, key, known, likeness=0.8)
    return found if found or table_with(key, table) else meant(table, key, known)


def _where_it_belongs(path: Path) -> str:
    """A remedy for an unknown key."""
    key = str(path[-1])
    if meaning := meaning_of(path[:-1], key):
        return meaning.remedy
    if other := table_with(key, path[:-1]):
        return f"it is a key of {other}"
    known = known_keys(path[:-1])
    if len(known) <= LISTED:
        return f"known here: {', '.join(known)}"
    usual = [each for each in USUAL if each in known] or known
    return f"known here: {', '.join(usual[:LISTED])} and others, which `token-proxy schema` describes"


def not_a_choice(key: str, value: object, choices: Sequence[str]) -> str:
    """For a value of the key that is none of its choices."""
    *others, last = (f'"{each}"' for each in choices)
    expected = f"expected {', '.join(others)} or {last}" if others else f"expected {last}"
    if not isinstance(value, str):
        return expected
    if value in NOT_YET:
        return f"{value} is {NOT_THIS_VERSION}: {expected}"
    meaning = choice(key, value, choices)
    return f'{expected} - did you mean "{meaning}"?' if meaning else expected


def suggestion(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""
