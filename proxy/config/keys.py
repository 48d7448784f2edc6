"""The keys of each table of the file, by its path."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from proxy.config.meanings import NAMED
from proxy.config.model import Config
from proxy.config.positions import Path

# The table that a key without a place is probably for; the first that has it counts
TABLES: Final[tuple[tuple[Path, str], ...]] = (
    (("server",), "[server]"),
    (("credentials", "NAME"), "[credentials.NAME]"),
    (("routes", 0), "[[routes]]"),
    (("store",), "[store]"),
    (("log",), "[log]"),
    (("limits",), "[limits]"),
    (("notify",), "[notify]"),
    (("callers", "NAME"), "[callers.NAME]"),
)


def known_keys(table: Path) -> list[str]:
    """The keys that the table at `table` may have."""
    model = model_at(table)
    return list(_keys(model)) if model is not None else []


def model_at(table: Path) -> type[BaseModel] | None:
    """The model of the table at `table`; of several forms, the first. None if there is none."""
    model: type[BaseModel] = Config
    steps = iter(table)
    for step in steps:
        inner, is_named = _inner(model, str(step))
        if inner is None:
            return None
        model = inner
        if is_named:
            next(steps, None)  # the table's name or index
    return model


@cache
def has_forms(model: type[BaseModel], key: str) -> bool:
    """Whether the value of a key may be one of several tables."""
    return len(_models_in(model.model_fields[key].annotation)) > 1


def table_with(key: str, besides: Path) -> str:
    """The header of another table that has this key; "" if none has."""
    here = besides[:1]
    depth = len(besides) - 1 if here and here[0] in NAMED else len(besides)
    if depth > 1 and key in known_keys(besides[:-1]):
        return "the table around this one"
    return next((name for table, name in TABLES if table[:1] != here and key in known_keys(table)), "")


@cache
def _keys(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(model.model_json_schema()["properties"])  # without keys that only the program sets


@cache
def _inner(model: type[BaseModel], key: str) -> tuple[type[BaseModel] | None, bool]:
    """The model of the tables below a key, and whether each has a name or an index."""
    field = model.model_fields.get(key)
    models = _models_in(field.annotation) if field is not None else []
    if field is None or not models:
        return None, False
    return models[0], get_origin(field.annotation) in {dict, tuple}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
