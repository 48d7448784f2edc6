"""Field rules: strip first, then add."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http import head_writer, headers
from proxy.http.message import HeadLimits
from proxy.http.request_head import read_request
from proxy.http.response_head import read_response

LIMITS = HeadLimits(header_size=131072, field_size=32768, fields=200)
OURS = [b"Host: up.example", b"Authorization: Bearer ours", b"Via: 1.1 token-proxy-0a1b2c3d"]


def sent_upstream(*lines, method=b"GET"):
    head = b"\r\n".join([method + b" /crm/x HTTP/1.1", b"Host: a", *lines]) + b"\r\n\r\n"
    sent = head_writer.to_upstream(
        read_request(head, LIMITS),
        b"/base/x",
        b"up.example",
        b"\r\nAuthorization: Bearer ours",
        b"token-proxy-0a1b2c3d",
        upgrade=False,
    )
    first, *fields = sent.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert first == method + b" /base/x HTTP/1.1"
    return fields


STRIPPED = [
    [b"Connection: close, Foo", b"Foo: 1"],
    [b"Connection: foo", b"connection: BAR", b"Foo: 1", b"Bar: 2"],
    [b"Connection: authorization, host, via"],
    [b"Connection:"],
    [
        b"Keep-Alive: 5",
        b"Proxy-Connection: keep-alive",
        b"TE: trailers",
        b"Upgrade: h2c",
        b"HTTP2-Settings: x",
    ],
    [b"Proxy-Authorization: Basic x", b"Proxy-Authenticate: Basic"],
    [b"Authorization: Basic theirs"],
    [b"authorization: one", b"AUTHORIZATION: two", b"Authorization_: three"],
    [b"Forwarded: for=1", b"X-Forwarded-For: 1", b"X-Forwarded-Whatever: 1"],
    [b"X_Forwarded_For: 1", b"x_forwarded-proto: https", b"Proxy_Authorization: x"],
]


@pytest.mark.parametrize("lines", STRIPPED)
def test_hop_by_hop_and_replaced_fields_do_not_pass(lines):
    assert sorted(sent_upstream(*lines)) == sorted(OURS)


def test_everything_else_passes_as_it_came():
    lines = [
        b"X-B: 1",
        b"x-a: \xff\xe9",
        b"X-B: 1",
        b"Cookie: a=b",
        b"User_Agent: x",
        b"Accept-Encoding: gzip",
        b"Via: 1.0 fred",
    ]
    assert [field for field in sent_upstream(*lines) if field not in OURS] == lines


def test_a_connection_option_can_not_remove_content_length():
    assert b"Content-Length: 5" in sent_upstream(
        b"Connection: content-length", b"Content-Length: 5", method=b"POST"
    )


def test_chunked_framing_is_replaced_by_our_own():
    fields = sent_upstream(b"Transfer-Encoding: chunked", method=b"POST")
    assert fields.count(b"Transfer-Encoding: chunked") == 1


def answered(*lines, chunked=False, close=False):
    head = b"\r\n".join([b"HTTP/1.1 200 Fine", *lines]) + b"\r\n\r\n"
    return head_writer.to_caller(read_response(head, b"GET", LIMITS), chunked=chunked, close=close)


def test_a_response_keeps_its_fields_and_reason():
    lines = [b"Date: x", b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"x-odd: \xff", b"Content-Length: 5"]
    assert answered(*lines) == b"\r\n".join([b"HTTP/1.1 200 Fine", *lines, b"", b""])


def test_a_response_without_a_reason_gets_the_space_before_it():
    for line in (b"HTTP/1.1 200", b"HTTP/1.1 200 "):
        head = read_response(line + b"\r\nContent-Length: 5\r\n\r\n", b"GET", LIMITS)
        sent = head_writer.to_caller(head, chunked=False, close=False)
        assert sent == b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n"


def test_a_responses_hop_by_hop_fields_do_not_pass():
    lines = [b"Connection: keep-alive, X-Hop", b"X-Hop: 1", b"Keep-Alive: timeout=5", b"Content-Length: 5"]
    assert (
        answered(*lines, close=True) == b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    )


def test_trailers_carry_no_framing_and_no_credentials():
    block = b"\r\nDigest: x\r\nAuthorization: x\r\nContent-Length: 1\r\nX_Forwarded_For: x\r\nLast: y"
    assert headers.trailers(block) == b"0\r\nDigest: x\r\nLast: y\r\n\r\n"
    assert headers.trailers(b"") == b"0\r\n\r\n"


NAMES = st.sampled_from(
    [
        b"Connection",
        b"authorization",
        b"Authorization_",
        b"Via",
        b"Foo",
        b"Host_",
        b"TE",
        b"X-Forwarded-For",
        b"Content-Length_",
    ]
)
VALUES = st.sampled_from(
    [b"authorization", b"close", b"via, host", b"x", b"foo,,", b"Authorization, Content-Length"]
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_no_caller_can_remove_or_duplicate_our_fields(fields):
    sent = sent_upstream(*[name + b": " + value for name, value in fields])
    assert [field for field in sent if field.lower().startswith(b"authorization")] == [
        b"Authorization: Bearer ours"
    ]
    assert [field for field in sent if field.lower().startswith(b"host")] == [b"Host: up.example"]
    assert sent[-1] == b"Via: 1.1 token-proxy-0a1b2c3d"
    assert not [field for field in sent if field.split(b":")[0].lower() in headers.HOP_BY_HOP]
