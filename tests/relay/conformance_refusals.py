"""Requests to refuse: one row for each example of a requirement, and for known attacks on other proxies.

Broken framing and broken fields are in conformance_bad_frames.py.
"""

from __future__ import annotations

from .conformance_bad_frames import BAD, BAD_FRAMES, BODY, CHUNKED, TOO_LARGE
from .conformance_rows import GET, HOST, INNER, POST, Declined, Dismissed, Refused, Row, Unfinished, request


def bad_targets(number, targets, fate):
    return [
        Row(number, f"to {target.decode('latin-1')}", request(b"GET " + target), fate) for target in targets
    ]


LLHTTP = [  # stricter than the RFC, which allows a tab after a value
    Row("A7", "a coding before a tab", request(POST, b"Transfer-Encoding: chunked\t", body=BODY), BAD),
]
PLACES = [  # A5, A6
    *bad_targets(
        "A5",
        [
            b"/up/../admin",
            b"/up/..",
            b"/up/./x",
            b"/../up",
            b"/up/%2e%2e/admin",
            b"/up/.%2e/",
            b"/up/%2E./",
            b"/up/%252e%252e/",
            b"/up/%c0%ae%c0%ae/x",
            b"/up/%25252e%25252e/",
            b"/up/..%2fadmin",
            b"/up/..%252fadmin",
            b"/up/..;/admin",
            b"/up/..;x=y/admin",
            b"/up/..%3b/admin",
            b"/up/..\\x",
            b"/up/x\\..\\y",
            b"/up/%5c..",
            b"/up/%255c..",
            b"/up/%00",
            b"/up/x%2500",
            b"/up#frag",
            b"/up/x?y#frag",
            b"/up/%" + b"25" * 9 + b"2e",
        ],
        BAD,
    ),
    *bad_targets(
        "A5", [b"/upx", b"/up%2Fa", b"/UP/a", b"/", b"//up/x", b"/%75p/x"], Declined(404, "no-route")
    ),
    *bad_targets("A6", [b"//evil.example/x", b"//evil.example/up/x"], Declined(404, "no-route")),
    *bad_targets(
        "A6",
        [
            b"@evil.example/x",
            b"http://up@evil.example/",
            b"http://localhost@evil.example/up",
            b"http://localhost:80@evil.example/up",
            b"http://:@localhost/up",
            b"http:///up",
            b"http:/up",
            b"ftp://localhost/up",
            b"file:///up",
            b"localhost/up",
            b"up",
            b"?x",
            b"http://localhost/up#@evil.example",
            b"*",
        ],
        BAD,
    ),
    *bad_targets(
        "A6",
        [
            b"http://evil.example/up/x",
            b"https://evil.example/up/x",
            b"http://localhost.evil.example/up",
            b"http://localhost\\.evil.example/up",
            b"http://0/up",
            b"http://[::ffff:127.0.0.1]/up",
        ],
        Declined(421, "host-refused"),
    ),
    Row("A6", "another Host", request(GET, host=b"Host: evil.example"), Declined(421, "host-refused")),
]


HOSTS = [
    Row("A7", "no Host", request(GET, host=b""), BAD),
    Row("A7", "no Host but an absolute target", request(b"GET http://localhost/up/x", host=b""), BAD),
    *[
        Row("A7", f"Host again: {again.decode()}", request(GET, again), BAD)
        for again in (HOST, b"Host: evil.example", b"host: localhost", b"Host:")
    ],
    *[
        Row("A7", f"Host {value.decode('latin-1')!r}", request(GET, host=b"Host: " + value), BAD)
        for value in [
            *[
                b"local host",
                b"localhost/x",
                b"me@localhost",
                b"localhost:x",
                b"localhost:80:80",
                b"localhost, evil",
            ],
            *[
                b"http://localhost",
                b"localhost?x",
                b"localhost#x",
                b"[::1",
                b"::1",
                b"[::1]x",
                b"localhost\\",
                b"loc\xe9l",
            ],
            *[b"<localhost>", b'"localhost"', b"localhost:-1"],
        ]
    ],
    Row("A7", "an empty Host", request(GET, host=b"Host:"), Declined(421, "host-refused")),
]

