"""Fixtures that write a configuration and load it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from proxy.config.load import Loaded, load
from proxy.errors import ConfigError

Load = Callable[..., Loaded]
Complaints = Callable[..., list[str]]


def one_of(names: tuple[str, ...]) -> str:
    """The sentence of a fault: one of these is expected."""
    *others, last = (f'"{name}"' for name in names)
    return f"expected {', '.join(others)} or {last}"


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    def load_text(text: str | bytes, environ: Mapping[str, str] | None = None) -> Loaded:
        path = tmp_path / "config.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load(path, environ or {})

    return load_text


@pytest.fixture
def complaints(load_text: Load) -> Complaints:
    """The faults of a configuration, as "LINE:COLUMN: sentence"."""

    def complaints(text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
        try:
            load_text(text, environ)
        except ConfigError as error:
            return [f"{fault.line}:{fault.column}: {fault.message}" for fault in error.faults]
        return []

    return complaints
