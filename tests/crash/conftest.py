"""Herds of callers, processes killed at any point, and processes stopped for too long: with real processes.

How the pieces fit:

    herd.py: callers  ──►  forkserver.py: `token-proxy run`, several processes  ──►  herd.py: an API
                                │                    │
                     the store (`store_url`)    the authorization server, in the test's process: setup.py

tracing.py     strace: the system calls of a process from now on, and a signal at one of them
crash_case.py  one refresh that is killed at such a call, and the recovery by the next process
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.postgres import Postgres, postgres
from tests.servers.redis import redis_of_worker, redis_server

__all__ = ["postgres", "redis_of_worker", "redis_server"]  # fixtures


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A store that all processes share, empty. That of SQLite is in the folder of each setup."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        yield (url := server.database())
        server.drop(url)
    elif request.param == "redis":
        yield request.getfixturevalue("redis_server").url
    else:
        yield "sqlite:tokens.db"
