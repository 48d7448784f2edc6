"""Warnings about a server that may lose tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.store.open import weaknesses
from tests.servers.redis import Redis

WORDS = {  # settings, and the warnings
    "durable": ({}, []),
    "nothing saved": ({"appendonly": "no"}, ["it loses the latest tokens when it stops: set appendonly yes"]),
    "saved each second": ({"appendfsync": "everysec"}, ["when its machine fails: set appendfsync always"]),
    "throws away": ({"maxmemory-policy": "allkeys-lru"}, ["set maxmemory-policy noeviction"]),
    "both": ({"appendonly": "no", "maxmemory-policy": "volatile-lru"}, ["appendonly yes", "noeviction"]),
}


@pytest.mark.parametrize("case", WORDS)
async def test_unsafe_settings_are_reported(redis_server: Redis, case: str) -> None:
    settings, words = WORDS[case]
    usual = {name: redis_server.ask("CONFIG GET", name)[name] for name in settings}
    for name, value in settings.items():
        redis_server.ask("CONFIG", "SET", name, value)
    try:
        said = await weaknesses(redis_server.url)
    finally:
        for name, value in usual.items():
            redis_server.ask("CONFIG", "SET", name, value)
    assert len(said) == len(words)
    for sentence, word in zip(said, words, strict=True):
        assert sentence.startswith(f"token store {redis_server.url}: ")
        assert word in sentence


async def test_hidden_settings_are_reported(tmp_path: Path) -> None:
    with Redis(tmp_path) as server:
        server.ask("ACL", "SETUSER", "me", "on", ">hunter2", "~*", "&*", "+@all", "-config")
        (said,) = await weaknesses(server.url.replace("//", "//me:hunter2@"))
    assert "it does not show its settings (CONFIG GET)" in said
    assert "hunter2" not in said


async def test_other_stores_have_no_warnings() -> None:
    assert await weaknesses("sqlite:tokens.db") == []
