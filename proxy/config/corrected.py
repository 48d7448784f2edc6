"""The document as its author probably meant it: with our names for keys that have other tools' names.

Its tables are then checked as if they were right, so that a key under another name is one fault: not that
fault, the same key missing, and what refers to its table as well. Pure: parsed TOML in, parsed TOML out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from pydantic import BaseModel

from proxy.config.credential import Credential, Grant
from proxy.config.fault_messages import NOT_YET, Complaint, meaning_of, not_a_choice, unknown_key
from proxy.config.keys import has_forms, known_keys, model_at
from proxy.config.meanings import NAMED, Meaning, choice
from proxy.config.positions import Path
from proxy.config.redact import may_be_secret
from proxy.config.values import NAME

GRANTS = get_args(Grant)
NOT_A_LIST = "these tables have names: expected [{table}.{name}] in place of [[{table}]] with name"
WRAPPERS = frozenset({"installed", "web"})  # of Google's client_secret.json
NO_WRAPPER = "the client's keys belong to the credential itself: expected [credentials.{name}]"
NO_DOTS = "a name has no dots: expected [{table}.{name}]"


@dataclass(frozen=True, slots=True)
class Corrected:
    """`found`: a complaint for each correction. Without any, `data` is the document itself."""

    data: dict[str, Any]
    found: list[Complaint] = field(default_factory=list)
    places: Mapping[Path, Path] = field(default_factory=dict)  # in `data` -> in the file
    unjudged: frozenset[Path] = frozenset()  # in `data`; their values were meant for another key

    def placed(self, complaints: Iterable[Complaint]) -> list[Complaint]:
        """Complaints about `data` at their places in the file, without those about values not judged."""
        if not self.found:
            return list(complaints)
        judged = [each for each in complaints if not _is_below(each.path, self.unjudged)]
        return [replace(each, path=self._place(each.path), see=self._place(each.see)) for each in judged]

    def _place(self, path: Path) -> Path:
        for length in range(len(path), 0, -1):
            if (origin := self.places.get(path[:length])) is not None:
                return (*origin, *path[length:])
        return path


def corrected(data: dict[str, Any]) -> Corrected:
    """The document under our names, as far as its names are known to have a meaning."""
    walk = _Walk()
    document = walk.table(data, (), ())
    if not walk.found:
        return Corrected(data)
    return Corrected(document, walk.found, walk.places, frozenset(walk.unjudged))


class _Walk:
    """`path` is a place in the file, `target` the one in the corrected document."""

    def __init__(self) -> None:
        self.found: list[Complaint] = []
        self.places: dict[Path, Path] = {}
        self.unjudged: set[Path] = set()

    def table(self, node: dict[str, Any], path: Path, target: Path) -> dict[str, Any]:
        model = model_at(target)
        if model is None:
            return node
        made: dict[str, Any] = {}
        for key, value in node.items():
            is_known = key in model.model_fields or key in NOT_YET or key in known_keys(target)
            found = None if is_known else meaning_of(target, key)
            if found is None:
                made[key] = self._value(model, key, value, (*path, key), (*target, key))
                continue
            is_public = _is_public(found, value, target)
            self.found.append(unknown_key((*path, key), found.remedy, is_public=is_public))
            if found.key and found.key not in node and found.key not in made:
                self._rename(found, value, (*path, key), (*target, found.key))
                made[found.key] = self._value(model, found.key, value, (*path, key), (*target, found.key))
        return made

    def _rename(self, found: Meaning, value: object, path: Path, target: Path) -> None:
        self.places[target] = path
        items = value if isinstance(value, list) else [value]
        is_guess = not found.is_sure and not all(isinstance(item, dict) for item in items)
        if not found.same_value or is_guess:
            self.unjudged.add(target)

    def _value(self, model: type[BaseModel], key: str, value: Any, path: Path, target: Path) -> Any:
        if target in self.unjudged or key not in model.model_fields:
            return value
        if model is Credential and key == "grant" and isinstance(value, str):
            return self._grant(value, path)
        if len(target) == 1 and key in NAMED:
            return self._named(key, value, path, target)
        if isinstance(value, dict) and not has_forms(model, key):
            return self.table(value, path, target)
        return value

    def _grant(self, value: str, path: Path) -> str:
        """What a credential requires depends on its grant."""
        meaning = "" if value in GRANTS else choice("grant", value, GRANTS)
        if not meaning:
            return value
        self.found.append(Complaint(path, not_a_choice("grant", value, GRANTS)))
        return meaning

    def _named(self, key: str, value: Any, path: Path, target: Path) -> Any:
        if key == "routes":
            return self._items(value, path, target) if isinstance(value, list) else value
        if isinstance(value, list) and (names := _names(value)):
            pairs = list(enumerate(value))
            for (index, _), name in zip(pairs, names, strict=True):
                self.found.append(Complaint((*path, index), NOT_A_LIST.format(table=key, name=name), "table"))
                self.places[(*target, name)] = (*path, index)
            value = {
                name: {ours: each for ours, each in item.items() if ours != "name"}
                for name, (_, item) in zip(names, pairs, strict=True)
            }
        if not isinstance(value, dict):
            return value
        made: dict[str, Any] = {}
        for name, item in value.items():
            made |= self._dotted(name, item, value, (*path, name), target)
        return made

    def _items(self, value: list[Any], path: Path, target: Path) -> list[Any]:
        return [
            self.table(item, (*path, index), (*target, index)) if isinstance(item, dict) else item
            for index, item in enumerate(value)
        ]

    def _dotted(
        self, name: str, item: Any, beside: Mapping[str, Any], path: Path, target: Path
    ) -> dict[str, Any]:
        """One table by its name; [credentials.my.crm] is the table "my-crm"."""
        place = self.places.get((*target, name), path)
        if not isinstance(item, dict):
            return {name: item}
        if not _are_parts(item, (*target, name)):
            return {name: self.table(item, place, (*target, name))}
        if len(item) == 1 and (wrapper := next(iter(item))) in WRAPPERS:
            self.found.append(Complaint((*place, wrapper), NO_WRAPPER.format(name=name), "table"))
            self.places[(*target, name)] = (*place, wrapper)
            return {name: self.table(item[wrapper], (*place, wrapper), (*target, name))}
        made: dict[str, Any] = {}
        for inner, each in item.items():
            whole = f"{name}-{inner}"
            sentence = NO_DOTS.format(table=target[0], name=whole)
            self.found.append(Complaint((*place, inner), sentence, "table"))
            if whole not in beside:
                self.places[(*target, whole)] = (*place, inner)
                made[whole] = self.table(each, (*place, inner), (*target, whole))
        return made


def _is_public(found: Meaning, value: Any, target: Path) -> bool:
    """Whether a value under another name is certainly no secret. Secrets in tables are known by our names."""
    items = value if isinstance(value, list) else [value]
    is_plain = not any(isinstance(item, dict | list) for item in items)
    return is_plain and found.is_sure and bool(found.key) and not may_be_secret((*target, found.key))


def _names(items: list[Any]) -> list[str]:
    """The `name` of each item; [] if one has none, or two have the same."""
    names = [item.get("name") for item in items if isinstance(item, dict)]
    valid = [name for name in names if isinstance(name, str) and NAME.fullmatch(name)]
    return valid if len(set(valid)) == len(items) else []


def _are_parts(item: Mapping[str, Any], target: Path) -> bool:
    """Whether all keys of a named table are the rests of names with dots."""
    if not item or not all(isinstance(each, dict) and each for each in item.values()):
        return False
    return all(NAME.fullmatch(key) for key in item) and not set(item) & set(known_keys(target))


def _is_below(path: Path, places: Iterable[Path]) -> bool:
    return any(path[: len(place)] == place for place in places)
