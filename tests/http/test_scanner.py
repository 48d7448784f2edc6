"""scanner.c: which blocks are plain, which of their lines it returns; verdicts on heads stay the same."""

import re
import subprocess
import sys
from pathlib import Path

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.http import plain, request_head
from proxy.http.message import END, HeadLimits
from proxy.http.plain import PassingNames
from proxy.http.request_head import read_request
from proxy.http.response_head import read_response
from tests.fuzz.same_plain_heads import LASTING, Plain, expected, same_scan, scanner
from tests.http.test_same_heads import sequences

ANY = [None] * scanner().slots  # no name passes


def scan(block, *, most=100, largest=1000, passing=ANY):
    places = scanner().scan(block, passing, most, largest)
    return places and [block[start:end] for start, end in zip(places[::2], places[1::2], strict=True)]


@pytest.mark.parametrize(
    ("block", "lines"),
    [
        (b"", []),
        (b"\r\nHost: a", [b"Host: a"]),
        (b"\r\nHost: a\r\nAccept:*/*\r\nX-Empty:", [b"Host: a", b"Accept:*/*", b"X-Empty:"]),
        (b"\r\n!#$%&'*+-.^_`|~09azAZ: ok", [b"!#$%&'*+-.^_`|~09azAZ: ok"]),
        (b"\r\nX: a b\tc \xe4\x80\xff", [b"X: a b\tc \xe4\x80\xff"]),
        (b"\r\nX::a:b", [b"X::a:b"]),
        (b"\r\nX: 1\r\nX: 1", [b"X: 1", b"X: 1"]),
    ],
)
def test_a_plain_block_is_found(block, lines):
    assert scan(block) == lines


@pytest.mark.parametrize(
    "block",
    [
        b"Host: a",  # without CR LF before it
        b"\r\nHost",
        b"\r\nHost: a\r\n",
        b"\r\nHost: a\r",
        b"\r\n\r\nHost: a",
        b"\r\n: a",
        b"\r\nHost : a",
        b"\r\n Host: a",
        b"\r\nHost: a\r\n b",  # folded
        b"\r\nHost: a\r\n\tb",
        b"\r\nHost: a\nX: b",
        b"\r\nHost: a\rX: b",
        b"\r\nHost: a\n\rX: b",
        b"\r\nHost: a ",
        b"\r\nHost: a\t",
        b"\r\nHost: ",
        b"\r\nHost: a\0",
        b"\r\nHost: a\x7f",
        b"\r\nH\xf6st: a",
        b"\r\nHost\0: a",
        b"\r\nGET / HTTP/1.1",
    ],
)
def test_another_block_is_for_llhttp(block):
    assert scanner().scan(block, ANY, 100, 1000) is None


@pytest.mark.parametrize("place", [b"\r\n%b: a", b"\r\nX%b: a", b"\r\nX:%b", b"\r\nX: a%ba", b"\r\nX: a%b"])
def test_a_plain_block_is_one_that_llhttp_accepts_whatever_a_byte_is(place):
    plain_ones = 0
    for byte in range(256):
        block = place % bytes([byte])
        if scanner().scan(block, ANY, 100, 1000) is None:
            continue
        plain_ones += 1
        httptools.HttpRequestParser(object()).feed_data(b"GET / HTTP/1.1" + block + END)
        httptools.HttpResponseParser(object()).feed_data(b"HTTP/1.1 200 OK" + block + END)
    assert plain_ones >= 77  # the characters of names (RFC 9110 section 5.6.2)


def test_limits_are_for_the_judgement_that_names_them():
    block = b"\r\nA: 1\r\nBc: 23"
    assert scan(block, most=2, largest=6) == [b"A: 1", b"Bc: 23"]
    assert scanner().scan(block, ANY, 1, 6) is None
    assert scanner().scan(block, ANY, 2, 5) is None


def test_names_that_mean_nothing_pass_in_the_spelling_that_is_known():
    names = PassingNames(scanner())
    names.learn(b"X-Id")
    block = b"\r\nX-Id: 1\r\nx-id: 2\r\nX-Id2: 3\r\nX-I: 4"
    places = names.others(block, 100, 1000)
    assert [block[start:end] for start, end in zip(places[::2], places[1::2], strict=True)] == [
        b"x-id: 2",
        b"X-Id2: 3",
        b"X-I: 4",
    ]
    names.forget()
    assert len(names.others(block, 100, 1000)) == 8


def test_of_two_names_with_one_place_the_first_passes():
    at = {}
    for number in range(2000):
        name = b"X-%d" % number
        other = at.setdefault(scanner().place(name), name)
        if other != name:
            break
    names = PassingNames(scanner())
    names.learn(other)
    names.learn(name)
    assert names.others(b"\r\n%b: 1" % other, 100, 1000) == []
    assert names.others(b"\r\n%b: 1" % name, 100, 1000) == [2, 2 + len(name) + 3]