LINES = [
    Row("A7", name, line + b"\r\nHost: localhost\r\n\r\n", BAD)
    for name, line in {
        "two spaces": b"GET  /up/x HTTP/1.1",
        "two spaces before the version": b"GET /up/x  HTTP/1.1",
        "a tab": b"GET\t/up/x HTTP/1.1",
        "a tab before the version": b"GET /up/x\tHTTP/1.1",
        "a form feed": b"GET /up/x\x0cHTTP/1.1",
        "a space first": b" GET /up/x HTTP/1.1",
        "a trailing space": b"GET /up/x HTTP/1.1 ",
        "a trailing CR": b"GET /up/x HTTP/1.1\r",
        "a CR first": b"\rGET /up/x HTTP/1.1",
        "an LF first": b"\nGET /up/x HTTP/1.1",
        "three empty lines first": b"\r\n\r\n\r\nGET /up/x HTTP/1.1",
        "HTTP/1.2": b"GET /up/x HTTP/1.2",
        "HTTP/1.10": b"GET /up/x HTTP/1.10",
        "HTTP/01.1": b"GET /up/x HTTP/01.1",
        "HTTP/2.0": b"GET /up/x HTTP/2.0",
        "HTTP/0.9": b"GET /up/x HTTP/0.9",
        "http/1.1": b"GET /up/x http/1.1",
        "HTTP/1,1": b"GET /up/x HTTP/1,1",
        "ICE/1.0": b"GET /up/x ICE/1.0",
        "RTSP/1.0": b"OPTIONS /up/x RTSP/1.0",
        "no version": b"GET /up/x",
        "no target": b"GET  HTTP/1.1",
        "nothing but a method": b"GET",
        "a space in the target": b"GET /up/x y HTTP/1.1",
        "a version in the target": b"GET /up/x HTTP/1.1 HTTP/1.1",
        "a byte beyond ASCII in the target": b"GET /up/\xe9 HTTP/1.1",
        "NUL in the target": b"GET /up/\x00 HTTP/1.1",
        "DEL in the target": b"GET /up/\x7f HTTP/1.1",
        "a tab in the target": b"GET /up/\ty HTTP/1.1",
        "a bare LF in the target": b"GET /up/x\nHTTP/1.1",
        "a response": b"HTTP/1.1 200 OK",
        "a bare LF as its end": b"GET /up/x HTTP/1.1\nX: 1",
        "NUL in the method": b"GE\x00T /up/x HTTP/1.1",
        "SSH": b"SSH-2.0-OpenSSH_9.2",
        "a trailing NUL": b"GET /up/x HTTP/1.1\x00",
        "a second version": b"GET /up/x HTTP/1.1,HTTP/1.1",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    }.items()
]
WITHOUT_END = [  # incomplete, but refused at once
    Row("A7", name, sent, BAD)
    for name, sent in {
        "a request with bare LF": b"GET /up/x HTTP/1.1\nHost: localhost\n\n",
        "a request with LF CR": b"GET /up/x HTTP/1.1\n\rHost: localhost\n\r\n\r",
        "a head with a bare LF at its end": b"GET /up/x HTTP/1.1\r\nHost: localhost\r\n\n",
        "a head with a bare LF before its end": b"GET /up/x HTTP/1.1\r\nHost: localhost\n\r\n",
        "TLS without an end": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "JSON": b'{"jsonrpc": "2.0"}\n',
    }.items()
]
UNFINISHED = [
    Row("A7", name, sent, Unfinished())
    for name, sent in {
        "a request with bare CR": b"GET /up/x HTTP/1.1\rHost: localhost\r\r",
        "a request of HTTP/0.9": b"GET /up/x\r\n",
        "half a head": b"GET /up/x HTTP/1.1\r\nHost: localhost\r\n",
    }.items()
]


