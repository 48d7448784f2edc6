"""Looking secrets up again: one look at a time for each credential, a pause, and one warning per cause."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy import lookups_again
from proxy.config.load import load
from proxy.file_thread import FileThread
from proxy.lookups_again import LookupsAgain

CONFIG = """
[credentials.key]
grant = "static"
value = { command = ["cat", "vault"] }
[credentials.other]
grant = "static"
value = { file = "vault" }
"""


class Served:
    """A configuration as a process has it."""

    def __init__(self, folder: Path) -> None:
        self.vault = folder / "vault"
        self.vault.write_text("sesame-1\n")
        (folder / "config.toml").write_text(CONFIG)
        self.process = SimpleNamespace(loaded=load(folder / "config.toml", {"PATH": os.environ["PATH"]}))
        self.thread = FileThread()
        self.lookups = LookupsAgain(self.process, self.thread, asyncio.Lock(), self.replace)

    async def replace(self, loaded: object) -> None:
        self.process.loaded = loaded

    @property
    def value(self) -> str:
        return self.process.loaded.config.credentials["key"].value.reveal()

    async def look(self) -> None:
        look = self.lookups.begin("key")
        assert look is not None
        await look


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lookups_again, "PAUSE", 0.0)
    made = Served(tmp_path)
    yield made
    made.thread.close()


async def test_what_is_found_is_taken_up_and_what_is_the_same_is_not(served: Served) -> None:
    before = served.process.loaded
    await served.look()
    assert served.process.loaded is before
    served.vault.write_text("sesame-2\n")
    await served.look()
    assert served.value == "sesame-2"


async def test_one_cause_is_warned_about_once_and_again_after_a_success(served: Served, caplog) -> None:
    def warnings() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]

    served.vault.unlink()
    await served.look()
    await served.look()
    (warning,) = warnings()
    assert warning.startswith(
        "the secrets of credentials.key can't be looked up again: the command cat ended"
    )
    assert served.value == "sesame-1"
    served.vault.write_text("")
    await served.look()
    assert len(warnings()) == 2, "another cause"
    served.vault.write_text("sesame-3\n")
    await served.look()
    assert served.value == "sesame-3"
    served.vault.write_text("")
    await served.look()
    assert len(warnings()) == 3
    assert "sesame" not in caplog.text


async def test_looks_are_shared_and_then_paused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups_again, "PAUSE", 3600.0)
    look = served.lookups.begin("key")
    assert look is not None
    assert served.lookups.begin("key") is look
    await look
    assert served.lookups.begin("key") is None


async def test_a_secret_that_is_not_looked_up_is_left_alone(served: Served) -> None:
    assert served.lookups.begin("other") is None
    assert served.lookups.begin("nothing") is None


async def test_an_unexpected_error_ends_nothing(served: Served, caplog) -> None:
    async def odd(_loaded: object) -> None:
        raise KeyError("odd")

    lookups = LookupsAgain(served.process, served.thread, asyncio.Lock(), odd)
    served.vault.write_text("sesame-2\n")
    look = lookups.begin("key")
    assert look is not None
    await look
    assert served.value == "sesame-1"
    assert "unexpected error in looking up credentials.key" in caplog.text
