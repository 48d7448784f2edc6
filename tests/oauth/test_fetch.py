"""Requests to an authorization server through an egress proxy."""

import asyncio
import base64
import socket
import ssl
import threading

import pytest
import trustme

from proxy.config.model import Limits
from proxy.errors import AuthorizationServerError
from proxy.oauth.fetch import Fetcher
from tests.fakes.egress import egress_proxy

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def egress():
    async with egress_proxy() as served:
        yield served


@pytest.fixture
async def behind(tmp_path):
    """A TLS server whose name only the egress proxy can resolve: its URL, its CA, what it received."""
    authority = trustme.CA()
    received = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("login.example").configure_cert(context)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))

    async def serve(reader, writer):
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://login.example:{server.sockets[0].getsockname()[1]}", ca, received


def client_of(credential, url, **fields):
    return credential(token_endpoint=url, authorization_endpoint="https://x.example/", **fields)


async def test_a_call_goes_through_the_proxy_and_its_password_no_further(fetcher, credential, egress, behind):
    url, ca, received = behind
    client = client_of(
        credential, url, tls={"ca": str(ca)}, proxy=f"http://me:p%40ss@127.0.0.1:{egress.port}"
    )
    reply = await fetcher.fetch(client, "GET", f"{url}/x", {"Authorization": "Basic ours"}, None)
    assert (reply.status, reply.body) == (200, b"ok")
    (connect,), (request,) = egress.heads, received
    assert connect.startswith(f"CONNECT {url.removeprefix('https://')} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p@ss") + b"\r\n" in connect
    assert b"Basic ours" not in connect
    assert b"Proxy-Authorization" not in request


async def test_a_server_on_this_machine_is_called_directly(fetcher, credential, egress, puppet):
    puppet.says("/x", {})
    client = client_of(credential, puppet.url, proxy=f"http://127.0.0.1:{egress.port}")
    assert (await fetcher.fetch(client, "GET", f"{puppet.url}/x", {}, None)).status == 200
    assert egress.heads == []


@pytest.mark.parametrize("status", [b"407 Proxy Authentication Required", b"403 Forbidden", b"302 Found"])
async def test_a_proxy_that_leads_nowhere_is_named(fetcher, credential, egress, behind, status):
    url, ca, received = behind
    egress.answers, egress.then = [b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status], "hang up"
    client = client_of(credential, url, tls={"ca": str(ca)}, proxy=f"http://127.0.0.1:{egress.port}")
    with pytest.raises(AuthorizationServerError) as failed:
        await fetcher.fetch(client, "GET", url, {}, None)
    assert (failed.value.outcome, failed.value.error) == ("transient", "egress_proxy")
    assert received == []


async def test_a_proxy_that_is_not_there_is_named(fetcher, credential, behind):
    url, _, _ = behind
    client = client_of(credential, url, proxy="http://127.0.0.1:1")
    with pytest.raises(AuthorizationServerError) as failed:
        await fetcher.fetch(client, "GET", url, {}, None)
    assert failed.value.error == "egress_proxy"


async def test_a_proxy_that_says_nothing_takes_no_longer_than_a_server(impatient, credential, egress, behind):
    url, _, _ = behind
    egress.answers, egress.then = [], "silent"
    client = client_of(credential, url, proxy=f"http://127.0.0.1:{egress.port}")
    with pytest.raises(AuthorizationServerError) as failed:
        await impatient.fetch(client, "GET", url, {}, None)
    assert failed.value.error == "timeout"
    await impatient.close()


# -- names


@pytest.fixture
async def patient():
    """A fetcher with a far longer total timeout than its connect timeout."""
    async with Fetcher(Limits(authorization_server_connect=0.2, authorization_server_total=60)) as made:
        yield made


@pytest.fixture
def slow_name(monkeypatch):
    """The system's resolver does not respond for this name."""
    let = threading.Event()
    known = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        if host == "slow.example" and not kwargs.get("flags"):
            assert let.wait(30)
        return known(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield "slow.example"
    let.set()


async def test_a_hanging_name_look_up_fails_in_time_with_its_own_code(patient, credential, puppet, slow_name):
    url = f"https://{slow_name}/token"
    client = client_of(credential, url)
    calls = [patient.fetch(client, "POST", url, {}, "a=b") for _ in range(20)]
    for outcome in await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30):
        assert isinstance(outcome, AuthorizationServerError)
        assert (outcome.outcome, outcome.error, outcome.reached) == ("transient", "dns", False)
    named = puppet.url.replace("127.0.0.1", "localhost")
    puppet.says("/x", {})
    reply = await asyncio.wait_for(
        patient.fetch(client_of(credential, named), "GET", f"{named}/x", {}, None), 30
    )
    assert reply.status == 200


