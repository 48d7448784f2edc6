"""What is said of typical mistakes, word for word: the documents beside this file."""

import os
import subprocess
import sys
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
    write(mistake, folder)
    environ = {"HOME": str(folder), "TOKEN_PROXY_CONFIG": None, **mistake.environ}
    done = CliRunner().invoke(main, ["check"], env=environ)
    return shown(done.output, done.exit_code, folder)


def write(mistake: Mistake, folder: Path) -> None:
    (folder / "config.toml").write_text(mistake.config, "utf-8")
    for name, (mode, content) in mistake.files.items():
        (folder / name).write_text(content, "utf-8")
        (folder / name).chmod(mode)


def shown(said: str, code: int, folder: Path) -> str:
    return f"$ token-proxy check; echo $?\n{said.replace(str(folder), '/etc/token-proxy')}{code}\n"


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


IN_A_PROCESS = [each for each in EACH if each.name.startswith(("5.", "36.", "50b."))]


@pytest.mark.parametrize("mistake", IN_A_PROCESS, ids=[each.name for each in IN_A_PROCESS])
def test_the_command_itself_says_so(mistake: Mistake, folder: Path) -> None:
    write(mistake, folder)
    environ = {**os.environ, "HOME": str(folder), **mistake.environ}
    environ.pop("TOKEN_PROXY_CONFIG", None)
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "check"],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert shown(done.stdout, done.returncode, folder) == mistake.transcript


def test_all_51_mistakes_are_here() -> None:
    assert {each.number for each in EACH} == set(range(1, 52))
