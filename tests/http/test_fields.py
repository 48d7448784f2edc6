"""Blocks of field lines."""

from proxy.http import fields

BLOCK = b"\r\nHost: a\r\nX-One:  1 \r\nx-one:2\r\nCONNECTION: close\r\nConnection:\tfoo"


def test_values_of_any_field_come_in_order():
    assert fields.values(BLOCK, b"x-one") == [b"1", b"2"]
    assert fields.values(BLOCK, b"x-on") == []


def test_lines_are_counted_and_measured():
    assert fields.count(BLOCK) == 5
    assert fields.largest(BLOCK) == len(b"CONNECTION: close")
    assert (fields.count(b""), fields.largest(b"")) == (0, 0)
