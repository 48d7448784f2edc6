"""`methods`, `allow` and `deny`, in tables of routes and callers. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, PlainValidator, WithJsonSchema

from proxy.config.base import Table
from proxy.config.values import text_of

_NAMES: Final = (  # those of http/message.py that are relayed
    "GET HEAD POST PUT DELETE OPTIONS PATCH "
    "PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK ACL SEARCH BIND REBIND UNBIND "
    "REPORT MKACTIVITY CHECKOUT MERGE MKCALENDAR "
    "LINK UNLINK PURGE QUERY NOTIFY SUBSCRIBE UNSUBSCRIBE M-SEARCH SOURCE"
)
METHODS: Final = frozenset(_NAMES.split())
NEVER: Final = frozenset({"TRACE", "CONNECT"})
_NOT_DECODED: Final = re.compile(r"[%?#;]")
_NOT_IN_PATHS: Final = re.compile(r"""[\[\]{}<>^|"`\\]""")  # RFC 3986 section 3.3
_EXAMPLE: Final = '"/messages/*" or "/messages/**"'


def _method(value: object) -> str:
    text = text_of(value)
    if text in METHODS:
        return text
    if text.upper() in NEVER:
        raise ValueError("TRACE and CONNECT are never relayed: expected other methods")
    if text.upper() in METHODS:
        raise ValueError(f'methods are case-sensitive: expected "{text.upper()}"')
    raise ValueError('expected a method of HTTP, like "GET"')


def _pattern(value: object) -> str:
    text = text_of(value)
    if not text.startswith("/"):
        raise ValueError(f"expected a pattern that begins with /, like {_EXAMPLE}")
    if _NOT_DECODED.search(text):
        raise ValueError("paths are compared decoded, without parameters and query: expected no %, ;, ? or #")
    if _NOT_IN_PATHS.search(text) or not text.isprintable():
        raise ValueError("a character that paths do not have: expected * for any segment, or part of one")
    segments = text[1:].split("/")
    if text != "/" and "" in segments:
        raise ValueError("empty segments are not compared: expected no // and no / at the end")
    if not {".", ".."}.isdisjoint(segments):
        raise ValueError("such a path is never relayed: expected no segments . and ..")
    if any("**" in segment and segment != "**" for segment in segments):
        raise ValueError(f"** is a whole segment: expected {_EXAMPLE}")
    return text


Method = Annotated[str, PlainValidator(_method), WithJsonSchema({"enum": sorted(METHODS)})]
PathPattern = Annotated[
    str, PlainValidator(_pattern), WithJsonSchema({"type": "string", "pattern": "^/[^%?#;]*$"})
]


class PolicyTable(Table):
    """The keys of a table that limits requests. An empty list permits nothing (`deny`: denies nothing)."""

    methods: tuple[Method, ...] | None = Field(
        None, description="The methods that may be used. Default: all."
    )
    allow: tuple[PathPattern, ...] | None = Field(
        None,
        description="Patterns of the paths that may be used, below the route's path. * is one segment, or "
        "part of one; ** is any number of segments. Default: all.",
    )
    deny: tuple[PathPattern, ...] | None = Field(
        None, description="Patterns of paths that may not be used, also where `allow` fits. Default: none."
    )
