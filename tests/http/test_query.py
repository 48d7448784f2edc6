"""Parameters of a target's query that are replaced: the others pass byte for byte."""

from urllib.parse import parse_qsl, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.query import spelled, with_parameters, without

NAMES = frozenset({b"access_token"})
CASES = [
    (b"/x", b"/x?"),
    (b"/x?", b"/x?"),
    (b"/x?a=1", b"/x?a=1&"),
    (b"/x?a=1&", b"/x?a=1&"),
    (b"/x?access_token=evil", b"/x?"),
    (b"/x?access_token", b"/x?"),
    (b"/x?access_token=evil&a=1", b"/x?a=1&"),
    (b"/x?a=1&access_token=e&b=2", b"/x?a=1&b=2&"),
    (b"/x?a=1;access_token=e;b=2", b"/x?a=1;b=2&"),
    (b"/x?%61ccess%5ftoken=e", b"/x?"),
    (b"/x?access.token=e&access%20token=e&+access_token=e&access_token[]=e&access_token%00x=e", b"/x?"),
    (b"/x?a=access_token", b"/x?a=access_token&"),
    (b"/x?my_access_token=1&Access_Token=2", b"/x?my_access_token=1&Access_Token=2&"),
    (b"/x?a=b?access_token=e", b"/x?a=b?access_token=e&"),
    (b"/access_token=1/x?q=%E4%20+", b"/access_token=1/x?q=%E4%20+&"),
]


@pytest.mark.parametrize(("path", "expected"), CASES)
def test_a_query_opened_for_the_token(path: bytes, expected: bytes) -> None:
    assert with_parameters(path, NAMES, b"k=v") == expected + b"k=v"


LINKS = [
    (b"/x/?access_token=t", b"/x/"),
    (
        b"https://other.example/x?a=1&access_token=t&b=2#access_token=t",
        b"https://other.example/x?a=1&b=2#access_token=t",
    ),
    (b"?%61ccess_token=t&a=1", b"?a=1"),
    (b"/x?a=1&#f", b"/x?a=1&#f"),
    (b"/x?", b"/x?"),
    (b"/access_token=1", b"/access_token=1"),
    (b"", b""),
]


@pytest.mark.parametrize(("link", "expected"), LINKS)
def test_a_link_that_does_not_show_the_token(link: bytes, expected: bytes) -> None:
    assert without(link, NAMES) == expected


@given(
    st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6))),
    st.sampled_from([b"access_token", b"%61ccess_token", b"access_token[x]", b"access+token"]),
    st.integers(0, 5),
)
def test_no_parameter_of_the_name_is_left_and_every_other_is(
    pairs: list[tuple[bytes, bytes]], ours: bytes, at: int
) -> None:
    others = [
        (bytes(byte for byte in name if byte > 0x40 and byte not in b"[`"), value.hex().encode())
        for name, value in pairs
    ]
    others = [pair for pair in others if pair[0]]
    shown = [b"%b=%b" % pair for pair in others]
    shown.insert(at, ours + b"=evil")
    opened = with_parameters(b"/x?" + b"&".join(shown), NAMES, b"access_token=ours")
    query = opened.partition(b"?")[2]
    assert query.split(b"&") == [b"%b=%b" % pair for pair in others] + [b"access_token=ours"]
    tokens = [value for name, value in parse_qsl(query.decode("latin-1")) if name == "access_token"]
    assert tokens == ["ours"]


@given(st.binary())
def test_a_spelling_never_fails_and_is_its_own(name: bytes) -> None:
    once = spelled(name.replace(b"%", b""))
    assert unquote_to_bytes(once) == once
    assert spelled(once.replace(b"+", b"")) == once.replace(b"+", b"").partition(b"[")[0]
