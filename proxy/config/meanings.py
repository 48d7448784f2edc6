"""What an unknown key or value probably means: another tool's name, or another spelling. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from typing import Final

from proxy.config.aliases import CHOICES, OTHERWISE, SAME
from proxy.config.positions import Path

NAMED: Final = frozenset({"credentials", "callers", "routes"})  # tables whose next step is a name or an index
_BY_REFERENCE: Final = {"file": '{ file = "…" }', "env": '{ env = "NAME" }'}  # client_secret_file


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an unknown key stands for. `key`: ours in the same table; "" if there is none."""

    key: str
    remedy: str
    same_value: bool = True  # the value is written as for our key
    is_sure: bool = True  # not only a similar spelling


def meant(table: Path, key: str, known: Iterable[str], likeness: float = 0.6) -> Meaning | None:
    """What an unknown `key` means in the table at `table`, which has the keys `known`; None: no idea.

    `likeness`: of the spelling, from 0 to 1.
    """
    known = list(known)
    found = _meanings(kind_of(table)).get(_squeezed(key))
    if found is not None and (not found.key or found.key in known):
        return replace(found, remedy=found.remedy.replace("{key}", _in_snake_case(key)))
    same = {_squeezed(each): each for each in known}
    if ours := same.get(_squeezed(key)):
        return Meaning(ours, _did_you_mean(ours))
    for suffix, form in _BY_REFERENCE.items():
        ours = same.get(_squeezed(key).removesuffix(suffix), "")
        if ours and _squeezed(key).endswith(suffix):
            return Meaning(ours, f"did you mean {ours} = {form}?", same_value=False)
    if close := get_close_matches(key, known, 1, likeness):
        return Meaning(close[0], _did_you_mean(close[0]), is_sure=False)
    return None


def kind_of(table: Path) -> str:
    """The key into `aliases`, for a table of the file at `table`."""
    if table and str(table[-1]).endswith("tls"):
        return "server.tls" if table[0] == "server" else "tls"
    steps = ["*" if at == 1 and table[0] in NAMED else str(step) for at, step in enumerate(table)]
    return ".".join(steps)


def choice(key: str, value: str, known: Iterable[str]) -> str:
    """What `value` means for `key`, which has the choices `known`; "" if nothing is similar."""
    known = list(known)
    wanted = _squeezed(value)
    for ours, others in CHOICES.get(key, {}).items():
        if ours in known and wanted in {_squeezed(each) for each in (ours, *others.split())}:
            return ours
    same = {_squeezed(each): each for each in known}
    return same.get(wanted) or next(iter(get_close_matches(value, known, 1)), "")


@cache
def _meanings(kind: str) -> Mapping[str, Meaning]:
    found = {
        _squeezed(name): Meaning(key, _did_you_mean(key))
        for key, names in SAME.get(kind, {}).items()
        for name in names.split()
    }
    for names, (key, remedy) in OTHERWISE.get(kind, {}).items():
        found |= {_squeezed(name): Meaning(key, remedy, same_value=False) for name in names.split()}
    return found


def _squeezed(name: str) -> str:
    """clientId, client-id, CLIENT_ID and client_id are the same name."""
    return re.sub(r"[-_ .]", "", name).lower()


def _in_snake_case(key: str) -> str:
    return re.sub(r"[-. ]|(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()


def _did_you_mean(key: str) -> str:
    return f"did you mean {key!r}?"
