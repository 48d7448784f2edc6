"""Each TOML block of the documents is a configuration: as it stands, or with what it leaves to the reader."""

import re

import pytest

from proxy.config.load import load
from proxy.errors import ConfigError
from tests.docs.pages import DOCS, PAGES, REPOSITORY, blocks

ISSUER = 'issuer = "https://login.example.com"\nclient_id = "app"\n'
ROUTE = (
    '\n[[routes]]\nname = "{name}"\npath = "/{name}"\nupstream = "https://api.example"\ncredential = "{of}"\n'
)
CALLER = f'\n[callers.somebody]\nkey_sha256 = "{"a1" * 32}"\n'
BEYOND = re.compile(r'"(?:0\.0\.0\.0|172\.17\.0\.1):\d+"')
WITHOUT_ISSUER = re.compile(r"^(issuer|token_endpoint|mcp|value|jwt|key) = ", re.MULTILINE)


def found(pattern, text):
    return re.findall(pattern, text, re.MULTILINE)


def quoted(lists):
    """The strings of lists."""
    return [name for each in lists for name in re.findall(r'"([\w-]+)"', each)]


def completed(block):
    """With the credentials, routes and callers that it names, and the keys that it leaves out."""
    text = block.replace('"…"', f'"{"b2" * 32}"')
    if text[0] not in "[#":  # keys of a credential
        text = f"[credentials.crm]\n{text}"
    table = re.search(r"^\[credentials\.[\w-]+\]\n(?P<keys>[^\[]*)", text, re.MULTILINE)
    if table is not None and not WITHOUT_ISSUER.search(table["keys"]):
        text = text.replace(table["keys"], ISSUER + table["keys"], 1)
    defined = found(r"^\[credentials\.([\w-]+)\]", text)
    names = [*defined, *found(r'^credential = "([\w-]+)"', text)] or ["crm"]
    text += "".join(
        f"\n[credentials.{name}]\n{ISSUER}" for name in dict.fromkeys(names) if name not in defined
    )
    routes = found(r'^(?:name|path) = "/?([\w-]+)"', text)
    text += "".join(
        ROUTE.format(name=name, of=names[0])
        for name in dict.fromkeys(quoted(found(r"^routes = \[(.*)\]", text)))
        if name not in routes
    )
    if "[[routes]]" not in text and "mcp =" not in text:
        text += ROUTE.format(name="x", of=names[0])
    return (
        text + CALLER
        if BEYOND.search("".join(found("^listen = .*", text))) and "[callers." not in text
        else text
    )


BLOCKS = [
    pytest.param(page, each.text, id=f"{page.relative_to(REPOSITORY)}:{number}")
    for page in PAGES
    for number, each in enumerate(each for each in blocks(page) if each.language == "toml")
]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_a_block_is_a_configuration(tmp_path, page, block):
    path = tmp_path / "config.toml"
    path.write_text(completed(block))
    assert load(path, {}, secrets=False).config.routes


def test_there_are_blocks_on_these_pages():
    pages = {each.values[0] for each in BLOCKS}
    names = ("providers", "recipes", "credentials", "agents", "teams", "mcp", "stores", "security")
    assert pages >= {REPOSITORY / "README.md", *(DOCS / f"{name}.md" for name in names)}


@pytest.mark.parametrize(
    "block",
    [
        '[credentials.crm]\nisuer = "https://login.example.com"\nclient_id = "x"\n',
        '[[routes]]\npath = "crm"\nupstream = "https://api.example"\ncredential = "crm"\n',
        '[server]\nbind = "127.0.0.1:8080"\n',
    ],
)
def test_a_fault_is_noticed(tmp_path, block):
    path = tmp_path / "config.toml"
    path.write_text(completed(block))
    with pytest.raises(ConfigError):
        load(path, {}, secrets=False)


# -- providers

PROVIDERS = [each.text for each in blocks(DOCS / "providers.md") if each.language == "toml"]


@pytest.mark.parametrize("block", PROVIDERS, ids=lambda block: re.search(r"credentials\.(\w+)", block)[1])
def test_a_provider_is_whole_and_without_a_warning_but_on_pkce(tmp_path, block):
    path = tmp_path / "config.toml"
    path.write_text(block)
    loaded = load(path, {}, secrets=False)
    (credential,) = loaded.config.credentials.values()
    assert credential.grant == "authorization_code"
    said = [str(each) for each in (*loaded.warnings, *loaded.advice, *loaded.unused)]
    assert [each for each in said if "pkce" not in each] == []


def test_there_are_fifteen_providers_with_a_row_each():
    text = (DOCS / "providers.md").read_text()
    rows = re.findall(r"^\| \[.+\]\(#(.+?)\)", text, re.MULTILINE)
    assert len(PROVIDERS) == len(rows) == len(set(rows)) >= 15
