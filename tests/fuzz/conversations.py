"""Properties of the whole relay for any bytes of a caller or an upstream. Each takes a stage and bytes."""

from __future__ import annotations

from collections.abc import Callable

from tests.relay import strict
from tests.relay.policy import expected_request, expected_trailers
from tests.relay.stage import BASE, ROUTE, Stage, echo

from .entries import same, splits

EMPTY_LINES = 2  # most that the relay ignores before a request


def one_conversation(stage: Stage, data: bytes) -> None:
    """All bytes of a caller on one connection, in several splits: see `converse`."""
    ways = list(splits(data))[:3]
    accepted = [converse(stage, pieces, thinks=30 * number) for number, pieces in enumerate(ways)]
    same([number for number in accepted if number is not None])
    converse(stage, ways[-1], hasty=True)


def converse(stage: Stage, pieces: list[bytes], *, thinks: int = 0, hasty: bool = False) -> int | None:
    """The upstream receives what a strict server would have read, up to the first refusal.

    Each request has its own response, in order; nothing follows a response that closes; the end is prompt.

    Returns the number of upstream responses before the first refusal, which does not depend on the pieces.
    (What follows a refusal does: an unfinished body can't be skipped.) None: the end was abrupt.
    """
    stage.upstream.asked.clear()
    ours = [stage.ours()]
    stage.upstream.thinks, stage.upstream.hasty = thinks, hasty
    heard, well = stage.say(pieces, eof=True)
    said = b"".join(pieces)
    asked, end = strict.requests_in(said, empty_lines=EMPTY_LINES)
    answers = _answers(heard, asked, well=well)
    if well and end is None and not (answers and answers[-1].closes):
        assert len(answers) == len(asked)
    if answers and answers[-1].closes:
        asked = asked[: len(answers)]
    assert not stage.upstream.faults
    _check_sent(stage, asked, [*ours, stage.ours()])
    for answer, request in zip(answers, asked, strict=False):
        if answer.values(b"x-echo") and request.start[0] != b"HEAD":
            told = strict.Message((request.start[0], upstream_target(request), b""), [], request.body)
            assert answer.body == echo(told).partition(b"\r\n\r\n")[2]
    stage.check_plain()
    echoed = [bool(answer.values(b"x-echo")) for answer in answers]
    return [*echoed, False].index(False) if well else None


def _answers(heard: bytes, asked: list[strict.Message], *, well: bool) -> list[strict.Message]:
    """At most one for each request, and one for a malformed one."""
    answers: list[strict.Message] = []
    for method in [*(request.start[0] for request in asked), b"GET"]:
        if not heard:
            return answers
        try:
            answer, heard = strict.read_answer(heard, method)
        except strict.Incomplete:
            if not well:
                return answers
            answer, heard = strict.read_answer(heard, b"HEAD")  # then a HEAD was refused
            assert answer.closes
        answers.append(answer)
        if answer.closes:
            break
    assert heard == b""
    return answers


def upstream_target(request: strict.Message) -> bytes:
    target = request.start[1]
    if not target.startswith(b"/"):
        path = target.partition(b"://")[2].partition(b"/")
        target = path[1] + path[2]
    return BASE + target.removeprefix(ROUTE)


Ours = tuple[list[bytes], list[bytes]]


def _check_sent(stage: Stage, asked: list[strict.Message], ours: list[Ours]) -> None:
    """The upstream got a subsequence of `asked`, with our fields and those of theirs that may pass."""
    remaining = iter(asked)
    for got in stage.upstream.asked:
        assert any(_is_sent(got, request, ours) for request in remaining), (got, asked)


def _is_sent(got: strict.Message, said: strict.Message, ours: list[Ours]) -> bool:
    chunked = [b"Transfer-Encoding: chunked"] if said.values(b"transfer-encoding") else []
    forwarded_fields = _but_hops([*expected_request(said.lines), *chunked])
    return (
        got.start == (said.start[0], upstream_target(said), b"HTTP/1.1")
        and got.body == said.body
        and _but_hops(got.lines) in [[*before, *forwarded_fields, *behind] for before, behind in ours]
        and got.trailers == expected_trailers(said.lines, said.trailers)
    )


def _but_hops(lines: list[bytes]) -> list[bytes]:
    """The lines but for Max-Forwards, which is decremented (RFC 9110 section 7.6.2)."""
    return [line for line in lines if not line.lower().startswith(b"max-forwards:")]


ASKING = [  # a caller's requests for an upstream's response
    b"GET /up/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"HEAD /up/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET /up/x HTTP/1.0\r\n\r\n",
]


def one_answer_through(stage: Stage, data: bytes) -> None:
    """An upstream's bytes become the same response for one caller, or none that looks complete."""
    for request in ASKING:
        stage.upstream.answer = data
        heard, well = stage.say([request], eof=False)
        stage.check_plain()
        answer = _final(heard, request) if well else None
        if answer is None or (answer.status == 502 and answer.values(b"proxy-status")):
            continue
        said = _final(data, request, forgiving=True)
        assert said is not None, "a broken response was completed"
        assert (answer.status, answer.body) == (said.status, said.body)


def _final(data: bytes, request: bytes, *, forgiving: bool = False) -> strict.Message | None:
    method = request.partition(b" ")[0]
    answer = None
    while answer is None or answer.status < 200:
        try:
            answer, data = strict.read_answer(data, method, forgiving=forgiving)
        except (strict.Malformed, strict.Incomplete):
            return None
    return answer


ENTRIES: dict[str, Callable[[Stage, bytes], None]] = {
    "one_conversation": one_conversation,
    "one_answer_through": one_answer_through,
}
