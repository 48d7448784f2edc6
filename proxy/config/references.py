"""Values that refer to the environment or to other files.

As in values.py, a fault is a ValueError whose message holds no secret.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from proxy.config import literals
from proxy.config.address import Egress, read_egress
from proxy.config.files import Files
from proxy.config.lookups import Lookup, command_of, keyring_of
from proxy.config.values import read_safe_url, read_store_url, text_of
from proxy.secret import Secret

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY_BYTES: Final = 32  # of AES-256
DIRECT: Final = "none"  # as an egress proxy: without one
_UNREAD_EGRESS: Final = "http://egress.invalid"
_UNREAD_STORE: Final = "sqlite:unread"
_UNREAD_URL: Final = "https://unread.invalid"
NO_HOME: Final = Path("/dev/null/token-proxy")  # a state_dir that can't exist: where there is no home


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What relative paths and variables refer to; passed as pydantic's validation context.

    `secrets` false: what a value refers to need not exist, and is not read (`check --no-secrets`). Stand-ins
    take its place, so that such a configuration must not be served.
    """

    folder: Path
    environ: Mapping[str, str]
    secrets: bool = True
    files: Files = field(default_factory=Files)


def load_context(info: ValidationInfo) -> LoadContext:
    """The context; without a file (a model built in code), that of the process."""
    return info.context if isinstance(info.context, LoadContext) else LoadContext(Path.cwd(), os.environ)


def _referred(value: object, info: ValidationInfo) -> str:
    """A literal, or a reference: see _READERS."""
    if isinstance(value, str):
        literals.refuse(value)
        return value
    if isinstance(value, dict) and len(value) == 1:
        kind, name = next(iter(value.items()))
        if kind in _READERS and (isinstance(name, str) or kind in _LOOKUPS):
            return _READERS[kind](name, load_context(info))
    raise ValueError(
        'expected { env = "NAME" }, { file = "name" }, { command = ["…"] }, { keyring = "service/name" } '
        "or a string"
    )


def _from_env(name: str, context: LoadContext) -> str:
    if not _VARIABLE.fullmatch(name):
        meant = literals.variable_in(name) or "NAME"
        raise ValueError(f'not the name of an environment variable: expected {{ env = "{meant}" }}')
    if not context.secrets:
        return _stand_in("env", name)
    value = context.environ.get(name, "")
    if not value:
        problem = "is empty" if name in context.environ else "is not set"
        raise ValueError(f"the environment variable {name} {problem} - set it before token-proxy starts")
    try:
        value.encode()
    except UnicodeEncodeError:  # Python decodes invalid bytes to lone surrogates
        raise ValueError(f"the environment variable {name} is not UTF-8: expected UTF-8 text") from None
    literals.refuse_content(value, name)
    return value


def _from_file(name: str, context: LoadContext) -> str:
    path = _absolute(name, context)
    if not context.secrets:
        return _stand_in("file", str(path))
    return context.files.secret(path)


def _stand_in(kind: str, name: str) -> str:
    """32 bytes in base64, which satisfies the rules for every kind of secret. Two references differ."""
    return base64.b64encode(hashlib.sha256(f"{kind}:{name}".encode()).digest()).decode("ascii")


