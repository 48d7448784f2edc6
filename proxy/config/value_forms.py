"""How a value of the wrong type is to be written. Pure: a value of the file in, a hint for its author out.

Only numbers and scopes are repeated: a text may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.config.values import SCOPE

_TIMES: Final = {"s": 1.0, "sec": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES: Final = {"b": 1.0, "k": 1024.0, "kb": 1024.0, "kib": 1024.0, "mb": 1024.0**2, "mib": 1024.0**2}
_QUANTITY: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([a-z]{0,3})", re.IGNORECASE)
_SHOWN_SCOPES: Final = 4


def as_number(value: object, *, whole: bool) -> tuple[str, str]:
    """Of a number in quotes, perhaps with a unit: (" of seconds", ": 15"); else empty."""
    found = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return "", ""
    unit = found[2].lower()
    factor = (_TIMES | _SIZES | {"": 1.0}).get(unit)
    if factor is None:
        return "", ""
    number = float(found[1]) * factor
    name = " of seconds" if unit in _TIMES else " of bytes" if unit in _SIZES else ""
    return name, f": {number:.0f}" if whole or number.is_integer() else f": {number:g}"


def as_list(key: str, value: object) -> str:
    """For one value in place of a list: `scopes = ["api", "offline_access"]`."""
    if not isinstance(value, str):
        return "[ … ]"
    parts = re.split(r"[\s,]+", value.strip())
    is_known = key == "scopes" and len(parts) <= _SHOWN_SCOPES and all(map(SCOPE.fullmatch, parts))
    items = ", ".join(f'"{part}"' for part in parts) if is_known else '"…"'
    return f"{key} = [{items}]"
