"""The fields with links and cookies: found, rewritten or dropped, with all other bytes unchanged."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.address import read_upstream
from proxy.http.malformed import MalformedRequest
from proxy.http.mapping import Mapping
from proxy.http.rewrite import request_fields, response_fields
from proxy.routes import is_prefix

TIMES = int(os.environ.get("TIMES", "1"))
API = Mapping(
    upstream=read_upstream("https://api.example/v2"),
    prefix=b"/crm",
    strip=True,
    path=b"/crm/a/b",
    origin=b"http://localhost:8080",
    secure=False,
    is_route=lambda path: is_prefix(b"/crm", path),
    is_own=lambda host, port: (host, port) == (b"localhost", 8080),
)
OWN = b"http://localhost:8080/b/steal"
RESPONSES = [  # field line, the caller's line, whether a link was dropped
    (b"Location: /v2/x", b"Location: /crm/x", False),
    (b"content-location:/v2/x ", b"content-location:/crm/x", False),
    (b"Location: " + OWN, None, True),
    (b"Location:", b"Location:", False),
    (b"X-Location: /v2/x", b"X-Location: /v2/x", False),
    (b"Set-Cookie: a=b; Path=/v2", b"Set-Cookie: a=b; Path=/crm", False),
    (b"Set-Cookie: a=b; Path=/other", None, False),
    (b"Set-Cookie2: a=b; Version=0; Path=/", None, False),
    (b"Link: </v2/x?page=2>; rel=next", b"Link: </crm/x?page=2>; rel=next", False),
    (b'Link: <x>; rel="next", <y>; rel=last', b'Link: <x>; rel="next", <y>; rel=last', False),
    (
        b"Link: <https://api.example/v2/x?a=1,2>; rel=\"next\" , </v2/y>;rel=last;title*=UTF-8''a,</z>",
        b"Link: <http://localhost:8080/crm/x?a=1,2>; rel=\"next\" , </crm/y>;rel=last;title*=UTF-8''a,%b"
        % b"<https://api.example/z>",
        False,
    ),
    (b'Link: </v2/x>; title="a, b; \\"c\\""; rel=x', b'Link: </crm/x>; title="a, b; \\"c\\""; rel=x', False),
    (b'Link: </v2/x>; title="a > b, c"', b'Link: </crm/x>; title="a > b, c"', False),
    (b'Link: </v2/x>; anchor="/v2/y"', b'Link: </crm/x>; anchor="/v2/y"', False),
    (b"Link: <" + OWN + b">; rel=a, </v2/x>; rel=b", b"Link: </crm/x>; rel=b", True),
    (b"Link: </v2/x>; rel=b , <" + OWN + b">", b"Link: </crm/x>; rel=b ", True),
    (b"Link: <" + OWN + b">; rel=a", None, True),
    (b"Link: , ,</v2/x>,", b"Link: </crm/x>", False),
    (b"Link: ", None, False),
    (b"Link: /b/steal; rel=next", None, True),  # lenient parsers take it for a link
    (b'Link: <x>; title="open', None, True),
    (b'Link: <x>; title=", </b/steal>; rel=next; "', None, True),
    (b'Link: <x>; title="/../../b/steal>"', None, True),
    (b"Refresh: 5", b"Refresh: 5", False),
    (b"Refresh: 5; url=/v2/x", b"Refresh: 5; url=/crm/x", False),
    (b"Refresh: 0;URL='https://api.example/v2/x' ;z", b"Refresh: 0;url=http://localhost:8080/crm/x", False),
    (b'Refresh: 1.5, url = "/b"', b"Refresh: 1.5, url=https://api.example/b", False),
    (b"Refresh: 5 /b", b"Refresh: 5 url=https://api.example/b", False),
    (b"Refresh: 5; url=x", b"Refresh: 5; url=x", False),
    (b"Refresh: 5; url=" + OWN, None, True),
    (b"Refresh: url=/b", None, True),
]


@pytest.mark.parametrize(("line", "read", "dropped"), RESPONSES)
def test_a_field_of_a_response(line, read, dropped):
    around = b"\r\nA: /v2/x%b\r\nB: <" + OWN + b">"
    expected = around % (b"\r\n" + read if read is not None else b""), dropped
    assert response_fields(around % (b"\r\n" + line), API) == expected


REQUESTS = [  # field line, the upstream's line; None: refused
    (b"Destination: http://localhost:8080/crm/b ", b"Destination: https://api.example/v2/b"),
    (b"destination:/crm/b", b"destination:/v2/b"),
    (b"Destination: /b", None),
    (b'If: (<urn:uuid:1> ["a)b"]) (Not <DAV:no-lock>)', b'If: (<urn:uuid:1> ["a)b"]) (Not <DAV:no-lock>)'),
    (
        b'If: <http://localhost:8080/crm/a>(<urn:x:(1)>) </crm/b> ([W/"x<y>"])',
        b'If: <https://api.example/v2/a>(<urn:x:(1)>) </v2/b> ([W/"x<y>"])',
    ),
    (
        b"If: (<http://localhost:8080/b>)",
        b"If: (<http://localhost:8080/b>)",
    ),  # a state token, although it looks like a URL
    (b"If: <http://localhost:8080/b> (<urn:x>)", None),
    (b"If: <http://other.example/b> (<urn:x>)", b"If: <http://other.example/b> (<urn:x>)"),
    (b"If: nonsense <", b"If: nonsense <"),
    (b"If-Match: </crm/a>", b"If-Match: </crm/a>"),
]


@pytest.mark.parametrize(("line", "sent"), REQUESTS)
def test_a_field_of_a_request(line, sent):
    block = b"\r\nA: /crm/x\r\n%b\r\nB: 1"
    if sent is None:
        with pytest.raises(MalformedRequest):
            request_fields(block % line, API)
    else:
        assert request_fields(block % line, API) == block % sent


VALUES = st.one_of(
    st.binary(max_size=60).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"")),
    st.lists(
        st.sampled_from(
            [b"<", b">", b'"', b",", b";", b"\\", b"/v2", b"..", b"(", b")", b"[", b"]", b"5", b"url=", b" "]
        ),
        max_size=14,
    ).map(b"".join),
)


@settings(max_examples=300 * TIMES, deadline=None)
@given(VALUES)
def test_no_value_breaks_the_lines(value):
    for name in (b"Location", b"Set-Cookie", b"Link", b"Refresh", b"Set-Cookie2"):
        rewritten, _ = response_fields(b"\r\n%b: %b\r\nNext: 1" % (name, value), API)
        assert rewritten.count(b"\r\n") in {1, 2}
        assert rewritten.endswith(b"\r\nNext: 1")
    for name in (b"Destination", b"If"):
        try:
            sent = request_fields(b"\r\n%b: %b\r\nNext: 1" % (name, value), API)
        except MalformedRequest:
            continue
        assert sent.count(b"\r\n") == 2
        assert sent.endswith(b"\r\nNext: 1")


SLOW = [  # a long field that almost matches a pattern, in ways that make patterns backtrack
    *(b"Link: <x>" + b"; a" * 10_000 + b"<", b'Link: <x>; a="' + b"\\" * 30_001, b"Link: " + b"<" * 30_000),
    *(
        b"Link: " + b"<x>," * 8_000 + b"<",
        b'Link: <x>; a="' + b", <y>" * 6_000 + b'"',
        b"Refresh: " + b"1" * 30_000,
    ),
    *(b"Refresh: 1" + b" " * 30_000, b"Location: " + b"/.." * 10_000, b"Location: " + b"%2e" * 10_000),
    *(b"Set-Cookie: a=b" + b"; Path=/" * 4_000, b"Refresh: 1" + b" ;" * 15_000),
]
SLOW_REQUESTS = [
    *(
        b"If: (" + b"<a>" * 10_000,
        b"If: ([" + b'"' * 30_001,
        b"If: " + b"(" * 30_000,
        b"If: <" + b"a" * 30_000,
    ),
    *(b"If: " + b"()" * 15_000 + b"<", b"Destination: /crm/" + b"../" * 10_000),
]


@pytest.mark.parametrize("number", range(len(SLOW) + len(SLOW_REQUESTS)))
def test_no_field_makes_a_pattern_backtrack_endlessly(number):
    line = b"\r\n" + [*SLOW, *SLOW_REQUESTS][number]
    if number < len(SLOW):
        response_fields(line, API)
    else:
        try:
            request_fields(line, API)
        except MalformedRequest:
            return  # reaching this line is the test
