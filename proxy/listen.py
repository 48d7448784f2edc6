"""Listeners: start and stop aiohttp sites at addresses of the configuration."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import http_parser, web

from proxy.accept import Acceptor, Gate, bound
from proxy.errors import ProxyError
from proxy.sockets import readiness
from proxy.sockets.acceptor import PlainAcceptor
from proxy.unix_sockets import BACKLOG, unix_socket

if TYPE_CHECKING:  # the demo's servers, which other projects import in tests, need no configuration
    from proxy.config.address import Address
    from proxy.config.model import ListenerTLS

WHOLE_BACKLOG: Final = 65535  # of adopted sockets: less would shorten the queue that its owner has chosen
HANDSHAKE: Final = 20.0  # seconds, as for a header
HANDSHAKES_AT_STOP: Final = 2.0  # seconds for handshakes that have begun: their callers have requests to send
SHUTDOWN: Final = 30.0  # seconds for a slow reader to receive the end of a response and close TLS
_TURNS: Final = 3  # of the event loop, from accept() through a task to connection_made()
_REMEDIES: Final = {
    errno.EADDRINUSE: "stop the program that has it (`token-proxy status` tells whether it is another "
    "token-proxy), or configure another address",
    errno.EADDRNOTAVAIL: "configure one of this machine's addresses",
    errno.EACCES: "choose a port from 1024 on, or a directory that may be written to",
    errno.ENOENT: "make the directory first",
    errno.ENOTDIR: "make the directory first",
    errno.EROFS: "choose a directory that may be written to",
}


class CannotListen(ProxyError):
    """An address is in use or not of this machine."""


def check_parser() -> None:
    """Require aiohttp's compiled parser (llhttp) for the admin listener. Raises CannotListen.

    Its fallback parser in Python has other faults.
    """
    if not hasattr(http_parser, "HttpRequestParserC"):
        raise CannotListen(
            "aiohttp is without its compiled parser: unset AIOHTTP_NO_EXTENSIONS, or install its wheel"
        )


async def listen(
    runner: web.BaseRunner,
    address: Address,
    context: ssl.SSLContext | None,
    *,
    handshake: float = HANDSHAKE,
    sockets: Sequence[socket.socket] = (),
) -> web.BaseSite:
    """Start a site of `runner` at `address`, with TLS if there is a context. Raises CannotListen.

    A TLS handshake may take `handshake` seconds: until it is done, no other limit knows of the connection.
    `sockets`: those of this address, if a service manager has bound it already.
    """
    try:
        site: web.BaseSite
        if sockets:
            site = AdoptedSite(runner, sockets, context, handshake)
        elif address.is_unix:
            site = _UnixSite(runner, address, context, handshake)
        else:
            site = _TCPSite(runner, address, context, handshake)
        await site.start()
    except OSError as error:
        raise CannotListen(f"can't listen on {address}: {_reason(error)}") from error
    return site


def renew_tls(site: web.BaseSite, context: ssl.SSLContext | None) -> None:
    """Use another context, for handshakes from now on. Connections go on under theirs.

    Only for a site whose server is a Gate, as those of ours with TLS are.
    """
    acceptor: object = site._server  # noqa: SLF001 (aiohttp shows only the addresses)
    if isinstance(acceptor, Acceptor):
        acceptor.renew_tls(context)


async def stop(*sites: web.BaseSite) -> None:
    """Stop accepting. Sockets accepted just before have their connection_made called before this returns.

    Otherwise asyncio's server, which does not know them yet when it is closed, would leave them hanging. TLS
    handshakes get HANDSHAKES_AT_STOP seconds.
    """
    loop = asyncio.get_running_loop()
    servers: list[object] = [site._server for site in sites]  # noqa: SLF001 (aiohttp shows only the addresses)
    for server in servers:
        for listener in server.sockets if isinstance(server, asyncio.Server | _Together) else ():
            loop.remove_reader(listener)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    for server in servers:
        if isinstance(server, PlainAcceptor):
            server.close()
    acceptors = [server for server in servers if isinstance(server, Acceptor)]
    await asyncio.gather(*(each.settle(HANDSHAKES_AT_STOP) for each in acceptors))
    for site in sites:
        await site.stop()


async def close(runner: web.BaseRunner) -> None:
    """Stop the runner's sites, then close all its connections."""
    await stop(*runner.sites)
    await runner.cleanup()


def bound_address(site: web.BaseSite, address: Address) -> Address:
    """The actual address of a site, with the port that was chosen for port 0."""
    return replace(address, port=site.port) if isinstance(site, web.TCPSite) else address


