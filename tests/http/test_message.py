"""Message heads: accepted and refused."""

import re
from contextlib import suppress
from pathlib import Path

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.body import Chunked, Length, UntilClose
from proxy.http.malformed import MalformedRequest, MalformedResponse
from proxy.http.message import METHODS, HeadLimits
from proxy.http.request_head import read_request
from proxy.http.response_head import read_response

LIMITS = HeadLimits(header_size=131072, field_size=32768, fields=200)


def request(*lines, line=b"POST /x HTTP/1.1", host=b"Host: a"):
    lines = [line, *([host] if host else []), *lines]
    return b"\r\n".join(lines) + b"\r\n\r\n"


KINDS = {400: "malformed", 431: "too-large", 501: "method-unknown"}
REFUSED = {  # name -> head, status
    "two framings": (request(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    "two framings, other order": (request(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400),
    "two lengths": (request(b"Content-Length: 5", b"Content-Length: 6"), 400),
    "two equal lengths": (request(b"Content-Length: 5", b"Content-Length: 5"), 400),
    "listed lengths": (request(b"Content-Length: 5, 5"), 400),
    "signed length": (request(b"Content-Length: +5"), 400),
    "negative length": (request(b"Content-Length: -1"), 400),
    "hex length": (request(b"Content-Length: 0x5"), 400),
    "underscored length": (request(b"Content-Length: 1_0"), 400),
    "empty length": (request(b"Content-Length: "), 400),
    "huge length": (request(b"Content-Length: " + b"9" * 30), 400),
    "other coding": (request(b"Transfer-Encoding: gzip, chunked"), 400),
    "identity coding": (request(b"Transfer-Encoding: identity"), 400),
    "coding twice": (request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "coding with junk": (request(b"Transfer-Encoding: xchunked"), 400),
    "coding in HTTP/1.0": (request(b"Transfer-Encoding: chunked", line=b"POST /x HTTP/1.0"), 400),
    "folded field": (request(b"X: 1\r\n folded"), 400),
    "space before colon": (request(b"X : 1"), 400),
    "no colon": (request(b"X"), 400),
    "bare CR": (request(b"X: 1\r2"), 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "NUL": (request(b"X: \x00"), 400),
    "no Host": (request(host=b""), 400),
    "two Hosts": (request(b"Host: b"), 400),
    "a Host that is none": (request(host=b"Host: a b"), 400),
    "a Host with a user": (request(host=b"Host: me@a"), 400),
    "a Host with a path": (request(host=b"Host: a/x"), 400),
    "a Host with an odd port": (request(host=b"Host: a:x"), 400),
    "HTTP/2.0": (request(line=b"GET / HTTP/2.0"), 400),
    "HTTP/0.9": (request(line=b"GET / HTTP/0.9"), 400),
    "RTSP": (request(line=b"OPTIONS / RTSP/1.0"), 400),
    "two spaces": (request(line=b"GET  / HTTP/1.1"), 400),
    "no version": (request(line=b"GET /"), 400),
    "unknown method": (request(line=b"FOO / HTTP/1.1"), 501),
    "lower-case method": (request(line=b"get / HTTP/1.1"), 501),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\n", 501),
    "RTSP method": (request(line=b"DESCRIBE / HTTP/1.1"), 501),
    "a field too large": (request(b"X: " + b"x" * 32768), 431),
    "too many fields": (request(*[b"X: 1"] * 200), 431),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_or_ambiguous_head_is_refused(name):
    head, status = REFUSED[name]
    with pytest.raises(MalformedRequest) as refusal:
        read_request(head, LIMITS)
    assert refusal.value.kind == KINDS[status]


ACCEPTED = {  # name -> head, body type, keeps alive
    "plain": (request(line=b"GET / HTTP/1.1"), None, True),
    "an address": (request(line=b"GET / HTTP/1.1", host=b"Host: [::1]:80"), None, True),
    "an empty Host": (request(line=b"GET / HTTP/1.1", host=b"Host:"), None, True),
    "an encoded Host": (request(line=b"GET / HTTP/1.1", host=b"Host: a_b%C3%A9:"), None, True),
    "length": (request(b"Content-Length: 5"), Length, True),
    "length with trailing space": (request(b"Content-Length: 5 \t"), Length, True),
    "zero length": (request(b"Content-Length: 0"), Length, True),
    "chunked": (request(b"Transfer-Encoding: Chunked"), Chunked, True),
    "closing": (request(b"Connection: close"), None, False),
    "closing among others": (request(b"Connection: foo, Close"), None, False),
    "HTTP/1.0": (request(line=b"GET / HTTP/1.0"), None, False),
    "HTTP/1.0 without Host": (request(line=b"GET / HTTP/1.0", host=b""), None, False),
    "upgrade with a body": (
        request(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 3"),
        Length,
        True,
    ),
    "large field": (request(b"X: " + b"x" * 32000), None, True),
    "8-bit value": (request(b"X: \xff\xe9"), None, True),
    "odd method": (request(line=b"PROPFIND / HTTP/1.1"), None, True),
    "M-SEARCH": (request(line=b"M-SEARCH / HTTP/1.1"), None, True),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_valid_head_is_accepted(name):
    head, body, keep_alive = ACCEPTED[name]
    read = read_request(head, LIMITS)
    assert type(read.body) is (body or type(None))
    assert read.fields.keep_alive is keep_alive


def test_names_and_values_stay_unchanged_and_in_order():
    read = read_request(request(b"X-B: 1", b"x-a:  two ", b"X-B: \xff"), LIMITS)
    assert read.fields.block == b"\r\nHost: a\r\nX-B: 1\r\nx-a:  two \r\nX-B: \xff"


def test_white_space_before_a_colon_is_removed_from_a_response():
    read = read_response(response(b"X-A \t: 1 : 2", b"B: c : d", b"Content-Length: 0"), b"GET", LIMITS)
    assert read.forwarded_fields == b"\r\nX-A: 1 : 2\r\nB: c : d\r\nContent-Length: 0"


class Llhttp:
    """The fields as llhttp reads them."""

    def __init__(self):
        self.fields = []

    def on_header(self, name, value):
        self.fields.append((name, value.strip(b" \t")))


LINES = st.sampled_from(
    [
        b"X: 1",
        b"x:",
        b"X:  2 ",
        b"Y:\t:",
        b"Z: a:b",
        b" folded",
        b"no colon",
        b"a\rb: 1",
        b"a: \r",
        b"\n: 1",
        b": 1",
        b"X : 1",
    ]
)


@given(st.lists(LINES, max_size=6))
def test_fields_are_separated_just_as_in_llhttp(lines):
    head = request(*lines, line=b"GET / HTTP/1.1")
    try:
        fields = read_request(head, LIMITS).fields.block
    except MalformedRequest:
        return
    judge = Llhttp()
    httptools.HttpRequestParser(judge).feed_data(head)
    lines = (line.partition(b":") for line in fields.split(b"\r\n")[1:])
    assert [(name, value.strip(b" \t")) for name, _, value in lines] == judge.fields


def response(*lines, line=b"HTTP/1.1 200 OK"):
    return b"\r\n".join([line, *lines]) + b"\r\n\r\n"


ANSWERS = {  # name -> head, method, body type, keeps alive
    "length": (response(b"Content-Length: 5"), b"GET", Length, True),
    "chunked": (response(b"Transfer-Encoding: chunked"), b"GET", Chunked, True),
    "until close": (response(), b"GET", UntilClose, False),
    "to HEAD": (response(b"Content-Length: 5"), b"HEAD", None, True),
    "204": (response(line=b"HTTP/1.1 204 No Content"), b"GET", None, True),
    "304 with a length": (
        response(b"Content-Length: 5", line=b"HTTP/1.1 304 Not Modified"),
        b"GET",
        None,
        True,
    ),
    "103": (response(b"Link: </a>", line=b"HTTP/1.1 103 Early Hints"), b"GET", None, True),
    "closing": (response(b"Content-Length: 5", b"Connection: close"), b"GET", Length, False),
    "HTTP/1.0": (response(b"Content-Length: 5", line=b"HTTP/1.0 200 OK"), b"GET", Length, False),
    "status 999": (response(b"Content-Length: 5", line=b"HTTP/1.1 999 Request denied"), b"GET", Length, True),
    "space before a colon": (response(b"Content-Length \t: 5", b"X-A : 1"), b"GET", Length, True),
    "no reason": (response(b"Content-Length: 5", line=b"HTTP/1.1 200 "), b"GET", Length, True),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_response_is_framed_as_in_the_rfc(name):
    head, method, body, keep_alive = ANSWERS[name]
    read = read_response(head, method, LIMITS)
    assert type(read.body()) is (body or Length)
    assert read.keep_alive is keep_alive


MALFORMED = {
    "two framings": response(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "two lengths": response(b"Content-Length: 5", b"Content-Length: 6"),
    "space in a name": response(b"X A: 5"),
    "space before a colon, and another length": response(b"Content-Length : 5", b"Content-Length: 6"),
    "space before a colon, and another framing": response(
        b"Content-Length: 5", b"Transfer-Encoding : chunked"
    ),
    "space before a colon, and no name": response(b" : 5"),
    "status 099": response(line=b"HTTP/1.1 099 OK"),
    "status 1000": response(line=b"HTTP/1.1 1000 OK"),
    "other coding": response(b"Transfer-Encoding: gzip"),
    "identity": response(b"Transfer-Encoding: identity"),
    "chunked in HTTP/1.0": response(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK"),
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a large field": response(b"X: " + b"x" * 40000),
    "HTTP/2": response(line=b"HTTP/2.0 200 OK"),
    "204 with a length": response(b"Content-Length: 5", line=b"HTTP/1.1 204 No Content"),
    "204 with a length, closing": response(
        b"Content-Length: 5", b"Connection: close", line=b"HTTP/1.1 204 No Content"
    ),
    "103 with a length in HTTP/1.0": response(b"Content-Length: 5", line=b"HTTP/1.0 103 Early Hints"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_an_ambiguous_response_is_not_relayed(name):
    with pytest.raises(MalformedResponse):
        read_response(MALFORMED[name], b"GET", LIMITS)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parsers_raise_another_exception(noise):
    for head in (noise + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n" + noise + b"\r\n\r\n"):
        with suppress(MalformedRequest):
            read_request(head, LIMITS)
        with suppress(MalformedResponse):
            read_response(head.replace(b"GET / HTTP/1.1", b"HTTP/1.1 200 OK"), b"GET", LIMITS)


# of RTSP, and HTTP/2's preface
OTHERS = b"DESCRIBE ANNOUNCE SETUP PLAY PAUSE TEARDOWN GET_PARAMETER SET_PARAMETER REDIRECT RECORD FLUSH PRI"


def llhttp_knows(method):
    """Whether llhttp knows the method for HTTP; it knows some for other protocols only."""
    try:
        httptools.HttpRequestParser(object()).feed_data(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    except httptools.HttpParserUpgrade:
        return True  # CONNECT
    except httptools.HttpParserError:
        return False
    return True


def test_the_methods_are_those_that_llhttp_knows_for_http():
    assert [method for method in METHODS if not llhttp_knows(method)] == []
    assert [method for method in OTHERS.split() if llhttp_knows(method)] == []


@given(st.text("ABCDEFGHIJKLMNOPRSTUVWXY-", min_size=1, max_size=12).map(str.encode))
def test_no_other_word_is_a_method_to_llhttp(word):
    assert llhttp_knows(word) == (word in METHODS)


def test_the_docs_list_the_methods():
    page = (Path(__file__).parents[2] / "docs" / "how-it-works.md").read_text()
    assert set(re.findall(r"[A-Z][A-Z-]+", page)) >= {method.decode() for method in METHODS}
