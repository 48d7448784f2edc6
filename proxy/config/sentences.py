"""What pydantic found -> where in the file, and a sentence for the person who wrote it. Pure.

pydantic's own texts are for programmers, and its input may be a secret: neither is shown.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from proxy.config.model import Config
from proxy.config.positions import Path

SENTENCES: Final = {  # pydantic's error type -> sentence; braces are filled from its context
    "bool_type": "not a switch - true or false is meant",
    "int_type": "not a whole number - digits without quotes are meant",
    "int_from_float": "not a whole number - digits without a point are meant",
    "float_type": "not a number - digits without quotes are meant",
    "string_type": "not a text - quotes are missing",
    "tuple_type": "not a list - [ … ] is meant",
    "list_type": "not a list - [ … ] is meant",
    "dict_type": "not a table - {{ … }} is meant",
    "model_type": "not a table - {{ … }} is meant",
    "too_short": "empty - at least one is meant",
    "greater_than": "too small - more than {gt} is meant",
    "greater_than_equal": "too small - at least {ge} is meant",
    "less_than_equal": "too large - at most {le} is meant",
    "finite_number": "not a number of seconds - digits are meant",
    "literal_error": "not a choice - {expected} is meant",
}
NOT_YET: Final = frozenset(  # keys and values of the contract that later versions bring
    {
        "provider",
        "introspection_endpoint",
        "device_authorization_endpoint",
        "proxy",
        "websocket",
        "forwarded",
        "callers",
        "caller",
        "keyring",
        "device_code",
        "jwt_bearer",
        "token_exchange",
        "password",
        "static",
        "private_key_jwt",
        "client_secret_jwt",
        "tls_client_auth",
    }
)
LATER: Final = "not in this version of token-proxy - leave it out"


def complaints(details: list[ErrorDetails], data: object) -> list[tuple[Path, str]]:
    """One for each place; of the branches of a union the first that complains."""
    found: dict[Path, str] = {}
    for detail in details:
        where, sentence = _complaint(detail, data)
        found.setdefault(where, sentence)
    return list(found.items())


def _complaint(detail: ErrorDetails, data: object) -> tuple[Path, str]:
    where, value = _place(detail["loc"], data)
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return where, f"{detail['loc'][-1]} is missing - add it to this table"
    if kind == "extra_forbidden":
        return (*where, ""), _unknown(where)
    if kind == "literal_error" and value in NOT_YET:
        return where, LATER
    if kind == "value_error":
        return where, str(context["error"])
    if kind in SENTENCES:
        return where, SENTENCES[kind].format(**context)
    return where, "not what is meant here - see config.example.toml"


def _place(location: tuple[str | int, ...], data: object) -> tuple[Path, Any]:
    """pydantic's location without the names of types that it puts between, and the value there."""
    where: Path = ()
    node: Any = data
    for step in location:
        if isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        else:
            continue
        where = (*where, step)
    return where, node if isinstance(node, str) else None


def _unknown(where: Path) -> str:
    key = str(where[-1])
    if key in NOT_YET:
        return LATER
    known = _known_keys(where[:-1])
    close = get_close_matches(key, known, 1)
    return (
        f"unknown key - did you mean {close[0]!r}?"
        if close
        else f"unknown key - known are: {', '.join(known)}"
    )


def _known_keys(table: Path) -> list[str]:
    """The keys that a table may have."""
    model: type[BaseModel] = Config
    for step in table:
        field = model.model_fields.get(str(step))
        inner = _models_in(field.annotation) if field else []
        model = inner[0] if inner else model  # a name or an index leads no deeper
    return sorted(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
