"""Each `token-proxy …` in the documents is a command that exists, with options that it has."""

import re
import shlex
from pathlib import Path

import click
import pytest

from proxy.cli import main
from proxy.demo.__main__ import main as demo_server

REPOSITORY = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md")
    for path in REPOSITORY.glob(pattern)
    if path.name != "CHANGELOG.md"  # which tells of earlier versions
)
FENCED = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")
# At the beginning of a line, or after what runs it; not the name of a unit, a container or a package.
COMMAND = re.compile(
    r"(?:^ *|(?:sudo|CONTAINER|HOST|&&|\$\(|-cmd \"|'!))(?: *)(?:\.?venv/bin/)?token-proxy +(\S.*)$",
    re.MULTILINE,
)
END = re.compile(r"\s#\s.*|[|;&>)\"].*|'$")  # of a command in its line
MAKE = re.compile(r"(?:^ *|`)make ([a-z-]+)", re.MULTILINE)
DEMO = re.compile(r"python -m proxy\.demo((?: +--[a-z-]+(?: [^-\s`]\S*)?)*)")
PLACEHOLDERS = {"FILE": "/dev/null", "SECONDS": "1", "…": ""}


def commands(text):
    return [" ".join(END.sub("", found).split()) for found in COMMAND.findall(text.replace("\\\n", " "))]


def in_blocks(path):
    return [line for block in FENCED.findall(path.read_text()) for line in commands(block)]


def in_sentences(path):
    return [line for code in QUOTED.findall(FENCED.sub("", path.read_text())) for line in commands(code)]


IN_BLOCKS = {line: path for path in DOCUMENTS for line in in_blocks(path)}
IN_SENTENCES = {line: path for path in DOCUMENTS for line in in_sentences(path)}


def parse(line):
    """As click does, without running it. Raises ClickException."""
    name, *words = (PLACEHOLDERS.get(word, word) for word in shlex.split(line))
    if name == "--version":
        return
    command = main.commands.get(name)
    if command is None:
        raise click.UsageError(f"no command {name}")
    group = click.Context(main, **main.context_settings)  # whose help options the command keeps
    command.make_context(name, words, parent=group)


def fault(line):
    """What is wrong with a command line; None: nothing."""
    try:
        parse(line)
    except click.exceptions.Exit:  # of --help and the like
        return None
    except click.ClickException as error:
        return error
    return None


@pytest.mark.parametrize("line", IN_BLOCKS)
def test_a_command_to_copy_parses(line):
    assert fault(line) is None, IN_BLOCKS[line]


@pytest.mark.parametrize("line", IN_SENTENCES)
def test_a_command_that_a_sentence_names_parses_but_for_its_arguments(line):
    found = fault(line)
    assert found is None or isinstance(found, click.MissingParameter), IN_SENTENCES[line]


def test_targets_of_make_exist():
    made = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {target: path for path in DOCUMENTS for target in MAKE.findall(path.read_text())}
    assert {"demo", "test", "docs", "reference", "speed"} <= named.keys()
    assert {target: path for target, path in named.items() if target not in made} == {}


def test_options_of_the_demo_server_exist():
    known = {name for option in demo_server.params for name in option.opts} | {"--help"}
    named = {
        option for path in DOCUMENTS for line in DEMO.findall(path.read_text()) for option in line.split()
    }
    assert "--client" in named
    assert {option for option in named if option.startswith("--")} <= known


def test_all_commands_are_documented():
    used = {line.split()[0] for line in (*IN_BLOCKS, *IN_SENTENCES)}
    assert set(main.commands) - used == set()


@pytest.mark.parametrize("line", ["statis", "status --jsno", "wait --timeout soon", "token"])
def test_a_command_that_does_not_exist_is_noticed(line):
    assert fault(line) is not None