def _reason(error: OSError) -> str:
    """With what to do next."""
    if isinstance(error, socket.gaierror):
        return "the name does not resolve: configure an address"
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"{reason}: {_REMEDIES.get(error.errno or 0, 'configure another address')}"


def tls_context(tls: ListenerTLS) -> ssl.SSLContext:
    """The TLS settings of a listener. Raises OSError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.cert, tls.key, password="")  # otherwise OpenSSL prompts on the terminal
    if tls.client_ca:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL if tls.certificates_optional else ssl.CERT_REQUIRED
    return context


def _tls_options(context: ssl.SSLContext | None, handshake: float) -> dict[str, Any]:
    """What aiohttp's sites don't pass on to `create_server`."""
    times = {"ssl_handshake_timeout": handshake, "ssl_shutdown_timeout": SHUTDOWN}
    return {"ssl": context, "backlog": BACKLOG, **(times if context else {})}


def _accepting(gate: Gate, sockets: list[socket.socket], options: dict[str, Any]) -> asyncio.AbstractServer:
    """Raises OSError."""
    tls = {name: value for name, value in options.items() if name != "backlog"}
    backlog = options["backlog"]
    is_ours = gate.takes_plain and tls["ssl"] is None and readiness.AVAILABLE
    acceptor = PlainAcceptor if is_ours else partial(Acceptor, options=tls)
    try:
        return cast("asyncio.AbstractServer", acceptor(gate, sockets, backlog))
    except OSError:
        for sock in sockets:
            sock.close()
        raise


class AdoptedSite(web.SockSite):
    """Sockets of a service manager, which keeps them: their files and modes are its own affair, too."""

    def __init__(
        self,
        runner: web.BaseRunner,
        sockets: Sequence[socket.socket],
        context: ssl.SSLContext | None,
        handshake: float,
    ) -> None:
        self._sockets = list(sockets)
        self._options = {**_tls_options(context, handshake), "backlog": WHOLE_BACKLOG}
        super().__init__(runner, self._sockets[0], ssl_context=context)

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        if isinstance(server, Gate):
            self._server = _accepting(server, self._sockets, self._options)
            return
        servers = [await self._serve(server, sock) for sock in self._sockets]
        self._server = cast("asyncio.AbstractServer", _Together(servers))

    async def _serve(self, server: web.Server, sock: socket.socket) -> asyncio.AbstractServer:
        loop = asyncio.get_running_loop()
        if sock.family != socket.AF_UNIX:
            return await loop.create_server(server, sock=sock, **self._options)
        if sys.version_info >= (3, 13):
            self._options["cleanup_socket"] = False
        return await loop.create_unix_server(server, sock=sock, **self._options)


class _Together:
    """The servers of one listener, of which aiohttp's sites know one."""

    def __init__(self, servers: list[asyncio.AbstractServer]) -> None:
        self._servers = servers

    @property
    def sockets(self) -> list[socket.socket]:
        return [sock for each in self._servers if isinstance(each, asyncio.Server) for sock in each.sockets]

    def close(self) -> None:
        for server in self._servers:
            server.close()


class _TCPSite(web.TCPSite):
    def __init__(
        self, runner: web.BaseRunner, address: Address, context: ssl.SSLContext | None, handshake: float
    ) -> None:
        self._options = _tls_options(context, handshake)
        super().__init__(runner, address.host, address.port, ssl_context=context)

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None
        if isinstance(server, Gate):
            sockets = await bound(self._host or "", self._port)
            self._server = _accepting(server, sockets, self._options)
            self._bound_port = sockets[0].getsockname()[1]
            return
        self._server = await loop.create_server(server, self._host, self._port, **self._options)
        self._bound_port = self._server.sockets[0].getsockname()[1]


class _UnixSite(web.SockSite):
    """A unix socket with the mode and group of its address, whose file is removed at the end."""

    def __init__(
        self, runner: web.BaseRunner, address: Address, context: ssl.SSLContext | None, handshake: float
    ) -> None:
        self._path = Path(address.path)
        self._options = _tls_options(context, handshake)
        super().__init__(runner, unix_socket(self._path, address.mode, address.group), ssl_context=context)

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None
        if isinstance(server, Gate):
            self._server = _accepting(server, [self._sock], self._options)
            return
        # not create_server, as SockSite does: uvloop takes the socket for TCP, and its timeouts close nothing
        self._server = await loop.create_unix_server(server, sock=self._sock, **self._options)

    async def stop(self) -> None:
        self._path.unlink(missing_ok=True)  # first, as a file at this path may later belong to a successor
        await super().stop()
