"""What is said of typical mistakes, word for word: the documents beside this file."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main

from .transcripts import Mistake, mistakes

EACH = mistakes()


def transcript_of(mistake: Mistake, folder: Path) -> str:
    """What a person sees who runs `token-proxy check` in `folder`."""
    (folder / "config.toml").write_text(mistake.config, "utf-8")
    for name, (mode, content) in mistake.files.items():
        (folder / name).write_text(content, "utf-8")
        (folder / name).chmod(mode)
    environ = {"HOME": str(folder), "TOKEN_PROXY_CONFIG": None, **mistake.environ}
    done = CliRunner().invoke(main, ["check"], env=environ)
    said = done.output.replace(str(folder), "/etc/token-proxy")
    return f"$ token-proxy check; echo $?\n{said}{done.exit_code}\n"


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One that other users can search, unlike pytest's: else no file in it is exposed."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        with monkeypatch.context() as context:
            context.chdir(name)
            yield Path(name)


@pytest.mark.parametrize("mistake", EACH, ids=[each.name for each in EACH])
def test_a_mistake_is_explained(mistake: Mistake, folder: Path) -> None:
    assert transcript_of(mistake, folder) == mistake.transcript


def test_all_51_mistakes_are_here() -> None:
    assert {each.number for each in EACH} == set(range(1, 52))
