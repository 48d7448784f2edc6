"""Ambiguous framing and fields, which two parsers could read differently: the proxy must refuse them.

After each of them the suite sends another request, which must not be read as one.
"""

from __future__ import annotations

from .conformance_rows import HOST, POST, Refused, Row, request

BAD = Refused(400, "bad-request")

TOO_LARGE = Refused(431, "header-too-large")

BODY = b"3\r\nabc\r\n0\r\n\r\n"

CHUNKED = b"Transfer-Encoding: chunked"


def bad_lines(number, names_and_lines, fate=BAD, line=POST, body=b""):
    return [
        Row(number, name, request(line, *lines, body=body), fate) for name, lines in names_and_lines.items()
    ]


FRAMED_TWICE = bad_lines(
    "A7",
    {
        "CL and TE": [b"Content-Length: 13", CHUNKED],
        "TE and CL": [CHUNKED, b"Content-Length: 13"],
        "TE and CL of nothing": [CHUNKED, b"Content-Length: 0"],
        "CL twice": [b"Content-Length: 13", b"Content-Length: 13"],
        "CL twice and different": [b"Content-Length: 13", b"Content-Length: 0"],
        "CL twice in other case": [b"content-length: 13", b"CONTENT-LENGTH: 0"],
        "TE twice": [CHUNKED, CHUNKED],
        "TE twice, one identity": [b"Transfer-Encoding: identity", CHUNKED],
        "TE twice, one unknown": [CHUNKED, b"Transfer-encoding: cow"],
        "TE twice, an unknown one first": [b"Transfer-Encoding: x", CHUNKED],
        "TE twice, one empty": [CHUNKED, b"Transfer-Encoding:"],
        "CL and an empty one": [b"Content-Length: 13", b"Content-Length:"],
        "CL twice, one with space before colon": [b"Content-Length: 13", b"Content-Length : 0"],
        "CL twice, one after space": [b"Content-Length: 13", b" Content-Length: 0"],
        "TE after a bare LF": [b"X: 1\nTransfer-Encoding: chunked"],
        "TE after a bare CR": [b"X: 1\rTransfer-Encoding: chunked"],
        "CL after a bare LF": [CHUNKED, b"X: 1\nContent-Length: 13"],
        "CL in a folded line": [CHUNKED, b"X: 1\r\n Content-Length: 13"],
    },
    body=BODY,
)

LENGTHS = [
    Row("A7", f"length {value!r}", request(POST, b"Content-Length: " + value, body=b"abcde"), BAD)
    for value in [
        *[
            b"+5",
            b"-1",
            b"0x5",
            b"1_0",
            b"5,5",
            b"5, 5",
            b"5 5",
            b"",
            b"5;",
            b"5.0",
            b"5e0",
            b"\xd9\xa5",
            b'"5"',
        ],
        *[b"5\x0b", b"\x0c5", b"5\x00", b"5\x85", b"\xa05", b"five", b"9" * 19, b"18446744073709551616"],
        *[b"18446744073709551621", b"0" * 30 + b"5", b"5\r\n 5", b"\r\n 5", b"-0", b"+0", b"0_0"],
    ]
]

CODINGS = [
    Row("A7", f"coding {value!r}", request(POST, b"Transfer-Encoding:" + value, body=BODY), BAD)
    for value in [
        *[
            b" gzip, chunked",
            b" chunked, chunked",
            b" chunked, gzip",
            b" identity",
            b" xchunked",
            b" chunkedx",
        ],
        *[
            b" chunked;q=1",
            b' "chunked"',
            b" chunked\x0b",
            b" \x0bchunked",
            b" \x0cchunked",
            b" chunked,",
            b" ,chunked",
        ],
        *[
            b"",
            b" ",
            b" chunked\x00",
            b" chun ked",
            b" chunked\x85",
            b" \xa0chunked",
            b"\r\n chunked",
            b" chunked\r\n ",
        ],
        *[
            b" cow",
            b" chun\xe2\x84\xaaed",  # the Kelvin sign, whose lower case is k
            b" chunked\xc2\xa0",
            b" chunked chunked",
            b" chunked / chunked",
            b" \xffchunked",
            b" chunked, identity",
            b" identity, chunked",
            b" 'chunked'",
            b" chunk\xc4\xb0d",
            b" \xef\xbb\xbfchunked",
        ],
    ]
]

