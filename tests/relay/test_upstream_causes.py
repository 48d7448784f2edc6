"""Why an upstream failed: in the log, in the problem document and in Proxy-Status (RFC 9209)."""

import asyncio
import contextlib
import json
import logging
import re
import socket
import ssl
import struct
from contextlib import asynccontextmanager

import pytest
import trustme

from proxy.config.model import Route
from proxy.failure_causes import EXPIRED, REFUSED, SELF_SIGNED
from proxy.name_lookup import resolver
from proxy.relay import upstream_causes as causes
from proxy.relay.failure_log import CAUSE_EVERY, UNAUTHORIZED_EVERY, FailureLog

from . import conformance_certificates as certificates

SECRETS = re.compile(r"Bearer|secret", re.IGNORECASE)


@pytest.fixture
def told(caplog):
    """The upstream_failed lines since the start."""
    caplog.set_level(logging.WARNING, "proxy.relay")

    def read(event="upstream_failed"):
        return [record for record in caplog.records if getattr(record, "event", "") == event]

    return read


@asynccontextmanager
async def tls_server(kit, folder, certify):
    """An upstream whose certificate `certify` makes; its URL and the file of the trusted authority."""
    authority, context = trustme.CA(organization_name="known"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certify(context, authority, folder)
    ca = folder / "trusted.pem"
    authority.cert_pem.write_to_path(str(ca))
    async with kit.serving(kit.Upstream(), context) as served:
        yield served, ca


def good(context, authority, _folder):
    authority.issue_cert("localhost").configure_cert(context)


def for_another_name(context, authority, _folder):
    authority.issue_cert("other.example").configure_cert(context)


def says(answer, kit):
    """The status, the ending, the error of Proxy-Status and the detail of a response of ours."""
    status, fields, body = kit.split(answer)
    (proxy_status,) = [field for field in fields if field.startswith(b"Proxy-Status: ")]
    error = re.fullmatch(rb'Proxy-Status: token-proxy; error=(\w+); details="[\w-]+"', proxy_status)[1]
    problem = json.loads(body)
    return status, problem["type"].rpartition(":")[2], error.decode(), problem["detail"]


def check(record, ending, cause, peer):
    assert record.fields == {
        "route": "up",
        "credential": "cred",
        "error": ending,
        "cause": cause,
        "peer": peer,
    }
    assert record.levelno == logging.WARNING
    assert cause in record.getMessage()
    assert not SECRETS.search(record.getMessage())


CERTIFICATES = {  # certificate -> cause, and the remedy in the detail
    certificates.self_signed: ("self-signed certificate", "tls = { ca = FILE }"),
    certificates.of_an_unknown_ca: ("unknown certificate authority", "tls = { ca = FILE }"),
    certificates.expired: ("certificate has expired", "clock"),
    certificates.not_yet_valid: ("certificate is not yet valid", "clock"),
    for_another_name: ("certificate is for another host name", "tls = { server_name = NAME }"),
}


@pytest.mark.parametrize("certify", CERTIFICATES, ids=lambda certify: certify.__name__)
async def test_a_bad_certificate_is_named(make_proxy, kit, tmp_path, told, certify):
    cause, remedy = CERTIFICATES[certify]
    async with (
        tls_server(kit, tmp_path, certify) as (served, ca),
        make_proxy(f"https://localhost:{served.port}", route=f'tls = {{ ca = "{ca}" }}') as proxy,
    ):
        status, ending, error, detail = says(await proxy.get(), kit)
        assert (status, ending, error) == (502, "upstream-tls", "tls_certificate_error")
        assert detail.startswith("TLS with the upstream of route 'up' failed: ")
        assert cause in detail
        assert remedy in detail
        (line,) = told()
        check(line, "upstream-tls", f"certificate verify failed: {cause}", f"localhost:{served.port}")
        assert proxy.sample("upstream_errors_total", route="up", error="upstream-tls") == 1


async def test_tls_towards_a_plain_port_is_named(make_proxy, kit, told):
    async def speak(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, make_proxy(f"https://localhost:{port}") as proxy:
        assert says(await proxy.get(), kit)[:3] == (502, "upstream-tls", "tls_protocol_error")
    check(told()[0], "upstream-tls", "the peer does not speak TLS at this port", f"localhost:{port}")


async def test_a_plain_request_to_a_tls_port_is_named(proxy, kit, upstream, told):
    upstream.script = [bytes.fromhex("15030300020246")]  # the alert protocol_version
    status, ending, error, detail = says(await proxy.get(), kit)
    assert (status, ending, error) == (502, "upstream-protocol", "http_protocol_error")
    assert "check the scheme and port" in detail
    check(told()[0], "upstream-protocol", causes.NOT_HTTP.sentence, f"127.0.0.1:{upstream.port}")


def accept_one(listener, context):
    """A blocking handshake: asyncio's server does not report the reason for a failure."""
    sock, _ = listener.accept()
    with sock, contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as peer:
        peer.recv(65536)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_missing_client_certificate_is_named(make_proxy, kit, tmp_path, told, version):
    """In TLS 1.3 the upstream says so only after our side of the handshake, in 1.2 less clearly."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    good(context, authority, tmp_path)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://localhost:{listener.getsockname()[1]}"
        async with make_proxy(url, route=f'tls = {{ ca = "{tmp_path}/ca.pem" }}') as proxy:
            heard = asyncio.create_task(asyncio.to_thread(accept_one, listener, context))
            status, ending, error, detail = says(await proxy.get(), kit)
            await heard
    assert (status, ending, error) == (502, "upstream-tls", "tls_alert_received")
    remedies = {ssl.TLSVersion.TLSv1_2: "check cert and key in `tls`", ssl.TLSVersion.TLSv1_3: "cert = FILE"}
    assert remedies[version] in detail
    assert told()[0].fields["error"] == "upstream-tls"


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


async def test_a_refused_connection_is_named(make_proxy, kit, told):
    port = free_port()
    async with make_proxy(f"http://127.0.0.1:{port}") as proxy:
        status, ending, error, detail = says(await proxy.get(), kit)
    assert (status, ending, error) == (502, "upstream-unreachable", "connection_refused")
    assert detail == (
        "the upstream of route 'up' can't be reached: connection refused (check that it runs, and `upstream` "
        "of the route)"
    )
    check(told()[0], "upstream-unreachable", "connection refused", f"127.0.0.1:{port}")


async def test_an_unknown_host_is_named(make_proxy, kit, told, monkeypatch):
    async def addresses(_host, _port, **_):
        raise socket.gaierror(socket.EAI_NONAME, "a text of the system")

    monkeypatch.setattr(resolver, "addresses", addresses)
    async with make_proxy("https://no-such-host.example") as proxy:
        status, ending, error, detail = says(await proxy.get(), kit)
    assert (status, ending, error) == (502, "upstream-unreachable", "dns_error")
    assert "no such host (check the name in `upstream`" in detail
    check(told()[0], "upstream-unreachable", "no such host", "no-such-host.example:443")


@pytest.mark.parametrize("step", ["lookup", "connect", "tls"])
async def test_each_step_of_connecting_has_its_timeout(make_proxy, kit, told, monkeypatch, step):
    async def addresses(_host, port, **_):
        if step == "lookup":
            await asyncio.Event().wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", silent if step == "tls" else full))]

    monkeypatch.setattr(resolver, "addresses", addresses)
    expected = {
        "lookup": ("dns_timeout", causes.LOOKUP_TIMEOUT.sentence),
        "connect": ("connection_timeout", "connecting takes too long"),
        "tls": ("connection_timeout", causes.HANDSHAKE_TIMEOUT.sentence),
    }
    with socket.socket() as listener, socket.socket() as busy, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        silent = listener.getsockname()[1]
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        full = busy.getsockname()[1]
        for each in (one, two):
            each.setblocking(False)
            each.connect_ex(busy.getsockname())
        async with make_proxy("https://api.example", limits="connect = 0.5") as proxy:
            status, ending, error, detail = says(await proxy.get(), kit)
    assert (status, ending) == (504, "upstream-timeout")
    assert (error, told()[0].fields["cause"]) == expected[step]
    assert expected[step][1] in detail


async def test_no_response_in_time_is_named(make_proxy, kit, upstream, told):
    async def never(_connection):
        await asyncio.Event().wait()

    upstream.script = [never]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="first_byte = 0.2") as proxy:
        status, ending, error, detail = says(await proxy.get(), kit)
        assert (status, ending, error) == (504, "upstream-timeout", "http_response_timeout")
        assert "limits.first_byte" in detail
        check(told()[0], "upstream-timeout", "no response in time", f"127.0.0.1:{upstream.port}")


async def hang_up(connection):
    connection.writer.close()


async def reset(connection):
    sock = connection.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.writer.transport.abort()


ENDS = {  # what the upstream does -> error of RFC 9209, and the cause
    hang_up: ("connection_terminated", "it closed the connection before a response"),
    reset: ("connection_terminated", "connection reset by the peer"),
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n": ("http_protocol_error", "it does not speak HTTP/1.1 at this port"),
    b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n": ("http_protocol_error", "malformed response"),
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n": (
        "http_response_header_section_size",
        "the header of its response is too large",
    ),
}


@pytest.mark.parametrize("does", ENDS, ids=[cause for _, cause in ENDS.values()])
async def test_each_broken_exchange_is_named(proxy, kit, upstream, told, does):
    error, cause = ENDS[does]
    upstream.script = [does]
    status, ending, named, detail = says(await proxy.get(), kit)
    assert (status, ending, named) == (502, "upstream-protocol", error)
    assert cause in detail
    check(told()[0], "upstream-protocol", cause, f"127.0.0.1:{upstream.port}")


async def test_a_response_that_breaks_off_is_logged_with_its_cause(proxy, kit, upstream, told):
    async def break_off(connection):
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
        await connection.writer.drain()
        connection.writer.close()

    upstream.script = [break_off]
    with pytest.raises(ConnectionResetError):
        await proxy.get()
    check(told()[0], "upstream-protocol", causes.INCOMPLETE.sentence, f"127.0.0.1:{upstream.port}")


async def test_a_stale_connection_that_is_replaced_is_no_failure(proxy, kit, upstream, told):
    one = kit.request(b"GET", b"/up/x")
    reader, writer = await proxy.connect()
    writer.write(one)
    await reader.readuntil(b"ok")
    upstream.script = [hang_up]
    writer.write(one)
    assert await asyncio.wait_for(reader.readuntil(b"ok"), 30)
    writer.close()
    assert told() == []


# -- once a minute


def a_route(**more):
    return Route(name="up", path="/up", upstream="https://api.example", credential="cred", **more)


def test_a_cause_is_told_once_a_minute_with_the_number_in_between(told):
    log = FailureLog(a_route())
    for second in range(int(3 * CAUSE_EVERY)):
        log.failed("upstream-tls", EXPIRED, 1000.0 + second)
    assert [line.fields.get("suppressed") for line in told()] == [None, 59, 59]
    assert told()[1].getMessage().endswith("; 59 more since the last such line")


def test_another_cause_and_another_route_are_told_at_once(told):
    log, other = FailureLog(a_route()), FailureLog(a_route())
    log.failed("upstream-tls", EXPIRED, 1.0)
    log.failed("upstream-tls", SELF_SIGNED, 1.0)
    other.failed("upstream-tls", EXPIRED, 1.0)
    assert len(told()) == 3


def test_memory_is_bounded_by_the_number_of_causes(told):
    log = FailureLog(a_route())
    for status in range(300, 600):
        log.failed("upstream-unreachable", causes.of_status(status), 1.0)
    assert len(told()) == 2  # wrong user, refused


def test_a_refused_new_token_is_told_once_an_hour(told):
    log = FailureLog(a_route())
    for second in range(0, int(2 * UNAUTHORIZED_EVERY), 10):
        log.unauthorized(0.2, float(second))
    lines = told("upstream_unauthorized")
    assert len(lines) == 2
    assert "refuses (401) a token that is 0 s old" in lines[0].getMessage()
    assert lines[0].fields == {"route": "up", "credential": "cred", "token_age": 0.2}


def test_the_peer_is_the_configured_one():
    assert causes.peer_of(REFUSED, a_route()) == "api.example:443"
    egress = a_route(proxy="http://user:pass@egress.example:3128")
    assert causes.peer_of(REFUSED, egress) == "api.example:443"
    assert causes.peer_of(causes.of_egress(REFUSED), egress) == "egress.example:3128"
    unix = Route(name="up", path="/up", upstream="unix:/run/x.sock:/base", credential="cred")
    assert causes.peer_of(REFUSED, unix) == "unix:/run/x.sock"


def test_every_cause_gives_a_complete_response():
    """Fixed texts: no cause leaves a placeholder, and each error is a name of RFC 9209 section 2.3."""
    known = [each for each in vars(causes).values() if isinstance(each, causes.Cause)]
    assert len(known) > 10
    for cause in known:
        for case in causes._BEGINNINGS:
            refusal = causes.refusal(case, cause, a_route())
            assert "{" not in refusal.detail.replace("{ ca = FILE }", "")
            assert cause.sentence in refusal.detail
