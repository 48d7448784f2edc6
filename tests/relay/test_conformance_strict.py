"""The strict parser of the conformance suite is strict: a test of the test tool."""

import pytest

from .conformance_bad_frames import BAD_CHUNKS, BAD_FRAMES, BAD_HEADS
from .conformance_requests import PASSING
from .conformance_rows import IN_A_CHUNK
from .conformance_strict import Malformed, read_answer, read_request

OURS = b"\r\nAuthorization: x\r\n\r\n"


def attributed(row):
    """A message that a caller must not send, as if the proxy had forwarded it."""
    head, end, body = row.sent.partition(b"\r\n\r\n")
    return head + (OURS if end else b"") + body


@pytest.mark.parametrize("row", BAD_FRAMES, ids=str)
def test_a_message_that_the_proxy_must_refuse_is_invalid(row):
    data = attributed(row)
    if row.name == "trailers too long":  # which breaks no RFC
        return
    with pytest.raises(Malformed):
        assert read_request(data)


@pytest.mark.parametrize("row", [*BAD_HEADS, *BAD_CHUNKS], ids=str)
def test_such_a_message_is_invalid_in_a_response_too(row):
    data = b"HTTP/1.1 200 OK\r\n" + row.sent.partition(b"\r\n")[2]
    if row.name == "trailers too long":
        return
    with pytest.raises(Malformed):
        assert read_answer(data, b"GET")


@pytest.mark.parametrize("row", PASSING, ids=str)
def test_an_arriving_request_is_one_message_and_no_part_of_it_is(row):
    data = row.fate.arrives
    assert read_request(data + b"GET").raw == data
    step = max(1, len(data) // 500)
    assert not any(read_request(data[:end]) for end in range(0, len(data), step))


def test_a_response_is_complete_only_with_its_end():
    counted, chunked = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    for data in (counted, chunked + IN_A_CHUNK):
        assert read_answer(data + b"HTTP", b"GET").raw == data
        assert not any(read_answer(data[:end], b"GET", ended=True) for end in range(len(data)))
    until_end = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"
    assert read_answer(until_end, b"GET") is None
    assert read_answer(until_end, b"GET", ended=True).raw == until_end
    with pytest.raises(Malformed):  # its completeness is unknown
        read_answer(until_end.replace(b"Connection: close\r\n", b""), b"GET", ended=True)
