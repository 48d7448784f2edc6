"""Messages for property tests: valid ones, valid ones with a few bytes changed, and hostile ones."""

from __future__ import annotations

import os

from hypothesis import strategies as st

from proxy.http.body import encode_chunk
from tests.fuzz.entries import pieces

TIMES = int(os.environ.get("TIMES", "1"))  # factor on the usual number of examples

METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PROPFIND", b"QUERY"])
PATHS = st.sampled_from(
    [
        b"/up",
        b"/up/",
        b"/up?q",
        b"/up/a/b%20c?d=/../",
        b"/up//x",
        b"http://localhost/up/x",
        b"/up/.well-known/y",
    ]
)
HOSTS = st.sampled_from([b"Host: localhost", b"host: 127.0.0.1:80", b"Host:localhost:1"])
NAMES = st.sampled_from(
    [
        *(b"X", b"Accept", b"X-Long-Name", b"Foo", b"User_Agent", b"Cookie", b"Trailer", b"Close", b"Date"),
        *(
            b"Authorization",
            b"authorization_",
            b"Via",
            b"Via_",
            b"Host_",
            b"_host",
            b"Forwarded",
            b"Max-Forwards",
        ),
        *(b"X-Forwarded-For", b"x_forwarded-host", b"X-Forwarded-", b"X-Forwarded", b"-x-forwarded-y-"),
        *(b"Keep-Alive", b"TE", b"te_", b"Proxy-Connection", b"Proxy_Authorization", b"HTTP2-Settings"),
        *(
            b"Content-Length_",
            b"Content_Length",
            b"Transfer_Encoding",
            b"Content-Type",
            b"Set-Cookie",
            b"Location",
        ),
    ]
)
OPTIONS = st.sampled_from(
    [
        *(
            b"close",
            b"keep-alive",
            b"foo",
            b"Foo, X",
            b"authorization",
            b"AUTHORIZATION, host,via",
            b"x_long_name",
        ),
        *(
            b"content-length",
            b"Transfer-Encoding, te",
            b"",
            b",,",
            b" close , x",
            b"upgrade",
            b"user-agent",
            b"x;y",
        ),
        *(b"-accept-", b"trailer, cookie", b"set-cookie, location", b"digest"),
    ]
)
VALUES = st.one_of(
    st.sampled_from([b"1", b"", b"a, b", b"\xff\xe9", b"\ttab\t", b":", b"chunked", b"x" * 900, b"trailers"]),
    st.binary(max_size=12).map(lambda noise: noise.translate(None, bytes([*range(9), *range(10, 32), 127]))),
)
SPACES = st.sampled_from([b" ", b"", b"\t", b"  "])
FIELDS = st.one_of(
    st.builds(lambda *parts: b"%b:%b%b" % parts, NAMES, SPACES, VALUES),
    st.builds(
        lambda *parts: b"%b:%b%b" % parts, st.sampled_from([b"Connection", b"connection"]), SPACES, OPTIONS
    ),
)
ODD_FIELDS = st.sampled_from(  # each is refused, at least together with another framing
    [
        *(
            b"Content-Length: 3",
            b"Content-Length: +1",
            b"Content-Length: 1,1",
            b"Content-Length:",
            b" folded",
        ),
        *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity"),
        *(
            b"X : 1",
            b": 1",
            b"no colon",
            b"Host: evil",
            b"X: \x00",
            b"X: a\rb",
            b"X: a\nGET /up/smuggled HTTP/1.1",
        ),
        *(
            b"Expect: 100-continue",
            b"Expect: x",
            b"Upgrade: websocket\r\nConnection: upgrade",
            b"Upgrade: h2c",
        ),
        *(
            b"Content-Length: 00000000000000000003",
            b"Transfer-Encoding: Chunked",
            b"Transfer-Encoding:\tchunked",
        ),
    ]
)
EXTENSIONS = st.sampled_from(
    [b"", b"", b"", b";a", b";a=1", b';a="b;c"', b";", b" ", b";a\r", b";" + b"a" * 1100]
)
TRAILERS = st.lists(FIELDS, max_size=3)


def chunked(parts: list[tuple[bytes, bytes]], trailers: list[bytes]) -> bytes:
    chunks = (
        encode_chunk(part).replace(b"\r\n", extension + b"\r\n", 1) for part, extension in parts if part
    )
    zeros = b"0" * (7 * len(trailers))  # of the first size
    return zeros + b"".join(chunks) + b"\r\n".join([b"0", *trailers, b"", b""])


CHUNKED = st.builds(
    chunked,
    st.lists(st.tuples(st.binary(max_size=40), EXTENSIONS), max_size=4),
    TRAILERS,
)
PLAIN_CHUNKED = st.builds(
    chunked, st.lists(st.tuples(st.binary(max_size=90), st.just(b"")), max_size=4), TRAILERS
)