def lookup_of(value: object, folder: Path) -> Lookup | None:
    """What a value of the file looks up, if it does, and has no fault."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    kind, name = next(iter(value.items()))
    try:
        return _LOOKUPS[kind](name, folder) if kind in _LOOKUPS else None
    except ValueError:
        return None


def _looked_up(kind: str) -> Callable[[Any, LoadContext], str]:
    def read(name: object, context: LoadContext) -> str:
        lookup = _LOOKUPS[kind](name, context.folder)
        if not context.secrets:
            return _stand_in(kind, str(name))
        return context.files.look_up(lookup, context.environ)

    return read


_LOOKUPS: Final[dict[str, Callable[[object, Path], Lookup]]] = {
    "keyring": lambda name, _folder: keyring_of(name),
    "command": command_of,
}
_READERS: Final[dict[str, Callable[[Any, LoadContext], str]]] = {
    "env": _from_env,
    "file": _from_file,
    **{kind: _looked_up(kind) for kind in _LOOKUPS},
}


def _absolute(name: str, context: LoadContext) -> Path:
    """Resolve a path relative to the configuration file; `~` is the home directory."""
    if not name or not name.isprintable():
        raise ValueError("expected the path of a file")
    try:
        return context.folder / Path(name).expanduser()
    except RuntimeError:
        raise ValueError("~ has no home directory here: expected an absolute path") from None


def read_secret(value: object, info: ValidationInfo) -> Secret:
    """A literal or a reference. Raises ValueError."""
    secret = value if isinstance(value, Secret) else Secret(_referred(value, info))
    if not secret:
        raise ValueError("an empty secret - give one, or leave the key out")
    return secret


def _sealing_key(value: object, info: ValidationInfo) -> Secret:
    secret = read_secret(value, info)
    try:
        size = len(base64.b64decode(secret.reveal().strip(), validate=True))
    except ValueError:
        size = 0
    if size != _KEY_BYTES:
        raise ValueError("expected 32 bytes in base64: `openssl rand -base64 32` makes such a key")
    return secret


def _public(value: object, info: ValidationInfo) -> str:
    text = _referred(value, info)
    if not text or not text.isprintable():
        raise ValueError("empty or unprintable: expected a printable string")
    return text


def _is_unread(value: object, info: ValidationInfo) -> bool:
    return isinstance(value, dict) and not load_context(info).secrets


def _egress(value: object, info: ValidationInfo) -> Egress | None:
    if isinstance(value, Egress):
        return value
    text = _referred(value, info)
    if text == DIRECT and isinstance(value, str):
        return None
    return read_egress(_UNREAD_EGRESS if _is_unread(value, info) else text)


def _store_url(value: object, info: ValidationInfo) -> Secret:
    if isinstance(value, Secret):
        return value
    text = _referred(value, info)
    return Secret(read_store_url(_UNREAD_STORE if _is_unread(value, info) else text))


def _secret_url(value: object, info: ValidationInfo) -> Secret:
    """An https URL, or http on loopback, that may hold a secret: of a webhook."""
    if isinstance(value, Secret):
        return value
    text = _referred(value, info)
    return Secret(read_safe_url(_UNREAD_URL if _is_unread(value, info) else text))


def existing_file(value: object, info: ValidationInfo) -> Path:
    context = load_context(info)
    path = value if isinstance(value, Path) else _absolute(text_of(value), context)
    if not context.secrets:
        return path
    context.files.require(path)
    return path


def _audit_file(value: object, info: ValidationInfo) -> Path:
    """Of the audit log; "-" is the standard output."""
    if isinstance(value, Path):
        return value
    text = text_of(value)
    path = Path("-") if text == "-" else _absolute(text, load_context(info))
    if path.is_dir():
        raise ValueError(f"{path} is a directory: expected a file")
    return path


def _state_dir(value: object, info: ValidationInfo) -> Path:
    """None: $STATE_DIRECTORY, else $XDG_STATE_HOME/token-proxy, else ~/.local/state/token-proxy.

    NO_HOME if there is none of them: only some stores need a directory (see checks.check_state_dir).
    """
    if isinstance(value, Path):
        return value
    context = load_context(info)
    if value is not None:
        return _absolute(text_of(value), context)
    if given := context.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":", maxsplit=1)[0])  # systemd separates several with colons
    if xdg := context.environ.get("XDG_STATE_HOME"):
        return _absolute(xdg, context) / "token-proxy"
    try:
        return Path("~/.local/state/token-proxy").expanduser()
    except RuntimeError:
        return NO_HOME


_STRING: Final[dict[str, Any]] = {"type": "string"}
_FORMS: Final[dict[str, dict[str, Any]]] = {
    "env": {**_STRING, "description": "The name of an environment variable that holds it."},
    "file": {
        **_STRING,
        "description": "The path of a file that holds nothing else; relative to the configuration file. Read "
        "again when it changes.",
    },
    "keyring": {
        **_STRING,
        "description": '"service/name": where the keyring of this machine has it.',
    },
    "command": {
        "type": "array",
        "items": _STRING,
        "minItems": 1,
        "description": "A program and its arguments; it prints the value, within 10 s. No shell is used.",
    },
}
REFERENCE: Final[dict[str, Any]] = {
    "oneOf": [
        _STRING,
        *(
            {
                "type": "object",
                "properties": {kind: _FORMS[kind]},
                "required": [kind],
                "additionalProperties": False,
            }
            for kind in _READERS
        ),
    ]
}

SecretValue = Annotated[Secret, PlainValidator(read_secret), WithJsonSchema(REFERENCE)]
SealingKey = Annotated[Secret, PlainValidator(_sealing_key), WithJsonSchema(REFERENCE)]
PublicValue = Annotated[str, PlainValidator(_public), WithJsonSchema(REFERENCE)]
EgressProxy = Annotated[Egress | None, PlainValidator(_egress), WithJsonSchema(REFERENCE)]
SecretUrl = Annotated[Secret, PlainValidator(_secret_url), WithJsonSchema(REFERENCE)]
StoreUrl = Annotated[Secret, PlainValidator(_store_url), WithJsonSchema(REFERENCE)]
ExistingFile = Annotated[Path, PlainValidator(existing_file), WithJsonSchema(_STRING)]
AuditFile = Annotated[Path, PlainValidator(_audit_file), WithJsonSchema(_STRING)]
StateDirectory = Annotated[Path, PlainValidator(_state_dir), WithJsonSchema(_STRING)]
