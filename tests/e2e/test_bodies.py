"""Bodies are streamed: neither their size nor a slow side costs memory, and no byte is lost."""

import asyncio
import base64
import hashlib
import random
import socket
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import requests

from .authorization_servers import AuthorizationServer
from .conftest import MakeProxy
from .memory import MB, reads_memory, watched_memory
from .proxy_process import Proxy

SIZE = 200 * MB
MOST_GROWTH = 20 * MB
SLOW_FOR = 2.0  # seconds in which one side reads a little at a time, then as fast as it can
BLOCK = random.Random(2).randbytes(MB)

HEAD_ALONE = b"POST /api/download HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20\r\n\r\n"


async def upload(callers: aiohttp.ClientSession, url: str, size: int) -> tuple[str, dict[str, object]]:
    digest = hashlib.sha256()

    async def body() -> AsyncIterator[bytes]:
        for number in range(size // len(BLOCK)):
            block = number.to_bytes(8, "big") + BLOCK[8:]
            digest.update(block)
            yield block

    async with callers.post(url, data=body(), headers={"Content-Length": str(size)}) as response:
        assert response.status == 200, await response.text()
        return digest.hexdigest(), await response.json()


async def download(callers: aiohttp.ClientSession, url: str, slow_for: float) -> tuple[str, int, str]:
    digest, size = hashlib.sha256(), 0
    async with callers.get(url) as response:
        assert response.status == 200, await response.text()
        slow_until = time.monotonic() + slow_for
        async for piece in response.content.iter_any():
            digest.update(piece)
            size += len(piece)
            if time.monotonic() < slow_until:
                await asyncio.sleep(0.01)
        return base64.b64encode(digest.digest()).decode(), size, response.headers["Content-Digest"]


@pytest.fixture
def proxy(oidc_provider: AuthorizationServer, make_proxy: MakeProxy) -> Proxy:
    proxy = make_proxy(oidc_provider, oidc_provider.machine_credential("client_secret_basic"))
    proxy.start()
    return proxy


@reads_memory
async def test_an_upload_of_200_mb_to_a_slow_upstream_arrives_whole_and_costs_no_memory(proxy: Proxy) -> None:
    async with aiohttp.ClientSession() as callers:
        await upload(callers, proxy.api("/upload"), 2 * MB)  # a first request allocates once
        with watched_memory(proxy.pid) as memory:
            sent, got = await upload(callers, proxy.api(f"/upload?slow_for={SLOW_FOR}"), SIZE)
    assert got == {"sha256": sent, "size": SIZE}
    assert memory.growth < MOST_GROWTH, f"grew by {memory.growth / MB:.1f} MB"


@reads_memory
async def test_a_download_of_200_mb_by_a_slow_caller_arrives_whole_and_costs_no_memory(proxy: Proxy) -> None:
    async with aiohttp.ClientSession() as callers:
        await download(callers, proxy.api(f"/download?size={2 * MB}"), 0)
        with watched_memory(proxy.pid) as memory:
            digest, size, promised = await download(callers, proxy.api(f"/download?size={SIZE}"), SLOW_FOR)
    assert (f"sha-256=:{digest}:", size) == (promised, SIZE)
    assert memory.growth < MOST_GROWTH, f"grew by {memory.growth / MB:.1f} MB"


def test_a_request_whose_body_never_came_leaves_nothing_behind_for_the_next_one(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.data_port), timeout=20) as caller:
        caller.sendall(HEAD_ALONE)
        assert caller.recv(65536).startswith(b"HTTP/1.1 405 "), "the upstream responds before the body"
    statuses = [requests.get(proxy.api("/whoami"), timeout=20).status_code for _ in range(3)]
    assert statuses == [200, 200, 200]
