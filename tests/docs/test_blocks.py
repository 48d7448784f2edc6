"""Fenced blocks of the documents are what their language says. TOML has a file of its own: test_toml.py."""

import json
import subprocess

import pytest
import yaml

from tests.docs.pages import PAGES, REPOSITORY, blocks

KNOWN = {"", "text", "http", "sh", "toml", "yaml", "json", "python", "typescript", "nginx"}
BLOCKS = [
    (f"{page.relative_to(REPOSITORY)}:{number}", block)
    for page in PAGES
    for number, block in enumerate(blocks(page))
]


def of(language):
    found = [pytest.param(block.text, id=name) for name, block in BLOCKS if block.language == language]
    assert found
    return found


def test_languages_are_known():
    assert {name for name, block in BLOCKS if block.language not in KNOWN} == set()


def test_shell_blocks_are_valid():
    scripts = [param.values[0] for param in of("sh")]
    done = subprocess.run(  # each in a function of its own, so that one process reads them all
        ["bash", "-n"],
        input="".join(f"block{number}() {{\n{text}\n}}\n" for number, text in enumerate(scripts)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("text", of("python"))
def test_python_blocks_are_valid(text):
    compile(text, "block", "exec")


@pytest.mark.parametrize("text", of("json"))
def test_json_blocks_are_valid(text):
    json.loads(text)


@pytest.mark.parametrize("text", of("yaml"))
def test_yaml_blocks_are_valid(text):
    assert yaml.safe_load(text)
