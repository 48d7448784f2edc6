"""Other tools' names for keys and values, from the tables of proxy/config/aliases.py."""

from __future__ import annotations

from typing import Final

from docs.tools.markdown import code, table, text
from proxy.config import aliases

_TITLES: Final = {  # of tables of aliases.py that have a heading of their own here
    "": "Tables",
    "credentials.*": "[credentials.NAME]",
    "routes.*": "[[routes]]",
    "callers.*": "[callers.NAME]",
    "tls": "tls, of any table",
}


def page() -> str:
    tables = dict.fromkeys(["", "credentials.*", "routes.*", *aliases.SAME, *aliases.OTHERWISE])
    return "\n".join([*map(_section, tables), _values()])


def _title(table_name: str) -> str:
    first, _, key = table_name.partition(".")
    return _TITLES.get(table_name) or (f"{key} of [{first}]" if key else f"[{first}]")


def _section(name: str) -> str:
    rows = [
        (_names(others), f"the same value in {code(ours)}")
        for ours, others in aliases.SAME.get(name, {}).items()
    ]
    rows += [
        (_names(others), text(_advice(advice)))
        for others, (_, advice) in aliases.OTHERWISE.get(name, {}).items()
    ]
    return f"## {text(_title(name))}\n\n{table(('elsewhere', 'here'), rows)}"


def _values() -> str:
    rows = [
        (code(key), _names(others), code(f'"{ours}"'))
        for key, choices in aliases.CHOICES.items()
        for ours, others in choices.items()
    ]
    return f"## Values\n\n{table(('key', 'elsewhere', 'here'), rows)}"


def _names(words: str) -> str:
    return ", ".join(map(code, words.split()))


def _advice(advice: str) -> str:
    found = advice.removeprefix("did you mean ").removesuffix("?").replace("? It is", ", which is")
    return found.replace("{key}", "NAME")
