"""Upstreams behind an egress proxy: requests through the tunnel, and the responses if there is none."""

import base64
import json

import pytest

from proxy.relay.problems import UNREACHABLE
from tests.fakes.egress import OPEN, egress_proxy

PLAIN = b"CONNECT api.example:%d HTTP/1.1\r\nHost: api.example:%d\r\n\r\n"


@pytest.fixture
async def egress():
    async with egress_proxy() as served:
        yield served


@pytest.fixture
def behind(make_proxy, egress, upstream):
    """A relay whose route leads to `upstream`, under a name that only the egress proxy knows."""

    def make(user="", limits=""):
        route = f'plaintext = true\nproxy = "http://{user}127.0.0.1:{egress.port}"'
        return make_proxy(f"http://api.example:{upstream.port}/base", route=route, limits=limits)

    return make


async def test_requests_go_through_one_tunnel_as_without_it(behind, egress, upstream, kit):
    async with behind() as proxy:
        assert (await proxy.get()).endswith(b"\r\n\r\nok")
        assert (await proxy.get()).endswith(b"\r\n\r\nok")
    assert egress.heads == [PLAIN % (upstream.port, upstream.port)]
    (received,) = upstream.received
    assert received.count(b"GET /base/x HTTP/1.1\r\nHost: api.example:%d\r\n" % upstream.port) == 2
    assert b"Authorization: Bearer " in received


async def test_tls_is_with_the_upstream_and_not_with_the_proxy(make_proxy, egress, tls_upstream, kit):
    url = f"https://localhost:{tls_upstream.port}"
    route = f'tls = {{ ca = "{tls_upstream.ca}" }}\nproxy = "http://127.0.0.1:{egress.port}"'
    async with make_proxy(url, route=route) as proxy:
        assert (await proxy.get()).endswith(b"\r\n\r\nok")
    assert egress.heads[0].startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % tls_upstream.port)


async def test_the_certificate_is_checked_through_the_tunnel_too(make_proxy, egress, tls_upstream, kit):
    route = f'proxy = "http://127.0.0.1:{egress.port}"'
    async with make_proxy(f"https://localhost:{tls_upstream.port}", route=route) as proxy:
        status, _, body = kit.split(await proxy.get())
    assert (status, json.loads(body)["type"]) == (502, "urn:token-proxy:problem:upstream-tls")


async def test_the_egress_proxys_user_is_sent_to_it_only(behind, egress, upstream):
    async with behind(user="us%40er:p%3Ass@") as proxy:
        assert (await proxy.get()).endswith(b"ok")
    field = b"Proxy-Authorization: Basic " + base64.b64encode(b"us@er:p:ss") + b"\r\n"
    assert field in egress.heads[0]
    assert b"Proxy-Authorization" not in upstream.received[0]


async def test_an_interim_response_is_not_final(behind, egress):
    egress.answers = [b"HTTP/1.1 100 Continue\r\n\r\n" + OPEN]
    async with behind() as proxy:
        assert (await proxy.get()).endswith(b"ok")


async def test_a_response_may_come_in_pieces(behind, egress):
    egress.answers = [bytes([byte]) for byte in OPEN]
    async with behind() as proxy:
        assert (await proxy.get()).endswith(b"ok")


async def test_a_tunnel_has_no_body(behind, egress):
    egress.answers = [b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"]
    async with behind() as proxy:
        assert (await proxy.get()).endswith(b"ok")


NO_TUNNEL = {  # response of the egress proxy -> the detail after "the egress proxy"
    b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n": (
        "rejects the user or password (407)"
    ),
    b"HTTP/1.1 403 Forbidden\r\nX: canary\r\n\r\n": "refuses the tunnel (403)",
    b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n": "refuses the tunnel (302)",
    OPEN + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL": "sends data after its response to CONNECT",
    b"SSH-2.0-OpenSSH\r\n\r\n": "does not speak HTTP",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000: "sends no response to CONNECT",
    b"HTTP/1.1 200 O": "sends no response to CONNECT",
    b"": "sends no response to CONNECT",
}


@pytest.mark.parametrize("said", NO_TUNNEL, ids=NO_TUNNEL.values())
async def test_without_a_tunnel_the_upstream_is_unreachable_and_nothing_was_sent(
    behind, egress, upstream, kit, said
):
    egress.answers, egress.then = [said], "hang up"
    async with behind() as proxy:
        status, _, body = kit.split(await proxy.get())
        assert proxy.sample("upstream_errors_total", route="up", error=UNREACHABLE.ending) == 1
    problem = json.loads(body)
    assert (status, problem["type"]) == (502, "urn:token-proxy:problem:upstream-unreachable")
    assert f": the egress proxy {NO_TUNNEL[said]} (" in problem["detail"]
    assert upstream.requests == 0


async def test_an_unreachable_egress_proxy_is_named(make_proxy, upstream, kit):
    route = 'plaintext = true\nproxy = "http://127.0.0.1:1"'
    async with make_proxy(f"http://api.example:{upstream.port}", route=route) as proxy:
        status, _, body = kit.split(await proxy.get())
    detail = "the egress proxy can't be reached: connection refused (check `proxy` of the route)"
    assert status == 502
    assert detail in json.loads(body)["detail"]


async def test_a_silent_egress_proxy_is_a_504_within_the_connect_timeout(behind, egress, kit):
    egress.answers, egress.then = [b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1"], "silent"
    async with behind(limits="connect = 0.3") as proxy:
        status, _, body = kit.split(await proxy.get())
    assert (status, json.loads(body)["type"]) == (504, "urn:token-proxy:problem:upstream-timeout")
