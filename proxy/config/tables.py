"""Tables of the parsed file before it is known to be valid: a value of another type counts as empty.

Its complaint comes from the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Tables = Mapping[str, Any]


def table(data: Tables, key: str) -> Tables:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def route_list(data: Tables) -> list[Any]:
    """The items of [[routes]], each of which may be anything."""
    value = data.get("routes")
    return value if isinstance(value, list) else []
