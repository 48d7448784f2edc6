"""Send a response as a fault requires: complete, slow, cut off or not at all."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Final

from aiohttp import web

from proxy.demo.faults import Answer, Body, Fault

_BYTE_EVERY: Final = 1.0  # seconds; pace of a slow body
_PIECE: Final = b" " * 16384  # chunk of an endless body: white space, which JSON allows before a value
_PIECE_EVERY: Final = 0.01  # seconds; about 1.5 MB a second, so that a client without a limit fails slowly

_Send = Callable[[web.Request, web.Response, Fault], Awaitable[web.StreamResponse]]


async def deliver(
    request: web.Request, answer: Answer | None, fault: Fault, wall_clock: float
) -> web.StreamResponse:
    """Send `answer` as `fault` requires; None: close the connection without a response."""
    if answer is None:
        _end_connection(request, reset=fault.reset)
        return web.Response()  # required by aiohttp, but never sent
    try:
        return await _BODIES[fault.body](request, response(answer, wall_clock), fault)
    except ConnectionResetError:
        return web.Response()  # the client has gone


def response(answer: Answer, wall_clock: float = 0.0) -> web.Response:
    text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    headers = dict(answer.headers)
    if answer.retry_after_date is not None:
        headers["Retry-After"] = formatdate(math.ceil(wall_clock + answer.retry_after_date), usegmt=True)
    return web.Response(status=answer.status, body=text.encode(), headers=headers)


async def _whole(_request: web.Request, whole: web.Response, _fault: Fault) -> web.StreamResponse:
    return whole


async def _half(request: web.Request, whole: web.Response, fault: Fault) -> web.StreamResponse:
    body = _bytes_of(whole)
    stream = await _begin(request, whole, length=len(body))
    await stream.write(body[: len(body) // 2])
    _end_connection(request, reset=fault.reset)
    return stream


async def _slow(request: web.Request, whole: web.Response, _fault: Fault) -> web.StreamResponse:
    body = _bytes_of(whole)
    stream = await _begin(request, whole, length=len(body))
    for place in range(len(body)):
        await stream.write(body[place : place + 1])
        await asyncio.sleep(_BYTE_EVERY)
    return stream


async def _endless(request: web.Request, whole: web.Response, _fault: Fault) -> web.StreamResponse:
    stream = await _begin(request, whole, length=None)
    while request.transport is not None and not request.transport.is_closing():
        await stream.write(_PIECE)
        await asyncio.sleep(_PIECE_EVERY)
    return stream


_BODIES: Final[Mapping[Body, _Send]] = {"whole": _whole, "half": _half, "slow": _slow, "endless": _endless}


def _bytes_of(whole: web.Response) -> bytes:
    assert isinstance(whole.body, bytes)
    return whole.body


async def _begin(request: web.Request, whole: web.Response, *, length: int | None) -> web.StreamResponse:
    headers = {name: value for name, value in whole.headers.items() if name != "Content-Length"}
    stream = web.StreamResponse(status=whole.status, headers=headers)
    stream.content_length = length
    await stream.prepare(request)
    return stream


def _end_connection(request: web.Request, *, reset: bool) -> None:
    transport = request.transport
    if transport is None:
        return
    if not reset:
        transport.close()
        return
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # then close(2) resets
    transport.abort()
