"""Check the durability settings of a Redis server, for warnings of `run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from proxy.store.redis.link import Link


async def weaknesses(url: str) -> list[str]:
    """How the server at `url` may lose tokens, and the remedy; a sentence each. Raises StoreError."""
    link = await Link.open(url)
    try:
        settings = {**await link.settings("append*"), **await link.settings("maxmemory-policy")}
    finally:
        await link.close()
    return [f"{link.where}: {sentence}" for sentence in _judged(settings)]


def _judged(settings: Mapping[str, str]) -> Iterator[str]:
    if "appendonly" not in settings or "maxmemory-policy" not in settings:
        yield (
            "it does not show its settings (CONFIG GET): make sure of appendonly yes, appendfsync always and "
            "maxmemory-policy noeviction, otherwise it may lose tokens"
        )
        return
    if settings["appendonly"] != "yes":
        yield "it loses the latest tokens when it stops: set appendonly yes and appendfsync always"
    elif settings.get("appendfsync") != "always":
        yield "it loses the tokens of the last seconds when its machine fails: set appendfsync always"
    if settings["maxmemory-policy"] != "noeviction":
        yield "it evicts tokens when its memory is full: set maxmemory-policy noeviction"