SMUGGLED = b"GET /up/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@st.composite
def framed(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """The field that frames a body, and the body."""
    match draw(st.sampled_from(["none", "none", "length", "chunked"])):
        case "length":
            body = draw(st.one_of(st.binary(max_size=120), st.just(SMUGGLED)))
            return [b"Content-Length: %d" % len(body)], body
        case "chunked":
            return [b"Transfer-Encoding: chunked"], draw(st.one_of(PLAIN_CHUNKED, CHUNKED))
        case _:
            return [], b""


@st.composite
def messages(
    draw: st.DrawFn, start: st.SearchStrategy[bytes], always: st.SearchStrategy[bytes] | None
) -> bytes:
    framing, body = draw(framed())
    lines = [*framing, *draw(st.lists(FIELDS, max_size=5))]
    lines += [draw(ODD_FIELDS)] if draw(st.integers(0, 3)) == 0 else []
    lines += [draw(always)] if always is not None else []
    return b"\r\n".join([draw(start), *draw(st.permutations(lines)), b"", b""]) + body


REQUEST_LINES = st.builds(
    lambda *parts: b"%b %b HTTP/1.%b" % parts, METHODS, PATHS, st.sampled_from([b"1", b"1", b"1", b"1", b"0"])
)
STATUS_LINES = st.builds(
    lambda *parts: b"HTTP/1.%b %b%b" % parts,
    st.sampled_from([b"1", b"1", b"1", b"0"]),
    st.sampled_from([b"200", b"200", b"200", b"404", b"204", b"304", b"100", b"103", b"101", b"302", b"599"]),
    st.sampled_from([b" OK", b" ", b"", b" \xe9", b" a  b"]),
)
REQUESTS = messages(REQUEST_LINES, HOSTS)
ANSWERS = messages(STATUS_LINES, None)

PUNCTUATION = st.sampled_from(
    [*(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b"\t", b" ", b":", b",", b";", b"0", b"\xff", b"\x0b")]
)


@st.composite
def spoiled(draw: st.DrawFn, of: st.SearchStrategy[bytes]) -> bytes:
    """A message with a few bytes flipped, removed, doubled or added, mostly at ends of lines and names."""
    data = draw(of)
    for _ in range(draw(st.integers(1, 3))):
        borders = [at for at, byte in enumerate(data) if byte in b"\r\n: ;,"] or [0]
        anywhere = st.integers(0, max(0, len(data) - 1))
        at = draw(st.one_of(st.sampled_from(borders), anywhere))
        match draw(st.sampled_from(["flip", "lose", "double", "add", "add", "swell", "end"])):
            case "flip":
                byte = (data[at] ^ draw(st.sampled_from([1, 2, 0x20, 0x80]))) if data else 0
                data = data[:at] + bytes([byte]) + data[at + 1 :]
            case "lose":
                data = data[:at] + data[at + draw(st.integers(1, 4)) :]
            case "double":
                data = data[:at] + data[at : at + draw(st.integers(1, 30))] + data[at:]
            case "add":
                data = data[:at] + draw(PUNCTUATION) + data[at:]
            case "swell":
                data = (
                    data[:at] + data[at : at + 1] * draw(st.sampled_from([20, 1100, 5000, 9000])) + data[at:]
                )
            case _:
                data = data[:at]
    return data


def any_of(of: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Valid, nearly valid, and noise."""
    return st.one_of(of, spoiled(of), spoiled(of), st.binary(max_size=200))


TARGET_PARTS = st.sampled_from(
    [
        *(
            b"/",
            b"/",
            b"/",
            b"..",
            b".",
            b"...",
            b"a",
            b"up",
            b"base",
            b"?",
            b"#",
            b";",
            b";a=1",
            b"\\",
            b"//evil.example",
        ),
        *(
            b"%2e",
            b"%2E",
            b"%252e",
            b"%25252E",
            b"%2f",
            b"%252F",
            b"%5c",
            b"%255C",
            b"%3b",
            b"%3f",
            b"%253f",
            b"%23",
        ),
        *(
            b"%00",
            b"%2500",
            b"%c0%ae",
            b"%C0%AF",
            b"%e0%80%ae",
            b"%c1%9c",
            b"%25c0%25ae",
            b"%c0%80",
            b"%f0%80%80%ae",
        ),
        *(
            b"%",
            b"%2",
            b"%25",
            b"%zz",
            b"%20",
            b"%09",
            b"%0a",
            b"%0d",
            b"%ff",
            b"@",
            b":",
            b"..%3b",
            b".%2e",
            b"~",
        ),
    ]
)
TARGETS = st.builds(
    lambda begin, parts: begin + b"".join(parts),
    st.sampled_from([b"/up", b"/up/", b"/up/a/", b"/", b"", b"http://localhost/up", b"HTTPS://up", b"*"]),
    st.lists(TARGET_PARTS, max_size=10),
)
LINK_PARTS = st.sampled_from(
    [
        *(
            b"https:",
            b"http:",
            b"//",
            b"/",
            b"/v2",
            b"/v2/",
            b"api.example",
            b"API.example",
            b":443",
            b":8443",
            b":",
        ),
        *(
            b"@",
            b"..",
            b".",
            b"\\",
            b"?",
            b"#",
            b"x",
            b" ",
            b"\t",
            b"evil.example",
            b"[",
            b"]",
            b"%2f",
            b"\xff",
            b"localhost",
        ),
        *(
            b";",
            b"=",
            b"Path",
            b"Domain=",
            b"; Secure",
            b"; path=/v2",
            b"a=b",
            b"; Path=/",
            b'"',
            b"; Path=/v2//x",
        ),
    ]
)
LINKS = st.one_of(
    st.lists(LINK_PARTS, max_size=8).map(b"".join),
    st.lists(LINK_PARTS, max_size=5).map(lambda parts: b"https://api.example/v2" + b"".join(parts)),
    st.lists(LINK_PARTS, max_size=5).map(lambda parts: b"/v2" + b"".join(parts)),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """A caller's bytes on one connection, in pieces: message by message, or split anywhere."""
    said = draw(st.lists(st.one_of(REQUESTS, REQUESTS, any_of(REQUESTS)), min_size=1, max_size=5))
    match draw(st.sampled_from(["whole", "head and body", "anywhere"])):
        case "whole":
            return said
        case "head and body":
            heads = (message.partition(b"\r\n\r\n") for message in said)
            return [part for head, end, body in heads for part in (head + end, body)]
    return pieces(b"".join(said), draw(st.lists(st.integers(0, 4000), max_size=6)))