OLD = [
    Row(
        "A7",
        "TE on HTTP/1.0",
        b"POST /up/x HTTP/1.0\r\n" + HOST + b"\r\n" + CHUNKED + b"\r\n\r\n" + BODY,
        BAD,
    ),
    Row(
        "A7",
        "TE on HTTP/1.0 kept alive",
        b"POST /up/x HTTP/1.0\r\nConnection: keep-alive\r\n" + CHUNKED + b"\r\n\r\n" + BODY,
        BAD,
    ),
]

FIELDS = bad_lines(
    "A7",
    {
        "a folded line": [b"X: 1\r\n folded"],
        "a line folded by a tab": [b"X: 1\r\n\tfolded"],
        "an empty folded line": [b"X: 1", b" "],
        "a bare CR in a value": [b"X: 1\r2"],
        "a bare CR at the end": [b"X: 1\r"],
        "a bare CR in a name": [b"X\rY: 1"],
        "a bare LF in a value": [b"X: 1\n2"],
        "a bare LF for a line's end": [b"X: 1\nY: 2"],
        "a bare LF first": [b"\nX: 1"],
        "NUL in a value": [b"X: 1\x002"],
        "NUL in a name": [b"X\x00: 1"],
        "a control in a value": [b"X: \x01"],
        "an escape in a value": [b"X: \x1b"],
        "DEL in a value": [b"X: \x7f"],
        "space before colon": [b"X : 1"],
        "tab before colon": [b"X\t: 1"],
        "space before the colon of a length": [b"Content-Length : 13"],
        "space before the colon of a coding": [b"Transfer-Encoding : chunked"],
        "space before a name": [b"X: 1", b" Y: 2"],
        "NUL before the colon of a length": [b"Content-Length\x00: 13"],
        "LF before the colon of a coding": [b"Transfer-Encoding\n : chunked"],
        "LF after the colon of a coding": [b"Transfer-Encoding:\n chunked"],
        "CR after the colon of a coding": [b"Transfer-Encoding:\r chunked"],
        "no name": [b": 1"],
        "no colon": [b"X"],
        "no colon after a coding": [b"Transfer-Encoding", b": chunked"],
        "a space in a name": [b"X Y: 1"],
        "a bracket in a name": [b"X(: 1"],
        "an at sign in a name": [b"X@: 1"],
        "a byte beyond ASCII in a name": [b"X\xe9: 1"],
        "a soft hyphen in a coding's name": [b"Transfer\xadEncoding: chunked"],
    },
    body=BODY,
)

FIRST_FIELD = [
    Row("A7", "space before the first field", b"GET /up/x HTTP/1.1\r\n Host: localhost\r\n\r\n", BAD),
    Row("A7", "a folded request line", b"GET /up/x HTTP/1.1\r\n X: 1\r\nHost: localhost\r\n\r\n", BAD),
]

