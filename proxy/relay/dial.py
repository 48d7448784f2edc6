"""A new connection to an upstream: resolve, connect (through the egress proxy, if one is configured), TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import aiohappyeyeballs

from proxy import fd_limits
from proxy.config.address import Address
from proxy.config.model import Route, UpstreamTLS
from proxy.failure_causes import CONNECT_TIMEOUT, NO_ROUTE, Cause, cause_of
from proxy.name_lookup import Found, is_loopback_name, resolver
from proxy.relay import problems
from proxy.relay import upstream_causes as causes
from proxy.relay.connect import connect
from proxy.relay.problems import Case, Refusal
from proxy.relay.tls_sessions import Session, Sessions
from proxy.relay.tunnel import NoTunnel, open_tunnel
from proxy.relay.wire import TLSWire, Wire

NEXT_ADDRESS_AFTER: Final = 0.25  # seconds; RFC 8305 section 5
JUST_NOW: Final = 1.0  # seconds; a younger look-up is not repeated when its addresses fail


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


async def dial(
    route: Route, context: ssl.SSLContext | None, seconds: float, sessions: Sessions | None = None
) -> Wire:
    """Connect within `seconds`. Raises Refusal: 502, 503 or 504. `sessions`: those of `context`."""
    attempt = _Attempt(route)
    try:
        async with asyncio.timeout(seconds):
            if context is None:
                return Wire(await attempt.connect())
            return await attempt.connect_tls(context, sessions)
    except TimeoutError as error:
        if attempt.offered and sessions is not None:
            sessions.failed()
        raise attempt.refusal(problems.CONNECT_TIMEOUT, attempt.if_too_slow) from error
    except ssl.SSLError as error:
        raise attempt.refusal(problems.UPSTREAM_TLS, cause_of(error)) from error
    except NoTunnel as error:
        raise attempt.refusal(problems.UNREACHABLE, error.cause) from error
    except OSError as error:
        if error.errno in fd_limits.USED_UP:
            raise Refusal(problems.OVERLOADED, problems.NO_FILES, retry_after=1) from error
        raise attempt.refusal(problems.UNREACHABLE, attempt.why(error)) from error


class _Attempt:
    """One connection to a route's upstream. It knows the step that it is at, for the cause of a failure."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._to_egress = False
        self._errors: list[OSError] = []  # of each address of the host
        self.if_too_slow = CONNECT_TIMEOUT  # the cause, if the time is over at this step
        self.offered: Session | None = None  # in a handshake that is not over

    def refusal(self, case: Case, cause: Cause) -> Refusal:
        return causes.refusal(case, causes.of_egress(cause) if self._to_egress else cause, self._route)

    def why(self, error: OSError) -> Cause:
        """The cause of `error`. If several addresses failed for different reasons, that of one of them.

        Many machines have no route for IPv6: another cause is more telling.
        """
        found = [cause_of(each) for each in self._errors] if error.errno is None else []
        return next((cause for cause in found if cause is not NO_ROUTE), cause_of(error))

    async def connect(self) -> socket.socket:
        route = self._route
        upstream = Address(route.upstream.host, route.upstream.port)
        if route.upstream.unix_path:
            return _connect_unix(route.upstream.unix_path)
        if route.proxy is None:
            return await self._connect_tcp(upstream)
        self._to_egress = True
        sock = await self._connect_tcp(route.proxy.address)
        self._to_egress = False
        self.if_too_slow = causes.PROXY_TIMEOUT
        with _closed_on_failure(sock):
            await open_tunnel(sock, route.proxy, upstream)
        return sock

    async def _connect_tcp(self, address: Address) -> socket.socket:
        self.if_too_slow = causes.LOOKUP_TIMEOUT
        found = await resolver.addresses(address.host, address.port)
        self.if_too_slow = CONNECT_TIMEOUT
        try:
            return await self._connect_one(address, found)
        except OSError as error:
            if error.errno in fd_limits.USED_UP:
                raise
            newer = await resolver.addresses(address.host, address.port, age=JUST_NOW)
            other = [each for each in newer if each not in found]
            if not other:
                raise
        self._errors.clear()
        return await self._connect_one(address, other)

    async def _connect_one(self, address: Address, addresses: Found) -> socket.socket:
        """For a loopback name, one after the other: ::1 only if 127.0.0.1 refuses.

        Another user of this machine may listen there, and must not get a token because the upstream is busy.
        """
        if len(addresses) == 1 or is_loopback_name(address.host):
            sock = await self._in_order(addresses)
        else:
            loop = cast("asyncio.AbstractEventLoop", _Connecting(self._errors))
            sock = await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=NEXT_ADDRESS_AFTER, interleave=1, loop=loop
            )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def _in_order(self, addresses: Found) -> socket.socket:
        for family, kind, protocol, _, address in addresses:
            try:
                sock = socket.socket(family, kind, protocol)
                with _closed_on_failure(sock):
                    sock.setblocking(False)
                    await connect(sock, address)
                    return sock
            except OSError as error:
                self._errors.append(error)
        if len(self._errors) == 1:
            raise self._errors[0]
        raise OSError  # without an errno: see `why`

    async def connect_tls(self, context: ssl.SSLContext, sessions: Sessions | None) -> TLSWire:
        """If a handshake that offers a session fails, perhaps for it, it is tried once more without one."""
        sock = await self.connect()
        self.offered = sessions.take() if sessions is not None else None
        try:
            return await self._start_tls(sock, context, sessions)
        except OSError as error:
            if self.offered is None or sessions is None or isinstance(error, ssl.SSLCertVerificationError):
                raise
            sessions.failed()
        self.offered = None
        return await self._start_tls(await self.connect(), context, sessions)

    async def _start_tls(
        self, sock: socket.socket, context: ssl.SSLContext, sessions: Sessions | None
    ) -> TLSWire:
        self.if_too_slow = causes.HANDSHAKE_TIMEOUT
        route = self._route
        name = (route.tls.server_name if route.tls else None) or route.upstream.host
        with _closed_on_failure(sock):
            wire = TLSWire(sock, context, name, sessions, self.offered)
            await wire.handshake()
        self.offered = None
        return wire


class _Connecting:
    """The part of an event loop that aiohappyeyeballs uses. It keeps the errors, not their texts only."""

    def __init__(self, errors: list[OSError]) -> None:
        self._errors = errors

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        try:
            await connect(sock, address)
        except OSError as error:
            self._errors.append(error)
            raise


def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    with _closed_on_failure(sock):
        sock.connect(path)  # immediate; EAGAIN: the listener's queue is full
    return sock


@contextmanager
def _closed_on_failure(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
