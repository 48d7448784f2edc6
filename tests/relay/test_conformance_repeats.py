"""A9, A10: the number of times that a request arrives if the first attempt failed."""

from dataclasses import dataclass

import pytest

from .conformance_requests import METHOD_NAMES
from .conformance_rows import request
from .conformance_sides import OK, conforming

SPOOL = 65536  # bytes of a body that are kept
GONE = ([b""], "close")
RESET = ([b""], "reset")
ONE_BYTE = ([b"H"], "close")
HINTS = ([b"HTTP/1.1 103 Early Hints\r\n\r\n"], "close")
NO = ([b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"], "stay")
IDEMPOTENT = set(b"GET HEAD OPTIONS PUT DELETE PROPFIND REPORT SEARCH QUERY".split())
CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"


@pytest.fixture
async def side(tmp_path):
    async with conforming(tmp_path) as made:
        yield made


@dataclass(frozen=True)
class Row:
    """`kept`: the connection to the upstream is a reused one."""

    name: str
    method: bytes
    answers: tuple
    times: int
    status: int
    kept: bool = True
    lines: tuple = ()
    body: bytes = b""

    def __str__(self):
        return self.name


def of_size(size):
    return {"lines": (b"Content-Length: %d" % size,), "body": b"x" * size}


IN_CHUNKS = {"lines": (b"Transfer-Encoding: chunked",), "body": CHUNKED}
BROKE_OFF = [
    *[
        Row(
            f"{method.decode()} on a kept connection",
            method,
            (GONE,),
            *((2, 200) if method in IDEMPOTENT else (1, 502)),
        )
        for method in METHOD_NAMES
    ],
    Row("GET on a new connection", b"GET", (GONE,), 1, 502, kept=False),
    Row("PUT on a new connection", b"PUT", (RESET,), 1, 502, kept=False),
    Row("GET that is reset", b"GET", (RESET,), 2, 200),
    Row("POST that is reset", b"POST", (RESET,), 1, 502),
    Row("GET twice in vain", b"GET", (GONE, GONE), 2, 502),
    Row("GET twice in vain, then a reset", b"GET", (RESET, RESET, RESET), 2, 502),
    Row("GET with a byte of a response", b"GET", (ONE_BYTE,), 1, 502),
    Row("GET with hints", b"GET", (HINTS,), 1, 502),
    Row("POST with a body", b"POST", (GONE,), 1, 502, **of_size(5)),
    Row("PATCH with a body", b"PATCH", (GONE,), 1, 502, **of_size(5)),
    Row("POST in chunks", b"POST", (RESET,), 1, 502, **IN_CHUNKS),
    Row("PUT with a body that was kept", b"PUT", (GONE,), 2, 200, **of_size(SPOOL)),
    Row("PUT in chunks that were kept", b"PUT", (GONE,), 2, 200, **IN_CHUNKS),
    Row("PUT with a body too long to be kept", b"PUT", (GONE,), 1, 502, **of_size(SPOOL + 1)),
    Row("GET with a body too long to be kept", b"GET", (GONE,), 1, 502, **of_size(SPOOL + 1)),
]
REJECTED = [
    Row("GET", b"GET", (NO,), 2, 200),
    Row("GET on a new connection", b"GET", (NO,), 2, 200, kept=False),
    Row("POST without a body", b"POST", (NO,), 2, 200),
    Row("POST with a body that was kept", b"POST", (NO,), 2, 200, **of_size(SPOOL)),
    Row("POST in chunks that were kept", b"POST", (NO,), 2, 200, **IN_CHUNKS),
    Row("POST with a body too long to be kept", b"POST", (NO,), 1, 401, **of_size(SPOOL + 1)),
    Row("GET twice", b"GET", (NO, NO), 2, 401),
    Row("GET, and the replay breaks off", b"GET", (NO, GONE), 2, 502),
    Row("GET that broke off before", b"GET", (GONE, NO), 2, 401),
]


async def asked(side, row):
    """(number of arrivals, the caller's status); all arrivals are equal."""
    with side.caller() as caller:
        if row.kept:
            await caller.say(request(b"GET /up/x"))
            await caller.hear()
            side.upstream.take()
        side.upstream.answers.extend(row.answers)
        await caller.say(request(row.method + b" /up/x", *row.lines, body=row.body))
        answer = (await caller.hear(row.method))[-1]
    arrived = side.upstream.take()
    assert {message.told[:2] for message in arrived} == {(row.method, b"/base/x")}
    assert {message.body for message in arrived} == {b"hello" if row.body == CHUNKED else row.body}
    side.upstream.answers.clear()
    return arrived, answer.status


@pytest.mark.parametrize("row", BROKE_OFF, ids=str)
async def test_a_failed_request_is_sent_again_only_if_that_is_safe(side, row):
    arrived, status = await asked(side, row)
    assert (len(arrived), status) == (row.times, row.status)
    await side.all_is_well()


@pytest.mark.parametrize("row", REJECTED, ids=str)
async def test_a_request_that_was_rejected_is_sent_again_once_with_another_token(side, row):
    arrived, status = await asked(side, row)
    assert (len(arrived), status) == (row.times, row.status)
    tokens = [message.values(b"authorization") for message in arrived]
    assert tokens[0] == [b"Bearer ours"]
    replayed = len(arrived) == 2 and row.answers[0] != GONE
    assert (tokens[-1] != tokens[0]) == replayed


async def test_a_401_that_stays_costs_one_refresh_and_makes_no_loop(side):
    for _ in range(5):
        side.upstream.answers.extend([NO, NO])
        with side.caller() as caller:
            await caller.say(request(b"GET /up/x"))
            assert (await caller.hear())[0].status == 401
        side.upstream.answers.clear()
    assert len(side.upstream.take()) == 6
    assert len(side.proxy.server.token_requests) == 1
    with side.caller() as caller:
        await caller.say(request(b"GET /up/x"))
        assert (await caller.hear())[0].raw == OK