def test_names_have_places_apart():
    """Of names of equal length, too, and of those that begin and end alike."""
    names = [b"x-ratelimit-limit", b"x-ratelimit-reset", b"x-ratelimit-remaining", b"date", b"vary", b"etag"]
    assert len({scanner().place(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (b"",),
        (b"", ANY, 1),
        (b"", ANY, 1, 1, 1),
        (bytearray(), ANY, 1, 1),
        ("", ANY, 1, 1),
        (b"", tuple(ANY), 1, 1),
        (b"", ANY[1:], 1, 1),
        (b"", [], 1, 1),
        (b"", ANY, "1", 1),
        (b"", ANY, 1, None),
    ],
)
def test_other_arguments_are_refused(arguments):
    with pytest.raises(TypeError, match="expected bytes, a list"):
        scanner().scan(*arguments)


def test_numbers_that_are_no_sizes_are_refused():
    with pytest.raises(OverflowError):
        scanner().scan(b"", ANY, 2**70, 1)
    assert scanner().scan(b"\r\nA:", ANY, -1, 1) is None
    assert scanner().scan(b"\r\nA:", ANY, 1, -1) is None


def test_what_is_no_name_has_no_place():
    for name in (b"", "X", None, bytearray(b"X")):
        with pytest.raises(TypeError, match="expected bytes"):
            scanner().place(name)


def test_things_that_are_no_names_let_nothing_pass():
    for thing in ("X", 1, bytearray(b"X"), ["X"]):
        assert scan(b"\r\nX: 1", passing=[thing] * scanner().slots) == [b"X: 1"]


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\r",
        b"\n",
        b":",
        b" ",
        b"\t",
        b"Host",
        b"X-Id",
        b"a",
        b"a" * 5995,
        b"\0",
        b"\x7f",
        b"\xff",
        b"\r\nX: 1",
    ]
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=40).map(b"".join))
@example(b"\r\nX: 1" * 32)
@example(b"\r\nX: 1" * 33)
@example(b"\r\nX:" + b"a" * 5998)
@example(b"\r\nX:" + b"a" * 5999)
def test_a_regular_expression_finds_the_same(block):
    same_scan(block)


def test_the_regular_expression_finds_what_the_examples_say():
    assert expected(b"\r\nA: 1\r\nB: 2", {b"A"}, 2, 4) == [8, 12]
    assert expected(b"\r\nA: 1\r\nB: 2", set(), 1, 4) is None
    assert expected(b"\r\nA: 1", set(), 1, 3) is None
    assert expected(b"\r\nA: 1 ", set(), 1, 9) is None


@settings(deadline=None)
@given(sequences(), st.booleans())
def test_the_verdict_on_a_head_is_the_same_with_the_scanner(sequence, with_keys):
    for pair in (Plain(with_keys=with_keys), LASTING[with_keys]):
        for one in sequence:
            pair.compare(one)
            pair.compare(one)


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"Content-Length: %b" % value
            for value in (b"", b"5", b"05", b"5 ", b"5\t", b"+5", b"5, 5", b"5 5", b"-1")
        ),
        *(b"Content-Length: " + b"9" * count for count in (18, 19, 20, 400)),
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: gzip",
        b"Transfer_Encoding: chunked",
        b"Upgrade: websocket",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings",
        b"UPGRADE: x\r\nConnection: upgrade",
        *(
            b"Connection: %b" % value
            for value in (b"", b"close", b"keep-alive", b"upgrade", b"x, ,y", b"close\r\nX: 1")
        ),
        b"Proxy-Connection: upgrade",
        b"X : 1",
        b"X\t: 1",
    ],
)
@pytest.mark.parametrize(
    "first",
    [
        *(b"GET / HTTP/1.1\r\nHost: a", b"POST / HTTP/1.0", b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"),
        *(b"HTTP/1.1 204 No Content", b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 103 Early Hints"),
    ],
)
def test_fields_that_llhttp_acts_on_have_the_same_verdict(first, line):
    pair = Plain(with_keys=False)
    pair.compare(first + END)  # now the status line is known
    for _ in range(2):
        pair.compare(first + b"\r\n" + line + END)


def test_a_plain_head_is_judged_without_llhttp(monkeypatch):
    """Else the scanner would never be used, and all of this hold."""
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\nContent-Length: 5\r\nConnection: close" + END
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Id: %d" + END
    limits = HeadLimits(8192, 6000, 32, None, scanner())
    read_response(response % 1, b"GET", limits)  # llhttp has seen the status line
    for block in (b"\r\nHost: a\r\nX-Id: 1", b"\r\nContent-Length: 5"):
        assert limits.requests.sort_plain(block) == limits.requests.sort(block)
        assert limits.responses.sort_plain(block) == limits.responses.sort(block)
    if not request_head.__file__.endswith(".py"):  # compiled: nothing can be put in llhttp's place
        return
    monkeypatch.setattr("proxy.http.request_head.httptools", None)
    monkeypatch.setattr("proxy.http.response_head.httptools", None)
    assert read_request(request % 2, limits).fields.length == 5
    assert read_response(response % 2, b"GET", limits).length == 5


def test_an_empty_name_is_not_learnt():
    """No head has an empty line, as it would end there; but llhttp would take one below a response's head."""
    names = PassingNames(scanner())
    names.learn(b"")
    assert names.others(b"\r\n: 1", 100, 1000) is None
    pair = Plain(with_keys=False)
    for _ in range(2):
        pair.compare(b"HTTP/1.1 200 OK\r\n\r\nX: 1" + END)


def test_a_response_that_does_not_end_in_an_empty_line_is_for_llhttp():
    pair = Plain(with_keys=False)
    for end in (END, b"a\n\r\n", b"\r\n", b"\n\n", b"\r\n\n"):
        pair.compare(b"HTTP/1.1 200 OK\r\nX: a" + end)


def test_without_a_scanner_no_block_is_plain():
    names = PassingNames(None)
    names.learn(b"X")
    names.forget()
    assert names.others(b"\r\nX: 1", 100, 1000) is None


def test_where_the_data_path_is_compiled_it_has_the_scanner():
    assert (plain.SCANNER is not None) == (not request_head.__file__.endswith(".py"))


def test_it_reads_no_byte_beyond_the_block():
    """Under sanitizers; for longer: python -m tests.fuzz.sanitized --seconds 600."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.sanitized", "--seconds", "2"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"[\d,]+ inputs\n", ended.stdout)
