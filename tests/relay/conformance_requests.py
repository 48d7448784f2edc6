"""Valid requests, and the bytes that arrive upstream: one row for each example of a requirement.

The framing of messages is in conformance_frames.py, requests to refuse are in conformance_refusals.py.
"""

from __future__ import annotations

from .conformance_frames import FRAMES
from .conformance_rows import (
    GET,
    GOT,
    INNER,
    POST,
    POSTED,
    ZIPPED,
    Passes,
    Row,
    arrives,
    chunks,
    cut,
    kept,
    request,
    target,
)

DROPPED = (b"Foo: 1", b"Authorization: theirs", b"X-Forwarded-For: 1")
BETWEEN_TWO_HOPS = [  # A3
    cut(
        "A3",
        "nominated fields and fields of ours",
        b"Connection: close, authorization, x-forwarded-for, foo",
        *DROPPED,
        keeps=False,
    ),
    cut("A3", "nominated fields, kept alive", b"Connection: authorization, x-forwarded-for, foo", *DROPPED),
    cut(
        "A3",
        "several lines in any case",
        b"Connection: foo",
        b"X: 1",
        b"CONNECTION: ,bAr ,,",
        b"Foo: 1",
        b"BAR: 2",
        left=[b"X: 1"],
    ),
    cut(  # TestReverseProxyStripHeadersPresentInConnection
        "A3",
        "fields nominated with Upgrade",
        b"Connection: Upgrade, X-Fake-Connection-Token",
        b"Upgrade: something",
        b"Connection: X-Some-Conn-Header",
        b"X-Some-Conn-Header: should be deleted",
        b"X-Fake-Connection-Token: should be deleted",
        b"Accept: */*",
        left=[b"Accept: */*"],
    ),
    cut(  # ...StripEmptyConnection
        "A3",
        "an empty Connection first",
        b"Connection:",
        b"Connection: X-Some-Conn-Header",
        b"X-Some-Conn-Header: should be deleted",
    ),
    cut("A3", "nominated twins", b"Connection: x_foo", b"X-Foo: 1", b"X_Foo: 2"),
    cut("A3", "close beside keep-alive", b"Connection: keep-alive", b"Connection: close", keeps=False),
    cut("A3", "close in a list", b"Connection: keep-alive,\tClose ,x", keeps=False),
    cut("A3", "a token that is almost close", b"Connection: closed, x-close"),
    cut("A3", "close between quotes", b'Connection: "close"'),
    cut("A3", "Keep-Alive", b"Keep-Alive: timeout=5"),
    cut("A3", "Proxy-Connection", b"Proxy-Connection: keep-alive"),
    cut("A3", "TE", b"TE: gzip"),
    cut("A3", "Proxy-Authorization", b"Proxy-Authorization: Basic x"),
    cut("A3", "Proxy-Authenticate", b"Proxy-Authenticate: Basic"),
    cut("A3", "nominated Host and Via", b"Connection: host, via, Authorization", b"Via: 1.0 fred"),
    Row(
        "A3",
        "a nominated length",
        request(POST, b"Connection: content-length", b"Content-Length: 3", body=b"abc"),
        Passes(arrives(POSTED, b"Content-Length: 3", body=b"abc")),
    ),
    chunks(
        "A3",
        "a nominated coding",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"Connection: transfer-encoding",
    ),
    chunks(
        "A3",
        "trailers for one hop",
        b"3\r\nabc\r\n0\r\nKeep-Alive: 1\r\nDigest: x\r\nFoo: 1\r\nConnection: x\r\nTE: trailers\r\n\r\n",
        b"3\r\nabc\r\n0\r\nDigest: x\r\n\r\n",
        b"Connection: foo",
    ),
    chunks("A3", "a coding in trailers", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"),
    chunks("A3", "a request in trailers", b"0\r\nX: " + INNER, b"0\r\nX: GET /up/inner HTTP/1.1\r\n\r\n"),
    chunks("A3", "a length in trailers", b"0\r\nContent-Length: 5\r\nD: 1\r\n\r\n", b"0\r\nD: 1\r\n\r\n"),
    chunks(
        "A3",
        "trailers that would be fields of the head",
        b"0\r\nHost: evil\r\nVia: x\r\nForwarded: for=me\r\nTransfer_Encoding: chunked\r\nD: 1\r\n\r\n",
        b"0\r\nD: 1\r\n\r\n",
    ),
]

CREDENTIALS = [  # A4
    cut("A4", "authorization", b"authorization: Bearer theirs"),
    cut("A4", "twice", b"Authorization: Bearer theirs", b"X: 1", b"AUTHORIZATION: Basic x", left=[b"X: 1"]),
    cut("A4", "with an underscore", b"Authorization_: theirs", b"_Authorization: theirs"),
    cut("A4", "with a hyphen", b"Authorization-: theirs", b"-Authorization: theirs"),
    cut("A4", "X_Forwarded_For", b"X_Forwarded_For: 1", b"x-forwarded_proto: https"),
    cut("A4", "Proxy_Authorization", b"Proxy_Authorization: x"),
    cut("A4", "an empty one", b"Authorization:"),
    chunks("A4", "in trailers", b"0\r\nAuthorization: theirs\r\nauthorization_: x\r\n\r\n", b"0\r\n\r\n"),
    kept(
        "A4",
        "names that only look like it",
        b"X-Authorization: mine",
        b"Authorizations: mine",
        b"Cookie: a=b",
    ),
]

TARGETS = [  # A5, A6: those that pass
    target("A5", b"/up", b"/base"),
    target("A5", b"/up/", b"/base/"),
    target("A5", b"/up//evil.com/", b"/base//evil.com/"),
    target("A5", b"/up?x=/../", b"/base?x=/../"),
    target("A5", b"/up/x?y=%2e%2e/&z=%00", b"/base/x?y=%2e%2e/&z=%00"),
    target("A5", b"/up/%41%2Fb%20c/;v=1", b"/base/%41%2Fb%20c/;v=1"),
    target("A5", b"/up/...", b"/base/..."),
    target("A5", b"/up/x..y/.z", b"/base/x..y/.z"),
    target("A5", b"/up/%zz", b"/base/%zz"),
    target("A6", b"http://localhost/up/x", b"/base/x"),
    target("A6", b"HTTP://LOCALHOST:99/up/x?y", b"/base/x?y"),
    target("A6", b"https://localhost/up/x", b"/base/x"),
    target("A6", b"http://localhost/up/http://evil/", b"/base/http://evil/"),
    target("A6", b"http://127.0.0.1/up/x", b"/base/x", host=b"Host: evil.example"),
    target("A6", b"/up/@evil.example/", b"/base/@evil.example/"),
    target("A6", b"/up/x?http://evil.example/", b"/base/x?http://evil.example/"),
    cut("A6", "X-Forwarded-Host", b"X-Forwarded-Host: evil.example", b"Forwarded: host=evil.example"),
    cut("A7", "twins of framing", b"Content_Length: 5", b"_content-length: 5", b"Transfer_Encoding: chunked"),
    cut("A6", "Host_", b"Host_: evil.example", b"_host: evil.example"),
    kept("A6", "X-Host", b"X-Host: evil.example", b"X-Original-URL: /admin", b"X-Rewrite-URL: /admin"),
]


AS_THEY_CAME = [  # A12, A21, A23, A24
    Row(
        "A12",
        "a compressed body",
        request(POST, b"Content-Encoding: gzip", b"Content-Length: 25", body=ZIPPED),
        Passes(arrives(POSTED, b"Content-Encoding: gzip", b"Content-Length: 25", body=ZIPPED)),
    ),
    Row(
        "A12",
        "a body that does not match its coding",
        request(POST, b"Content-Encoding: br", b"Content-Length: 3", body=b"abc"),
        Passes(arrives(POSTED, b"Content-Encoding: br", b"Content-Length: 3", body=b"abc")),
    ),
    chunks(
        "A12",
        "compressed chunks",
        b"19\r\n" + ZIPPED + b"\r\n0\r\n\r\n",
        b"19\r\n" + ZIPPED + b"\r\n0\r\n\r\n",
    ),
    Row("A12", "no field but Host", request(GET), Passes(arrives(GOT))),
    kept(
        "A12", "cookies and ranges", b"Cookie: a=1", b"cookie: b=2", b"Range: bytes=0-", b"If-None-Match: *"
    ),
    kept("A21", "8 KiB in a field", b"X: " + b"x" * 8189),
    kept("A21", "16 KiB in a field", b"X: " + b"x" * 16381),
    kept("A21", "200 fields", *[b"X: 1"] * 199),
    kept("A23", "values beyond ASCII", b"X: \xff\xe9", b"Y: \xc3\xa9", b"Z: a\tb"),
    kept("A24", "a Via of others", b"Via: 1.0 fred, 1.1 p.example", b"via: 2 x"),
    cut(
        "A24",
        "all of X-Forwarded",
        b"X-Forwarded-For: 10.0.0.1",
        b"X-Forwarded-User: me",
        b"Forwarded: for=me",
    ),
]


METHOD_NAMES = (  # those that llhttp knows for HTTP
    b"GET HEAD POST PUT DELETE OPTIONS PATCH PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK ACL SEARCH BIND "
    b"REBIND UNBIND REPORT MKACTIVITY CHECKOUT MERGE MKCALENDAR LINK UNLINK PURGE QUERY NOTIFY SUBSCRIBE "
    b"UNSUBSCRIBE M-SEARCH SOURCE"
).split()
METHODS = [  # A11, A29
    Row("A11", "OPTIONS", request(b"OPTIONS /up/x"), Passes(arrives(b"OPTIONS /base/x"))),
    Row(
        "A11",
        "OPTIONS with hops left",
        request(b"OPTIONS /up/x", b"max-forwards: 10"),
        Passes(arrives(b"OPTIONS /base/x", b"Max-Forwards: 9")),
    ),
    kept("A11", "a GET with hops", b"Max-Forwards: 0"),
    *[
        Row("A29", name.decode(), request(name + b" /up/x"), Passes(arrives(name + b" /base/x")))
        for name in METHOD_NAMES
    ],
]

H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
UPGRADES = [  # A14, A17, A27
    cut("A14", "h2c", *H2C),
    Row(
        "A14",
        "h2c with a body",
        request(POST, *H2C, b"Content-Length: 5", body=b"hello"),
        Passes(arrives(POSTED, b"Content-Length: 5", body=b"hello")),
    ),
    cut("A14", "websocket where it is not permitted", b"Connection: Upgrade", b"Upgrade: websocket"),
    *[
        Row(
            "A14",
            f"a POST that asks for {what.decode()} with a request in its body, to {to.decode()}",
            request(
                b"POST " + to, b"Connection: Upgrade", b"Upgrade: " + what, b"Content-Length: 43", body=INNER
            ),
            Passes(arrives(POSTED, b"Content-Length: 43", body=INNER)),
        )
        for what in (b"websocket", b"h2c", b"websocket, h2c")
        for to in (b"/up/x", b"/ws/x")
    ],
    Row(
        "A14",
        "websocket where it is permitted, and declined",
        request(b"GET /ws/x", b"Connection: Upgrade", b"Upgrade: WebSocket", b"Sec-WebSocket-Key: x"),
        Passes(arrives(GOT, b"Sec-WebSocket-Key: x", b"Connection: Upgrade", b"Upgrade: websocket")),
    ),
    Row("A14", "h2c to a WebSocket route", request(b"GET /ws/x", *H2C), Passes(arrives(GOT))),
    Row(
        "A17",
        "Expect",
        request(POST, b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"),
        Passes(arrives(POSTED, b"Expect: 100-continue", b"Content-Length: 3", body=b"abc")),
    ),
    kept("A17", "Expect without a body", b"Expect: 100-Continue"),
    chunks(
        "A27",
        "trailers",
        b"3\r\nabc\r\n0\r\nDigest: x\r\nX: \xff\r\n\r\n",
        b"3\r\nabc\r\n0\r\nDigest: x\r\nX: \xff\r\n\r\n",
    ),
    cut("A27", "TE: trailers", b"TE: trailers", b"Trailer: Digest", left=[b"Trailer: Digest"]),
]

PASSING = [
    *FRAMES,
    *BETWEEN_TWO_HOPS,
    *CREDENTIALS,
    *TARGETS,
    *AS_THEY_CAME,
    *METHODS,
    *UPGRADES,
]
