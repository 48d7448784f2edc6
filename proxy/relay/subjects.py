"""The caller's own token, where it is exchanged for another (RFC 8693): taken from its field, never a key.

It goes to the authorization server only: the field is not forwarded, whatever it is called.
"""

from __future__ import annotations

import re
from typing import Final

from proxy import caller_keys
from proxy.http import fields, key_fields
from proxy.http.body import keep_from_trailers
from proxy.http.key_fields import AUTHORIZATION, KnownKeys, PresentedKey
from proxy.http.message import RequestHead
from proxy.relay import problems
from proxy.relay.problems import Refusal
from proxy.secret import Secret

_BEARER: Final = b"bearer"
_TOKEN: Final = re.compile(rb"[\x21-\x7e]+")
LONGEST: Final = 32 * 1024  # bytes; no field is longer


def take(request: RequestHead, field: bytes) -> Secret:
    """The caller's own token, which is not forwarded. Raises Refusal (401)."""
    values = fields.values(request.fields.block, field)
    token = _token(values[0], field) if len(values) == 1 else b""
    if not token:
        scheme = "Bearer and " if field == AUTHORIZATION else ""
        raise Refusal(
            problems.CALLER_UNKNOWN,
            f"this route needs the caller's own token: expected {scheme}the token, once, in the field "
            f"{field.decode()}",
        )
    if token.startswith(caller_keys.PREFIX):
        raise _not_a_key(field)
    names = frozenset((fields.plain(field),))
    request.forwarded_fields = fields.without(names, request.forwarded_fields)
    keep_from_trailers(request.body, names)
    return Secret(token.decode("ascii"))


def _token(value: bytes, field: bytes) -> bytes:
    """Without a scheme Bearer, which Authorization must have; empty if there is none."""
    scheme, _, rest = value.strip(b" \t").partition(b" ")
    if scheme.lower() == _BEARER:
        token = rest.strip(b" \t")
    else:
        token = b"" if field == AUTHORIZATION else value.strip(b" \t")
    return token if len(token) <= LONGEST and _TOKEN.fullmatch(token) else b""


def other_keys(request: RequestHead, field: bytes, known: KnownKeys) -> list[PresentedKey]:
    """The callers' keys in the other fields. Raises Refusal (401) for a key in this one.

    It would go to the authorization server.
    """
    index = request.fields.index
    for value in fields.values(request.fields.block, field):
        if known.carries(value):
            raise _not_a_key(field)
    return key_fields.presented({name: each for name, each in index.items() if name != field}, known)


def _not_a_key(field: bytes) -> Refusal:
    return Refusal(
        problems.CALLER_UNKNOWN,
        f"the field {field.decode()} is for the caller's own token: expected keys of this proxy in another "
        "field, such as Token-Proxy-Key",
    )