async def test_each_call_uses_the_addresses_of_now(patient, credential, puppet, monkeypatch):
    """A refresh must not fail for an address that was right some seconds ago."""
    now = ["127.0.0.9"]  # where nothing listens
    known = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        moves = host == "moving.example" and not kwargs.get("flags")
        return known(now[0] if moves else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    puppet.says("/x", {})
    url = puppet.url.replace("127.0.0.1", "moving.example")
    client = client_of(credential, puppet.url)
    with pytest.raises(AuthorizationServerError) as raised:
        await patient.fetch(client, "GET", f"{url}/x", {}, None)
    assert raised.value.error == "unreachable"
    now[0] = "127.0.0.1"
    assert (await patient.fetch(client, "GET", f"{url}/x", {}, None)).status == 200


async def test_an_unknown_name_has_its_own_code(fetcher, credential):
    url = "https://no-such-host.invalid/token"
    with pytest.raises(AuthorizationServerError, match="dns"):
        await fetcher.fetch(client_of(credential, url), "GET", url, {}, None)


async def test_an_egress_proxy_by_a_name_that_hangs_fails_in_time(patient, credential, slow_name):
    url = "https://login.example/token"
    client = client_of(credential, url, proxy=f"http://{slow_name}:3128")
    with pytest.raises(AuthorizationServerError) as failed:
        await asyncio.wait_for(patient.fetch(client, "GET", url, {}, None), 30)
    assert failed.value.reached is False


async def test_a_server_on_the_other_loopback_address_is_reached_by_name(fetcher, credential):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        writer.close()

    async with await asyncio.start_server(serve, "::1", 0) as server:
        url = f"http://localhost:{server.sockets[0].getsockname()[1]}/x"
        reply = await fetcher.fetch(client_of(credential, url), "GET", url, {}, None)
    assert reply.body == b"ok"


# -- causes


@pytest.fixture
async def closing():
    """Servers that respond with these bytes, or none, and close the connection: makes their URLs."""
    servers = []

    async def make(sent, *, tls=None):
        async def serve(reader, writer):
            await reader.read(2**16)
            writer.write(sent)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        servers.append(server)
        return f"{'https' if tls else 'http'}://localhost:{server.sockets[0].getsockname()[1]}/x"

    yield make
    for server in servers:
        server.close()


async def cause_of(fetcher, credential, url, **fields):
    with pytest.raises(AuthorizationServerError) as failed:
        await fetcher.fetch(client_of(credential, url, **fields), "GET", url, {}, None)
    assert failed.value.__cause__ is None  # aiohttp's errors carry the request's header fields
    return failed.value.error, failed.value.cause.code


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", ("connection_lost", "closed")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", ("connection_lost", "incomplete")),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ("connection_lost", "malformed")),
    ],
)
async def test_the_cause_of_a_response_that_fails(fetcher, credential, closing, sent, expected):
    assert await cause_of(fetcher, credential, await closing(sent)) == expected


async def test_the_cause_of_a_certificate_that_is_refused(fetcher, credential, closing, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusted = {"tls": {"ca": str(tmp_path / "ca.pem")}}
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("other.example").configure_cert(context)
    url = await closing(b"", tls=context)
    assert await cause_of(fetcher, credential, url) == ("tls", "certificate_unknown_authority")
    assert await cause_of(fetcher, credential, url, **trusted) == ("tls", "certificate_wrong_name")


async def test_the_cause_of_a_server_that_is_not_there(fetcher, credential, closing):
    plain = (await closing(b"HTTP/1.1 400 Bad Request\r\n\r\n")).replace("http:", "https:")
    assert await cause_of(fetcher, credential, plain) == ("tls", "not_tls")
    assert await cause_of(fetcher, credential, "https://127.0.0.1:1/x") == ("unreachable", "refused")
    assert await cause_of(fetcher, credential, "https://no-such-host.invalid/x") in {
        ("dns", "no_such_host"),
        ("dns", "lookup_unavailable"),  # on a machine without a name server
    }
    proxied = {"proxy": "http://127.0.0.1:1"}
    assert await cause_of(fetcher, credential, "https://a.example/x", **proxied) == (
        "egress_proxy",
        "refused",
    )


async def test_the_cause_of_a_proxy_that_refuses(fetcher, credential, egress):
    egress.answers, egress.then = [b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"], "hang up"
    through = {"proxy": f"http://127.0.0.1:{egress.port}"}
    found = await cause_of(fetcher, credential, "https://a.example/x", **through)
    assert found == ("egress_proxy", "egress_refused")


async def test_the_cause_of_a_server_that_does_not_respond(impatient, credential):
    async def serve(reader, writer):
        await reader.read()  # until the client is gone
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
        assert await cause_of(impatient, credential, url) == ("timeout", "timeout")
    await impatient.close()
