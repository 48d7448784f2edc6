"""Links and cookies read for who calls through a base URL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.address import read_upstream
from proxy.http.rewrite import Mapping, rewrite

API = Mapping(read_upstream("https://api.example/v2"), b"/crm", b"http://localhost:8080", secure=False)
ROOT = Mapping(read_upstream("https://api.example:8443"), b"", b"http://127.0.0.1:9001", secure=False)
WHOLE = Mapping(read_upstream("https://api.example/v2"), b"", b"http://127.0.0.1:9001", secure=False)

LOCATIONS = [  # mapping, what the upstream says, what the caller reads
    (API, b"https://api.example/v2/x?q=1#f", b"http://localhost:8080/crm/x?q=1#f"),
    (API, b"https://API.Example:443/v2/x", b"http://localhost:8080/crm/x"),
    (API, b"https://api.example/v2", b"http://localhost:8080/crm"),
    (API, b"https://api.example/v2?q", b"http://localhost:8080/crm?q"),
    (API, b"//api.example/v2/x", b"http://localhost:8080/crm/x"),
    (API, b"/v2/x", b"/crm/x"),
    (API, b"/v2#top", b"/crm#top"),
    (API, b"x/y", b"x/y"),
    (API, b"?page=2", b"?page=2"),
    (API, b"../up", b"../up"),
    (API, b"/other", b"/other"),
    (API, b"/v2x", b"/v2x"),
    (API, b"https://api.example/other", b"https://api.example/other"),
    (API, b"http://api.example/v2/x", b"http://api.example/v2/x"),
    (API, b"https://api.example:444/v2/x", b"https://api.example:444/v2/x"),
    (API, b"https://user@api.example/v2/x", b"https://user@api.example/v2/x"),
    (API, b"https://api.example.evil/v2/x", b"https://api.example.evil/v2/x"),
    (API, b"https://evil.example/v2/x", b"https://evil.example/v2/x"),
    (API, b"https://[broken/v2", b"https://[broken/v2"),
    (API, b"mailto:a@api.example", b"mailto:a@api.example"),
    (API, b"", b""),
    (ROOT, b"https://api.example:8443/a", b"http://127.0.0.1:9001/a"),
    (ROOT, b"https://api.example:8443", b"http://127.0.0.1:9001/"),
    (ROOT, b"https://api.example/a", b"https://api.example/a"),
    (ROOT, b"/a", b"/a"),
    (WHOLE, b"/v2/x", b"/x"),
    (WHOLE, b"/v2//evil.example/x", b"http://127.0.0.1:9001//evil.example/x"),
    (WHOLE, b"/v2/\\evil.example/x", b"http://127.0.0.1:9001/\\evil.example/x"),
]


@pytest.mark.parametrize(("mapping", "said", "read"), LOCATIONS)
def test_a_link_into_the_upstream_leads_through_the_proxy(mapping, said, read):
    for name in (b"Location", b"content-location"):
        block = b"\r\nA: 1\r\n%b: %b\r\nB: /v2/x"
        assert rewrite(block % (name, said), mapping) == block % (name, read)


COOKIES = [  # mapping, what the upstream sets, what the caller gets
    (API, b"a=b", b"a=b"),
    (API, b"a=b; Domain=api.example; HttpOnly", b"a=b; HttpOnly"),
    (API, b"a=b;domain=.example", b"a=b"),
    (API, b"a=b; Path=/v2/x", b"a=b; Path=/crm/x"),
    (API, b"a=b; path=/v2", b"a=b; Path=/crm"),
    (API, b"a=b; Path=/", b"a=b; Path=/crm"),
    (API, b"a=b; Path=/other; Max-Age=5", b"a=b; Path=/crm; Max-Age=5"),
    (API, b"a=b; Secure; SameSite=Lax", b"a=b; SameSite=Lax"),
    (API, b"a=/v2; x", b"a=/v2; x"),
    (API._replace(secure=True), b"a=b; Secure", b"a=b; Secure"),
    (ROOT, b"a=b; Path=/x; Secure", b"a=b; Path=/x"),
    (ROOT, b"a=b; Path=/", b"a=b; Path=/"),
]


@pytest.mark.parametrize(("mapping", "said", "read"), COOKIES)
def test_a_cookie_comes_back_to_the_proxy(mapping, said, read):
    block = b"\r\nSet-Cookie: %b\r\nset-cookie: other=1"
    assert rewrite(block % said, mapping) == block % read


@given(st.binary(max_size=60).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"")))
def test_nothing_that_an_upstream_says_breaks_the_lines(value):
    for name in (b"Location", b"Set-Cookie"):
        rewritten = rewrite(b"\r\n%b: %b\r\nNext: 1" % (name, value), API)
        assert rewritten.count(b"\r\n") == 2
        assert rewritten.endswith(b"\r\nNext: 1")
