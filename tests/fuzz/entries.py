"""Properties of the relay's parsers for any bytes, one function for each parser: it takes bytes and asserts.

The tests of tests/relay feed them with messages made by Hypothesis, fuzz.py with the findings of a
coverage-guided fuzzer, test_fuzz.py with the corpus beside this file. A property is written once, here;
it is checked with parsers that share no code with the relay's (tests/relay/strict.py) and with llhttp.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from proxy.http import head_writer, request_head, response_head
from proxy.http.body import Body, Chunked, UntilClose, encode_chunk
from proxy.http.framing import framed
from proxy.http.headers import trailers as encode_trailers
from proxy.http.malformed import MalformedBody, MalformedRequest, MalformedResponse
from proxy.http.message import END, HeadLimits, RequestHead, ResponseHead
from proxy.http.target import read_target
from proxy.relay import problems
from proxy.relay.upload import Upload
from tests.fuzz.same_heads import same_heads
from tests.fuzz.same_plain_heads import same_plain_heads
from tests.relay import strict
from tests.relay.places import check_link, check_target
from tests.relay.policy import expected_answer, expected_request, expected_trailers

LIMITS = HeadLimits(header_size=8192, field_size=6000, fields=32)  # small, so that they are reached
SPOOL = 64  # bytes; small, so that bodies outgrow it
BYTEWISE = 512  # up to this size a message is also read byte by byte
OURS = [b"Host: up.example:8443", b"Authorization: Bearer ours", b"Via: 1.1 token-proxy-0a1b2c3d"]
REFUSALS = {400, 431, 501}


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Ways of splitting the same bytes; deterministic."""
    yield [data]
    if len(data) <= BYTEWISE:
        yield [data[at : at + 1] for at in range(len(data))]
    chance = random.Random(zlib.crc32(data))
    for _ in range(2):
        yield pieces(data, [chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 9))])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


def same(outcomes: Sequence[object]) -> object:
    """The result does not depend on how the bytes were split."""
    first = next(iter(outcomes), None)
    assert all(outcome == first for outcome in outcomes), outcomes
    return first


# -- bodies


def read_body(body: Body, parts: list[bytes]) -> tuple[bytes, bytes | None]:
    """The payload, and the bytes after the end; None if there is no end. Raises MalformedBody."""
    payload = b""
    for number, part in enumerate(parts):
        piece, rest = body.feed(part)
        payload += piece
        if body.done:
            return payload, rest + b"".join(parts[number + 1 :])
    return payload, b"" if body.done else None


def one_chunked_body(data: bytes) -> None:
    """It is read alike however it is split: as the strict parser reads it, with the same end."""

    def outcome(parts: list[bytes]) -> object:
        body = Chunked()
        try:
            payload, rest = read_body(body, parts)
        except MalformedBody:
            return None
        return payload, rest, body.trailers

    read = same([outcome(parts) for parts in splits(data)])
    if read is None:
        return
    payload, rest, trailers = read
    if rest is None:
        try:
            strict.read_chunks(data)
        except strict.Incomplete:
            return
        raise AssertionError("the relay waits for more of a body that is complete")
    assert strict.read_chunks(data) == (payload, trailers.split(b"\r\n")[1:], rest)
    if trailers:  # llhttp takes framing from them, although the framing was decided by the head
        return
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert strict.llhttp_requests(head + data[: len(data) - len(rest)]) == ([(b"POST", b"/", payload)], True)


# -- requests


def one_request(data: bytes) -> None:
    """An accepted request is one request upstream: the same method, target and body, and our fields.

    A request that is refused later, in its body, is not complete upstream by then.
    """
    end = data.find(END)
    if end < 0:
        return
    head, rest = data[: end + 4], data[end + 4 :]
    try:
        target, _ = read_target(request_head.read_request(head, LIMITS).target)
    except MalformedRequest as error:
        case = problems.of_malformed(error).case
        if case.status not in REFUSALS or not case.closes:
            raise
        return
    one_target(target)
    if target == b"*":  # never relayed
        return
    outcome = same([_relayed(head, target, parts) for parts in splits(rest)])
    if outcome == "malformed":
        return
    try:
        original, left = strict.read_request(data)
    except (strict.Malformed, strict.Incomplete):
        assert outcome == "open", "a request is accepted that a strict server refuses"
    else:
        assert outcome == ((original.start[0], target, original.body), left)


def _relayed(head: bytes, target: bytes, parts: list[bytes]) -> object:
    """Write the request for the upstream as the exchange does, and parse it again."""
    request = request_head.read_request(head, LIMITS)
    begun, behind = _uploaded(request.body, parts)
    sent = to_upstream(request, target) + begun
    if isinstance(behind, str):
        found, end = strict.requests_in(sent)
        assert (found, type(end)) == ([], strict.Incomplete)
        assert not strict.llhttp_requests(sent)[1]
        return behind
    read, left = strict.read_request(sent)
    assert left == b""
    assert strict.llhttp_requests(sent) == ([read.told], True)
    _check_request_fields(request, head, read)
    return read.told, behind


