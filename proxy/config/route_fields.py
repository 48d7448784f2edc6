"""Header fields that a route sets or drops: `headers` and `drop`. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator

from proxy.config.references import SecretValue
from proxy.config.values import FieldName
from proxy.secret import Secret

_FRAMING: Final = frozenset(  # the proxy reads or writes them itself, for this hop (http/headers.py)
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    }
)
AUTHORIZATION: Final = "authorization"
_MAPPED: Final = frozenset({"destination", "if"})  # links, which have to be mapped for each request
_VALUE: Final = re.compile(
    r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?"
)  # RFC 9110 section 5.5, without obs-text


def plain(name: str) -> str:
    """One spelling for a field and those that a CGI-like upstream can't tell from it (http/fields.py)."""
    return name.strip("-_").lower().replace("_", "-")


def settable(name: str) -> str:
    """Whether a field of this name goes upstream as it is set is checked in attach.py, too."""
    kind = plain(name)
    if kind == "forwarded" or kind.startswith("x-forwarded-"):
        raise ValueError("expected forwarded = true, which sends X-Forwarded-For, -Proto and -Host")
    if kind in _FRAMING | _MAPPED:
        raise ValueError("this field depends on the connection or the request: expected another field")
    return name


def _droppable(name: str) -> str:
    if plain(name) in _FRAMING:
        raise ValueError("this field belongs to the connection, not to the caller: expected another field")
    return name


def visible(value: Secret) -> Secret:
    if not _VALUE.fullmatch(value.reveal()):
        raise ValueError("expected a field's value: visible ASCII characters, with spaces between them only")
    return value


def _without_twins(headers: dict[str, Secret]) -> dict[str, Secret]:
    if len({plain(name) for name in headers}) < len(headers):
        raise ValueError("two of these names are the same field to an upstream: expected each field once")
    return headers


SetName = Annotated[FieldName, AfterValidator(settable)]
SetValue = Annotated[SecretValue, AfterValidator(visible)]
SetFields = Annotated[dict[SetName, SetValue], AfterValidator(_without_twins)]
DroppedField = Annotated[FieldName, AfterValidator(_droppable)]
