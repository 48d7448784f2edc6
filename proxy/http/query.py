"""Parameters in the query of a request's target. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_PARAMETERS: Final = re.compile(rb"([^&;]*)([&;]|\Z)")


def spelled(name: bytes) -> bytes:
    """One spelling for a parameter and those that an upstream can't tell from it.

    PHP, for one, reads `access.token`, ` access_token` and `access_token[]` as `access_token`.
    """
    decoded = unquote_to_bytes(name.replace(b"+", b" ")).partition(b"\0")[0]
    plain = decoded.lstrip(b" ").partition(b"[")[0]
    return plain.replace(b".", b"_").replace(b" ", b"_")


def with_parameters(path: bytes, names: frozenset[bytes], ours: bytes) -> bytes:
    """The path and query with the parameters `ours`, which replace those called `names` (as `spelled`).

    All others pass byte for byte.
    """
    place, _, query = path.partition(b"?")
    kept = _kept(query, names)
    return place + b"?" + kept + (b"&" if kept else b"") + ours


def without(link: bytes, names: frozenset[bytes]) -> bytes:
    """A link without these parameters; byte for byte as it was if it has none of them."""
    url, hash_mark, fragment = link.partition(b"#")
    place, mark, query = url.partition(b"?")
    kept = _kept(query, names)
    if kept == query.rstrip(b"&;"):
        return link
    return place + (mark if kept else b"") + kept + hash_mark + fragment


def _kept(query: bytes, names: frozenset[bytes]) -> bytes:
    parameters = _PARAMETERS.finditer(query)
    others = [found[0] for found in parameters if spelled(found[1].partition(b"=")[0]) not in names]
    return b"".join(others).rstrip(b"&;")
