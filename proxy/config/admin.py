"""Access to the admin listener: `admin`, `admin_key` and `admin_trusts` of [server].

What they need of one another is in admin_checks.py.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from proxy.config.address import Address, address_of
from proxy.config.base import Table
from proxy.config.callers import Network, covers_everything, read_network
from proxy.config.references import SecretValue
from proxy.config.values import FieldName, text_of
from proxy.secret import Secret

TrustedPeer = Network | Literal["unix"]

UNIX: Final = "unix"  # as a trusted peer: all that may connect to the unix socket
_KEY: Final = re.compile(r"[\x21-\x7e]{20,4096}")
_BY_BROWSERS: Final = frozenset(  # fields that a browser sends by itself, whatever a proxy does
    {"accept", "authorization", "connection", "cookie", "host", "origin", "referer", "user-agent"}
    | {"accept-encoding", "accept-language", "content-length", "content-type", "transfer-encoding"}
)


def _address(value: object) -> Address:
    return value if isinstance(value, Address) else address_of(value)


def _strong(value: Secret) -> Secret:
    if not _KEY.fullmatch(value.reveal()):
        raise ValueError(
            "expected one line of at least 20 visible characters: `openssl rand -base64 32` makes such a key"
        )
    return value


def _peer(value: object) -> TrustedPeer:
    text = str(value) if isinstance(value, Network) else text_of(value)
    if text == UNIX:
        return UNIX
    try:
        return read_network(text)
    except ValueError:
        raise ValueError(
            'expected the address of the proxy in front, a network like "10.1.0.0/16", or "unix"'
        ) from None


def _person_field(name: str) -> str:
    if name.lower() in _BY_BROWSERS or name.lower().startswith("sec-"):
        raise ValueError(
            "browsers send this field themselves: expected the field that the proxy in front sets"
        )
    return name


def _some_but_not_all(peers: tuple[TrustedPeer, ...]) -> tuple[TrustedPeer, ...]:
    if not peers:
        raise ValueError("an empty list: expected the address of the proxy in front")
    if covers_everything(tuple(peer for peer in peers if peer != UNIX)):
        raise ValueError("anyone could claim to be anyone: expected the address of the proxy in front")
    return peers


AddressText = Annotated[Address, PlainValidator(_address), WithJsonSchema({"type": "string"})]
AdminKey = Annotated[SecretValue, AfterValidator(_strong)]
_Peer = Annotated[TrustedPeer, PlainValidator(_peer), WithJsonSchema({"type": "string"})]


class AdminTrusts(Table):
    """A proxy in front of the admin listener that has authenticated the person."""

    model_config = ConfigDict(populate_by_name=True)

    header: Annotated[FieldName, AfterValidator(_person_field)] = Field(
        description="The field with the person's name; the proxy in front must replace what clients send."
    )
    peers: Annotated[tuple[_Peer, ...], AfterValidator(_some_but_not_all)] = Field(
        alias="from",
        description='The addresses or networks of that proxy; "unix": all that may connect to a unix socket.',
    )
