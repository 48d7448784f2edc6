"""The types of the configuration's values: what TOML holds -> what the program uses.

Every fault is a ValueError whose message says what is wrong, then what was meant. None ever holds the
value itself: it may be a secret in the wrong place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from proxy.config.address import Address, Upstream, is_loopback, read_address, read_upstream
from proxy.secret import Secret

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
ACCOUNT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[?[0-9A-Fa-f:.]+\]?")
_PATH: Final = re.compile(r"/|(?:/[A-Za-z0-9._~-]+)+")
_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TOKEN_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a value may refer to, and where literal secrets are noted."""

    folder: Path
    environ: Mapping[str, str]
    literals: list[str] = field(default_factory=list)


def _surroundings(info: ValidationInfo) -> Surroundings:
    if isinstance(info.context, Surroundings):
        return info.context
    return Surroundings(Path(), os.environ)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text - quotes are missing")  # noqa: TRY004 (pydantic collects ValueErrors)
    return value


def _referred(value: object, info: ValidationInfo, *, literal: bool) -> str:
    """A literal, `{ env = "NAME" }` or `{ file = "name" }`."""
    if isinstance(value, str):
        if not literal:
            _surroundings(info).literals.append(value)
        return value
    if isinstance(value, dict) and len(value) == 1:
        kind, name = next(iter(value.items()))
        if kind in _READERS and isinstance(name, str) and name:
            return _READERS[kind](name, _surroundings(info))
    raise ValueError('not a reference - { env = "NAME" } or { file = "name" } is meant')


def _from_env(name: str, surroundings: Surroundings) -> str:
    value = surroundings.environ.get(name, "")
    if not value:
        raise ValueError(f"the environment variable {name} is not set - export it before the start")
    return value


def _from_file(name: str, surroundings: Surroundings) -> str:
    path = surroundings.folder / name
    try:
        value = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"the file {path} can't be read ({reason}) - create it") from None
    if not value:
        raise ValueError(f"the file {path} is empty - put the secret into it")
    return value


_READERS: Final[dict[str, Callable[[str, Surroundings], str]]] = {"env": _from_env, "file": _from_file}


def _secret(value: object, info: ValidationInfo) -> Secret:
    if isinstance(value, Secret):
        return value
    text = _referred(value, info, literal=False)
    if not text:
        raise ValueError("an empty secret - give one, or leave the key out")
    return Secret(text)


def _public(value: object, info: ValidationInfo) -> str:
    text = _referred(value, info, literal=True)
    if not text or not text.isprintable():
        raise ValueError("empty or unprintable - a plain text is meant")
    return text


def _existing_file(value: object, info: ValidationInfo) -> Path:
    path = _surroundings(info).folder / _text(value)
    if not path.is_file():
        raise ValueError(f"there is no file {path} - check the name")
    return path


def _directory(value: object, info: ValidationInfo) -> Path:
    return _surroundings(info).folder / Path(_text(value)).expanduser()


def _address(value: object) -> Address:
    return value if isinstance(value, Address) else read_address(_text(value))


def _upstream(value: object) -> Upstream:
    return value if isinstance(value, Upstream) else read_upstream(_text(value))


def _server_url(value: object) -> str:
    """Of an authorization server, or ours: https, loopback excepted (RFC 6749 section 3.1)."""
    text = _text(value)
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise ValueError("not a URL - https://host/path is meant") from None
    if parts.scheme not in {"http", "https"} or not host or not text.isascii() or not text.isprintable():
        raise ValueError("not a URL - https://host/path is meant")
    if parts.username is not None or parts.fragment or " " in text:
        raise ValueError("a URL here has no user, fragment or space - https://host/path is meant")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            "http would show the secrets to the network - https is meant (http only on loopback)"
        )
    return text


def _matching(pattern: re.Pattern[str], complaint: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        text = _text(value)
        if not pattern.fullmatch(text):
            raise ValueError(complaint)
        return text

    return check


def _path(value: object) -> str:
    text = _text(value)
    if not _PATH.fullmatch(text) or any(segment in {".", ".."} for segment in text.split("/")):
        raise ValueError("not a path prefix - /name or /name/name is meant, without a slash at the end")
    return text


_STRING: Final[dict[str, Any]] = {"type": "string"}
_REFERENCE: Final[dict[str, Any]] = {
    "oneOf": [
        {"type": "string"},
        *(
            {
                "type": "object",
                "properties": {kind: _STRING},
                "required": [kind],
                "additionalProperties": False,
            }
            for kind in _READERS
        ),
    ]
}
Text = WithJsonSchema(_STRING)

SecretValue = Annotated[Secret, PlainValidator(_secret), WithJsonSchema(_REFERENCE)]
PublicValue = Annotated[str, PlainValidator(_public), WithJsonSchema(_REFERENCE)]
ExistingFile = Annotated[Path, PlainValidator(_existing_file), Text]
Directory = Annotated[Path, PlainValidator(_directory), Text]
AddressValue = Annotated[Address, PlainValidator(_address), Text]
UpstreamValue = Annotated[Upstream, PlainValidator(_upstream), Text]
ServerUrl = Annotated[str, PlainValidator(_server_url), Text]
PathPrefix = Annotated[str, PlainValidator(_path), Text]
Name = Annotated[
    str,
    PlainValidator(_matching(NAME, "not a name - a-z, 0-9, _ and - are meant, 63 characters at most")),
    Text,
]
AccountName = Annotated[
    str,
    PlainValidator(
        _matching(ACCOUNT_NAME, "not an account's name - letters, digits and . _ @ + - are meant")
    ),
    Text,
]
HostName = Annotated[
    str,
    PlainValidator(
        lambda value: _matching(_HOST, "not a host - a name without port is meant")(value).lower()
    ),
    Text,
]
FieldName = Annotated[str, PlainValidator(_matching(_FIELD_NAME, "not the name of a header field")), Text]
Scope = Annotated[str, PlainValidator(_matching(_TOKEN_SCOPE, "not a scope - one word each is meant")), Text]
