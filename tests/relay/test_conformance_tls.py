"""A28: an upstream must prove its name; otherwise no token, and no byte of the request, is sent to it."""

import asyncio
import contextlib
import json
import socket
import ssl
from functools import partial

import pytest

from . import conformance_certificates as certificates
from .conformance_certificates import issued, with_a_wildcard

REFUSED = {
    "expired": certificates.expired,
    "not yet valid": certificates.not_yet_valid,
    "signed by an unknown CA": certificates.of_an_unknown_ca,
    "signed by a namesake of the known CA": certificates.of_a_namesake,
    "signed by itself": certificates.self_signed,
    "signed by a server": certificates.from_below_a_leaf,
    "for clients": certificates.for_clients,
    "with a common name only": certificates.for_nobody,
    "with a short key": certificates.with_a_short_key,
    "signed with SHA-1": certificates.signed_with_sha1,
    "for another name": partial(issued, names=("other.example",)),
    "for a longer name": partial(issued, names=("localhost.example",)),
    "for all names": partial(with_a_wildcard, names=("*",)),
    "for a part of all names": partial(with_a_wildcard, names=("local*",)),
    "for the address of the name": partial(issued, names=("127.0.0.1",)),
}
EXPECTED_REFUSAL = (502, "urn:token-proxy:problem:upstream-tls")


@pytest.fixture
def authority(tmp_path):
    made = certificates.authority_of_rsa()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


@pytest.fixture
def context():
    return ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)


def route(tmp_path, **more):
    fields = {"ca": tmp_path / "ca.pem", **more}
    return "tls = { " + ", ".join(f'{name} = "{value}"' for name, value in fields.items()) + " }"


def issue(make, context, authority, tmp_path):
    if isinstance(make, partial):
        make.func(context, authority, tmp_path, *make.keywords["names"])
    else:
        make(context, authority, tmp_path)


async def told(proxy, kit):
    status, _, body = kit.split(await proxy.get())
    return status, json.loads(body)["type"]


@pytest.mark.parametrize("name", REFUSED)
async def test_an_upstream_with_a_bad_certificate_gets_nothing(
    make_proxy, kit, tmp_path, authority, context, name
):
    issue(REFUSED[name], context, authority, tmp_path)
    async with (
        kit.serving(kit.Upstream(), context) as upstream,
        make_proxy(f"https://localhost:{upstream.port}", route=route(tmp_path)) as proxy,
    ):
        assert await told(proxy, kit) == EXPECTED_REFUSAL
        assert upstream.received == []
        assert proxy.sample("upstream_errors_total", route="up", error="upstream-tls") == 1


ACCEPTED = {  # the names in the certificate, the host in the URL, the route's other TLS settings
    "its name": (["localhost"], "localhost", {}),
    "one of its names": (["other.example", "localhost"], "localhost", {}),
    "its address": (["127.0.0.1"], "127.0.0.1", {}),
    "the name that the route gives it": (["api.example"], "127.0.0.1", {"server_name": "api.example"}),
    "a name below a domain": (["*.api.example"], "127.0.0.1", {"server_name": "eu.api.example"}),
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_an_upstream_certified_by_the_routes_own_ca_is_trusted(
    make_proxy, kit, tmp_path, authority, context, name
):
    names, host, more = ACCEPTED[name]
    issued(context, authority, tmp_path, *names)
    async with (
        kit.serving(kit.Upstream(), context) as upstream,
        make_proxy(f"https://{host}:{upstream.port}", route=route(tmp_path, **more)) as proxy,
    ):
        assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")


NOT_THE_NAME = {
    "the address, where the route gives a name": (["127.0.0.1"], "api.example"),
    "two steps below a domain": (["*.api.example"], "a.b.api.example"),
    "the domain itself": (["*.api.example"], "api.example"),
    "a name outside the domain": (["*.api.example"], "x-api.example"),
}


@pytest.mark.parametrize("name", NOT_THE_NAME)
async def test_the_configured_server_name_is_the_only_one_accepted(
    make_proxy, kit, tmp_path, authority, context, name
):
    names, server_name = NOT_THE_NAME[name]
    issued(context, authority, tmp_path, *names)
    async with (
        kit.serving(kit.Upstream(), context) as upstream,
        make_proxy(
            f"https://127.0.0.1:{upstream.port}", route=route(tmp_path, server_name=server_name)
        ) as proxy,
    ):
        assert await told(proxy, kit) == EXPECTED_REFUSAL
        assert upstream.received == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "spoken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
async def test_tls_older_than_1_2_is_not_accepted(
    make_proxy, kit, tmp_path, authority, context, version, spoken
):
    issued(context, authority, tmp_path, "localhost")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    async with (
        kit.serving(kit.Upstream(), context) as upstream,
        make_proxy(f"https://localhost:{upstream.port}", route=route(tmp_path)) as proxy,
    ):
        if spoken:
            assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")
        else:
            assert await told(proxy, kit) == EXPECTED_REFUSAL
            assert upstream.received == []


def accept_one(listener, context):
    """A blocking handshake: asyncio's server does not report the reason for a failure."""
    sock, _ = listener.accept()
    with sock, contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as peer:
        return peer.recv(65536)
    return b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_requests_a_certificate_gets_the_routes_own(
    make_proxy, kit, tmp_path, authority, context, version
):
    issued(context, authority, tmp_path, "localhost")
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(tmp_path / "ca.pem")
    ours = authority.issue_cert("proxy.example")
    ours.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    with_one = route(tmp_path, cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    async with (
        kit.serving(kit.Upstream(), context) as upstream,
        make_proxy(f"https://localhost:{upstream.port}", route=with_one) as proxy,
    ):
        assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://localhost:{listener.getsockname()[1]}"
        async with make_proxy(url, route=route(tmp_path)) as proxy:
            heard = asyncio.create_task(asyncio.to_thread(accept_one, listener, context))
            assert await told(proxy, kit) == EXPECTED_REFUSAL
            assert await heard == b""
