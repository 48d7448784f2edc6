"""Every key and value that tomllib finds has its position."""

import json
import string
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.positions import Path, find_positions

DOCUMENTS = {  # what each is about -> text; the texts at the places are checked by the same rule as below
    "empty": "",
    "only comments": "# nothing = 1\n\n  # [here]",
    "dotted keys": "a.b.c = 1\na . 'b' . \"d\" = 2\n",
    "headers with spaces and comments": "  [ a . 'b' ]  # [x]\n\tc = 1 # d = 2\n",
    "quoted keys": "\"a b\" = 1\n'c.d' = 2\n\"\\u0065\" = 3\n'' = 4\n",
    "strings that look like TOML": 'a = \'[x]\'\nb = "y = 1 # \\" z"\nc = 3\n',
    "multi-line strings": 'a = """\nb = 1\n"" ]\\"""""\nc = \'\'\'\nx = \'\'2\'\'\'\'\nd = 3\n',
    "empty strings": "a = ''\nb = \"\"\nc = \"\"\"\"\"\"\nd = ''''''\ne = 1\n",
    "numbers and dates": "a = -1_000.5e3\nb = 1979-05-27 07:32:00Z  # c\nd = inf\ne = true\nf = 0xff\n",
    "arrays": "a = [ 1, [ 'x', [] ], { y = 1 }, # ]\n  2,\n]\nb = 1\n",
    "inline tables": "a = { b = 1, c.d = '}', e = { f = [ 2 ] } }\nb = {}\n",
    "arrays of tables": "[[a]]\nx = 1\n[a.b]\ny = 2\n[[a]]\nx = 3\n[[a.c]]\nz = 4\n[[a.c]]\nz = 5\n[d]\n",
    "a table after its child": "[a.b]\nx = 1\n[a]\ny = 2\n",
    "no newline at the end": "a = 1",
    "characters of several bytes": "'ä' = '€' # ü\nb = '𝄞'\nc = 1\n",
}


def leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each scalar value, with its path."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if not isinstance(node, dict | list):
        yield path, node
    for step, child in children:
        yield from leaves(child, (*path, step))


def tables(node: Any, path: Path = ()) -> Iterator[Path]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if isinstance(node, dict) and path:
        yield path
    for step, child in children:
        yield from tables(child, (*path, step))


def assert_everything_has_its_place(text: str) -> None:
    data, found = tomllib.loads(text), find_positions(text)
    for path, value in leaves(data):
        token = text[found.values[path] : found.scalars[path]]
        assert tomllib.loads(f"x = {token}")["x"] == value
    assert set(found.scalars) == {path for path, _ in leaves(data)}
    for path in (path for path in (*tables(data), *found.scalars) if isinstance(path[-1], str)):
        assert reads_as_key(text[found.keys[path] :], str(path[-1]))
    for path in tables(data):
        start = found.of_value(path)
        assert text[start] in "[{" or reads_as_key(text[start:], str(path[-1]))


def reads_as_key(text: str, key: str) -> bool:
    """Whether the text starts with the key, in any of its notations."""
    line = text.partition("\n")[0]
    ends = (end for end in range(1, len(line) + 1) if line[end : end + 1] in ("", " ", ".", "=", "]"))
    return any(first_key(line[:end]) == key for end in ends)


def first_key(token: str) -> str | None:
    try:
        table = tomllib.loads(f"{token} = 1")
    except tomllib.TOMLDecodeError:
        return None
    key, value = next(iter(table.items()))
    return key if value == 1 else None


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_key_and_value_has_its_place(text: str) -> None:
    assert_everything_has_its_place(text)


def test_a_table_is_at_its_header_and_an_inline_table_at_its_brace() -> None:
    text = "[a]\nb = { c = 1 }\n[[d]]\n[[d]]\n[e.f]\n"
    found = find_positions(text)
    assert found.of_value(("a",)) == text.index("[a]")
    assert found.of_value(("a", "b")) == text.index("{")
    assert found.of_value(("d", 1)) == text.rindex("[[d]]")
    assert found.of_value(("e",)) == text.index("e.f")


def test_a_missing_key_has_the_place_of_its_table() -> None:
    text = "[a]\nb = 1\n"
    found = find_positions(text)
    assert found.of_value(("a", "missing")) == text.index("[a]")
    assert found.of_value(("a", "b", 0)) == text.index("1")
    assert found.of_key(("a", "missing")) == text.index("[a]")
    assert found.of_value(("missing", "too")) == 0


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # TOML's escapes, as far as JSON needs any


texts = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\x7f"), max_size=8)
spaces = st.sampled_from(["", " ", "\t ", "  "])
breaks = st.sampled_from(["\n", "\n\n", " # x = [1]\n", "\t#\n  "])
scalars = st.one_of(
    texts.map(quoted),
    texts.filter(lambda text: "'" not in text).map(lambda text: f"'{text}'"),
    texts.filter(lambda text: "'" not in text).map(lambda text: f"'''\n{text}\n{text}'''"),
    texts.map(lambda text: '"""' + quoted(text)[1:-1] + '\n"""'),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.floats(allow_nan=False).map(str),
    st.booleans().map(json.dumps),
    st.dates().map(str),
)
keys = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=4) | texts.map(quoted)


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.tuples(breaks | spaces, values, breaks | spaces), max_size=3)
    return items.map(lambda items: "[" + ",".join(map("".join, items)) + "]")


def inline_tables(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(keys, spaces, values), max_size=3, unique_by=lambda pair: pair[0])
    return pairs.map(
        lambda pairs: "{" + ",".join(f"{key}{gap}={gap}{value}{gap}" for key, gap, value in pairs) + "}"
    )


values = st.recursive(scalars, lambda inner: arrays(inner) | inline_tables(inner), max_leaves=5)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """TOML-like text; whether it is TOML (no key twice) is left to tomllib."""
    dotted = st.lists(keys, min_size=1, max_size=3).map(".".join)
    pair = st.tuples(spaces, dotted, spaces, values, breaks).map(
        lambda parts: f"{parts[0]}{parts[1]}{parts[2]}={parts[2]}{parts[3]}{parts[4]}"
    )
    header = st.tuples(dotted, spaces, breaks).map(
        lambda parts: f"[{parts[1]}{parts[0]}{parts[1]}]{parts[2]}"
    )
    array_header = dotted.map(lambda key: f"[[{key}]]\n")
    return "".join(draw(st.lists(pair | pair | header | array_header, max_size=8)))


@settings(deadline=None)
@given(documents())
def test_every_key_and_value_of_any_document_has_its_place(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert_everything_has_its_place(text)
