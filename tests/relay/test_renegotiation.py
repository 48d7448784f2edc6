"""An upstream that asks to renegotiate TLS 1.2, as some do for a client certificate of one location."""

import asyncio
import json

import pytest
import trustme

PATIENCE = 20  # seconds; a third of the limit for a silent upstream


@pytest.fixture
def identity(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    return tmp_path


async def test_renegotiation_is_refused_at_once(make_proxy, identity, unused_tcp_port, kit):
    """With OpenSSL's own server: its command `r` begins a renegotiation, after a request has come."""
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{unused_tcp_port}", "-tls1_2"]
    server = await asyncio.create_subprocess_exec(
        *(*command, "-cert", str(identity / "server.pem"), "-key", str(identity / "server.pem")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await asyncio.wait_for(server.stdout.readuntil(b"ACCEPT"), PATIENCE)
        route = f'tls = {{ ca = "{identity / "ca.pem"}" }}'
        async with make_proxy(f"https://localhost:{unused_tcp_port}", route=route) as proxy:
            asking = asyncio.ensure_future(proxy.get())
            await asyncio.wait_for(server.stdout.readuntil(b"Via: 1.1 "), PATIENCE)
            server.stdin.write(b"r\n")
            status, _, body = kit.split(await asyncio.wait_for(asking, PATIENCE))
            problem = json.loads(body)
            assert (status, problem["type"]) == (502, "urn:token-proxy:problem:upstream-tls")
            assert "renegotiate" in problem["detail"]
            assert proxy.sample("upstream_errors_total", route="up", error="upstream-tls") == 1
    finally:
        server.kill()
        await server.wait()
