"""deploy/README.md: its links lead somewhere, its commands name what is there, and nothing is left out."""

import re

import pytest

from tests.deploy import configuration
from tests.deploy.tools import DEPLOY

TEXT = (DEPLOY / "README.md").read_text()
ROWS = TEXT.partition("## What was run")[2]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", TEXT))))
def test_links_lead_somewhere(target):
    assert (DEPLOY / target).exists()


def test_commands_name_what_is_there():
    named = re.findall(r"(?<!tests/)(?<!main/)deploy/[\w./-]*\w", TEXT)
    assert named
    for path in named:
        assert (DEPLOY.parent / path).exists(), path


def test_each_artefact_says_whether_it_was_run():
    folders = {path.name for path in DEPLOY.iterdir() if path.is_dir()}
    for name in folders - {"docker"}:  # whose files have rows of their own
        assert f"| {name}/" in ROWS or f" {name}/ |" in ROWS, name
    for name in ("Dockerfile", "compose.yaml"):
        assert f"| {name} |" in ROWS
    for test in re.findall(r"`(test_\w+\.py)`|`tests/deploy/(test_\w+\.py)`", ROWS):
        assert (DEPLOY.parent / "tests" / "deploy" / "".join(test)).exists(), test


def test_the_variables_of_docker_run_are_a_configuration(tmp_path):
    given = dict(re.findall(r"--env (TOKEN_PROXY_\w+)=(\S+)", TEXT))
    assert given
    given = {name: value.replace("…", "given") for name, value in given.items()}
    (tmp_path / "state").mkdir()
    done = configuration.run(tmp_path, {**given, "STATE_DIRECTORY": str(tmp_path / "state")}, "check")
    assert done.returncode == 0, done.stderr
