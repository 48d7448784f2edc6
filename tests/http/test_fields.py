"""Blocks of field lines: fields found and cut without parsing each of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http import fields
from proxy.http.fields import Rules

BLOCK = b"\r\nHost: a\r\nX-One:  1 \r\nx-one:2\r\nCONNECTION: close\r\nConnection:\tfoo"


def test_fields_are_found_by_name_in_any_case():
    read = Rules(read=[b"host", b"connection"], cut=[])
    assert read.apply(BLOCK) == ({b"host": [b"a"], b"connection": [b"close", b"foo"]}, BLOCK)


def test_a_field_is_read_by_its_own_name_only_and_its_twins_do_not_pass():
    block = b"\r\nX_Y: 1\r\n-x-y: 2\r\nx-y-: 3\r\nX-Y: 4"
    assert Rules(read=[b"x-y"], cut=[]).apply(block) == ({b"x-y": [b"4"]}, b"\r\nX-Y: 4")


def test_values_of_any_field_come_in_order():
    assert fields.values(BLOCK, b"x-one") == [b"1", b"2"]
    assert fields.values(BLOCK, b"x-on") == []


def test_lines_are_counted_and_measured():
    assert fields.count(BLOCK) == 5
    assert fields.largest(BLOCK) == len(b"CONNECTION: close")
    assert (fields.count(b""), fields.largest(b"")) == (0, 0)


CUT = [  # name of the field, whether the pattern for x-forwarded-for and te cuts it
    (b"X-Forwarded-For", True),
    (b"x_forwarded-for", True),
    (b"_X_FORWARDED_FOR_", True),
    (b"TE", True),
    (b"te_", True),
    (b"Tea", False),
    (b"Ate", False),
    (b"X-Forwarded-Fo", False),
    (b"X-Forwarded-Fork", False),
]


@pytest.mark.parametrize(("name", "cut"), CUT)
def test_a_line_is_cut_by_its_full_name_or_a_twin(name, cut):
    rules = Rules(read=[], cut=[b"x-forwarded-for", b"te"])
    block = b"\r\nA: te:\r\n%b: 1\r\nB: 2" % name
    assert rules.apply(block)[1] == (b"\r\nA: te:\r\nB: 2" if cut else block)


def test_a_prefix_cuts_all_names_that_begin_with_it():
    rules = Rules(read=[], cut=[b"host"], cut_prefix=b"x-forwarded-")
    block = b"\r\nX-Forwarded-Anything: 1\r\nX_Forwarded_B: 2\r\nX-Forward: 3"
    assert rules.apply(block) == ({}, b"\r\nX-Forward: 3")


@given(st.lists(st.tuples(st.sampled_from([b"A", b"te", b"TE", b"x-b"]), st.binary(max_size=6)), max_size=8))
def test_fields_that_are_not_cut_stay_byte_for_byte(lines):
    lines = [(name, value.replace(b"\r", b"").replace(b"\n", b"")) for name, value in lines]
    block = b"".join(b"\r\n%b: %b" % line for line in lines)
    kept = b"".join(b"\r\n%b: %b" % line for line in lines if line[0].lower() != b"te")
    assert Rules(read=[], cut=[b"te"]).apply(block)[1] == kept
