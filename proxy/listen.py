"""Listeners: start and stop aiohttp sites at addresses of the configuration."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import http_parser, web

from proxy.errors import ProxyError

if TYPE_CHECKING:  # the demo's servers, which other projects import in tests, need no configuration
    from proxy.config.address import Address
    from proxy.config.model import ListenerTLS

BACKLOG: Final = 1024  # connections that the kernel queues while the process is busy
_TURNS: Final = 3  # of the event loop, from accept() through a task to connection_made()


class CannotListen(ProxyError):
    """An address is in use or not of this machine, or its certificate can't be used."""


def check_parser() -> None:
    """Require aiohttp's compiled parser (llhttp) for the admin listener. Raises CannotListen.

    Its fallback parser in Python has other faults.
    """
    if not hasattr(http_parser, "HttpRequestParserC"):
        raise CannotListen(
            "aiohttp is without its compiled parser: unset AIOHTTP_NO_EXTENSIONS, or install its wheel"
        )


async def listen(runner: web.BaseRunner, address: Address, tls: ListenerTLS | None) -> web.BaseSite:
    """Start a site of `runner` at `address`. Raises CannotListen."""
    context = _tls_context(address, tls) if tls else None
    try:
        site: web.BaseSite
        if address.is_unix:
            site = _UnixSite(runner, Path(address.path), context)
        else:
            site = web.TCPSite(runner, address.host, address.port, ssl_context=context, backlog=BACKLOG)
        await site.start()
    except OSError as error:
        raise CannotListen(f"can't listen on {address}: {_reason(error)}") from error
    return site


async def stop(*sites: web.BaseSite) -> None:
    """Stop accepting. Sockets accepted just before have their connection_made called before this returns.

    Otherwise asyncio's server, which does not know them yet when it is closed, would leave them hanging.
    """
    loop = asyncio.get_running_loop()
    for site in sites:
        for listener in _listeners(site):
            loop.remove_reader(listener)
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    for site in sites:
        await site.stop()


def _listeners(site: web.BaseSite) -> Iterable[socket.socket]:
    server = site._server  # noqa: SLF001 (aiohttp shows only the addresses)
    return server.sockets if isinstance(server, asyncio.Server) else ()


async def close(runner: web.BaseRunner) -> None:
    """Stop the runner's sites, then close all its connections."""
    await stop(*runner.sites)
    await runner.cleanup()


def bound_address(site: web.BaseSite, address: Address) -> Address:
    """The actual address of a site, with the port that was chosen for port 0."""
    return replace(address, port=site.port) if isinstance(site, web.TCPSite) else address


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _tls_context(address: Address, tls: ListenerTLS) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key, password="")  # otherwise OpenSSL prompts on the terminal
        if tls.client_ca:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise CannotListen(
            f"can't listen on {address}: its TLS files can't be used: expected a certificate chain and its "
            "unencrypted key, in PEM"
        ) from error
    return context


class _UnixSite(web.SockSite):
    """A unix socket that only its owner can connect to, and whose file is removed at the end."""

    def __init__(self, runner: web.BaseRunner, path: Path, context: ssl.SSLContext | None) -> None:
        self._path = path
        super().__init__(runner, _unix_socket(path), ssl_context=context, backlog=BACKLOG)

    async def stop(self) -> None:
        self._path.unlink(missing_ok=True)  # first, as a file at this path may later belong to a successor
        await super().stop()


def _unix_socket(path: Path) -> socket.socket:
    _remove_if_dead(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # mode 0600 from the start
    try:
        sock.bind(str(path))
        sock.listen(BACKLOG)  # at once: another process takes a socket that does not listen for dead
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _remove_if_dead(path: Path) -> None:
    """Remove a socket file left behind by a killed process: nothing accepts connections there."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
