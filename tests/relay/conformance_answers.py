"""Upstream responses, and the bytes that reach the caller: a row for each example of a requirement."""

from __future__ import annotations

from dataclasses import dataclass

from .conformance_bad_frames import BAD_CHUNKS, BAD_HEADS
from .conformance_rows import IN_A_CHUNK, POST, ZIPPED, request

ASK = b"GET /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
ASK_HEAD = b"HEAD /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
ASK_OLD = b"GET /up/x HTTP/1.0\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Whole:
    """The caller gets exactly these bytes. `keeps`: its connection stays open."""

    reaches: bytes
    keeps: bool = True


@dataclass(frozen=True)
class Broken:
    """The caller gets a 502 of the proxy's own."""


@dataclass(frozen=True)
class CutOff:
    """The caller's connection is cut, so that no part looks like a complete response."""


@dataclass(frozen=True)
class Row:
    """`then`: what the upstream does with the connection."""

    number: str
    name: str
    says: bytes
    fate: Whole | Broken | CutOff
    then: str = "stay"
    asks: bytes = ASK

    def __str__(self):
        return f"{self.number}-{self.name}"


def answer(*lines, status=b"200 OK", body=b"", version=b"HTTP/1.1"):
    return b"\r\n".join([version + b" " + status, *lines, b"", b""]) + body


LENGTH = b"Content-Length: 2"
CHUNKED = b"Transfer-Encoding: chunked"
CLOSE = b"Connection: close"
OK = answer(LENGTH, body=b"ok")
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
HINTS = answer(b"Link: <a>", status=b"103 Early Hints")


def passes(number, name, *lines, status=b"200 OK"):
    """With a length of two; it reaches the caller unchanged."""
    says = answer(*lines, LENGTH, status=status, body=b"ok")
    return Row(number, name, says, Whole(says))


def cut(number, name, *lines, left=()):
    """Fields of which only `left` reach the caller."""
    return Row(number, name, answer(*lines, LENGTH, body=b"ok"), Whole(answer(*left, LENGTH, body=b"ok")))


def trailers(number, name, says, reaches, *lines):
    return Row(number, name, answer(*lines, CHUNKED, body=says), Whole(answer(CHUNKED, body=reaches)))


def empty(number, name, says, reaches=None, asks=ASK):
    return Row(number, name, says, Whole(says if reaches is None else reaches), asks=asks)


def broken(number, name, says, then="stay", asks=ASK):
    return Row(number, name, says, Broken(), then, asks)


BEGUN = {
    "within a counted body": answer(b"Content-Length: 10", body=b"ok"),
    "after a counted body's head": answer(b"Content-Length: 10"),
    "before the last chunk": answer(CHUNKED, body=b"5\r\nhello\r\n"),
    "within the last chunk": answer(CHUNKED, body=b"5\r\nhello\r\n0\r\n"),
    "within a chunk": answer(CHUNKED, body=b"A\r\nhello"),
    "within a chunk's size": answer(CHUNKED, body=b"5\r\nhello\r\nA"),
    "after a chunked body's head": answer(CHUNKED),
    "within trailers": answer(CHUNKED, body=b"0\r\nDigest: x\r\n"),
    "within a counted body after hints": HINTS + answer(b"Content-Length: 10", body=b"ok"),
}
FAILURES = [  # A2
    *[Row("A2", f"closes {where}", says, CutOff(), "close") for where, says in BEGUN.items()],
    *[Row("A2", f"resets {where}", says, CutOff(), "reset") for where, says in BEGUN.items()],
    Row("A2", "resets within a body until the end", answer(body=b"some"), CutOff(), "reset"),
    Row("A2", "resets within an old answer", answer(body=b"some", version=b"HTTP/1.0"), CutOff(), "reset"),
    *[
        broken("A2", f"{then}s within its head", b"HTTP/1.1 200 OK\r\nContent-Le", then)
        for then in ("close", "reset")
    ],
    *[broken("A2", f"{then}s after hints", HINTS, then) for then in ("close", "reset")],
]

