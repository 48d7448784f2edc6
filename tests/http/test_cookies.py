"""Cookies stay in their route; the admin pages' cookie is forwarded in neither direction."""

import os
import urllib.request
from email.message import Message
from http.cookiejar import CookieJar, DefaultCookiePolicy

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.http.cookies import BROWSER_COOKIE, SESSION_COOKIE, CookieScope, limit, without_admin
from proxy.routes import is_prefix

TIMES = int(os.environ.get("TIMES", "1"))
ADMIN = BROWSER_COOKIE.encode()
SESSION = SESSION_COOKIE.encode()


def scope(home=b"/v2", prefix=b"/crm", path=None, *, secure=False):
    return CookieScope(home, prefix, path or prefix + b"/x/y", secure, lambda found: is_prefix(prefix, found))


API = scope()
BARE = scope(home=b"")
ROOT = scope(home=b"", prefix=b"")
WHOLE = scope(prefix=b"")
KEPT = scope(home=b"/v2/crm")  # strip_path = false: the prefix is a part of the upstream's path
NESTED = scope(home=b"")._replace(
    is_route=lambda found: is_prefix(b"/crm", found) and not is_prefix(b"/crm/b", found)
)
COOKIES = [  # scope, the upstream's Set-Cookie, the caller's; None: dropped
    (API, b"a=b", b"a=b"),
    (API, b"a=b; Domain=api.example; HttpOnly", b"a=b; HttpOnly"),
    (API, b"a=b;domain=.example", b"a=b"),
    (API, b"a=b; Path=/v2/x", b"a=b; Path=/crm/x"),
    (API, b"a=b; path=/v2", b"a=b; Path=/crm"),
    (API, b"a=b; path=/v2/", b"a=b; Path=/crm/"),
    (API, b"a=b; Path=/", b"a=b; Path=/crm"),
    (API, b"a=b; Path=/other; Max-Age=5", None),
    (API, b"a=b; Path=/v2x", None),
    (API, b"a=b; Path=/v", None),
    (API, b"a=b; Path=/v2/../b", b"a=b; Path=/crm/../b"),  # literal: no request has such a path
    (API, b"a=b; Path=x; Max-Age=5", b"a=b; Max-Age=5"),
    (API, b"a=b; Path", b"a=b"),
    (API, b"a=b; Path=/other; Path=/v2/x", b"a=b; Path=/crm/x"),
    (API, b"a=b; Path=/v2/x; Path=/other", None),
    (API, b"a=b; Path=/v2; Path=", b"a=b"),
    (API, b'a=b; Path="/b"', b"a=b"),
    (API, b"a=b; \xa0Path=/b", None),
    (API, b"a=b; Secure; SameSite=Lax", b"a=b; SameSite=Lax"),
    (API._replace(secure=True), b"a=b; Secure", b"a=b; Secure"),
    (API, b"a=/v2; x", b"a=/v2; x"),
    (API._replace(path=b"/crm"), b"a=b", b"a=b; Path=/crm"),
    (scope(prefix=b"/a/b", path=b"/a/b"), b"a=b", b"a=b; Path=/a/b"),
    (BARE, b"a=b; Path=/", b"a=b; Path=/crm"),  # not /crm/, which /crm itself is not below
    (BARE, b"a=b; Path=/x", b"a=b; Path=/crm/x"),
    (NESTED, b"a=b; Path=/b", None),
    (KEPT, b"sid=1; Path=/", b"sid=1; Path=/crm"),
    (KEPT, b"sid=1; Path=/v2", b"sid=1; Path=/crm"),
    (KEPT, b"sid=1; Path=/v2/crm/x", b"sid=1; Path=/crm/x"),
    (KEPT, b"session=ATTACKER; Path=/b", None),
    (KEPT, b"session=ATTACKER; Path=/v2/b", None),
    (ROOT, b"a=b; Path=/x; Secure", b"a=b; Path=/x"),
    (ROOT, b"a=b; path=/ ; HttpOnly", b"a=b; Path=/; HttpOnly"),
    (ROOT, b"a=b; PATH=/; HttpOnly", b"a=b; PATH=/; HttpOnly"),
    (WHOLE, b"a=b; Path=/v2", b"a=b; Path=/"),
    (WHOLE, b"a=b; Path=/v2/x", b"a=b; Path=/x"),
    (ROOT._replace(secure=True), b"__Host-a=b; Secure; Path=/", b"__Host-a=b; Secure; Path=/"),
    (ROOT, ADMIN + b"=EVIL; Path=/; HttpOnly", None),
    (ROOT, ADMIN + b" = EVIL", None),
    (ROOT, b" " + ADMIN, None),
    (ROOT, b"=" + ADMIN + b"=EVIL", None),
    (ROOT, ADMIN + b"2=x", ADMIN + b"2=x"),
    (ROOT, b"a=" + ADMIN, b"a=" + ADMIN),
    (ROOT, SESSION + b"=EVIL; Path=/", None),
    (ROOT._replace(secure=True), b"__Host-" + SESSION + b"=EVIL; Secure; Path=/", None),
    (ROOT._replace(secure=True), b"=__Host-" + ADMIN + b"=EVIL; Secure; Path=/", None),
    (ROOT, b"token_proxy_other=x", b"token_proxy_other=x"),
]


