"""Checks the proxy's output: strict.py must parse it, it must follow a proxy's rules, and llhttp must agree.

It is strict wherever a recipient may be lenient: the proxy must never send bytes that a lenient upstream
would read differently.
"""

from __future__ import annotations

import re

import httptools

from . import strict
from .strict import Incomplete, Malformed, Message, demand

BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|$)")
TARGET = re.compile(rb"(?:/[^#]*|\*)")  # RFC 9112 sections 3.2.1, 3.2.4
FOR_ONE_HOP = {b"keep-alive", b"proxy-connection", b"te", b"proxy-authorization", b"proxy-authenticate"}
NOT_IN_TRAILERS = {b"content-length", b"transfer-encoding", b"host", b"authorization", b"connection"}
UPGRADE = [b"Connection: Upgrade", b"Upgrade: websocket"]


def read_request(data: bytes) -> Message | None:
    """The first request in `data`, or None if there is more to come. Raises Malformed."""
    _check_line_ends(data)
    try:
        message, _ = strict.read_request(data, plain=True)
    except Incomplete:
        return None
    _, target, version = message.start
    demand(TARGET.fullmatch(target) and version == b"HTTP/1.1", "request line")
    demand(len(message.values(b"host")) == len(message.values(b"authorization")) == 1, "Host, Authorization")
    upgrade = [line for line in message.lines if _name(line) in {b"connection", b"upgrade"}]
    demand(upgrade in ([], UPGRADE), "an upgrade")
    _check_fields(message)
    demand(_heard(strict.llhttp_requests, message) == ([message.told], True), "llhttp reads something else")
    return message


def read_answer(data: bytes, method: bytes, *, ended: bool = False) -> Message | None:
    """The first response in `data`, to `method`. `ended`: the connection was closed in an orderly way."""
    _check_line_ends(data)
    try:
        message, _ = strict.read_answer(data, method, forgiving=True, plain=True)
    except Incomplete:
        return None
    line = data.partition(b"\r\n")[0]
    demand(line.startswith(b"HTTP/1.1 ") and line.count(b" ") > 1, "status line")
    demand(len(message.values(b"content-length") + message.values(b"transfer-encoding")) < 2, "framed twice")
    if message.until_close:  # RFC 9112 section 6.3: close-delimited
        demand(message.values(b"connection") == [b"close"], "nothing says where it ends")
        return message if ended else None
    _check_trailers(message)
    if method != b"HEAD":  # llhttp does not know the method
        heard = ([(message.status, message.body)], True)
        demand(_heard(strict.llhttp_answers, message) == heard, "llhttp reads something else")
    return message


def in_one_chunk(message: Message) -> bytes:
    """Its bytes with the body in one chunk: chunk sizes need not be preserved."""
    if not message.values(b"transfer-encoding"):
        return message.raw
    chunk = b"%x\r\n%b\r\n" % (len(message.body), message.body) if message.body else b""
    trailers = b"".join(line + b"\r\n" for line in message.trailers)
    return message.raw[: message.raw.index(b"\r\n\r\n") + 4] + chunk + b"0\r\n" + trailers + b"\r\n"


def _check_line_ends(data: bytes) -> None:
    """Also for incomplete heads, which the proxy must not send either."""
    demand(not BARE.search(data.partition(b"\r\n\r\n")[0]), "a bare CR or LF")


def _check_fields(message: Message) -> None:
    demand(FOR_ONE_HOP.isdisjoint(map(_name, message.lines)), "fields of another hop")
    _check_trailers(message)


def _check_trailers(message: Message) -> None:
    forbidden = NOT_IN_TRAILERS | FOR_ONE_HOP
    demand(forbidden.isdisjoint(map(_name, message.trailers)), "fields that no trailer may be")


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


def _heard(llhttp, message):
    try:
        return llhttp(message.raw)
    except httptools.HttpParserError as error:
        raise Malformed("llhttp refuses it") from error
