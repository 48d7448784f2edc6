"""QR codes: the modules that are drawn are those of the code."""

import re

import segno
from hypothesis import given
from hypothesis import strategies as st

from proxy import qr_code

URLS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300)
HALVES = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}


@given(URLS)
def test_each_character_of_a_terminal_is_two_modules(url):
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in qr_code.text(url).split("\n")]
    drawn = []
    for line in lines:
        upper, lower = zip(*(HALVES[character] for character in line), strict=True)
        drawn += [list(upper), list(lower)]
    expected = [
        [1 if module else 0 for module in row] for row in segno.make_qr(url, error="l").matrix_iter(border=2)
    ]
    assert drawn[: len(expected)] == expected
    assert all(not any(row) for row in drawn[len(expected) :])


@given(URLS)
def test_a_page_gets_one_element_that_no_policy_refuses(url):
    svg = qr_code.svg(url)
    assert svg.startswith("<svg ")
    assert svg.rstrip().endswith("</svg>")
    assert not re.search(r"style|class|href|script|data:|on\w+=", svg)
