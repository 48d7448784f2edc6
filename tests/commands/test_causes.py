"""The real command and upstreams that fail: each cause in log, Proxy-Status and problem document.

And `run --debug`: decisions of requests, and no secret.
"""

import asyncio
import contextlib
import json
import signal
import socket
import ssl

import aiohttp
import pytest
import trustme

from tests.relay import conformance_certificates as certificates

PATIENCE = 60
TLS = "upstream-tls"
UNREACHABLE = "upstream-unreachable"

UNVERIFIED = "certificate verify failed: "
CASES = {  # route -> ending, error of RFC 9209, cause
    "self-signed": (TLS, "tls_certificate_error", f"{UNVERIFIED}self-signed certificate"),
    "expired": (TLS, "tls_certificate_error", f"{UNVERIFIED}certificate has expired"),
    "other-name": (TLS, "tls_certificate_error", f"{UNVERIFIED}certificate is for another host name"),
    "unknown": (TLS, "tls_certificate_error", f"{UNVERIFIED}unknown certificate authority"),
    "refused": (UNREACHABLE, "connection_refused", "connection refused"),
    "no-host": (UNREACHABLE, "dns_error", "no such host"),
    "silent": ("upstream-timeout", "connection_timeout", "no response to the TLS handshake"),
    "not-http": ("upstream-protocol", "http_protocol_error", "it does not speak HTTP/1.1 at this port"),
}


def good_for_another(context, authority, _folder):
    authority.issue_cert("other.example").configure_cert(context)


CERTIFICATES = {
    "self-signed": certificates.self_signed,
    "expired": certificates.expired,
    "other-name": good_for_another,
    "unknown": certificates.of_an_unknown_ca,
}


async def speak_ssh(reader, writer):
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


async def end(_reader, writer):
    writer.close()


@pytest.fixture
async def upstreams(tmp_path):
    """A URL for each case, and the file of the trusted authority."""
    authority = trustme.CA(organization_name="known")
    authority.cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    async with contextlib.AsyncExitStack() as stack:

        async def serve(handler, context=None):
            server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
            await stack.enter_async_context(server)
            return server.sockets[0].getsockname()[1]

        urls = {}
        for name, certify in CERTIFICATES.items():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certify(context, authority, tmp_path)
            urls[name] = f"https://localhost:{await serve(end, context)}"
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        urls["silent"] = f"https://localhost:{silent.getsockname()[1]}"
        urls["not-http"] = f"http://localhost:{await serve(speak_ssh)}"
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            urls["refused"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        label = "x" * 64  # longer than a label may be: no name server is asked
        urls["no-host"] = f"https://{label}.example"
        yield urls, tmp_path / "trusted.pem"


async def test_each_cause_is_told_to_the_caller_and_to_the_operator(bench, upstreams):
    urls, trusted = upstreams
    with bench.path.open("a") as file:
        for name, url in urls.items():
            file.write(f'[[routes]]\nname = "{name}"\npath = "/{name}"\nupstream = "{url}"\n')
            file.write('credential = "machine"\n')
            if name in CERTIFICATES:
                file.write(f'tls = {{ ca = "{trusted}" }}\n')
        file.write("[limits]\nconnect = 1.5\n")
    server = await bench.run()
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
        for _ in range(2):
            for name, (ending, error, cause) in CASES.items():
                async with session.get(f"{bench.data}/{name}/x?secret=1") as response:
                    problem = await response.json()
                    assert problem["type"] == f"urn:token-proxy:problem:{ending}", name
                    expected = f'token-proxy; error={error}; details="{ending}"'
                    assert response.headers["Proxy-Status"] == expected, name
                    assert cause in problem["detail"], name
    server.signal(signal.SIGTERM)
    assert await server.end() == 0
    lines = [json.loads(line) for line in server.log if '"upstream_failed"' in line]
    told = {line["route"]: line for line in lines}
    assert len(lines) == len(told) == len(CASES)  # once for two failures
    for name, (ending, _, cause) in CASES.items():
        peer = urls[name].partition("//")[2]
        line = told[name]
        assert (line["level"], line["error"], line["cause"]) == ("warning", ending, cause), name
        assert line["credential"] == "machine"
        assert line["peer"] == (f"{peer}:443" if name == "no-host" else peer)
    assert not any("secret" in line for line in server.log)


async def test_run_debug_tells_decisions_and_no_secret_whatever_the_configured_level(bench):
    bench.edit('format = "json"', 'format = "json"\nlevel = "error"')
    await bench.log_in()
    token = (await bench.call("token", "person")).output.strip()
    server = await bench.start("run", "--debug", "-c", str(bench.path))
    await server.until('"event": "start"')
    canaries = {"Authorization": "Bearer canary-1", "Cookie": "c=canary-2", "X-Custom": "canary-3"}
    async with aiohttp.ClientSession(headers=canaries) as session:
        url = f"{bench.data}/demo/canary-4?q=canary-5"
        async with session.post(url, data=b"canary-6") as response:
            await response.read()
        async with session.get(f"{bench.data}/machine/x") as response:
            assert response.status == 200
    server.signal(signal.SIGTERM)
    assert await server.end() == 0
    steps = {line.get("step") for line in map(json.loads, server.log) if line["event"] == "decision"}
    assert steps >= {"admitted", "dial", "sent", "response"}
    log = "".join(server.log)
    assert '"level": "debug"' in log
    assert '"event": "request"' in log
    assert "canary" not in log
    secrets = [
        token,
        *(each.client_secret.reveal() for each in bench.config.credentials.values() if each.client_secret),
    ]
    assert len(secrets) > 1
    assert not [secret for secret in secrets if secret in log]
