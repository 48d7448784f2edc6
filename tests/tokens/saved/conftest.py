"""Processes with a configured refresh token."""

from __future__ import annotations

import pytest

from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore


@pytest.fixture
def seeded(make_side, make_server):
    """`seeded(server, seed, store)`: a process with this refresh token in its configuration."""

    def make(server, seed, store, **more):
        return make_side(grant="refresh_token", server=server, seed=seed, store=store, **more)

    return make


@pytest.fixture
async def server(make_server):
    async with make_server() as made:
        yield made


@pytest.fixture
def store(clock):
    return SealedStore(MemoryStore(clock), bytes(32))


def new_seed(server) -> str:
    return server.issue("web", "alice")["refresh_token"]
