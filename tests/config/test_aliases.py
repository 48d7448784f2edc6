"""Other tools' names for our keys and values: the table, and what is said of each of its names."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.aliases import CHOICES, OTHERWISE, SAME
from proxy.config.fault_messages import NOT_YET
from proxy.config.keys import known_keys
from proxy.config.meanings import choice, kind_of, meant
from proxy.config.schema import schema

from .conftest import Complaints

PLACES = {  # a table of each kind
    "": (),
    "server": ("server",),
    "store": ("store",),
    "log": ("log",),
    "limits": ("limits",),
    "notify": ("notify",),
    "credentials.*": ("credentials", "x"),
    "routes.*": ("routes", 0),
    "callers.*": ("callers", "x"),
    "tls": ("routes", 0, "tls"),
    "server.tls": ("server", "tls"),
}
HEADERS = {
    "": "",
    "credentials.*": "[credentials.x]\n",
    "routes.*": "[[routes]]\n",
    "callers.*": "[callers.x]\n",
    "tls": "[[routes]]\n[routes.tls]\n",
}
EACH = [
    *(
        (kind, name, ours)
        for kind, keys in SAME.items()
        for ours, names in keys.items()
        for name in names.split()
    ),
    *(
        (kind, name, ours)
        for kind, keys in OTHERWISE.items()
        for names, (ours, _) in keys.items()
        for name in names.split()
    ),
]


def known(kind: str) -> set[str]:
    """The keys of all tables of a kind."""
    return set(known_keys(PLACES[kind]))


def squeezed(name: str) -> str:
    return name.replace("_", "")


def test_the_tables_are_those_of_the_file() -> None:
    assert {kind for kind, _, _ in EACH} == set(PLACES)
    assert {kind: kind_of(place) for kind, place in PLACES.items()} == {kind: kind for kind in PLACES}


def test_each_name_stands_for_one_key_that_exists() -> None:
    for kind, name, ours in EACH:
        assert ours in {*known(kind), ""}, (kind, name, ours)
    repeated = Counter((kind, squeezed(name)) for kind, name, _ in EACH)
    assert [name for name, count in repeated.items() if count > 1] == []


def test_no_name_is_one_of_ours() -> None:
    for kind, name, _ in EACH:
        assert squeezed(name) not in {squeezed(key) for key in (*known(kind), *NOT_YET)}, (kind, name)


def test_each_name_is_said_to_be_unknown_and_what_it_means(complaints: Complaints) -> None:
    """Of the table that has them all: so that one process loads nine files, not three hundred."""
    for kind in PLACES:
        header = HEADERS.get(kind, f"[{kind}]\n")
        names = [name for of, name, _ in EACH if of == kind]
        found = complaints(header + "".join(f"{name} = 1\n" for name in names))
        said = [each for each in found if "unknown key" in each]
        assert len(said) == len(names), kind
        for name, sentence in zip(names, said, strict=True):
            assert re.search(f"unknown key '{name}' - (did you mean|leave it out|expected) ?", sentence), (
                sentence
            )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[credentials.x]\nclient_id = 'a'\ntoken_url = 'https://a.example'", "token_endpoint"),
        ("[credentials.x]\nclient_id = 'a'\nissuer_url = 'https://a.example'", "issuer"),
        ("[credentials.x]\nclient_id = 'a'\ntenant = 'x'", "issuer"),
        ("[credentials.x]\nissuer = 'https://a.example'\nappId = 'a'", "client_id"),
        ("[[routes]]\npath = '/x'\nproxy_pass = 'https://a.example'\ncredential = 'x'", "upstream"),
        ("[[routes]]\nlocation = '/x'\nupstream = 'https://a.example'\ncredential = 'x'", "path"),
    ],
)
def test_the_key_is_not_said_to_be_missing_too(text: str, key: str, complaints: Complaints) -> None:
    found = complaints(text)
    assert sum(key in each for each in found) == 1
    assert not any(f"{key} is missing" in each for each in found)


def test_a_value_under_another_tools_name_is_checked(complaints: Complaints) -> None:
    found = complaints("[credentials.x]\nclientId = 'a'\ntoken_uri = 'http://a.example'")
    assert "3:13: http would expose secrets to the network: expected https (http on loopback only)" in found


def test_a_value_in_another_form_is_not(complaints: Complaints) -> None:
    found = complaints("[server]\nport = 'x'")
    assert found == ["""2:1: unknown key 'port' - did you mean listen = "127.0.0.1:8080"?"""]


def test_both_names_at_once_are_one_fault(complaints: Complaints) -> None:
    text = "[credentials.x]\nclient_id = 'a'\nissuer = 'https://a.example'\nauthority = 'https://b.example'"
    assert complaints(text) == ["4:1: unknown key 'authority' - did you mean 'issuer'?"]


@pytest.mark.parametrize(
    ("line", "place"),
    [("grant = 'api_key'", "2:9"), ("grant_type = 'apiKey'", "2:14"), ("grant = 'Static'", "2:9")],
)
def test_a_grant_under_another_name_requires_what_it_means(
    line: str, place: str, complaints: Complaints
) -> None:
    *_, found = complaints(f"[credentials.x]\n{line}\nvalue = 'a'")
    assert found.startswith(f'{place}: expected "authorization_code", ')
    assert found.endswith('did you mean "static"?')
    assert len(complaints(f"[credentials.x]\n{line}")) == 2 + line.startswith("grant_type")


def test_what_refers_to_a_table_under_another_name_finds_it(complaints: Complaints) -> None:
    text = (
        "[clients.x]\nclient_id = 'a'\nissuer = 'https://a.example'\n"
        "[[backends]]\npath = '/x'\nupstream = 'https://a.example'\ncredential = 'x'\n"
    )
    assert complaints(text) == [
        "1:2: unknown key 'clients' - did you mean 'credentials'?",
        "4:3: unknown key 'backends' - did you mean 'routes'?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[[callers]]\nname = 'a'\nkey = 'short'\n[[callers]]\nname = 'b'\nkey = 'short'",
            [
                "1:1: these tables have names: expected [callers.a]",
                "3:7: expected a key: one line of at least 20",
            ],
        ),
        ("[[credentials]]\nclient_id = 'a'", ["1:3: expected a table"]),
        (
            "[[credentials]]\nname = 'a'\n[[credentials]]\nname = 'a'",
            ["1:3: expected a table"],
        ),
        (
            "[credentials.a.b]\nclient_id = 'x'\n[credentials.a-b]\nclient_id = 'x'\nissuer = 'https://l.example'",
            ["1:1: a name has no dots: expected [credentials.a-b]"],
        ),
        (
            "[credentials.a.b]",
            ["1:14: client_id is missing", "1:14: issuer is missing", "1:16: unknown key 'b'"],
        ),
        ("credentials = 1", ["1:15: expected a table"]),
        (
            "[credentials]\na = 1",
            ["2:5: not a table: expected keys below a header with a name, [credentials.NAME]"],
        ),
    ],
)
def test_tables_in_another_shape(text: str, expected: list[str], complaints: Complaints) -> None:
    found = complaints(text)
    for start in expected:
        assert any(each.startswith(start) for each in found), found


def test_other_names_of_values_are_of_values_that_exist() -> None:
    choices = {
        key: node["enum"]
        for table in schema()["$defs"].values()
        for key, node in table["properties"].items()
        if key in CHOICES and "enum" in node
    }
    assert choices.keys() == CHOICES.keys()
    for key, meanings in CHOICES.items():
        assert set(meanings) <= set(choices[key])
        others = [other for names in meanings.values() for other in names.split()]
        assert len(others) == len(set(others))
        assert not set(others) & set(choices[key])
        for ours, names in meanings.items():
            assert {choice(key, name, choices[key]) for name in names.split()} == {ours}


def spelled(key: str, way: int) -> str:
    words = key.split("_")
    match way:
        case 0:
            return words[0] + "".join(word.capitalize() for word in words[1:])
        case 1:
            return "-".join(words)
        case 2:
            return key.upper()
        case _:
            return "".join(words)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_spelling_of_a_key_does_not_matter(data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(list(PLACES.values())))
    keys = known_keys(place)
    key = data.draw(st.sampled_from(keys))
    found = meant(place, spelled(key, data.draw(st.integers(0, 3))), keys)
    assert found is not None
    assert found.key == key
