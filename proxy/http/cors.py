"""Responses that a page of another origin may read (CORS; the Fetch standard, section 3.3). Pure.

`Access-Control-Allow-Credentials` is never sent: a caller's key and the account are in fields that the page
sets itself, and a page must not use cookies that an upstream has given to a program on this machine. Nor is
`Access-Control-Allow-Private-Network`: browsers ask the person instead (Local Network Access).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from proxy.http import fields

KEPT: Final = 7200  # seconds that a browser may remember a preflight; the most that Chromium does
_NAMES: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")


def response_fields(origin: bytes) -> bytes:
    """The fields (a block, see fields.py) by which pages of `origin` may read a response."""
    return b"\r\nAccess-Control-Allow-Origin: %b\r\nAccess-Control-Expose-Headers: *\r\nVary: Origin" % origin


def requested_method(block: bytes) -> bytes:
    """The method that the preflight with these fields asks for; empty if they are not a preflight's."""
    named = fields.values(block, b"access-control-request-method")
    return named[0] if len(named) == 1 else b""


def preflight(block: bytes, origin: bytes, methods: Sequence[bytes]) -> bytes:
    """The head of the response to a preflight with the fields `block`; without its last line.

    `methods`: those to permit. Any field may be sent, as programs may.
    """
    lines = [
        b"HTTP/1.1 204 No Content",
        b"Access-Control-Allow-Origin: " + origin,
        b"Access-Control-Allow-Methods: " + b", ".join(methods),
        b"Access-Control-Max-Age: %d" % KEPT,
        b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    ]
    names = b", ".join(fields.values(block, b"access-control-request-headers"))
    if _NAMES.fullmatch(names):
        lines.append(b"Access-Control-Allow-Headers: " + names)
    return b"\r\n".join((*lines, b""))
