"""A caller gets exactly the response to its request, or none that looks complete.

Each row of the table is sent whole, split at every byte (in two, and byte by byte) and with another response
right after it, which was not requested and must reach no caller.
"""

import json

import pytest

from .conformance_answers import ANSWERS, Broken, CutOff, Whole
from .conformance_pieces import by_bytes, by_pieces, splits
from .conformance_rows import arrives, request
from .conformance_sides import OK, SMUGGLED, Cut, turns
from .conformance_strict import in_one_chunk

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"


def rows(fate):
    return [row for row in ANSWERS if isinstance(row.fate, fate)]


async def asked(side, caller, row, pieces):
    """The bytes that the caller gets when the upstream responds in these pieces."""
    side.upstream.answers.append((pieces, row.then))
    await caller.say(row.asks)
    return await caller.hear(row.asks.split(b" ")[0])


def as_sent(messages):
    return b"".join(message.raw for message in messages)


def as_one(messages):
    return b"".join(in_one_chunk(message) for message in messages)


async def gets_its_own(caller):
    """The next request gets its own response."""
    await caller.say(SMUGGLED)
    (answer,) = await caller.hear()
    assert answer.raw == OK


@pytest.mark.parametrize("row", rows(Whole), ids=str)
async def test_a_response_reaches_the_caller_as_exactly_these_bytes_however_it_is_split(side, row):
    says, reaches = side.fill(row.says), side.fill(row.fate.reaches)
    ways = [[says], *splits(says), by_pieces(says)]
    for share in [ways] if row.fate.keeps else [[pieces] for pieces in ways]:
        with side.caller() as caller:
            for pieces in share:
                heard = await asked(side, caller, row, pieces)
                assert (as_sent if len(pieces) == 1 else as_one)(heard) == reaches
            caller.end()
            assert await caller.hear_end() == b""
    assert len(side.upstream.take()) == len(ways)
    await side.all_is_well()


@pytest.mark.parametrize("row", [row for row in rows(Whole) if row.then == "stay"], ids=str)
async def test_bytes_after_a_response_reach_no_caller(side, row):
    says = side.fill(row.says)
    for pieces in ([says + EVIL], [says + EVIL[:9], EVIL[9:]], [says, EVIL], by_pieces(says + EVIL)):
        with side.caller() as caller:
            await gets_its_own(caller)
            connections = side.upstream.connections
            assert as_one(await asked(side, caller, row, pieces)) == side.fill(row.fate.reaches)
            await turns(10 + 4 * len(pieces))  # the other response must have come before the next request
            await gets_its_own(caller)
            assert side.upstream.connections == connections + 1
            caller.end()
            assert await caller.hear_end() == b""
    side.upstream.take()
    await side.all_is_well()


@pytest.mark.parametrize("row", rows(Broken), ids=str)
async def test_a_broken_response_is_a_502_however_it_is_split(side, row):
    ways = [[row.says], *splits(row.says), by_pieces(row.says)]
    if row.then == "stay":
        ways += [[row.says + EVIL], [row.says, EVIL]]
    with side.caller() as caller:
        for pieces in ways:
            *interim, answer = await asked(side, caller, row, pieces)
            assert answer.status == 502
            assert all(message.status in {100, 103} for message in interim)
            if answer.body:
                assert json.loads(answer.body)["type"] == "urn:token-proxy:problem:upstream-protocol"
        await gets_its_own(caller)
    side.upstream.take()
    await side.all_is_well()


@pytest.mark.parametrize("row", rows(CutOff), ids=str)
async def test_a_response_that_fails_after_its_beginning_is_cut_however_it_is_split(side, row):
    ways = [[row.says], *splits(row.says), by_pieces(row.says)]
    if row.then == "stay":
        ways += [[row.says + EVIL], [row.says, EVIL]]
    for pieces in ways:
        with side.caller() as caller:
            with pytest.raises(Cut) as cut:
                await asked(side, caller, row, pieces)
            assert cut.value.args[0].count(b"HTTP/1.1 200 ") <= 1  # nothing follows the begun response
            assert b"\r\n0\r\n\r\n" not in cut.value.args[0]
            assert b"EVIL" not in cut.value.args[0]
            await caller.say(SMUGGLED)
            assert cut.value.args[0].endswith(await caller.hear_end())  # and nothing more
        assert len(side.upstream.take()) == 1
    await side.all_is_well()


async def test_a_large_head_may_come_byte_by_byte_both_ways(side):
    field = b"X: " + b"x" * 8189
    says = b"HTTP/1.1 200 OK\r\n" + field + b"\r\nContent-Length: 2\r\n\r\nok"
    side.upstream.answers.append((by_bytes(says), "stay"))
    with side.caller() as caller:
        await caller.say(*by_bytes(request(b"GET /up/x", field)))
        (answer,) = await caller.hear()
    assert answer.raw == says
    assert [message.raw for message in side.upstream.take()] == [side.fill(arrives(b"GET /base/x", field))]
    await side.all_is_well()


UNASKED = {
    "another response": EVIL,
    "a KiB of noise": b"\x00noise" * 171,
    "an empty line": b"\r\n",
    "one byte": b"H",
    "half a response": EVIL[:20],
    "hints": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "a request for patience": b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", UNASKED)
async def test_bytes_on_an_idle_connection_reach_no_caller(side, name):
    for pieces in ([UNASKED[name]], by_pieces(UNASKED[name])):
        with side.caller() as caller:
            await gets_its_own(caller)
            connections = side.upstream.connections
            for piece in pieces:
                for writer in side.upstream.writers:
                    if not writer.is_closing():
                        writer.write(piece)
                await turns()
            await turns(10)
            for number in range(3):
                own = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number
                side.upstream.answers.append(([own], "stay"))
                await caller.say(SMUGGLED)
                (answer,) = await caller.hear()
                assert answer.raw == own
            assert side.upstream.connections == connections + 1
    side.upstream.take()
    await side.all_is_well()
