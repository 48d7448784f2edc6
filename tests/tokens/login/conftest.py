"""Fixtures of tests/tokens/clients, for attacks."""

from tests.tokens.clients.conftest import docs, make_docs, store, world

__all__ = ["docs", "make_docs", "store", "world"]
