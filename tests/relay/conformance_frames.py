"""Valid framing, however unusual: it arrives unchanged, and another message follows it."""

from __future__ import annotations

from .conformance_rows import GET, GOT, IN_A_CHUNK, POST, POSTED, Passes, Row, arrives, chunks, kept, request

LENGTHS = [
    Row(
        "A7",
        f"length {field.decode()!r} is good",
        request(POST, b"Content-Length:" + field, body=b"abcde"),
        Passes(arrives(POSTED, b"Content-Length:" + field, body=b"abcde")),
    )
    for field in (b" 5", b"5", b" 5 ", b"\t5\t ", b" 05", b" 000000000000000005")
]

GOOD_CHUNKS = [  # A7: unusual but valid
    chunks("A7", "chunk extensions", b'3;a;b=c;d="e;\\"f"\r\nabc\r\n0;z\r\n\r\n', b"3\r\nabc\r\n0\r\n\r\n"),
    chunks(
        "A7",
        "sizes with zeros and in capitals",
        b"000A\r\n0123456789\r\n00\r\n\r\n",
        b"a\r\n0123456789\r\n0\r\n\r\n",
    ),
    chunks("A7", "a request in a chunk", IN_A_CHUNK, IN_A_CHUNK),
    chunks(
        "A7", "an ending in a chunk", b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"
    ),
    chunks("A7", "no data", b"0\r\n\r\n", b"0\r\n\r\n"),
]

GOOD_FRAMES = [
    *LENGTHS,
    *GOOD_CHUNKS,
    Row(
        "A7",
        "Chunked in other case",
        request(POST, b"transfer-encoding:ChUnKeD ", body=b"0\r\n\r\n"),
        Passes(arrives(POSTED, chunked=True, body=b"0\r\n\r\n")),
    ),
    Row(
        "A7",
        "a request in a body",
        request(POST, b"Content-Length: 43", body=b"GET /up/x HTTP/1.1\r\nHost: localhost\r\nX: 1\r\n"),
        Passes(
            arrives(POSTED, b"Content-Length: 43", body=b"GET /up/x HTTP/1.1\r\nHost: localhost\r\nX: 1\r\n")
        ),
    ),
    Row("A7", "an empty line first", b"\r\n" + request(GET), Passes(arrives(GOT))),
    Row("A7", "two empty lines first", b"\r\n\r\n" + request(GET), Passes(arrives(GOT))),
    Row("A7", "HTTP/1.0", b"GET /up/x HTTP/1.0\r\n\r\n", Passes(arrives(GOT), keeps=False)),
    Row(
        "A7",
        "HTTP/1.0 kept alive",  # a caller of HTTP/1.0 gets one response per connection
        b"GET /up/x HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
        Passes(arrives(GOT), keeps=False),
    ),
    Row(
        "A7",
        "HTTP/1.0 with a length",
        b"POST /up/x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
        Passes(arrives(POSTED, b"Content-Length: 3", body=b"abc"), keeps=False),
    ),
    kept("A7", "odd names", b"!#$%&'*+-.^_`|~09aZ: 1", b"x:", b"X: \t ", b"X::", b"X: a: b"),
]

FRAMINGS = {  # A15: name -> (fields, body, whether chunked)
    "a length": ([b"Content-Length: 5"], b"hello", False),
    "an empty length": ([b"Content-Length: 0"], b"", False),
    "chunks": ([], b"5\r\nhello\r\n0\r\n\r\n", True),
    "nothing": ([], b"", False),
}


def framed(method, name):
    lines, body, chunked = FRAMINGS[name]
    sent = [*lines, b"Transfer-Encoding: chunked"] if chunked else lines
    return Row(
        "A15",
        f"{method.decode()} with {name}",
        request(method + b" /up/x", b"X: 1", *sent, body=body),
        Passes(arrives(method + b" /base/x", b"X: 1", *lines, body=body, chunked=chunked)),
    )


FRAMED = [
    framed(method, name) for method in (b"GET", b"POST", b"PUT", b"DELETE", b"PROPFIND") for name in FRAMINGS
]

FRAMES = [*GOOD_FRAMES, *FRAMED]
