"""The log at level debug: what is decided about a request, and no secret."""

import asyncio
import logging

import pytest

NO = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nX-Secret: of-the-upstream\r\n\r\n"
CLOSES = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@pytest.fixture
def decided(caplog):
    """Have decisions logged; returns the steps since the last call."""
    caplog.set_level(logging.DEBUG, "proxy.relay")

    def read():
        lines = [record for record in caplog.records if getattr(record, "event", "") == "decision"]
        caplog.clear()
        return [line.fields["step"] for line in lines]

    return read


@pytest.fixture
def debugged(decided, proxy):
    return proxy


async def test_each_step_of_a_request_is_a_line(decided, debugged, upstream):
    await debugged.get()
    assert decided() == ["admitted", "token", "dial", "sent", "response"]
    await debugged.get()
    assert decided() == ["admitted", "sent", "response"]


async def test_a_401_and_what_follows_are_lines(decided, debugged, upstream):
    await debugged.adopt("rejected")
    upstream.script = [NO, NO]
    await debugged.get()
    assert decided() == (
        ["admitted", "dial", "sent", "unauthorized", "replay", "dial", "sent", "unauthorized", "response"]
    )


async def test_a_connection_that_is_not_kept_is_a_line(decided, debugged, upstream):
    upstream.script = [CLOSES]
    await debugged.get()
    assert "not_kept" in decided()


async def test_a_refusal_and_a_retry_are_lines(decided, debugged, upstream, kit):
    async def hang_up(connection):
        connection.writer.close()

    await debugged.get()
    decided()
    upstream.script = [hang_up, hang_up]
    assert (await debugged.get()).startswith(b"HTTP/1.1 502 ")
    assert decided() == ["admitted", "sent", "retry", "dial", "sent", "refused"]


async def test_why_a_request_without_a_route_is_refused_is_a_line(decided, debugged, caplog):
    await debugged.get(b"/other")
    await debugged.ask(b"GET /up HTTP/1.1\r\nHost: canary.example\r\nConnection: close\r\n\r\n")
    await debugged.ask(b"GET /canary\r\n\r\n")
    lines = [record for record in caplog.records if getattr(record, "event", "") == "decision"]
    words = [
        "404 no-route: no route matches",
        "421 host-refused: the Host",
        "400 bad-request: the request line",
    ]
    for line, word in zip(lines, words, strict=True):
        assert f"request {line.fields['number']}: {word}" in line.getMessage()
        assert "canary" not in line.getMessage()
    assert decided() == ["refused"] * 3
    assert len({line.fields["number"] for line in lines}) == 3


async def test_a_reset_of_the_caller_is_a_line(decided, debugged, upstream):
    async def break_off(connection):
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
        await connection.writer.drain()
        connection.writer.close()

    upstream.script = [break_off]
    with pytest.raises(ConnectionResetError):
        await debugged.get()
    assert decided()[-1] == "aborted"


async def test_the_requests_of_several_callers_are_told_apart(caplog, decided, debugged):
    await asyncio.gather(*(debugged.get() for _ in range(5)))
    lines = [record for record in caplog.records if getattr(record, "event", "") == "decision"]
    numbers = {line.fields["number"] for line in lines}
    assert len(numbers) == 5
    for line in lines:
        assert f"request {line.fields['number']}: " in line.getMessage()


async def test_no_line_has_a_secret(caplog, decided, debugged, upstream, kit):
    await debugged.adopt("tok-canary")
    upstream.script = [NO, NO]
    lines = (b"X-Canary: field-canary", b"Cookie: c=cookie-canary", b"Authorization: Bearer callers-canary")
    path = b"/up/path-canary?query-canary=1"
    await debugged.ask(
        kit.request(b"POST", path, *lines, b"Connection: close", b"Content-Length: 6", body=b"canary")
    )
    assert decided
    said = " ".join(record.getMessage() + str(getattr(record, "fields", "")) for record in caplog.records)
    assert "admitted" in said
    assert "canary" not in said
    assert "of-the-upstream" not in said


async def test_at_other_levels_there_is_none(caplog, proxy):
    caplog.set_level(logging.DEBUG, "proxy.relay")  # later than the start
    caplog.clear()
    await proxy.get()
    assert [record for record in caplog.records if getattr(record, "event", "") == "decision"] == []
