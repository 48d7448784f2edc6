"""Values that refer to what is outside the file: the environment, other files.

As in values.py, a fault is a ValueError with a sentence, and no sentence holds a secret.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from proxy.config.address import Egress, read_egress
from proxy.config.values import text_of
from proxy.secret import Secret

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LARGEST_SECRET: Final = 65536  # bytes; more is the wrong file
_KEY_BYTES: Final = 32  # of AES-256


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What a value may refer to: pydantic's validation context."""

    folder: Path
    environ: Mapping[str, str]


def surroundings(info: ValidationInfo) -> LoadContext:
    """Without a file (a model made by hand): where the process is."""
    return info.context if isinstance(info.context, LoadContext) else LoadContext(Path.cwd(), os.environ)


def _referred(value: object, info: ValidationInfo) -> str:
    """A literal, `{ env = "NAME" }` or `{ file = "name" }`."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) == 1:
        kind, name = next(iter(value.items()))
        if kind == "keyring":
            raise ValueError("keyring is not in this version of token-proxy - env or file is meant")
        if kind in _READERS and isinstance(name, str):
            return _READERS[kind](name, surroundings(info))
    raise ValueError('not a reference - { env = "NAME" } or { file = "name" } is meant')


def _from_env(name: str, around: LoadContext) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError('not the name of an environment variable - { env = "NAME" } is meant')
    value = around.environ.get(name, "")
    if not value:
        raise ValueError(f"the environment variable {name} is not set - export it before the start")
    try:
        value.encode()
    except UnicodeEncodeError:  # Python keeps odd bytes of the environment as lone surrogates
        raise ValueError(f"the environment variable {name} is not UTF-8 - a text is meant") from None
    return value


def _from_file(name: str, around: LoadContext) -> str:
    path = _absolute(name, around)
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_SECRET + 1)
        value = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise ValueError(f"{path} can't be read: {reason} - a file with the secret is meant") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 - a text file with the secret is meant") from None
    if not value:
        raise ValueError(f"{path} is empty - a file with the secret is meant")
    if len(content) > _LARGEST_SECRET:
        raise ValueError(f"{path} is too large - a file with nothing but the secret is meant")
    return value


_READERS: Final[dict[str, Callable[[str, LoadContext], str]]] = {"env": _from_env, "file": _from_file}


def _absolute(name: str, around: LoadContext) -> Path:
    """Relative names are relative to the configuration file; `~` is the home."""
    if not name or not name.isprintable():
        raise ValueError("not the name of a file - a path is meant")
    try:
        return around.folder / Path(name).expanduser()
    except RuntimeError:
        raise ValueError("~ stands for no home here - an absolute path is meant") from None


def _secret(value: object, info: ValidationInfo) -> Secret:
    secret = value if isinstance(value, Secret) else Secret(_referred(value, info))
    if not secret:
        raise ValueError("an empty secret - give one, or leave the key out")
    return secret


def _sealing_key(value: object, info: ValidationInfo) -> Secret:
    secret = _secret(value, info)
    try:
        size = len(base64.b64decode(secret.reveal().strip(), validate=True))
    except ValueError:
        size = 0
    if size != _KEY_BYTES:
        raise ValueError("not a key - 32 bytes in base64 are meant: `openssl rand -base64 32` makes one")
    return secret


def _public(value: object, info: ValidationInfo) -> str:
    text = _referred(value, info)
    if not text or not text.isprintable():
        raise ValueError("empty or unprintable - a plain text is meant")
    return text


def _egress(value: object, info: ValidationInfo) -> Egress:
    return value if isinstance(value, Egress) else read_egress(_referred(value, info))


def _existing_file(value: object, info: ValidationInfo) -> Path:
    path = value if isinstance(value, Path) else _absolute(text_of(value), surroundings(info))
    try:
        is_file = path.is_file()
    except OSError:  # a name too long
        is_file = False
    if not is_file:
        raise ValueError(f"there is no file {path} - check the name")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{path} can't be read - check its permissions")
    return path


def _state_dir(value: object, info: ValidationInfo) -> Path:
    """None: $STATE_DIRECTORY, else $XDG_STATE_HOME/token-proxy, else ~/.local/state/token-proxy."""
    if isinstance(value, Path):
        return value
    around = surroundings(info)
    if value is not None:
        return _absolute(text_of(value), around)
    if given := around.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":", maxsplit=1)[0])  # systemd separates several by colons
    return _absolute(around.environ.get("XDG_STATE_HOME") or "~/.local/state", around) / "token-proxy"


_STRING: Final[dict[str, Any]] = {"type": "string"}
_REFERENCE: Final[dict[str, Any]] = {
    "oneOf": [
        _STRING,
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

SecretValue = Annotated[Secret, PlainValidator(_secret), WithJsonSchema(_REFERENCE)]
SealingKey = Annotated[Secret, PlainValidator(_sealing_key), WithJsonSchema(_REFERENCE)]
PublicValue = Annotated[str, PlainValidator(_public), WithJsonSchema(_REFERENCE)]
EgressProxy = Annotated[Egress, PlainValidator(_egress), WithJsonSchema(_REFERENCE)]
ExistingFile = Annotated[Path, PlainValidator(_existing_file), WithJsonSchema(_STRING)]
StateDirectory = Annotated[Path, PlainValidator(_state_dir), WithJsonSchema(_STRING)]