@pytest.mark.parametrize(("limited_by", "said", "read"), COOKIES)
def test_a_cookie_is_limited_to_its_route(limited_by, said, read):
    assert limit(said, limited_by) == read


CUT = [  # Cookie fields of a request, those that go upstream
    (b"a=b; c=d", b"\r\nCookie: a=b; c=d"),
    (ADMIN + b"=x", b""),
    (b"a=1; " + ADMIN + b"=x; b=2", b"\r\nCookie: a=1; b=2"),
    (ADMIN + b"=x;b=2;  c=3 ", b"\r\nCookie: b=2;  c=3 "),
    (b"a=1;" + ADMIN, b"\r\nCookie: a=1"),
    (b"a=" + ADMIN + b"; x" + ADMIN + b"=1", b"\r\nCookie: a=" + ADMIN + b"; x" + ADMIN + b"=1"),
    (b"=" + ADMIN + b"=x; a=1", b"\r\nCookie: a=1"),
    (b"a=1; " + SESSION + b"=x; __Host-" + SESSION + b"=y; __Host-" + ADMIN + b"=z", b"\r\nCookie: a=1"),
    (b"__Host-a=1; token_proxy_other=2", b"\r\nCookie: __Host-a=1; token_proxy_other=2"),
]


@pytest.mark.parametrize(("value", "left"), CUT)
def test_the_admin_cookie_is_cut_and_other_cookies_keep_their_bytes(value, left):
    block = b"\r\nA: " + ADMIN + b"\r\nCookie: %b\r\ncookie: z=9"
    cut = b"\r\nA: " + ADMIN + left + b"\r\ncookie: z=9"
    assert without_admin(block % value) == cut


# -- the property: two kinds of cookie jars, and the cookies they send to other routes


class StandardJar:
    """RFC 6265 sections 5.1.4, 5.2 and 5.4, for one host."""

    def __init__(self):
        self._cookies = []

    def take(self, url_path, value):
        pair, *attributes = value.decode("latin-1").split(";")
        path = ""
        for attribute in attributes:
            name, _, said = attribute.partition("=")
            if name.strip(" \t").lower() == "path":
                path = said.strip(" \t")
        if not path.startswith("/"):
            path = url_path[: url_path.rfind("/")] or "/"
        self._cookies.append((path, pair.strip(" \t")))

    def sent_to(self, url_path):
        return [pair for path, pair in self._cookies if self._matches(path, url_path)]

    @staticmethod
    def _matches(path, url_path):
        below = url_path.startswith(path) and (path.endswith("/") or url_path[len(path)] == "/")
        return url_path == path or below


