"""The rows of the conformance tables, and helpers that make them.

A row's number is that of its requirement. @HOST@ and @VIA@ stand for values that are known only when the
proxy runs.
"""

from __future__ import annotations

from dataclasses import dataclass

HOST = b"Host: localhost"
ZIPPED = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xcbH\xcd\xc9\xc9\x07\x00\x86\xa6\x106\x05\x00\x00\x00"
IN_A_CHUNK = b"14\r\nGET /up HTTP/1.1\r\n\r\n\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Passes:
    """Exactly these bytes arrive, as one request. `keeps`: another one may follow it."""

    arrives: bytes
    keeps: bool = True


@dataclass(frozen=True)
class Refused:
    """Refused by the proxy, which reads nothing after it."""

    status: int
    ending: str


@dataclass(frozen=True)
class Declined:
    """A well-formed request that the proxy itself responds to; another one may follow it."""

    status: int
    ending: str


@dataclass(frozen=True)
class Dismissed:
    """Declined, with a body: another request may follow only if the body has come completely by then."""

    status: int
    ending: str


@dataclass(frozen=True)
class Unfinished:
    """An incomplete message: no part of it is a request, whatever follows."""


@dataclass(frozen=True)
class Row:
    number: str
    name: str
    sent: bytes
    fate: Passes | Refused | Declined | Dismissed | Unfinished

    def __str__(self):
        return f"{self.number}-{self.name}"


def request(line, *lines, host=HOST, body=b""):
    first = [line + b" HTTP/1.1", *([host] if host else [])]
    return b"\r\n".join([*first, *lines, b"", b""]) + body


def arrives(line, *lines, body=b"", chunked=False):
    """The request for the upstream: with the upstream's Host, our fields, and its framing."""
    framing = [b"Transfer-Encoding: chunked"] if chunked else []
    ours = [b"Authorization: Bearer ours", b"Via: 1.1 @VIA@"]
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: @HOST@", *lines, *framing, *ours, b"", b""]) + body


INNER = b"GET /up/inner HTTP/1.1\r\nHost: localhost\r\n\r\n"  # sent as a body, so not a request
GET, POST = b"GET /up/x", b"POST /up/x"
GOT, POSTED = b"GET /base/x", b"POST /base/x"


def cut(number, name, *lines, keeps=True, left=()):
    """A GET with fields of which only `left` pass."""
    return Row(number, name, request(GET, *lines), Passes(arrives(GOT, *left), keeps))


def kept(number, name, *lines):
    """A GET with fields that all pass."""
    return cut(number, name, *lines, left=lines)


def chunks(number, name, sent, arriving, *lines):
    """A POST with a chunked body; `arriving` is that body in one chunk."""
    return Row(
        number,
        name,
        request(POST, *lines, b"Transfer-Encoding: chunked", body=sent),
        Passes(arrives(POSTED, chunked=True, body=arriving)),
    )


def target(number, sent, arriving, *lines, host=HOST):
    return Row(
        number,
        (b"to " + sent).decode(),
        request(b"GET " + sent, *lines, host=host),
        Passes(arrives(b"GET " + arriving)),
    )
