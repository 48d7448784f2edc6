"""The trace id of a request: exactly that of a valid traceparent, else nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http import traceparent
from proxy.http.traceparent import trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
VALUE = f"00-{TRACE}-00f067aa0ba902b7-01"


def block(*lines):
    return "".join(f"\r\n{line}" for line in ("Host: x", *lines, "Accept: */*")).encode("latin-1")


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TraceParent", "traceParent"])
@pytest.mark.parametrize("value", [VALUE, f"  {VALUE}\t", f"cc-{VALUE[3:]}", f"cc-{VALUE[3:]}-what-ever"])
def test_a_valid_field_has_a_trace(name, value):
    assert trace_id(block(f"{name}:{value}")) == TRACE
    assert trace_id(f"\r\n{name}: {value}".encode()) == TRACE  # alone


INVALID = {
    "no value": "",
    "upper case": VALUE.upper(),
    "too short": VALUE[:-1],
    "more than the first version has": f"{VALUE}-00",
    "a digit too many": f"{VALUE}0",
    "no such version": f"ff-{VALUE[3:]}",
    "no trace": f"00-{'0' * 32}-00f067aa0ba902b7-01",
    "no parent": f"00-{TRACE}-{'0' * 16}-01",
    "no hexadecimal digit": VALUE.replace("4bf9", "4bg9"),
    "two values": f"{VALUE}, {VALUE}",
    "in quotes": f'"{VALUE}"',
    "a token": "Bearer s3cret",
    "other separators": VALUE.replace("-", "_"),
    "not ASCII": VALUE.replace("4", "\xb2", 1),
}


@pytest.mark.parametrize("value", INVALID.values(), ids=INVALID)
def test_an_invalid_field_has_none(value):
    assert trace_id(block(f"traceparent: {value}")) == ""


def test_two_fields_have_none():
    line = f"traceparent: {VALUE}"
    assert trace_id(block(line, "A: b", line)) == ""
    assert trace_id(block(line, "Traceparent: nonsense")) == ""
    assert trace_id(block("Traceparent: nonsense", line)) == ""


def test_other_fields_are_other_fields():
    others = ("Parent: x", f"X-Traceparent: {VALUE}", f"parent: {VALUE}", f"Note: traceparent: {VALUE}")
    assert trace_id(block(*others)) == ""
    assert trace_id(f"\r\nParent: {VALUE}".encode()) == ""
    assert trace_id(block(*others, f"traceparent: {VALUE}", *others)) == TRACE
    assert trace_id(block()) == ""
    assert trace_id(b"") == ""


@given(st.binary().map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"")))
def test_nothing_else_ever_comes_out(value):
    found = trace_id(b"\r\nHost: x\r\ntraceparent: " + value + b"\r\nA: b")
    assert re.fullmatch(r"(?!0{32})[0-9a-f]{32}|", found)


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.sampled_from(["", "-x", "0", " "]))
def test_a_trace_comes_out_as_it_came(trace, more):
    found = trace_id(f"\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01{more}".encode())
    assert found == (trace if trace.strip("0") and more in {"", " "} else "")


PIECES = [
    "traceparent",
    "TraceParent",
    "tRaceparent",
    "xtraceparent",
    ":",
    ": ",
    ":\t",
    "\r\n",
    "00",
    "01",
    "ff",
    "-",
]
PIECES += [
    "-",
    TRACE,
    TRACE.upper(),
    "0" * 32,
    "00f067aa0ba902b7",
    "0" * 16,
    VALUE,
    VALUE[:-1],
    f"{VALUE}-",
    "Host: x",
]


def by_expression(block):
    """As the regular expression alone judges."""
    at = block.find(traceparent._PART)
    return "" if at < 0 else traceparent._read(block, at)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_usual_line_is_judged_like_any_other(text):
    block = f"\r\n{text}".encode()
    assert trace_id(block) == by_expression(block)


@given(
    st.integers(0, len(VALUE) + 30),
    st.sampled_from(["", "\r", "\n", "-", "0", "g", "F", " ", ":"]),
    st.booleans(),
)
def test_so_is_one_with_a_character_that_differs(at, character, more):
    line = f"\r\ntraceparent: {VALUE}" + ("\r\nAccept: */*" if more else "")
    block = (line[:at] + character + line[at + 1 :]).encode()
    assert trace_id(block) == by_expression(block)
