"""The numbers in a request's log line: as a format would write them, but made without one."""

import json
import time

from hypothesis import example, given
from hypothesis import strategies as st

from proxy.observe.request_lines import RequestLines

NAMES = ("crm", "crm", "default", "", "GET")


def line_of(*, json=True, milliseconds=1.0, upstream=1.0, sizes=(0, 0), lines=None):
    made = lines or RequestLines(json=json)
    return made.line(*NAMES, 200, milliseconds, upstream, *sizes, "", False, "")


def is_halfway(milliseconds):
    """Between two tenths, where a format decides by the last bit."""
    return abs(milliseconds * 10 % 1 - 0.5) < 1e-9 * max(1.0, milliseconds)


@given(st.floats(0, 1e7), st.floats(0, 1e7))
@example(0.0, 99.95)
@example(99.949, 99.951)
@example(100.0, 1e7)
def test_times_have_one_digit_after_the_point(milliseconds, upstream):
    text = line_of(milliseconds=milliseconds, upstream=upstream)
    words = line_of(milliseconds=milliseconds, upstream=upstream, json=False)
    for name, value in (("duration_ms", milliseconds), ("upstream_ms", upstream)):
        if not is_halfway(value):
            assert f'"{name}": {value:.1f},' in text
            assert f" {value:.1f} ms" in words


@given(st.integers(0, 2**70), st.integers(0, 2**70))
def test_sizes_are_whole_numbers(bytes_in, bytes_out):
    line = json.loads(line_of(sizes=(bytes_in, bytes_out)))
    assert (line["bytes_in"], line["bytes_out"]) == (bytes_in, bytes_out)


def test_the_time_of_a_line_is_to_the_millisecond():
    lines = RequestLines(json=True)
    for _ in range(2000):
        before = time.time()
        text = line_of(lines=lines)
        after = time.time()
        stamp = text.removeprefix('{"ts": ').partition(",")[0]
        assert len(stamp.partition(".")[2]) == 3
        assert before - 0.0006 <= float(stamp) <= after + 0.0006
        assert before <= lines.last <= after
