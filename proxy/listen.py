"""Listeners: an address of the configuration -> an aiohttp site, or a failure that names it."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

from aiohttp import web

from proxy.config.address import Address
from proxy.config.model import ListenerTLS
from proxy.errors import ProxyError

BACKLOG = 1024  # connections the kernel holds for us while we are busy


class CannotListen(ProxyError):
    """An address is taken, or not this machine's."""


async def listen(runner: web.BaseRunner, address: Address, tls: ListenerTLS | None) -> web.BaseSite:
    """Start a site of `runner` at `address`. Raises CannotListen."""
    context = _tls_context(tls) if tls else None
    try:
        if address.is_unix:
            site: web.BaseSite = web.SockSite(
                runner, _unix_socket(Path(address.path)), ssl_context=context, backlog=BACKLOG
            )
        else:
            site = web.TCPSite(runner, address.host, address.port, ssl_context=context, backlog=BACKLOG)
        await site.start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "the address does not resolve"
        raise CannotListen(f"can't listen on {address}: {reason.lower()}") from error
    return site


def bound_address(site: web.BaseSite, address: Address) -> str:
    """Where a site really listens: the port that port 0 came to."""
    if isinstance(site, web.TCPSite):
        return f"{address.host}:{site.port}"
    return str(address)


def _tls_context(tls: ListenerTLS) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.cert, tls.key)
    if tls.client_ca:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _unix_socket(path: Path) -> socket.socket:
    """A listening socket that only its owner can reach, from the first moment on."""
    _remove_if_dead(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _remove_if_dead(path: Path) -> None:
    """A socket file that a killed process left behind answers nobody."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
