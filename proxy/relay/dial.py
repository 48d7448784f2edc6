"""A new connection to an upstream: resolve, connect (through the egress proxy, if one is configured), TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohappyeyeballs

from proxy import fd_limits
from proxy.config.address import Address
from proxy.config.model import Route, UpstreamTLS
from proxy.name_lookup import is_loopback_name, resolver
from proxy.relay import problems
from proxy.relay.problems import Refusal
from proxy.relay.tunnel import NoTunnel, open_tunnel
from proxy.relay.wire import TLSWire, Wire

NEXT_ADDRESS_AFTER: Final = 0.25  # seconds; RFC 8305 section 5


def tls_context(tls: UpstreamTLS | None) -> ssl.SSLContext:
    """The TLS settings towards an upstream. Slow, and large: reads the trust store. Raises OSError."""
    context = ssl.create_default_context(cafile=tls.ca if tls else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 section 3.1.1
    context.hostname_checks_common_name = False  # RFC 9525 section 6.1: only subjectAltName counts
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # see wire.RENEGOTIATION
    if tls and tls.cert:
        context.load_cert_chain(tls.cert, tls.key, password="")  # else OpenSSL prompts on the terminal
    return context


async def dial(route: Route, context: ssl.SSLContext | None, seconds: float) -> Wire:
    """Connect within `seconds`. Raises Refusal: 502, 503 or 504."""
    try:
        async with asyncio.timeout(seconds):
            sock = await _connect(route)
            return Wire(sock) if context is None else await _start_tls(sock, context, route)
    except TimeoutError as error:
        raise Refusal(
            problems.CONNECT_TIMEOUT, f"the upstream of route {route.name!r} is slow to connect"
        ) from error
    except ssl.SSLError as error:
        raise Refusal(
            problems.UPSTREAM_TLS, f"TLS with the upstream of route {route.name!r} failed"
        ) from error
    except NoTunnel as error:
        raise Refusal(problems.UNREACHABLE, f"the egress proxy of route {route.name!r} {error}") from error
    except OSError as error:
        if error.errno in fd_limits.USED_UP:
            raise Refusal(problems.OVERLOADED, "this proxy has too many open files", retry_after=1) from error
        how = " through the egress proxy" if route.proxy else ""
        detail = f"the upstream of route {route.name!r} can't be reached{how}"
        raise Refusal(problems.UNREACHABLE, detail) from error


async def _connect(route: Route) -> socket.socket:
    upstream = Address(route.upstream.host, route.upstream.port)
    if route.upstream.unix_path:
        return _connect_unix(route.upstream.unix_path)
    if route.proxy is None:
        return await _connect_tcp(upstream)
    sock = await _connect_tcp(route.proxy.address)
    with _closed_on_failure(sock):
        await open_tunnel(sock, route.proxy, upstream)
    return sock


def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    with _closed_on_failure(sock):
        sock.connect(path)  # immediate; EAGAIN: the listener's queue is full
    return sock


async def _connect_tcp(address: Address) -> socket.socket:
    addresses = await resolver.addresses(address.host, address.port)
    # For a loopback name, ::1 is tried only if 127.0.0.1 refuses: another user of this machine may listen
    # there, and must not get a token because the upstream is busy.
    delay = None if is_loopback_name(address.host) else NEXT_ADDRESS_AFTER
    sock = await aiohappyeyeballs.start_connection(
        addresses, happy_eyeballs_delay=delay, interleave=1, loop=asyncio.get_running_loop()
    )
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def _start_tls(sock: socket.socket, context: ssl.SSLContext, route: Route) -> TLSWire:
    wire = TLSWire(sock, context, (route.tls.server_name if route.tls else None) or route.upstream.host)
    with _closed_on_failure(sock):
        await wire.handshake()
    return wire


@contextmanager
def _closed_on_failure(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