HOPS = [  # A3
    cut(
        "A3",
        "nominated fields",
        b"Connection: keep-alive, X-Hop,,date",
        b"X-Hop: 1",
        b"Date: x",
        b"x_hop: 2",
        b"ETag: 1",
        left=[b"ETag: 1"],
    ),
    cut("A3", "several lines in any case", b"connection: a", b"A: 1", b"CONNECTION: B", b"b: 2"),
    cut("A3", "a nominated length", b"Connection: content-length"),
    cut("A3", "an empty Connection", b"Connection:"),
    cut("A3", "Keep-Alive", b"Keep-Alive: timeout=5, max=100"),
    cut("A3", "Proxy-Connection", b"Proxy-Connection: close"),
    cut("A3", "Upgrade", b"Upgrade: h2c", b"Connection: Upgrade"),
    cut("A3", "TE", b"TE: trailers"),
    cut("A3", "Proxy-Authenticate", b"Proxy-Authenticate: Basic", b"Proxy-Authorization: x"),
    cut("A3", "Connection: close is for this hop", CLOSE),
    trailers(
        "A3",
        "trailers for one hop",
        b"0\r\nKeep-Alive: 1\r\nX-Hop: 1\r\nDigest: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nDigest: x\r\n\r\n",
        b"Connection: x-hop",
    ),
]

HSTS = b"Strict-Transport-Security: max-age=63072000"
LINKS = [  # A6
    cut("A6", "what is said of a whole host", HSTS, b'Clear-Site-Data: "*"', b"X: 1", left=[b"X: 1"]),
    passes("A6", "a link elsewhere", b"Location: https://evil.example/up/x", status=b"302 Found"),
    Row(
        "A6",
        "a link elsewhere without a scheme",
        answer(b"Location: //evil.example/base/x", LENGTH, status=b"307 Go", body=b"ok"),
        Whole(answer(b"Location: http://evil.example/base/x", LENGTH, status=b"307 Go", body=b"ok")),
    ),
    passes("A6", "a link with a user", b"Location: http://@HOST@@evil.example/base", status=b"301 Go"),
    Row(
        "A6",
        "a link into the upstream",
        answer(b"Location: http://@HOST@/base/y?z", LENGTH, status=b"302 Found", body=b"ok"),
        Whole(answer(b"Location: http://localhost/up/y?z", LENGTH, status=b"302 Found", body=b"ok")),
    ),
]


def counted(number, name, *lines, body):
    says = answer(*lines, b"Content-Length: %d" % len(body), body=body)
    return Row(number, name, says, Whole(says))


def until_end(number, name, says, reaches, asks=ASK):
    return Row(number, name, says, Whole(reaches, keeps=False), "close", asks)


