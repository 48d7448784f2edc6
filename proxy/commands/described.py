"""The configuration as understood, for `check -v`: TOML with every value that counts, without secrets."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from proxy.config.base import Table
from proxy.config.credential_tables import lacks
from proxy.config.grants import REQUIREMENTS
from proxy.config.load import Loaded
from proxy.config.model import Config, Credential
from proxy.config.placeholders import Template
from proxy.config.positions import Path
from proxy.config.signing_keys import SigningKey
from proxy.config.step_checks import is_literal_secret
from proxy.secret import MASK, Secret
from proxy.store.open import KEY_FILE, place_of

WIDTH: Final = 50  # of a line before its note
DEFAULT: Final = "default"
_REGISTER: Final = "redirect URI to register"
_MASKED: Final = frozenset({"token_params"})  # some servers need a password there
_EMPTY: Final[tuple[object, ...]] = (None, (), {})


def described(loaded: Loaded) -> Iterator[str]:
    """Lines: a table for each of the configuration's, and what follows from it as a comment."""
    config, view = loaded.config, _View(loaded)
    yield from view.table("[server]", config.server, ("server",), {"public_url": config.public_url})
    yield from _store(config, view)
    for name, credential in config.credentials.items():
        path = ("credentials", name)
        effective = {
            "client_auth": credential.authentication,
            "required": config.required(name),
        }
        asks = REQUIREMENTS[credential.grant]
        meant = {key for _, key in _keys(Credential) if not lacks(key, asks)}
        yield from view.table(f"[credentials.{name}]", credential, path, effective, meant=meant)
        if asks.redirects:
            registers = "redirect URI of the client that is registered" if credential.registers else _REGISTER
            yield f"# {registers}: {config.redirect_uri(credential)}"
    for index, route in enumerate(config.routes):
        yield from view.table("[[routes]]", route, ("routes", index), {"env": route.variable})
    for name, caller in config.callers.items():
        yield from view.table(f"[callers.{name}]", caller, ("callers", name), {})
    if config.notify is not None:
        command = config.notify.command
        program = {} if command is None else {"command": [command.argv[0], *("…" for _ in command.argv[1:])]}
        yield from view.table("[notify]", config.notify, ("notify",), {}, program)
    for title, table in (("limits", config.limits), ("log", config.log)):
        yield from view.table(f"[{title}]", table, (title,), {}, defaults=title == "log")


def _store(config: Config, view: _View) -> Iterator[str]:
    url = config.store.url.reveal()
    place = place_of(url, config.server.state_dir)
    yield from view.table(
        "[store]", config.store, ("store",), {}, {"url": place if config.store.is_shared else url}
    )
    if not config.store.is_shared:
        yield f"# tokens are kept {place if config.store.is_memory else f'in {place}'}"
    if config.store.key is None and not config.store.is_memory:
        yield f"# encrypted with {config.server.state_dir / KEY_FILE}, which is made at the first start"


class _View:
    def __init__(self, loaded: Loaded) -> None:
        self._config: Config = loaded.config
        self._references = {each.path: f"{each.kind} {each.name}" for each in loaded.references}
        self._was_read = loaded.secrets

    def table(
        self,
        title: str,
        table: Table,
        path: Path,
        effective: Mapping[str, object],
        shown: Mapping[str, object] = MappingProxyType({}),
        *,
        defaults: bool = True,
        meant: Collection[str] | None = None,
    ) -> Iterator[str]:
        """`effective`: values that stand for those of the model, where these are not given; `shown`: always.

        Without `defaults` only the keys that differ from them. `meant`: only these, if not None.
        """
        yield ""
        yield title
        left_out = 0
        for name, key in _keys(type(table)):
            value = getattr(table, name)
            is_given = name in table.model_fields_set
            if not is_given or value is None:
                value = effective.get(name, value)
            value = shown.get(name, value)
            if value in _EMPTY or (meant is not None and key not in meant):
                continue
            if not defaults and not is_given:
                left_out += 1
                continue
            yield self._line(key, value, (*path, key), "" if is_given else DEFAULT)
        if left_out:
            yield f"# {left_out} keys have their defaults"

    def _line(self, key: str, value: object, path: Path, note: str) -> str:
        sources = [source for where, source in self._references.items() if where[: len(path)] == path]
        notes = [note] if note else []
        if key == "proxy" and len(path) > 2 and value is self._config.server.proxy:
            notes = ["from server.proxy"]
        elif sources:
            notes = [f"from {source}" for source in sources]
        elif _has_secret(value):
            notes.append("in the file itself")
        text = MASK if sources and not self._was_read else _text(value, masked=key in _MASKED)
        line = f"{key} = {text}"
        return f"{line:<{WIDTH}} # {', '.join(notes)}" if notes else line


@cache
def _keys(kind: type[Table]) -> list[tuple[str, str]]:
    """The fields of a table that a file can have, with their keys."""
    known = kind.model_json_schema()["properties"]
    named = [(name, field.alias or name) for name, field in kind.model_fields.items()]
    return [(name, key) for name, key in named if key in known]


def _has_secret(value: object) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_has_secret, value))
    if isinstance(value, dict):
        return any(map(_has_secret, value.values()))
    return isinstance(value, Secret | SigningKey)


def _text(value: Any, *, masked: bool = False) -> str:
    """As in TOML; secrets as a mask without quotes."""
    if isinstance(value, dict):
        pairs = ((key, _text(each, masked=masked or _is_hidden(key, each))) for key, each in value.items())
        return f"{{ {', '.join(f'{_key(key)} = {text}' for key, text in pairs)} }}"
    if isinstance(value, Table):
        fields = {
            key: getattr(value, name) for name, key in _keys(type(value)) if name in value.model_fields_set
        }
        return _text(fields, masked=masked)
    if masked or isinstance(value, Secret | SigningKey):
        return MASK
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else json.dumps(str(value), ensure_ascii=False)


def _is_hidden(key: str, value: object) -> bool:
    """Whether a value of a described request may be a secret that is in the file itself."""
    return isinstance(value, Template) and is_literal_secret(("steps", 0, "headers", key), str(value))


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)
