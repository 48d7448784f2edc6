"""docs/credentials.md: each configuration in it is one, with a route and what it leaves to the reader."""

import re

import pytest

from proxy.config.load import load
from tests.docs.pages import DOCS, blocks

CLIENT = '[credentials.crm]\nissuer = "https://login.example.com"\nclient_id = "crm"\n'
BLOCKS = [each.text for each in blocks(DOCS / "credentials.md") if each.language == "toml"]


def test_there_are_blocks():
    assert len(BLOCKS) >= 7


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.partition("\n")[0])
def test_a_block_is_a_configuration(tmp_path, block):
    text = block if block.startswith("[credentials.") else f"{CLIENT}{block}"
    name = re.search(r"\[credentials\.([\w-]+)\]", text)[1]
    if "[[routes]]" not in text:
        text += f'\n[[routes]]\npath = "/x"\nupstream = "https://api.example"\ncredential = "{name}"\n'
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert name in load(path, {}, secrets=False).config.credentials
