"""A request's body: passed on as it comes, kept while it fits the spool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.body import Chunked, Length
from proxy.relay.upload import Upload


def test_a_request_without_a_body_can_always_be_sent_again():
    upload = Upload(None, spool=10)
    assert (upload.begin(), upload.repeatable, upload.arriving) == (b"", True, False)


def test_what_came_before_sending_began_is_sent_first():
    upload = Upload(Length(10), spool=100)
    upload.feed(b"hello")
    assert upload.begin() == b"hello"
    assert upload.feed(b" you!next") == (b" you!", b"next")
    assert not upload.arriving


def test_it_can_be_sent_again_only_when_it_is_all_there():
    upload = Upload(Length(5), spool=100)
    upload.begin()
    assert not upload.repeatable
    upload.feed(b"hello")
    assert upload.repeatable
    assert upload.begin() == b"hello"


def test_what_does_not_fit_the_spool_is_forgotten_once_it_was_sent():
    upload = Upload(Length(20), spool=10)
    upload.feed(b"x" * 15)
    assert upload.fills_spool
    assert upload.begin() == b"x" * 15
    upload.feed(b"x" * 5)
    assert not upload.repeatable


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(0, 6))
def test_a_chunked_body_says_the_same_whenever_sending_begins(parts, begin_at):
    wire = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
    upload, sent = Upload(Chunked(), spool=10_000), b""
    pieces = [wire[at : at + 7] for at in range(0, len(wire), 7)]
    for number, piece in enumerate(pieces):
        if number == begin_at:
            sent += upload.begin()
        framed, rest = upload.feed(piece)
        assert not rest
        if number >= begin_at:
            sent += framed
    if begin_at >= len(pieces):
        sent += upload.begin()
    judge = Chunked()
    assert judge.feed(sent) == (b"".join(parts), b"")
    assert judge.done


def test_an_oversized_body_is_not_begun_twice():
    upload = Upload(Length(20), spool=10)
    upload.feed(b"x" * 20)
    upload.begin()
    with pytest.raises(AssertionError):
        upload.begin()
