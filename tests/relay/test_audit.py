"""The audit log of the data path: a line for each request with its decision, and refusals without the log."""

import asyncio
import json
import os

import pytest

from proxy import tasks
from proxy.config.model import Log
from proxy.observe import audit_file
from proxy.observe.audit import ALLOWED, AuditLog

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
FIELDS = [
    *("ts", "event", "request_id", "caller", "peer", "route", "credential", "account", "method", "path"),
    *("decision", "status", "bytes_in", "bytes_out", "duration_ms"),
]
PATIENCE = 30


class Audited:
    def __init__(self, proxy, log, path):
        self.proxy, self.log, self.path = proxy, log, path

    async def lines(self, number):
        """The first `number` lines, as soon as they are there."""
        async with asyncio.timeout(PATIENCE):
            while not self.path.exists() or self.path.read_bytes().count(b"\n") < number:
                await asyncio.sleep(0.01)
        found = [json.loads(line) for line in self.path.read_bytes().splitlines()]
        assert len(found) == number
        return found

    async def line(self):
        return (await self.lines(1))[0]


@pytest.fixture
def audit(tmp_path, monkeypatch):
    """Have `proxy` write an audit log."""
    monkeypatch.setattr(audit_file, "RETRY", 0.02)
    logs = []

    def begin(proxy, path=None, **log):
        logs.append(AuditLog())
        logs[-1].use(Log(audit=path or tmp_path / "audit.log", **log))
        proxy.relay.context.audit = logs[-1]
        return Audited(proxy, logs[-1], path or tmp_path / "audit.log")

    yield begin
    for each in logs:
        each.close(seconds=5)


async def test_a_request_that_is_relayed(proxy, upstream, kit, audit):
    audited = audit(proxy)
    path = b"/up/a%20b?code=query-secret"
    fields = (
        b"traceparent: 00-%b-00f067aa0ba902b7-01" % TRACE.encode(),
        b"Connection: close",
        b"Content-Length: 5",
    )
    await proxy.ask(kit.request(b"POST", path, *fields, body=b"hello"))
    line = await audited.line()
    assert list(line) == FIELDS
    assert line.pop("ts") > 1e9
    assert line.pop("duration_ms") > 0
    assert line == {
        "event": "request",
        "request_id": TRACE,
        "caller": "",
        "peer": "127.0.0.1",
        "route": "up",
        "credential": "cred",
        "account": "default",
        "method": "POST",
        "path": "/up/a%20b",
        "decision": ALLOWED,
        "status": 200,
        "bytes_in": 5,
        "bytes_out": 2,
    }


async def test_a_request_that_has_no_route(proxy, audit):
    audited = audit(proxy)
    answer = await proxy.get(b"/elsewhere?secret")
    line = await audited.line()
    assert list(line) == FIELDS
    said = {name: line[name] for name in ("decision", "status", "route", "path", "peer", "method")}
    assert said == {
        "decision": "no-route",
        "status": 404,
        "route": "",
        "path": "/elsewhere",
        "peer": "127.0.0.1",
        "method": "GET",
    }
    assert line["bytes_out"] == len(answer.partition(b"\r\n\r\n")[2])


async def test_a_request_that_fails_at_the_upstream(proxy, upstream, audit):
    audited = audit(proxy)

    async def hang_up(connection):
        connection.writer.close()

    upstream.script = [hang_up]
    await proxy.get()
    line = await audited.line()
    assert (line["decision"], line["status"], line["route"]) == ("upstream-protocol", 502, "up")


async def test_a_request_that_is_not_understood(proxy, kit, audit):
    audited = audit(proxy)
    await proxy.ask(b"GET /up HTTP/1.1\r\nHost: a\r\nHost: b\r\nX: secret\r\n\r\n")
    await proxy.ask(b"BREW /up/tea HTTP/1.1\r\nHost: localhost\r\n\r\n")
    one, two = await audited.lines(2)
    assert (one["decision"], one["status"], one["method"], one["path"]) == ("bad-request", 400, "", "")
    assert (two["decision"], two["status"], two["peer"]) == ("method-refused", 501, "127.0.0.1")


