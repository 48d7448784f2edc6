from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme
from aiohttp import web

from proxy.demo.serve import BASE_URL, running


async def test_the_application_knows_its_address_before_it_starts() -> None:
    seen = []

    async def note(app: web.Application) -> None:
        seen.append(app[BASE_URL])

    app = web.Application()
    app.on_startup.append(note)
    async with running(app) as url:
        assert seen == [url]


async def test_after_the_block_the_port_is_closed() -> None:
    async with running(web.Application()) as url:
        pass
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(url)


async def test_a_taken_port_is_an_error() -> None:
    async with running(web.Application()) as url:
        with pytest.raises(OSError, match="in use"):
            async with running(web.Application(), port=urlsplit(url).port or 0):
                pass


async def test_many_connections_at_once_are_accepted() -> None:
    async with running(web.Application()) as url:
        address = ("127.0.0.1", urlsplit(url).port or 0)
        with ExitStack() as stack:  # nobody accepts meanwhile: this test has the event loop
            for _ in range(1000):
                stack.enter_context(socket.create_connection(address, timeout=5))


async def test_with_a_certificate_it_speaks_tls() -> None:
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    async with running(web.Application(), ssl_context=server_side) as url, aiohttp.ClientSession() as http:
        assert url.startswith("https://127.0.0.1:")
        async with http.get(url, ssl=client_side) as answer:
            assert answer.status == 404
