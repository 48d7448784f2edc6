"""Each entry of the fuzzer holds over its corpus: the seeds, and all earlier findings."""

from pathlib import Path

import pytest

from tests.relay.stage import Stage

from . import conversations, entries

CORPUS = Path(__file__).parent / "corpus"


def seeds(names):
    return [
        pytest.param(name, file, id=f"{name}-{file.name}")
        for name in names
        for file in sorted((CORPUS / name).iterdir())
    ]


@pytest.fixture(scope="module")
def stage():
    with Stage() as made:
        yield made


@pytest.mark.parametrize(("name", "file"), seeds(entries.ENTRIES))
def test_a_seed_keeps_the_properties_of_a_parser(name, file):
    entries.ENTRIES[name](file.read_bytes())


@pytest.mark.parametrize(("name", "file"), seeds(conversations.ENTRIES))
def test_a_seed_keeps_the_properties_of_the_relay(stage, name, file):
    conversations.ENTRIES[name](stage, file.read_bytes())


def test_every_folder_of_seeds_has_its_entry():
    assert {folder.name for folder in CORPUS.iterdir()} == {*entries.ENTRIES, *conversations.ENTRIES}