async def test_a_caller_that_goes(proxy, kit, upstream, audit):
    audited = audit(proxy)
    waits = asyncio.Event()

    async def wait(_connection):
        waits.set()
        await asyncio.Event().wait()

    upstream.script = [wait]
    _, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up/x"))
    await waits.wait()
    writer.transport.abort()
    line = await audited.line()
    assert (line["decision"], line["status"], line["peer"]) == ("caller-gone", 499, "127.0.0.1")


async def test_a_question_about_the_proxy_itself(proxy, kit, audit):
    audited = audit(proxy)
    await proxy.ask(kit.request(b"OPTIONS", b"*", b"Connection: close"))
    line = await audited.line()
    assert (line["decision"], line["status"], line["path"]) == (ALLOWED, 200, "")


ODD_PATHS = {
    "an absolute target": (b"http://user:secret@localhost/up/x", ""),
    "quotes and braces": (b'/up/"},{"decision":"allowed"}', '/up/"},{"decision":"allowed"}'),
    "percent": (b"/up/%0d%0a%00%ff", "/up/%0d%0a%00%ff"),
    "long": (b"/up/" + b"x" * 5000, "/up/" + "x" * 1020),
}


@pytest.mark.parametrize("target", ODD_PATHS)
async def test_no_path_injects_a_line_or_a_field(proxy, kit, audit, target):
    audited = audit(proxy)
    sent, logged = ODD_PATHS[target]
    await proxy.ask(kit.request(b"GET", sent, b"Connection: close"))
    line = await audited.line()
    assert list(line) == FIELDS
    assert line["path"] in {logged, "/up/x"}
    assert b"secret" not in audited.path.read_bytes()


async def test_without_the_log_requests_are_refused_if_it_is_required(proxy, upstream, kit, audit, tmp_path):
    audited = audit(proxy, tmp_path / "later" / "audit.log", audit_required=True)
    async with asyncio.timeout(PATIENCE):
        while not audited.log.refuses:
            await asyncio.sleep(0.01)
    status, fields, body = kit.split(await proxy.get())
    assert (status, json.loads(body)["type"]) == (503, "urn:token-proxy:problem:overloaded")
    assert b"Retry-After: 1" in fields
    assert "audit_required" in json.loads(body)["detail"]
    assert upstream.requests == 0
    assert proxy.refused("overloaded") == 1
    audited.path.parent.mkdir()
    async with asyncio.timeout(PATIENCE):
        while not (await proxy.get()).startswith(b"HTTP/1.1 200 "):
            await asyncio.sleep(0.01)
    decisions = [line["decision"] for line in map(json.loads, audited.path.read_text().splitlines())]
    assert decisions[0] == "overloaded"  # the refusals are in it, too


async def test_without_the_log_requests_go_on_if_it_is_not_required(proxy, upstream, audit, tmp_path):
    audited = audit(proxy, tmp_path / "later" / "audit.log")
    async with asyncio.timeout(PATIENCE):
        while not audited.log.counts()["failure"]:
            await asyncio.sleep(0.01)
    assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")


def read_to_end(reader):
    while os.read(reader, 65536):
        pass


async def test_a_full_queue_refuses_before_lines_of_admitted_requests_are_lost(
    proxy, audit, monkeypatch, tmp_path
):
    """The rest of the queue is for the requests in flight."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    audited = audit(proxy, fifo, audit_required=True)
    monkeypatch.setattr(audit_file, "REFUSE_AT", 100_000)
    refused = 0
    for _ in range(3000):
        if (await proxy.get(b"/up/" + b"x" * 1000)).startswith(b"HTTP/1.1 503 "):
            refused += 1
            break
    assert refused
    assert audited.log.counts()["dropped"] == 0
    os.set_blocking(reader, True)
    drain = tasks.spawn(asyncio.to_thread(read_to_end, reader), "read the pipe")
    async with asyncio.timeout(PATIENCE):
        while not (await proxy.get()).startswith(b"HTTP/1.1 200 "):
            await asyncio.sleep(0.01)
    await asyncio.to_thread(audited.log.close, 5)
    await drain
    os.close(reader)


async def test_where_it_is_not_configured_there_is_none(proxy):
    assert proxy.relay.context.audit is None
    assert "sink_writes" not in str([family.name for family in proxy.state.metrics.registry.collect()])