class PythonJar:
    """http.cookiejar, as requests uses it: it takes the first of two equal attributes, and strips quotes."""

    def __init__(self):
        self._jar = CookieJar(DefaultCookiePolicy(strict_ns_set_path=False))

    def take(self, url_path, value):
        message = Message()
        message["Set-Cookie"] = value.decode("latin-1")
        response = type("Response", (), {"info": lambda _self: message})()
        self._jar.extract_cookies(response, urllib.request.Request("http://localhost" + url_path))

    def sent_to(self, url_path):
        request = urllib.request.Request("http://localhost" + url_path)
        self._jar.add_cookie_header(request)
        return (request.get_header("Cookie") or "").split("; ") if request.has_header("Cookie") else []


PREFIXES = [b"", b"/a", b"/b", b"/a/b", b"/ab", b"/a/c"]
NAMES = st.sampled_from(
    [b"Path", b"path", b" PATH ", b"\tpath", b"\xa0path", b"Domain", b"secure", b"x", b""]
)
VALUES = st.sampled_from(
    [
        *(
            b"/",
            b"/a",
            b"/b",
            b"/a/",
            b"/a/b",
            b"/v2",
            b"/v2/",
            b"/v2/a",
            b"/v2/b",
            b"/v2/../b",
            b"",
            b"b",
            b'"/b"',
        ),
        *(b" /b ", b"/%62", b"//b", b"\\b", b"localhost", b"/v2x", b"/b\t", b"/a/../b", b"/a%2Fb"),
    ]
)
ATTRIBUTES = st.lists(st.builds(lambda name, value: b";%b=%b" % (name, value), NAMES, VALUES), max_size=4)


@settings(max_examples=500 * TIMES, deadline=None)
@given(
    st.sampled_from(PREFIXES),
    st.sampled_from([b"", b"/v2", b"/a", b"/b"]),
    st.booleans(),
    st.sampled_from([b"", b"/", b"/x", b"/x/y", b"/b/x"]),
    ATTRIBUTES,
    st.sampled_from([b"s=1", ADMIN + b"=EVIL", b"=" + ADMIN + b"=EVIL", ADMIN]),
)
def test_no_jar_sends_a_routes_cookie_to_another_route(prefix, base, strip, tail, attributes, pair):
    def is_route(path):  # the longest prefix wins
        return max((each for each in PREFIXES if is_prefix(each, path)), key=len, default=None) == prefix

    path = prefix + tail or b"/"
    assume(is_route(path))
    limited_by = CookieScope(base if strip else base + prefix, prefix, path, secure=False, is_route=is_route)
    value = limit(pair + b"".join(attributes), limited_by)
    if value is None:
        return
    assert ADMIN not in value
    for jar in (StandardJar(), PythonJar()):
        jar.take(path.decode(), value)
        for other in PREFIXES:
            if other not in {prefix, b""} and jar.sent_to((other + b"/x").decode()):
                assert jar.sent_to((prefix + b"/zz").decode()), "planted for a route within"
            if not is_prefix(prefix, other):  # nested routes cause a warning: no path separates them
                for below in (b"", b"/", b"/x", b"/x/y"):
                    assert jar.sent_to((other + below or b"/").decode()) == [], (value, other)


@settings(max_examples=200 * TIMES, deadline=None)
@given(
    st.sampled_from(PREFIXES),
    st.sampled_from([b"", b"/v2", b"/a"]),
    st.booleans(),
    st.sampled_from([b"", b"/", b"/x", b"/x/y"]),
)
def test_an_ordinary_cookie_is_sent_back_to_its_path(prefix, base, strip, where):
    home = base if strip else base + prefix
    limited_by = CookieScope(
        home, prefix, prefix + b"/x", secure=False, is_route=lambda path: is_prefix(prefix, path)
    )
    value = limit(b"s=1; Path=" + (home + where or b"/"), limited_by)
    for jar in (StandardJar(), PythonJar()):
        jar.take((prefix + b"/x").decode(), value)
        assert jar.sent_to((prefix + where.rstrip(b"/") + b"/z").decode()) == ["s=1"]
    if not where and prefix:
        assert jar.sent_to(prefix.decode()) == ["s=1"]
