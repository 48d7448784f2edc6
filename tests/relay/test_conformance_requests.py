"""One accepted request is exactly one well-formed request upstream; bytes after a refused one are none.

Each row of the tables is sent whole, split at every byte (in two, and byte by byte) and with another request
right after it, to a proxy between a raw socket and a strict upstream.
"""

import json

import pytest

from .conformance_pieces import by_pieces, splits
from .conformance_refusals import REFUSED
from .conformance_requests import PASSING
from .conformance_rows import Declined, Dismissed, Refused, Unfinished, request
from .conformance_sides import OK, OK_AND_CLOSE, SMUGGLED, turns
from .conformance_strict import in_one_chunk

pytestmark = pytest.mark.asyncio(loop_scope="module")
AT_ONCE = 64  # connections


def method_of(row):
    return row.sent.lstrip().split(b" ")[0]


# -- accepted requests


async def answered(caller, row, *, keeps):
    """The caller has got the upstream's response unchanged."""
    (answer,) = await caller.hear(method_of(row))
    expected = OK if keeps else OK_AND_CLOSE
    assert answer.raw == (expected[:-2] if method_of(row) == b"HEAD" else expected)


@pytest.mark.parametrize("row", PASSING, ids=str)
async def test_a_request_arrives_as_exactly_these_bytes(side, row):
    with side.caller() as caller:
        await caller.say(side.fill(row.sent))
        await answered(caller, row, keeps=row.fate.keeps)
        assert [message.raw for message in side.upstream.take()] == [side.fill(row.fate.arrives)]
        caller.end()  # a half-closed caller still gets the response, and nothing more
        assert await caller.hear_end() == b""
    await side.all_is_well()


@pytest.mark.parametrize("row", PASSING, ids=str)
async def test_a_request_arrives_the_same_wherever_it_is_split(side, row):
    sent, expected = side.fill(row.sent), side.fill(row.fate.arrives)
    ways = [*splits(sent), by_pieces(sent)]
    for share in [ways] if row.fate.keeps else [[pieces] for pieces in ways]:
        with side.caller() as caller:
            for pieces in share:
                await caller.say(*pieces)
                await answered(caller, row, keeps=row.fate.keeps)
                assert [in_one_chunk(message) for message in side.upstream.take()] == [expected], pieces
            caller.end()
            assert await caller.hear_end() == b""
    await side.all_is_well()


@pytest.mark.parametrize("row", PASSING, ids=str)
async def test_bytes_after_it_are_one_more_request_or_none(side, row):
    sent, expected = side.fill(row.sent), side.fill(row.fate.arrives)
    for pieces in ([sent + SMUGGLED], [sent, SMUGGLED], by_pieces(sent + SMUGGLED)):
        with side.caller() as caller:
            await caller.say(*pieces)
            await answered(caller, row, keeps=row.fate.keeps)
            if row.fate.keeps:
                (second,) = await caller.hear()
                assert second.raw == OK
            caller.end()
            assert await caller.hear_end() == b""
        first, *more = side.upstream.take()
        assert in_one_chunk(first) == expected
        assert [message.start[1] for message in more] == [b"/base/smuggled"] * row.fate.keeps
    await side.all_is_well()


@pytest.mark.parametrize("row", PASSING, ids=str)
async def test_a_half_closed_caller_still_gets_its_response(side, row):
    with side.caller() as caller:
        await caller.say(side.fill(row.sent) + SMUGGLED * row.fate.keeps)
        caller.end()
        await answered(caller, row, keeps=row.fate.keeps)
        assert await caller.hear_end() == OK * row.fate.keeps
    first, *more = side.upstream.take()
    assert in_one_chunk(first) == side.fill(row.fate.arrives)
    assert [message.start[1] for message in more] == [b"/base/smuggled"] * row.fate.keeps


# -- refused and incomplete requests


async def told(caller, row, *, closes):
    """The caller has got our response: a problem, or the one to OPTIONS about the proxy."""
    (answer,) = await caller.hear(method_of(row))
    assert answer.status == row.fate.status
    if row.fate.ending and method_of(row) != b"HEAD":
        assert json.loads(answer.body)["type"] == f"urn:token-proxy:problem:{row.fate.ending}"
    assert answer.values(b"connection") == ([b"close"] if closes else [])


async def given_up(caller):
    """The connection ended without a response, or with a refusal, because the message was incomplete."""
    caller.end()
    heard = await caller.hear_end()
    assert heard == b"" or heard.startswith(b"HTTP/1.1 400 ")


REFUSED_ROWS = [row for row in REFUSED if isinstance(row.fate, Refused)]
DECLINED_ROWS = [row for row in REFUSED if isinstance(row.fate, Declined)]
DISMISSED_ROWS = [row for row in REFUSED if isinstance(row.fate, Dismissed)]
UNFINISHED_ROWS = [row for row in REFUSED if isinstance(row.fate, Unfinished)]


