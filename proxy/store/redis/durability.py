"""Whether a Redis server is set up to lose nothing: `run` warns of what it finds, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from proxy.store.redis.link import Link


async def weaknesses(url: str) -> list[str]:
    """What the server at `url` may lose, and how to set it up better; a sentence each. Raises StoreError."""
    link = await Link.open(url)
    try:
        settings = {**await link.settings("append*"), **await link.settings("maxmemory-policy")}
    finally:
        await link.close()
    return [f"{link.where}: {sentence}" for sentence in _judged(settings)]


def _judged(settings: Mapping[str, str]) -> Iterator[str]:
    if "appendonly" not in settings or "maxmemory-policy" not in settings:
        yield (
            "it does not tell how it is set up (CONFIG GET): make sure of appendonly yes, appendfsync always "
            "and maxmemory-policy noeviction, or it may lose tokens"
        )
        return
    if settings["appendonly"] != "yes":
        yield "it loses the latest tokens when it ends: set appendonly yes and appendfsync always"
    elif settings.get("appendfsync") != "always":
        yield "it loses the tokens of the last seconds when its machine fails: set appendfsync always"
    if settings["maxmemory-policy"] != "noeviction":
        yield "it throws tokens away when its memory is full: set maxmemory-policy noeviction"
