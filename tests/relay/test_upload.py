"""A request's body: passed on as it comes, kept while it fits the spool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.body import Chunked, Length
from proxy.relay.upload import Upload


def feed(upload, data):
    """Feed the body as the caller's connection does; returns the bytes after it."""
    payload, rest = upload.body.feed(data)
    upload.add(payload)
    return rest


def test_a_request_without_a_body_can_always_be_sent_again():
    upload = Upload(None, spool=10)
    assert (upload.begin(), upload.repeatable, upload.arriving) == (b"", True, False)


def test_payload_from_before_sending_began_is_sent_first():
    upload = Upload(Length(10), spool=100)
    feed(upload, b"hello")
    assert upload.begin() == b"hello"
    assert feed(upload, b" you!next") == b"next"
    assert upload.received == 10
    assert not upload.arriving


def test_a_body_can_be_sent_again_only_when_it_is_complete():
    upload = Upload(Length(5), spool=100)
    upload.begin()
    assert not upload.repeatable
    feed(upload, b"hello")
    assert upload.repeatable
    assert upload.begin() == b"hello"


def test_a_body_larger_than_the_spool_is_not_kept_once_sent():
    upload = Upload(Length(20), spool=10)
    feed(upload, b"x" * 15)
    assert upload.fills_spool
    assert upload.begin() == b"x" * 15
    feed(upload, b"x" * 5)
    assert not upload.repeatable


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(0, 50))
def test_the_payload_is_kept_whenever_sending_begins(parts, begin_at):
    wire = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
    upload = Upload(Chunked(), spool=10_000)
    for number, at in enumerate(range(0, len(wire), 7)):
        if number == begin_at:
            upload.begin()
        feed(upload, wire[at : at + 7])
    assert upload.repeatable
    assert upload.begin() == b"".join(parts)


def test_an_oversized_body_is_not_sent_twice():
    upload = Upload(Length(20), spool=10)
    feed(upload, b"x" * 20)
    upload.begin()
    with pytest.raises(AssertionError):
        upload.begin()