AS_THEY_CAME = [  # A12, A21, A23, A25, A27
    counted("A12", "a compressed body", b"Content-Encoding: gzip", body=ZIPPED),
    counted("A12", "a body that is not what it says", b"Content-Encoding: br", body=b"abc"),
    trailers(
        "A12",
        "compressed chunks",
        b"19\r\n" + ZIPPED + b"\r\n0\r\n\r\n",
        b"19\r\n" + ZIPPED + b"\r\n0\r\n\r\n",
    ),
    counted("A15", "a body of nothing", body=b""),
    trailers("A15", "chunks of nothing", b"0\r\n\r\n", b"0\r\n\r\n"),
    trailers("A15", "odd chunks", b'1;a="b"\r\nh\r\n04\r\nello\r\n00;x\r\n\r\n', CHUNKS),
    trailers("A15", "a response in a chunk", IN_A_CHUNK, IN_A_CHUNK),
    counted("A15", "a response in a body", body=OK),
    passes("A21", "8 KiB in a field", b"X: " + b"x" * 8189),
    passes("A21", "16 KiB in a field", b"X: " + b"x" * 16381),
    passes("A21", "200 fields", *[b"X: 1"] * 199),
    broken("A21", "33 KiB in a field", answer(b"X: " + b"x" * 33789, LENGTH, body=b"ok")),
    broken("A21", "201 fields", answer(*[b"X: 1"] * 200, LENGTH, body=b"ok")),
    broken("A21", "a head without end", b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 22000),
    passes("A23", "values beyond ASCII", b"X: \xff\xe9", b"Y: \xc3\xa9", b"Z: a\tb"),
    passes("A25", "no field but a length"),
    passes("A25", "Date and Server", b"Date: Tue, 15 Nov 1994 08:12:31 GMT", b"Server: theirs/1"),
    passes("A25", "cookies in order", b"Set-Cookie: b=1", b"X: 1", b"set-cookie: a=2", b"Set-Cookie: b=3"),
    passes("A25", "the same field twice", b"Date: x", b"date: y", b"Content-Type: a", b"Content-Type: b"),
    passes("A25", "another Via", b"Via: 1.1 theirs", b"Alt-Svc: h3"),
    passes("A25", "a reason", status=b"299 I'm \xc3\xa9; a: b"),
    passes("A25", "no reason", status=b"200 "),
    passes("A25", "an unknown status", status=b"599 x"),
    passes("A25", "a status of no class", status=b"999 Request denied"),
    passes("A25", "the first status of no class", status=b"600 x"),
    Row(
        "A25",
        "nothing after its status",
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        Whole(answer(LENGTH, status=b"200 ", body=b"ok")),
    ),
    empty("A27", "early hints", HINTS + OK),
    empty("A27", "early hints twice", HINTS + HINTS + OK),
    trailers("A27", "trailers", b"0\r\nDigest: x\r\nX: \xff\r\n\r\n", b"0\r\nDigest: x\r\nX: \xff\r\n\r\n"),
    empty("A17", "100", answer(status=b"100 Continue") + OK),
    passes("A17", "417", status=b"417 Expectation Failed"),
]

UNTIL_THE_END = [
    until_end("A2", "a body until the end", answer(body=b"some"), answer(CLOSE, body=b"some")),
    until_end("A2", "no body until the end", answer(), answer(CLOSE)),
    until_end("A2", "an old answer", answer(version=b"HTTP/1.0", body=b"some"), answer(CLOSE, body=b"some")),
    until_end(
        "A2", "chunks for an old caller", answer(CHUNKED, body=CHUNKS), answer(CLOSE, body=b"hello"), ASK_OLD
    ),
    until_end("A27", "hints for an old caller", HINTS + OK, answer(LENGTH, CLOSE, body=b"ok"), ASK_OLD),
    Row("A2", "an old answer with a length", answer(LENGTH, version=b"HTTP/1.0", body=b"ok"), Whole(OK)),
]

WITHOUT_BODY = [  # A16
    empty("A16", "a length to HEAD", answer(b"Content-Length: 99"), asks=ASK_HEAD),
    empty("A16", "a coding to HEAD", answer(CHUNKED), answer(), ASK_HEAD),
    empty("A16", "nothing to HEAD", answer(b"X: 1"), asks=ASK_HEAD),
    empty("A16", "204", answer(b"X: 1", status=b"204 No Content")),
    empty("A16", "204 with a length of nothing", answer(b"Content-Length: 0", status=b"204 No Content")),
    broken("A16", "204 with a length", answer(LENGTH, status=b"204 No Content", body=b"ok")),
    empty("A16", "304", answer(b'ETag: "x"', status=b"304 Not Modified")),
    empty("A16", "304 with a length", answer(b"Content-Length: 99", status=b"304 Not Modified")),
    empty(
        "A16",
        "304 with a coding",
        answer(CHUNKED, status=b"304 Not Modified"),
        answer(status=b"304 Not Modified"),
    ),
    empty("A16", "205 with nothing", answer(b"Content-Length: 0", status=b"205 Reset Content")),
    broken("A16", "103 with a length", answer(LENGTH, status=b"103 Early Hints", body=b"ok") + OK),
    broken("A16", "103 with chunks", answer(CHUNKED, status=b"103 Early Hints", body=CHUNKS) + OK),
    broken(
        "A16", "101", answer(b"Connection: Upgrade", b"Upgrade: websocket", status=b"101 Switching Protocols")
    ),
    broken("A16", "101 after hints", HINTS + answer(status=b"101 Switching Protocols")),
    broken("A16", "a length that is none to HEAD", answer(b"Content-Length: x"), asks=ASK_HEAD),
    broken("A16", "304 framed twice", answer(CHUNKED, LENGTH, status=b"304 Not Modified")),
]

