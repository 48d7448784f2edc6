"""Targets: none leaves its route's prefix, and an accepted one is forwarded byte for byte."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.malformed import MalformedRequest
from proxy.http.target import read_target, upstream_path
from proxy.routes import is_prefix

REFUSED = [
    b"/crm/../admin",
    b"/crm/..",
    b"/crm/./a",
    b"/crm/%2e%2e/admin",
    b"/crm/.%2e/",
    b"/crm/%252e%252e/",
    b"/crm/%25252e%25252e/",
    b"/crm/..%2fadmin",
    b"/crm/..;/admin",
    b"/crm/..;x=1/admin",
    b"/crm/%2e%2e%3b/admin",
    b"/crm/..\\x",
    b"/crm/%5c..",
    b"/crm/a%5Cb",
    b"/crm/%00",
    b"/crm/%c0%ae%c0%ae/admin",
    b"/crm/.%C0%AE/",
    b"/crm/..%c0%afadmin",
    b"/crm/%e0%80%ae%e0%80%ae/",
    b"/crm/%f0%80%80%ae./",
    b"/crm/%25c0%25ae%25c0%25ae/",
    b"/crm/..%c1%9cadmin",
    b"/crm/%c0%80",
    b"/crm/..%3fx",
    b"/crm/..%253fx",
    b"/crm/..%23x",
    b"/crm/.%09./",
    b"/crm/.%0d%0a./",
    b"/crm/..%20/",
    b"/crm#frag",
    b"/" + b"%25" * 1 + b"25" * 9 + b"41",
    b"crm",
    b"@evil/x",
    b"evil.com:443",
    b"http://user@evil/x",
    b"http://crm@evil/",
    b"ftp://evil/x",
    b"http:///x",
]


@pytest.mark.parametrize("target", REFUSED)
def test_an_ambiguous_target_is_refused(target):
    with pytest.raises(MalformedRequest) as refusal:
        read_target(target)
    assert refusal.value.kind == "malformed"


READ = {
    b"/crm/a%20b": (b"/crm/a%20b", None),
    b"/crm/a%2Fb": (b"/crm/a%2Fb", None),
    b"/crm//evil.com/": (b"/crm//evil.com/", None),
    b"//evil/x": (b"//evil/x", None),
    b"/crm?x=/../": (b"/crm?x=/../", None),
    b"/crm/...": (b"/crm/...", None),
    b"/crm/..a": (b"/crm/..a", None),
    b"/crm/.%20a": (b"/crm/.%20a", None),
    b"/crm/%C3%A9%E2%82%AC%c0": (b"/crm/%C3%A9%E2%82%AC%c0", None),
    b"/crm/a.%3fx": (b"/crm/a.%3fx", None),
    b"/crm/.well-known/x": (b"/crm/.well-known/x", None),
    b"/crm/a;b=c": (b"/crm/a;b=c", None),
    b"*": (b"*", None),
    b"http://evil/x": (b"/x", b"evil"),
    b"HTTP://evil:80?q": (b"/?q", b"evil:80"),
    b"https://a/": (b"/", b"a"),
}


@pytest.mark.parametrize("target", READ)
def test_a_plain_target_stays_unchanged(target):
    assert read_target(target) == READ[target]


MAPPED = [  # base, prefix, path, upstream path
    (b"/base", b"/crm", b"/crm", b"/base"),
    (b"/base", b"/crm", b"/crm/", b"/base/"),
    (b"/base", b"/crm", b"/crm?x", b"/base?x"),
    (b"/base", b"/crm", b"/crm/a/b?c", b"/base/a/b?c"),
    (b"", b"/crm", b"/crm", b"/"),
    (b"", b"/crm", b"/crm?x", b"/?x"),
    (b"", b"", b"/a", b"/a"),
    (b"/base", b"", b"/", b"/base/"),
]


@pytest.mark.parametrize(("base", "prefix", "path", "upstream"), MAPPED)
def test_the_base_replaces_the_prefix(base, prefix, path, upstream):
    assert upstream_path(base, prefix, path, strip=True) == upstream


def test_the_prefix_stays_if_strip_path_is_false():
    assert upstream_path(b"/base", b"/crm", b"/crm/a", strip=False) == b"/base/crm/a"


PARTS = st.sampled_from(
    [
        b"/",
        b"..",
        b".",
        b"%2e",
        b"%2E",
        b"%252e",
        b"%2f",
        b"%5c",
        b"\\",
        b";",
        b";a=1",
        b"a",
        b"crm",
        b"?",
        b"%00",
        b"#",
    ]
)


@given(st.lists(PARTS, max_size=12).map(b"".join))
def test_no_target_leaves_its_prefix(tail):
    try:
        path = read_target(b"/crm" + tail)[0]
    except MalformedRequest:
        return
    if not is_prefix(b"/crm", path):
        return
    seen = upstream_path(b"/base", b"/crm", path, strip=True).partition(b"?")[0]
    for _ in range(12):
        depth = 0
        for segment in seen.removeprefix(b"/base").split(b"/"):
            name = segment.partition(b";")[0]
            depth += (name not in (b"", b".", b"..")) - (name == b"..")
            assert depth >= 0
        seen = unquote_to_bytes(seen).replace(b"\\", b"/")