RULES = [
    Row("A11", "TRACE", request(b"TRACE /up/x"), Refused(405, "method-refused")),
    Row(
        "A11", "TRACE with hops", request(b"TRACE /up/x", b"Max-Forwards: 0"), Refused(405, "method-refused")
    ),
    Row("A11", "CONNECT", request(b"CONNECT up:443"), Refused(405, "method-refused")),
    Row("A11", "CONNECT to a path", request(b"CONNECT /up/x"), Refused(405, "method-refused")),
    Row("A16", "a HEAD that is malformed", request(b"HEAD /up/x", b"X : 1"), BAD),
    Row("A16", "a HEAD that is too large", request(b"HEAD /up/x", b"X: " + b"x" * 33789), TOO_LARGE),
    Row("A16", "a HEAD in chunks that are broken", request(b"HEAD /up/x", CHUNKED, body=b"zz\r\n"), BAD),
    Row("A16", "a HEAD to no route", request(b"HEAD /upx"), Declined(404, "no-route")),
    Row("A11", "OPTIONS *", request(b"OPTIONS *"), Declined(200, "")),
    Row("A11", "OPTIONS without hops left", request(b"OPTIONS /up/x", b"Max-Forwards: 0"), Declined(200, "")),
    Row("A11", "odd hops", request(b"OPTIONS /up/x", b"Max-Forwards: +1"), BAD),
    Row(
        "A14",
        "WebSocket with a body",
        request(
            b"GET /ws/x",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Content-Length: 43",
            body=b"GET /up/inner HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        BAD,
    ),
    Row(
        "A14",
        "WebSocket with chunks",
        request(b"GET /ws/x", b"Connection: Upgrade", b"Upgrade: websocket", CHUNKED, body=BODY),
        BAD,
    ),
    Row(
        "A14",
        "WebSocket from a page",
        request(b"GET /ws/x", b"Connection: Upgrade", b"Upgrade: websocket", b"Origin: https://evil.example"),
        Declined(403, "browser-refused"),
    ),
    Row(
        "A17", "another expectation", request(GET, b"Expect: 200-maybe"), Declined(417, "expectation-failed")
    ),
    Row(
        "A17",
        "an expectation that ends like one",
        request(GET, b"Expect: y 100-continue"),
        Declined(417, "expectation-failed"),
    ),
    Row("A17", "no expectation", request(GET, b"Expect:"), Declined(417, "expectation-failed")),
    Row(
        "A17",
        "one expectation too many",
        request(GET, b"Expect: 100-continue, x"),
        Declined(417, "expectation-failed"),
    ),
    Row("A21", "33 KiB in a field", request(GET, b"X: " + b"x" * 33789), TOO_LARGE),
    Row("A21", "201 fields", request(GET, *[b"X: 1"] * 200), TOO_LARGE),
    Row("A21", "a head without end", b"GET /up/x HTTP/1.1\r\n" + b"X: 1\r\n" * 22000, TOO_LARGE),
    Row("A24", "our own Via", request(GET, b"Via: 1.0 fred, 1.1 @VIA@"), Declined(508, "loop")),
    *[
        Row("A29", method.decode(), request(method + b" /up/x"), Refused(501, "method-refused"))
        for method in (b"FOO", b"get", b"Get", b"GETS", b"G", b"DESCRIBE", b"X!#$%&'*+-.^_`|~9")
    ],
    Row("A29", "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused(501, "method-refused")),
]

INNER_IN_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER)
BODIES = {
    "counted": ([b"Content-Length: %d" % len(INNER)], INNER),
    "in chunks": ([CHUNKED], INNER_IN_CHUNKS),
}
WITH_A_BODY = [
    Row(number, f"{name}, {framing}", request(line, *more, *lines, host=host, body=body), Dismissed(*told))
    for framing, (lines, body) in BODIES.items()
    for number, name, line, more, host, told in [
        ("A5", "no route", b"POST /upx", [], HOST, (404, "no-route")),
        ("A6", "another Host", POST, [], b"Host: evil.example", (421, "host-refused")),
        ("A11", "OPTIONS *", b"OPTIONS *", [], HOST, (200, "")),
        ("A14", "from a page", POST, [b"Origin: https://evil.example"], HOST, (403, "browser-refused")),
        ("A17", "another expectation", POST, [b"Expect: 200-maybe"], HOST, (417, "expectation-failed")),
        ("A24", "our own Via", POST, [b"Via: 1.1 @VIA@"], HOST, (508, "loop")),
    ]
]

REFUSED = [
    *WITH_A_BODY,
    *BAD_FRAMES,
    *LLHTTP,
    *PLACES,
    *HOSTS,
    *LINES,
    *WITHOUT_END,
    *UNFINISHED,
    *RULES,
]
