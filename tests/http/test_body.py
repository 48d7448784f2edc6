"""Bodies: each case whole, byte by byte, and followed by other bytes."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.body import Chunked, Length, UntilClose, encode_chunk
from proxy.http.malformed import MalformedBody

BEHIND = b"GET /next HTTP/1.1\r\n"
GOOD = {  # wire -> payload, names of trailers
    b"0\r\n\r\n": (b"", []),
    b"5\r\nhello\r\n0\r\n\r\n": (b"hello", []),
    b"5\r\nhello\r\nA\r\n, world!!!\r\n0\r\n\r\n": (b"hello, world!!!", []),
    b"5;name=value\r\nhello\r\n0;last\r\n\r\n": (b"hello", []),
    b"00005\r\nhello\r\n000\r\n\r\n": (b"hello", []),
    b"2\r\n\r\n\r\n0\r\n\r\n": (b"\r\n", []),
    b"1\r\nx\r\n0\r\nDigest: abc\r\nX-Two: 2\r\n\r\n": (b"x", [b"digest", b"x-two"]),
}
BAD = [
    b"x\r\n",
    b"-1\r\n",
    b"+5\r\nhello\r\n",
    b"0x5\r\nhello\r\n",
    b" 5\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"5\nhello\r\n",
    b"5;a\nb\r\nhello\r\n",
    b"5\r\nhello5\r\n",
    b"5\r\nhelloX\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"1" * 16 + b"\r\n",
    b"5;" + b"a" * 5000,
    b"0\r\nbad trailer\r\n\r\n",
    b"0\r\nX : 1\r\n\r\n",
    b"0\r\nX: 1\n\r\n\r\n",
    b"0\r\n" + b"X: 1\r\n" * 5000 + b"\r\n",
    b"\r\n5\r\nhello",
]


GOOD_IN_RESPONSES = [  # white space, which the RFC requires to be accepted, and leading zeros
    b"5  \r\nhello\r\n0 \t\r\n\r\n",
    b"5 ; a = b\r\nhello\r\n0\r\n\r\n",
    b'5\t;a ;b= "c;d" ; e\r\nhello\r\n0;x \r\n\r\n',
    b"0000000000000005\r\nhello\r\n00000000000000000000\r\n\r\n",
]
ONLY_IN_REQUESTS = {b"5 \r\nhello\r\n", b"0\r\nX : 1\r\n\r\n"}
BAD_IN_RESPONSES = [
    *(
        b" 5\r\nhello\r\n",
        b"5 5\r\nhello",
        b"5 ;\r\nhello",
        b"5; a b\r\nhello",
        b"5;a=\r\nhello",
        b"5\x0b\r\nhello",
    ),
    *(
        b"0" * 1100 + b"5\r\nhello",
        b"1" + b"0" * 15 + b"\r\n",
        b"5\n\r\nhello",
        b"\t\r\n",
        b"5" + b" " * 1100 + b"\r\nhello",
    ),
]


def read_in_pieces(body, pieces):
    payload = b""
    for number, piece in enumerate(pieces):
        part, rest = body.feed(piece)
        payload += part
        if body.done:
            return payload, rest + b"".join(pieces[number + 1 :])
    return payload, b""


@pytest.mark.parametrize("wire", GOOD)
def test_a_chunked_body_ends_at_its_last_chunk_however_it_is_split(wire):
    payload, trailers = GOOD[wire]
    whole = [wire]
    with_more = [wire + BEHIND]
    bytewise = [bytes([byte]) for byte in wire + BEHIND]
    for pieces, behind in ((whole, b""), (with_more, BEHIND), (bytewise, BEHIND)):
        body = Chunked()
        assert read_in_pieces(body, pieces) == (payload, behind)
        assert body.done
        assert [line.split(b":")[0].lower() for line in body.trailers.split(b"\r\n")[1:]] == trailers


@pytest.mark.parametrize("wire", BAD)
def test_a_broken_chunk_is_refused_however_it_is_split(wire):
    with pytest.raises(MalformedBody):
        Chunked().feed(wire)
    with pytest.raises(MalformedBody):
        read_in_pieces(Chunked(), [bytes([byte]) for byte in wire])


@pytest.mark.parametrize("wire", GOOD_IN_RESPONSES)
def test_white_space_and_zeros_in_chunk_sizes_are_read_in_responses_only(wire):
    for pieces in ([wire + BEHIND], [bytes([byte]) for byte in wire + BEHIND]):
        body = Chunked(of_response=True)
        assert read_in_pieces(body, pieces) == (b"hello", BEHIND)
        with pytest.raises(MalformedBody):
            read_in_pieces(Chunked(), pieces)


def test_white_space_before_a_trailers_colon_is_removed_in_responses_only():
    wire = b"0\r\nX : 1\r\nY\t: 2 : 3\r\n\r\n"
    body = Chunked(of_response=True)
    assert body.feed(wire + BEHIND) == (b"", BEHIND)
    assert body.trailers == b"\r\nX: 1\r\nY: 2 : 3"
    with pytest.raises(MalformedBody):
        Chunked().feed(wire)


@pytest.mark.parametrize("wire", [wire for wire in BAD if wire not in ONLY_IN_REQUESTS] + BAD_IN_RESPONSES)
def test_a_broken_chunk_is_refused_in_responses_too(wire):
    with pytest.raises(MalformedBody):
        Chunked(of_response=True).feed(wire)


def test_a_body_with_a_length_ends_there_and_the_rest_is_left():
    body = Length(5)
    assert body.feed(b"he") == (b"he", b"")
    assert not body.done
    assert body.feed(b"llo" + BEHIND) == (b"llo", BEHIND)
    assert body.done


def test_a_body_until_close_is_complete_when_the_connection_ends():
    body = UntilClose()
    assert body.feed(b"anything") == (b"anything", b"")
    assert not body.done
    assert body.end_of_input()


def test_a_body_with_a_length_or_chunks_is_incomplete_if_the_connection_ends_early():
    assert not Length(5).end_of_input()
    assert not Chunked().end_of_input()


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_encoded_chunks_are_decoded_from_any_pieces(parts, data):
    wire = b"".join(map(encode_chunk, parts)) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    body = Chunked()
    assert read_in_pieces(body, [*pieces, b""]) == (b"".join(parts), b"")
    assert body.done


class Llhttp:
    """llhttp's reading of the same bytes: the reference for our own parser."""

    def __init__(self):
        self.payload, self.done = b"", False

    def on_body(self, part):
        self.payload += part

    def on_message_complete(self):
        self.done = True


@given(
    st.lists(
        st.sampled_from(
            [b"0", b"5", b"a", b"\r\n", b"\n", b"\r", b";", b"x=1", b"hello", b" ", b"X: y", b"-", b"00"]
        ),
        max_size=14,
    ).map(b"".join)
)
def test_we_never_accept_a_body_that_llhttp_reads_differently(wire):
    body = Chunked()
    try:
        payload, rest = body.feed(wire)
    except MalformedBody:
        return
    if not body.done:
        return
    other = Llhttp()
    parser = httptools.HttpRequestParser(other)
    parser.feed_data(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + wire[: len(wire) - len(rest)]
    )
    assert (other.payload, other.done) == (payload, True)