async def each_in_pieces(side, ways, hear):
    """Send the message in each of the splits, each on its own connection, many at a time."""
    for start in range(0, len(ways), AT_ONCE):
        batch = [(side.caller(), pieces) for pieces in ways[start : start + AT_ONCE]]
        await turns()
        for number in range(max(len(pieces) for _, pieces in batch)):
            for caller, pieces in batch:
                await caller.say(*pieces[number : number + 1])
            await turns()
        for caller, _ in batch:
            await hear(caller)
        for caller, _ in batch:
            caller.close()


@pytest.mark.parametrize("row", REFUSED_ROWS, ids=str)
async def test_a_refused_request_does_not_arrive_wherever_it_is_split(side, row):
    sent = side.fill(row.sent)

    async def refused(caller):
        await told(caller, row, closes=True)
        assert await caller.hear_end() == b""

    ways = [[sent], *splits(sent), by_pieces(sent)]
    await each_in_pieces(side, ways, refused)
    assert side.upstream.take() == []
    await side.all_is_well()


@pytest.mark.parametrize("row", [*REFUSED_ROWS, *UNFINISHED_ROWS], ids=str)
async def test_bytes_after_a_refused_request_are_never_read_as_a_request(side, row):
    sent = side.fill(row.sent)
    for pieces in ([sent + SMUGGLED], [sent, SMUGGLED], by_pieces(sent + SMUGGLED)):
        with side.caller() as caller:
            await caller.say(*pieces)
            (answer,) = await caller.hear(method_of(row))
            assert 400 <= answer.status < 600
            assert await caller.hear_end() == b""
        await turns()
        assert side.upstream.take() == []
    await side.all_is_well()


@pytest.mark.parametrize("row", DECLINED_ROWS, ids=str)
async def test_a_declined_request_does_not_arrive_and_the_next_one_does(side, row):
    sent = side.fill(row.sent)
    with side.caller() as caller:
        for pieces in [[sent], *splits(sent)]:
            await caller.say(*pieces)
            await told(caller, row, closes=False)
            assert side.upstream.take() == []
        for pieces in ([sent + SMUGGLED], by_pieces(sent + SMUGGLED)):
            await caller.say(*pieces)
            await told(caller, row, closes=False)
            (answer,) = await caller.hear()
            assert answer.raw == OK
            (message,) = side.upstream.take()
            assert message.start[1] == b"/base/smuggled"
    await side.all_is_well()


@pytest.mark.parametrize("row", DISMISSED_ROWS, ids=str)
async def test_the_body_of_a_declined_request_is_never_read_as_one(side, row):
    sent = side.fill(row.sent)
    for pieces in [[sent], *splits(sent), by_pieces(sent)]:
        with side.caller() as caller:
            await caller.say(*pieces, SMUGGLED)
            (answer,) = await caller.hear(method_of(row))
            closes = answer.values(b"connection") == [b"close"]
            assert closes or answer.values(b"connection") == []
            assert answer.status == row.fate.status
            caller.end()
            assert await caller.hear_end() == (b"" if closes else OK)
        arrived = [message.start[1] for message in side.upstream.take()]
        assert arrived == ([] if closes else [b"/base/smuggled"])
        assert len(pieces) > 1 or not closes
    await side.all_is_well()


@pytest.mark.parametrize("row", UNFINISHED_ROWS, ids=str)
async def test_an_incomplete_message_is_no_request_wherever_it_is_split(side, row):
    ways = [[row.sent], *splits(row.sent), by_pieces(row.sent)]
    await each_in_pieces(side, ways, given_up)
    assert side.upstream.take() == []
    await side.all_is_well()


CHUNKED = b"Transfer-Encoding: chunked"
WITHIN = {
    "a length longer than its body": ([b"Content-Length: 1000"], b"abc"),
    "the longest length": ([b"Content-Length: 999999999999999999"], b""),
    "a chunk size longer than its data": ([CHUNKED], b"3\r\nabc\r\n100\r\n"),
    "a chunk of 32 bits and more": ([CHUNKED], b"100000003\r\n"),
    "the longest chunk": ([CHUNKED], b"fffffffffffffff\r\n"),
}


@pytest.mark.parametrize("name", WITHIN)
async def test_bytes_within_a_body_are_never_read_as_a_request(side, name):
    lines, begun = WITHIN[name]
    sent = request(b"POST /up/x", *lines, body=begun)
    for pieces in ([sent + SMUGGLED], *splits(sent + SMUGGLED), by_pieces(sent + SMUGGLED)):
        with side.caller() as caller:
            await caller.say(*pieces)
            caller.end()
            assert await caller.hear_end() == b""
        assert side.upstream.take() == []
    await side.all_is_well()
