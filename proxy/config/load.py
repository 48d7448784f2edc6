"""A file -> the configuration, or every fault in it at once, each with its line and column."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from proxy.config import checks, sentences
from proxy.config.checks import Complaint
from proxy.config.model import Config, Credential, Route, Server
from proxy.config.positions import Path as KeyPath
from proxy.config.positions import Positions, find_positions
from proxy.config.values import NAME, Surroundings
from proxy.errors import ConfigError, Fault
from proxy.secret import MASK

PLACES: Final = (Path("config.toml"), Path("/etc/token-proxy/config.toml"))
_TOML_PLACE: Final = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
# A line is shown with its fault: not so what stands behind a key that may hold a secret.
_SECRET_KEYS: Final = re.compile(r"((?:client_secret|refresh_token|key)[\"']?\s*=\s*)([^{\s][^,}]*)")


@dataclass(frozen=True, slots=True)
class Loaded:
    config: Config
    warnings: list[Fault]


def find_config(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The file to use. Raises ConfigError."""
    if given is not None:
        return given
    if named := environ.get("TOKEN_PROXY_CONFIG"):
        return Path(named)
    for place in PLACES:
        if place.exists():
            return place
    tried = ", ".join(("$TOKEN_PROXY_CONFIG", *map(str, PLACES)))
    raise ConfigError("token-proxy", [Fault(1, 1, f"no configuration found in {tried} - give -c FILE")])


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Raises ConfigError."""
    document = _Document.read(path)
    surroundings = Surroundings(path.absolute().parent, environ)
    config, complaints = _validate(document.data, surroundings)
    if config is None or complaints:
        faults = {document.fault(*complaint) for complaint in complaints}
        raise ConfigError(str(path), list(faults))
    return Loaded(config.loaded_from(path), [*document.warnings()])


def schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


@dataclass(frozen=True, slots=True)
class _Document:
    """The file's text and what it holds."""

    path: Path
    text: str
    data: dict[str, Any]
    positions: Positions

    @classmethod
    def read(cls, path: Path) -> _Document:
        text = _read(path)
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(str(path), [_syntax_fault(text, str(error))]) from None
        except RecursionError:
            raise ConfigError(
                str(path), [Fault(1, 1, "nested too deeply - a table or two are meant")]
            ) from None
        return cls(path, text, data, find_positions(text))

    def fault(self, where: KeyPath, sentence: str) -> Fault:
        return _fault(self.text, self._offset(where), sentence)

    def _offset(self, where: KeyPath) -> int:
        """The value, else the key, else the nearest table around it."""
        found = self.positions
        if where[-1:] == ("",):  # the key itself is meant
            where = where[:-1]
            return found.keys.get(where, found.values.get(where, 0))
        for places in (found.values, found.tables, found.keys):
            if where in places:
                return places[where]
        return self._offset(where[:-1]) if where else 0

    def warnings(self) -> Iterator[Fault]:
        for name, credential in self.data.get("credentials", {}).items():
            for key in ("client_secret", "refresh_token"):
                if isinstance(credential.get(key), str):
                    sentence = (
                        'a secret in the file itself - { env = "NAME" } or { file = "name" } keeps it out'
                    )
                    yield self.fault(("credentials", name, key), sentence)


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        reason = (error.strerror or "it can't be read").lower()
        raise ConfigError(
            str(path), [Fault(1, 1, f"{reason} - give the configuration with -c FILE")]
        ) from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise ConfigError(str(path), [Fault(line, column, "not UTF-8 - save the file as UTF-8")]) from None
    if text.startswith("\ufeff"):
        raise ConfigError(str(path), [Fault(1, 1, "begins with a byte order mark - save the file without")])
    return text.replace("\r\n", "\n")


def _syntax_fault(text: str, message: str) -> Fault:
    """tomllib tells the place only in its message (as attributes from Python 3.14 on)."""
    place = _TOML_PLACE.fullmatch(message)
    said = place[1] if place else message
    sentence = f"not TOML: {said[:1].lower()}{said[1:]} - see toml.io"
    if place is None or place[2] is None:
        return _fault(text, len(text), sentence)
    line, column = int(place[2]), int(place[3])
    return Fault(line, column, sentence, _shown(text, line))


def _fault(text: str, offset: int, sentence: str) -> Fault:
    line = text.count("\n", 0, offset) + 1
    column = offset - text.rfind("\n", 0, offset)
    return Fault(line, column, sentence, _shown(text, line))


def _shown(text: str, line: int) -> str:
    lines = text.split("\n")
    return _SECRET_KEYS.sub(lambda found: found[1] + MASK, lines[line - 1]) if line <= len(lines) else ""


def _validate(data: dict[str, Any], surroundings: Surroundings) -> tuple[Config | None, list[Complaint]]:
    """The configuration, and whatever is wrong with it."""
    config, complaints = _model(Config, data, surroundings)
    for name in _table(data, "credentials"):
        if not NAME.fullmatch(name):
            complaints.append((("credentials", name, ""), "not a name - a-z, 0-9, _ and - are meant"))
    parts = _Parts(data, surroundings)
    return config, complaints + [found for found in parts.check() if found[0] not in parts.mended]


def _model(kind: type[Any], data: object, surroundings: Surroundings) -> tuple[Any, list[Complaint]]:
    try:
        return kind.model_validate(data, context=surroundings), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        return None, sentences.complaints(details, data)


class _Parts:
    """The tables of the file, each without the keys that are wrong in themselves.

    So one fault hides no other. `mended` are the tables that lost a key: what they seem to lack, they may
    have had.
    """

    def __init__(self, data: dict[str, Any], surroundings: Surroundings) -> None:
        self._data = data
        self._surroundings = surroundings
        self.mended: set[KeyPath] = set()

    def check(self) -> Iterator[Complaint]:
        server = self._part(Server, ("server",), _table(self._data, "server")) or Server()
        routes = [
            (index, route)
            for index, raw in enumerate(_tables(self._data, "routes"))
            if (route := self._part(Route, ("routes", index), raw))
        ]
        credentials = {
            name: self._part(Credential, ("credentials", name), raw)
            for name, raw in _table(self._data, "credentials").items()
        }
        yield from checks.check_server(server)
        yield from checks.check_store(_store_url(self._data))
        for name, credential in credentials.items():
            if credential:
                yield from checks.check_credential(name, credential)
        yield from checks.check_routes(routes, credentials)
        yield from checks.check_listeners(server, routes)

    def _part(self, kind: type[Any], where: KeyPath, raw: object) -> Any:
        part, complaints = _model(kind, raw, self._surroundings)
        if part is not None or not isinstance(raw, dict):
            return part
        self.mended.add(where)
        wrong = {path[0] for path, _ in complaints if path}
        return _model(kind, {key: raw[key] for key in raw if key not in wrong}, self._surroundings)[0]


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _tables(data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else []


def _store_url(data: dict[str, Any]) -> str:
    url = _table(data, "store").get("url")
    return url if isinstance(url, str) else "memory:"
