"""The JSON Schema of the configuration file, for editors: `token-proxy schema`."""

from __future__ import annotations

from typing import Any, Final

from proxy.config.model import Config

NULL: Final = {"type": "null"}  # TOML has no null


def schema() -> dict[str, Any]:
    plain = {name: _plain(part) for name, part in Config.model_json_schema().items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **plain, "title": "token-proxy"}


def _plain(node: Any) -> Any:
    """Drop null, defaults that stand for "not given", and titles that repeat the key."""
    if isinstance(node, list):
        return [_plain(each) for each in node if each != NULL]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if not _is_noise(key, value)}
    if len(choices := [each for each in kept.get("anyOf", []) if each != NULL]) == 1:
        kept |= choices[0]
        del kept["anyOf"]
    return {key: _plain(value) for key, value in kept.items()}


def _is_noise(key: str, value: object) -> bool:
    if key == "title":
        return isinstance(value, str)  # a table is a key named "title"
    return key == "default" and value in (None, "", {}, [])
