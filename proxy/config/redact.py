"""Mask secrets in the line of the file that is shown with a fault. Pure.

Masked are the values of keys that are secrets or named like one, of unknown keys (`client_secrt`), and the
user part and the password of URLs. In a file that is not valid TOML, keys and values can't be told apart:
only what is certainly no secret is shown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from typing import Final

from proxy.config.model import Config
from proxy.config.positions import Path, Positions
from proxy.config.step_checks import is_literal_secret
from proxy.secret import MASK

Span = tuple[int, int]

_SECRET_NAME: Final = re.compile(
    "secr|passw|refresh_token|access_token|assertion|private|api_?key|admin_?key", re.IGNORECASE
)
_KEYS: Final = frozenset({"key", "key_sha256", "value"})  # a wrong digest may be the key itself
_IN_NOTIFY: Final = frozenset({"command", "url"})  # of a webhook, the URL is the secret
_VARIABLE: Final = re.compile(r"""(["'])[A-Za-z_][A-Za-z0-9_]*\1""")
_PLAIN: Final = re.compile(r"true|false|-?[0-9]{1,5}(?:\.[0-9]{1,3})?")  # no secret, whatever the key is
_URL_USER: Final = re.compile(r"://(?P<value>[^\s\"']+)@")
_IN_URLS: Final = (_URL_USER, re.compile(r"[?&]password=(?P<value>[^\s\"'&#]+)"))
_HEADER: Final = re.compile(r"""\s*\[{1,2}\s*(?P<first>[\w-]+)[\w.\s"'-]*\]{0,2}\s*(?:#.*)?""")
_PAIR: Final = re.compile(r"\s*(?P<first>[\w-]+)(?:\s*\.\s*[\w-]+)*\s*(?P<equals>[=:]?)\s*")
_EACH_KEY: Final = re.compile(r"""([\w-]+)["']?\s*=|(?:^|[{,])\s*["']?([\w-]+)["']?\s*:""")
_HIDDEN: Final = "\0"  # a character that TOML doesn't allow


def masks_of_toml(text: str, positions: Positions, unknown: Collection[Path]) -> list[Span]:
    """The spans to mask in valid TOML. `unknown`: paths of unknown keys."""
    masks = _users(text)
    for path, end in positions.scalars.items():
        start = positions.values[path]
        is_unknown = any(path[: len(key)] == key for key in unknown)
        is_secret = may_be_secret(path) or is_literal_secret(path, text[start:end])
        is_plain = not is_secret and bool(_PLAIN.fullmatch(text, start, end))
        if (is_unknown or is_secret) and not is_plain and not _is_reference(path, text[start:end]):
            masks.append((start, end))
    return masks


def _users(text: str) -> list[Span]:
    return [found.span("value") for part in _IN_URLS for found in part.finditer(text)]


def may_be_secret(path: Path) -> bool:
    """Whether the value of the key at `path` may be one. The file may have tables of another shape."""
    if path[:2] == ("notify", "url") or (path[:2] == ("notify", "command") and path[2:] != (0,)):
        return True  # a program's arguments too may hold a secret
    if path[0] == "routes" and "headers" in path:
        return True  # a route's fields may be keys of an API
    named = path[0] in {"credentials", "callers"} and len(path) > len(("credentials", "NAME"))
    keys = path[2:] if named else path  # the table's own name does not matter
    of_a_file = len(keys) > 1 and str(keys[-2]).endswith("tls")  # the key of a certificate
    if not of_a_file and not _KEYS.isdisjoint(keys):
        return True
    return any(isinstance(key, str) and _SECRET_NAME.search(key) for key in keys)


def _is_reference(path: Path, value: str) -> bool:
    """Whether this names where the secret is. An invalid variable name may be the secret itself."""
    return path[-1] in {"file", "keyring"} or (path[-1] == "env" and bool(_VARIABLE.fullmatch(value)))


def masks_of_broken(text: str, offset: int) -> list[Span]:
    """The spans to mask in the line at `offset`, unless it is a header or has known, public keys only."""
    start, end = _line(text, offset)
    line = text[start:end]
    header, pair = _HEADER.fullmatch(line), _PAIR.match(line)
    if not any(map(str.isalnum, line)):
        return []
    known = header or pair
    if known is None or known["first"] not in _keys_of_all_tables():
        return [(start, end)]
    if pair is None:
        return []
    may_be_shown = pair["equals"] and all(_is_plain(one or other) for one, other in _EACH_KEY.findall(line))
    return _users(text) if may_be_shown else [(start + pair.end(), end)]


def _is_plain(key: str) -> bool:
    return key in _keys_of_all_tables() and key not in _KEYS | _IN_NOTIFY and not _SECRET_NAME.search(key)


@cache
def _keys_of_all_tables() -> frozenset[str]:
    return frozenset(_keys(Config.model_json_schema()))


def _keys(node: object) -> Iterator[str]:
    """All keys of all tables of a JSON Schema."""
    if isinstance(node, dict):
        yield from node.get("properties", {})
        for part in node.values():
            yield from _keys(part)


def shown_line(text: str, offset: int, masks: Collection[Span]) -> str:
    """The line at `offset`, masked and without control characters."""
    start, end = _line(text, offset)
    line = text[start:end]
    for begin, stop in masks:
        left, right = max(begin - start, 0), min(stop - start, len(line))
        if left < right:
            line = line[:left] + _HIDDEN * (right - left) + line[right:]
    shown = re.sub(f"{_HIDDEN}+", lambda run: _mask(run[0], before=run.start() < offset - start), line)
    return "".join(character if character.isprintable() else " " for character in shown)


def _mask(hidden: str, *, before: bool) -> str:
    """The mask; before the fault it keeps the width, so that the caret below stays in place."""
    return MASK.ljust(len(hidden))[: len(hidden)] if before else MASK


def _line(text: str, offset: int) -> Span:
    end = text.find("\n", offset)
    return text.rfind("\n", 0, offset) + 1, end if end >= 0 else len(text)