LINES = [
    broken("A7", f"starts with {line!r}", line + b"\r\nContent-Length: 2\r\n\r\nok")
    for line in [
        *[
            b"HTTP/2.0 200 OK",
            b"HTTP/1.2 200 OK",
            b"HTTP/0.9 200 OK",
            b"HTTP/1.10 200 OK",
            b"http/1.1 200 OK",
        ],
        *[
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1\t200 OK",
            b" HTTP/1.1 200 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
        ],
        *[b"HTTP/1.1 099 OK", b"HTTP/1.1 000 OK", b"HTTP/1.1 +20 OK", b"HTTP/1.1 2\xb20 OK", b"ICY 200 OK"],
        *[
            b"HTTP/1.1 200 O\x00K",
            b"HTTP/1.1 200 O\rK",
            b"HTTP/1.1 200 OK\nX: 1",
            b"SSH-2.0-OpenSSH",
            b"HTTP/1.1 OK",
        ],
        *[
            b"\r\nHTTP/1.1 200 OK",
            b"\nHTTP/1.1 200 OK",
            b"HTTP/1.1 200 OK\r",
            b"HTTP/1.1 200 O\x1bK",
            b"HTTP/1.1",
        ],
    ]
]
ASKED = request(POST).removesuffix(b"\r\n")


def turned_round(row):
    """The mistakes of a bad request, in a response."""
    assert row.sent.startswith(ASKED)
    return b"HTTP/1.1 200 OK\r\n" + row.sent.removeprefix(ASKED)


READ_IN_ANSWERS = {  # RFC 9112 sections 5.1 and 7.1.1: in a response, this white space is accepted
    *("space before colon", "tab before colon", "space before the colon of a length"),
    *("space before the colon of a coding", "a size before a space", "a size before a tab"),
    *(
        "an extension with a space",
        "an extension after a space",
        "an extension with a space before its value",
    ),
    *("a size of 32 bits and more, in zeros", "a trailer with space before colon"),
}
BAD_FRAMES = [
    *[broken("A7", row.name, turned_round(row)) for row in BAD_HEADS if row.name not in READ_IN_ANSWERS],
    *[
        Row("A7", row.name, turned_round(row), CutOff())
        for row in BAD_CHUNKS
        if row.name not in READ_IN_ANSWERS
    ],
    Row(
        "A7",
        "space before colons",
        answer(b"X \t: 1", b"Content-Length : 2", body=b"ok"),
        Whole(answer(b"X: 1", LENGTH, body=b"ok")),
    ),
    Row(
        "A7",
        "space before a coding's colon",
        answer(b"Transfer-Encoding : chunked", body=CHUNKS),
        Whole(answer(CHUNKED, body=CHUNKS)),
    ),
    trailers("A7", "white space after sizes", b"5 \t\r\nhello\r\n0 ; a = b\r\n\r\n", CHUNKS),
    trailers("A7", "zeros before a size", b"0" * 30 + b"5\r\nhello\r\n0\r\n\r\n", CHUNKS),
    broken("A7", "TE in HTTP/1.0", answer(CHUNKED, version=b"HTTP/1.0", body=CHUNKS)),
    broken("A7", "a folded first field", b"HTTP/1.1 200 OK\r\n X: 1\r\nContent-Length: 2\r\n\r\nok"),
]

ANSWERS = [
    *FAILURES,
    *HOPS,
    *LINKS,
    *AS_THEY_CAME,
    *UNTIL_THE_END,
    *WITHOUT_BODY,
    *LINES,
    *BAD_FRAMES,
]
