"""Where the data listeners listen: `listen` of [server] and of routes, and the networks of `anyone`.

Whether an address beyond this machine is safe depends on other tables: see caller_checks.py.
"""

from __future__ import annotations

import grp
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema

from proxy.config.address import PRIVATE, Address, address_of, read_address
from proxy.config.base import Table
from proxy.config.references import load_context
from proxy.config.values import text_of

_MODE: Final = re.compile(r"0?[0-7]{3}")
_LARGEST_ID: Final = 2**32 - 2
_PREFIX: Final = "unix:"


def _socket_path(value: object) -> str:
    return read_address(_PREFIX + text_of(value)).path


def _mode(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError('expected the mode in quotes, as octal digits: "0660"')  # noqa: TRY004 (for pydantic)
    text = text_of(value)
    mode = int(text, 8) if _MODE.fullmatch(text) else 0
    if mode & 0o111 or mode & PRIVATE != PRIVATE:
        raise ValueError('expected the mode of a socket: "0600", "0660" or "0666"')
    return mode


def _group(value: object, info: ValidationInfo) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= _LARGEST_ID:
            raise ValueError("expected the name or the number of a group")
        return value
    name = text_of(value)
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):  # ValueError: a NUL in it
        if not load_context(info).secrets:
            return _LARGEST_ID  # another machine may have it
        raise ValueError("there is no such group on this machine - create it, or give its number") from None


class UnixSocket(Table):
    """A unix socket that others than its owner may connect to."""

    unix: Annotated[str, PlainValidator(_socket_path), WithJsonSchema({"type": "string"})] = Field(
        description="The absolute path of the socket."
    )
    mode: Annotated[int, PlainValidator(_mode), WithJsonSchema({"type": "string"})] = Field(
        PRIVATE,
        description='Its mode, like "0660"; wider than "0600" only with callers by uid or gid.',
    )
    group: Annotated[int, PlainValidator(_group), WithJsonSchema({"type": ["string", "integer"]})] | None = (
        Field(None, description="Its group, by name or number. Default: that of the process.")
    )


def _listen(value: object, info: ValidationInfo) -> Address:
    if isinstance(value, Address):
        return value
    if isinstance(value, dict):
        socket = UnixSocket.model_validate(value, context=info.context)
        return Address("", 0, socket.unix, socket.mode, socket.group)
    return address_of(value)


def read_listen(value: object) -> Address:
    """The address of a value of the file, which may have other faults. Raises ValueError."""
    if isinstance(value, Mapping):
        return read_address(_PREFIX + text_of(value.get("unix")))
    return read_address(text_of(value))


def mode_of(value: object) -> int:
    """The mode of a value of the file, which may have other faults. Raises ValueError."""
    return _mode(value["mode"]) if isinstance(value, Mapping) and "mode" in value else PRIVATE


_SCHEMA: Final[dict[str, Any]] = {
    "oneOf": [
        {"type": "string"},
        {key: part for key, part in UnixSocket.model_json_schema().items() if key != "title"},
    ]
}

# The last one is for `fault_messages.known_keys`: pydantic ignores what it does not know.
ListenAddress = Annotated[Address, PlainValidator(_listen), WithJsonSchema(_SCHEMA), type[UnixSocket]]