BAD_CHUNKS = [
    Row("A7", name, request(POST, CHUNKED, body=body), BAD)
    for name, body in {
        "a size that is no number": b"zz\r\nabc\r\n0\r\n\r\n",
        "a size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
        "a size with +": b"+3\r\nabc\r\n0\r\n\r\n",
        "a size with -": b"-3\r\nabc\r\n0\r\n\r\n",
        "a size with _": b"0_3\r\nabc\r\n0\r\n\r\n",
        "a size after a space": b" 3\r\nabc\r\n0\r\n\r\n",
        "a size before a space": b"3 \r\nabc\r\n0\r\n\r\n",
        "a size before a tab": b"3\t;x\r\nabc\r\n0\r\n\r\n",
        "a size before junk": b"3x\r\nabc\r\n0\r\n\r\n",
        "a size before NUL": b"3\x00\r\nabc\r\n0\r\n\r\n",
        "no size": b"\r\nabc\r\n0\r\n\r\n",
        "a size of 64 bits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
        "a size of all bits": b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "a size of 32 bits and more, in zeros": b"0" * 30 + b"3\r\nabc\r\n0\r\n\r\n",
        "a bare LF after a size": b"3\nabc\r\n0\r\n\r\n",
        "a bare CR after a size": b"3\rabc\r\n0\r\n\r\n",
        "two CR after a size": b"3\r\r\nabc\r\n0\r\n\r\n",
        "LF in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
        "LF in a quoted extension": b'3;a="\n"\r\nabc\r\n0\r\n\r\n',
        "CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
        "NUL in an extension": b"3;a\x00\r\nabc\r\n0\r\n\r\n",
        "an extension that ends in LF": b"3;\nabc\r\n0\r\n\r\n",
        "an extension without a name": b"3;\r\nabc\r\n0\r\n\r\n",
        "an extension that is not closed": b'3;a="b\r\nabc\r\n0\r\n\r\n',
        "an extension with a space": b"3; a\r\nabc\r\n0\r\n\r\n",
        "CRLF in a quoted extension": b'3;a="\r\nabc"\r\n0\r\n\r\n',
        "an extension that ends in an escape": b'3;a="\\\r\nabc\r\n0\r\n\r\n',
        "an extension in place of a size": b";a\r\nabc\r\n0\r\n\r\n",
        "an extension after a space": b"3 ;a\r\nabc\r\n0\r\n\r\n",
        "an extension with a space before its value": b"3;a= b\r\nabc\r\n0\r\n\r\n",
        "an extension beyond ASCII": b"3;\xff\r\nabc\r\n0\r\n\r\n",
        "a request for a size": b"GET /up/inner HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a size in other digits": b"\xd9\xa3\r\nabc\r\n0\r\n\r\n",
        "a bare LF before a size": b"\n3\r\nabc\r\n0\r\n\r\n",
        "a size with a fraction": b"3.0\r\nabc\r\n0\r\n\r\n",
        "a size with a sum": b"1+2\r\nabc\r\n0\r\n\r\n",
        "an oversized extension": b"3;" + b"a" * 2000 + b"\r\nabc\r\n0\r\n\r\n",
        "a chunk longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
        "a chunk shorter than its size": b"3\r\nab\r\n0\r\n\r\n",
        "a bare LF after a chunk": b"3\r\nabc\n0\r\n\r\n",
        "a bare CR after a chunk": b"3\r\nabc\r0\r\n\r\n",
        "junk after a chunk": b"3\r\nabcXX0\r\n\r\n",
        "a bare LF after the last size": b"0\n\r\n",
        "a last chunk of LF": b"0\r\nX: 1\n\r\n\r\n",
        "a folded trailer": b"0\r\nX: 1\r\n folded\r\n\r\n",
        "a trailer with space before colon": b"0\r\nX : 1\r\n\r\n",
        "a trailer without colon": b"0\r\nX\r\n\r\n",
        "a trailer with NUL": b"0\r\nX: \x00\r\n\r\n",
        "a trailer with a bare CR": b"0\r\nX: 1\rY: 2\r\n\r\n",
        "trailers framed twice": b"0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "trailers too long": b"0\r\n" + b"X: 1\r\n" * 3000 + b"\r\n",
    }.items()
]

BAD_HEADS = [*FRAMED_TWICE, *LENGTHS, *CODINGS, *FIELDS]
BAD_FRAMES = [*BAD_HEADS, *OLD, *FIRST_FIELD, *BAD_CHUNKS]
