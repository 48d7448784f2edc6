"""OPTIONS: for the proxy itself, or for an upstream (RFC 9110 sections 7.6.2 and 9.3.7)."""

from types import SimpleNamespace

import pytest

from proxy.http.request_head import read_request
from proxy.relay import admission
from proxy.relay.problems import AboutUs

ABOUT_US = [  # request line, fields
    (b"*", []),
    (b"/up", [b"Max-Forwards: 0"]),
    (b"/nowhere", [b"Max-Forwards: 0"]),
]


@pytest.mark.parametrize(("target", "lines"), ABOUT_US)
async def test_a_question_about_the_proxy_is_answered_by_it(proxy, upstream, kit, target, lines):
    last = kit.request(b"OPTIONS", b"*", b"Connection: close")
    answer = await proxy.ask(kit.request(b"OPTIONS", target, *lines) + last)
    assert answer.count(b"HTTP/1.1 200 OK\r\nAllow: GET, ") == 2
    assert upstream.requests == 0


async def test_max_forwards_is_decremented(proxy, upstream, kit):
    await proxy.ask(kit.request(b"OPTIONS", b"/up/x", b"max-forwards: 7", b"X: 1", b"Connection: close"))
    assert b"\r\nMax-Forwards: 6\r\nX: 1\r\n" in upstream.received[0]


async def test_max_forwards_of_other_methods_passes_unchanged(proxy, upstream, kit):
    await proxy.get(b"/up", b"Max-Forwards: 0")
    assert b"\r\nMax-Forwards: 0\r\n" in upstream.received[0]


async def test_an_asterisk_never_reaches_a_route_of_its_own_listener(proxy):
    context, connection = proxy.relay.context, SimpleNamespace(local_address="127.0.0.1", is_tls=False)
    head = read_request(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", context.head_limits)
    with pytest.raises(AboutUs):
        admission.admit(context, head, proxy.runtime, connection)
