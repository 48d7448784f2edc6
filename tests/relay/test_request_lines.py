"""What the log line of a request says: sizes, times, replays and its trace."""

import asyncio
import json

import pytest

from proxy.demo.faults import Fault
from proxy.observe.request_lines import RequestLines

NO = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def told(proxy):
    """The lines since the start, as dicts."""
    lines = []
    log = proxy.relay.context.log
    log.enabled, log.lines = True, RequestLines(json=True)
    log.add = lambda line: lines.append(json.loads(line))
    return lines


async def test_a_response_of_ours_has_its_size_and_no_time_of_the_upstream(proxy, upstream, kit, told):
    async def hang_up(connection):
        connection.writer.close()

    upstream.script = [hang_up, hang_up]
    _, _, body = kit.split(await proxy.get())
    assert body
    await proxy.ask(kit.request(b"HEAD", b"/up/x", b"Connection: close"))
    one, two = told
    assert (one["status"], one["bytes_out"], one["error"]) == (502, len(body), "upstream-protocol")
    assert (two["method"], two["bytes_out"]) == ("HEAD", 0)
    assert not {"upstream_ms"} & (one.keys() | two.keys())


async def test_the_upstreams_time_is_that_until_its_response_began(proxy, upstream, kit, told):
    async def respond_late_and_slowly(connection):
        await asyncio.sleep(0.1)
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        await asyncio.sleep(0.1)
        connection.writer.write(b"lf")

    upstream.script = [kit.OK, respond_late_and_slowly]
    await proxy.get()
    await proxy.get()
    (_, line) = told
    assert 90 <= line["upstream_ms"] <= line["duration_ms"] - 90


async def test_waiting_for_a_token_is_not_the_upstreams_time(proxy, told):
    proxy.server.script(Fault(wait_before=lambda: asyncio.sleep(0.2)))
    await proxy.get()
    (line,) = told
    assert 0 <= line["upstream_ms"] <= line["duration_ms"] - 150


async def test_a_request_that_is_sent_again_after_a_401_says_so(proxy, upstream, told):
    await proxy.adopt("rejected")
    upstream.script = [NO]
    await proxy.get()
    await proxy.get()
    assert [line.get("replayed", False) for line in told] == [True, False]


async def test_the_trace_of_a_valid_traceparent_is_in_the_line_and_the_field_passes(
    proxy, upstream, kit, told
):
    field = b"traceparent: 00-%b-00f067aa0ba902b7-01" % TRACE
    await proxy.get(b"/up/x", field)
    await proxy.get(b"/up/x", b"traceparent: Bearer secret")
    await proxy.get(b"/up/x", field, field)
    assert [line.get("request_id", "") for line in told] == [TRACE.decode(), "", ""]
    assert field in upstream.received[0]