def _uploaded(body: Body | None, parts: list[bytes]) -> tuple[bytes, bytes | str]:
    """The bytes sent after the head, and those kept for the next request, or why these are unknown.

    Sending begins after the second piece, as if a token or a connection had been awaited.
    """
    if body is None:
        return b"", b"".join(parts)
    upload = Upload(body, SPOOL)
    sent, behind, begun = b"", b"", False
    for number, part in enumerate(parts):
        if not upload.arriving:
            behind += part
            continue
        try:
            payload, rest = body.feed(part)
        except MalformedBody:
            return sent, "malformed"
        behind += rest
        upload.add(payload)
        if begun:
            sent += framed(body, payload)
        elif number == 1 or len(parts) == 1:
            sent, begun = framed(body, upload.begin()), True
    if not begun:
        sent = framed(body, upload.begin())
    return sent, "open" if upload.arriving else behind


def to_upstream(request: RequestHead, target: bytes) -> bytes:
    host, attached, via = OURS
    via = via.removeprefix(b"Via: 1.1 ")
    return head_writer.to_upstream(
        request, target, host.removeprefix(b"Host: "), b"\r\n" + attached, via, upgrade=False
    )


def _check_request_fields(request: RequestHead, head: bytes, read: strict.Message) -> None:
    came = head.removesuffix(END).split(b"\r\n")[1:]
    chunked = request.body is not None and request.body.chunked
    framing = [b"Transfer-Encoding: chunked"] if chunked else []
    assert read.lines == [OURS[0], *expected_request(came), *framing, *OURS[1:]]
    if isinstance(request.body, Chunked):
        came_behind = request.body.trailers.split(b"\r\n")[1:]
        assert read.trailers == expected_trailers(came, came_behind)


# -- responses


def one_answer(data: bytes) -> None:
    """An upstream's response that is accepted is exactly one response to the caller, and the same."""
    for method in (b"GET", b"HEAD"):
        rest = data
        while (end := rest.find(END)) >= 0:
            head, rest = rest[: end + 4], rest[end + 4 :]
            try:
                answer = response_head.read_response(head, method, LIMITS)
            except MalformedResponse:
                break
            if answer.status >= 200:
                same([_answered(answer, head, parts, method) for parts in splits(rest)])
                break
            _check_interim(answer, head)


def _check_interim(answer: ResponseHead, head: bytes) -> None:
    sent = (
        head_writer.switched(answer)
        if answer.status == 101
        else head_writer.to_caller(answer, chunked=False, close=False)
    )
    read, left = strict.read_answer(sent, b"GET")
    assert (read.status, left) == (answer.status, b"")
    came = head.removesuffix(END).split(b"\r\n")[1:]
    ours = [b"Connection: Upgrade", b"Upgrade: websocket"] if answer.status == 101 else []
    assert read.lines == [*expected_answer(came), *ours]


def _answered(answer: ResponseHead, head: bytes, parts: list[bytes], method: bytes) -> object:
    """The bytes that the caller gets, and whether they are complete."""
    body = answer.body()
    until_close = isinstance(body, UntilClose)
    sent = head_writer.to_caller(answer, chunked=answer.chunked, close=until_close)
    try:
        payload, behind = read_body(body, parts)
    except MalformedBody:
        return "malformed"
    if answer.chunked:
        assert isinstance(body, Chunked)
        sent += encode_chunk(payload) if payload else b""
        sent += encode_trailers(body.trailers, body.nominated) if body.done else b""
    else:
        sent += payload
    complete = body.end_of_input()
    assert complete is (until_close or behind is not None)
    if not complete:
        return "cut", payload
    read, left = strict.read_answer(sent, method)
    assert (read.status, read.body, read.until_close, left) == (answer.status, payload, until_close, b"")
    _check_answer_fields(answer, head, read, body)
    if method != b"HEAD":  # llhttp can't be told the method
        assert strict.llhttp_answers(sent) == ([(read.status, payload)], not until_close)
    return payload, behind


def _check_answer_fields(answer: ResponseHead, head: bytes, read: strict.Message, body: Body) -> None:
    came = head.removesuffix(END).split(b"\r\n")[1:]
    framing = [b"Transfer-Encoding: chunked"] if answer.chunked else []
    framing += [b"Connection: close"] if isinstance(body, UntilClose) else []
    assert read.lines == [*expected_answer(came), *framing]
    if isinstance(body, Chunked):
        assert read.trailers == expected_trailers(came, body.trailers.split(b"\r\n")[1:])


# -- parts of them


def one_block(data: bytes) -> None:
    """Field lines in a request, in a response and as trailers of both."""
    one_request(b"GET /up HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n")
    one_answer(b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n")
    options = [line for line in data.split(b"\r\n") if line[:11].lower() == b"connection:"]
    lines = b"".join(b"\r\n" + line for line in (*options[:1], b"Transfer-Encoding: chunked"))
    body = END + b"0\r\n" + data + END
    one_request(b"POST /up HTTP/1.1\r\nHost: a" + lines + body)
    one_answer(b"HTTP/1.1 200 OK" + lines + body)


def one_target(data: bytes) -> None:
    """An accepted target stays within its route, however often and by whichever parser it is decoded."""
    if data and strict.TARGET.issuperset(data):
        check_target(data)


def one_link(data: bytes) -> None:
    """A rewritten link leads to the proxy; a cookie or link never breaks the lines around it."""
    if strict.VALUE.issuperset(data):
        check_link(data)


ENTRIES: dict[str, Callable[[bytes], None]] = {
    "one_request": one_request,
    "one_answer": one_answer,
    "one_block": one_block,
    "one_chunked_body": one_chunked_body,
    "one_target": one_target,
    "one_link": one_link,
    "same_heads": same_heads,
    "same_plain_heads": same_plain_heads,
}
