"""What the pages take from the code is current: `make reference` would change nothing."""

import ast
import copy
import re

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.tools import commands, configuration, generate, metrics, status
from docs.tools.markdown import text, toml
from proxy.cli import main
from proxy.config.load import schema
from tests.docs.pages import DOCS, REPOSITORY

MADE = sorted(generate.pages())
SCHEMA = schema()


@pytest.mark.parametrize("page", MADE, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_page_is_as_the_code_says(page):
    assert generate.filled(page.read_text()) == page.read_text(), "out of date: run `make reference`"


def test_each_part_has_a_page():
    assert sorted(generate.places()) == sorted(generate.PARTS)


def test_a_place_without_a_part_is_an_error():
    with pytest.raises(generate.UnknownPart):
        generate.filled("<!-- generated: nothing -->\n<!-- end -->")


# -- the configuration


def keys(node):
    """All keys of all tables, at any depth."""
    return {(name, key) for name, each in node["$defs"].items() for key in each.get("properties", {})}


def test_each_key_of_the_configuration_has_a_row():
    page = (DOCS / "reference" / "configuration.md").read_text()
    listed = set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE))
    assert listed >= {key for _, key in keys(SCHEMA)}


def test_a_key_without_text_is_an_error():
    for table, key in sorted(keys(SCHEMA)):
        changed = copy.deepcopy(SCHEMA)
        changed["$defs"][table]["properties"][key]["description"] = ""
        with pytest.raises(configuration.MissingText, match=re.escape(f"{table}.{key}")):
            configuration.page(changed)


@pytest.mark.parametrize("table", sorted(SCHEMA["properties"]))
def test_a_table_of_the_file_without_text_is_an_error(table):
    changed = copy.deepcopy(SCHEMA)
    del changed["properties"][table]["description"]
    with pytest.raises(configuration.MissingText, match=table):
        configuration.page(changed)


def test_a_table_without_text_is_an_error():
    changed = copy.deepcopy(SCHEMA)
    changed["$defs"]["Server"]["description"] = ""
    with pytest.raises(configuration.MissingText, match="Server"):
        configuration.page(changed)


def test_links_to_tables_lead_to_their_headings():
    page = configuration.page(SCHEMA)
    headings = {configuration._heading(each) for each in re.findall(r"^## (.+)$", page, re.MULTILINE)}
    links = set(re.findall(r"\]\(#([^)]+)\)", page)) - {"secrets"}
    assert links
    assert links <= headings


# -- the commands


def test_each_command_and_option_is_listed():
    page = commands.page(main)
    for name, command in main.commands.items():
        section = page.partition(f"\n## token-proxy {name}\n")[2].partition("\n## ")[0]
        own = [each for each in command.params if not commands.OF_ALL.intersection(each.opts)]
        options = [each for each in own if isinstance(each, click.Option) and not each.hidden]
        assert section
        for option in options:
            assert option.opts[0] in section, (name, option.opts)


# -- metrics and status


def test_a_metric_without_a_group_is_an_error():
    found = metrics.exported()
    found["token_proxy_new_total"] = metrics.Exported("counter", [], "New.")
    with pytest.raises(metrics.Unlisted, match="token_proxy_new_total"):
        metrics.page("tokens", found)


def test_a_field_of_the_status_without_a_comment_is_an_error(tmp_path):
    source = tmp_path / "status.py"
    source.write_text(
        'class Entry(TypedDict):\n    """One."""\n\n    state: str  # its state\n    routes: list[str]\n'
    )
    with pytest.raises(status.MissingText, match=r"Entry: routes"):
        status.page(source)


@pytest.mark.parametrize(
    ("annotation", "word"),
    [
        ("float | None", "number or null"),
        ("list[Entry]", "list of [Entry](#entry)"),
        ("dict[str, dict[str, int]]", "object of object of number"),
        ("TokenState", "string"),
    ],
)
def test_types_have_the_words_of_json(annotation, word):
    assert status.kind(ast.parse(annotation, mode="eval").body, {"Entry"}) == word


# -- Markdown


@given(st.text(st.sampled_from("ab_*|<>[]\\ ` \n")))
def test_text_ends_no_cell_and_opens_no_tag(plain):
    shown = text(plain)
    outside = re.sub(r"`[^`]*`", "", shown)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<\[*]", outside)
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("value", "written"),
    [(True, "true"), (0.8, "0.8"), (["a"], '["a"]'), ({"a": 1}, "{ a = 1 }"), ("ä", '"ä"')],
)
def test_values_are_written_as_in_toml(value, written):
    assert toml(value) == written
