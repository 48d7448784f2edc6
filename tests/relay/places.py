"""Where targets and links lead: read as leniently as the most careless server or browser would."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from proxy.config.address import read_upstream
from proxy.http.malformed import MalformedRequest
from proxy.http.rewrite import Mapping, rewrite
from proxy.http.target import read_target, upstream_path
from proxy.routes import is_prefix

LANES = [  # base, prefix, whether it is taken off
    *((b"/base", b"/up", True), (b"", b"/up", True), (b"/base", b"", True)),
    *((b"", b"", False), (b"/base", b"/up", False)),
]
DECODINGS = 24  # more than any target here has layers
OVERLONG = {  # lengths in which a careless decoder of UTF-8 takes these characters, too
    char: [bytes([0xC0 | code >> 6, 0x80 | code & 63]), bytes([0xE0, 0x80 | code >> 6, 0x80 | code & 63])]
    for char, code in ((bytes([code]), code) for code in b"./\\;?#\x00%25efEF")
}


def check_target(target: bytes) -> None:
    """What is accepted never leaves its route, and what stands behind the prefix is passed as it is."""
    try:
        path, authority = read_target(target)
    except MalformedRequest as refusal:
        if refusal.kind != "malformed":
            raise
        return
    assert path == b"*" or path[:1] == b"/"
    if authority is None:
        assert path == target
    else:
        assert b"@" not in authority
        assert target.partition(b"//")[2] in {authority + path, authority + path[1:]}
    for base, prefix, strip in LANES:
        if path == b"*" or not is_prefix(prefix, path):
            continue
        mapped = upstream_path(base, prefix, path, strip=strip)
        behind = path[len(prefix) :]
        home = base if strip else base + prefix
        assert mapped in {home + behind, b"/" + home + behind}
        check_stays(home, mapped.partition(b"?")[0])


def check_stays(home: bytes, path: bytes) -> None:
    """Decode again and again; after each time, read it in every way, and see whether it has left `home`."""
    for _ in range(DECODINGS):
        for read in readings(path):
            assert _never_above(read.removeprefix(home)), (path, read)
        decoded = unquote_to_bytes(path)
        if decoded == path:
            return
        path = decoded
    raise AssertionError(f"encoded without an end: {path!r}")


def readings(path: bytes) -> set[bytes]:
    """What servers of many kinds make of one path."""
    found = {path}
    for lenient in (_from_overlong, _slashes, _cut, _without_blanks, _without_parameters):
        found |= {lenient(read) for read in found}
    return found


def _from_overlong(path: bytes) -> bytes:
    for char, spellings in OVERLONG.items():
        for spelling in spellings:
            path = path.replace(spelling, char)
    return path


def _slashes(path: bytes) -> bytes:
    return path.replace(b"\\", b"/")


def _cut(path: bytes) -> bytes:
    """What decodes a whole path takes it for a URL again, or for a string of C."""
    return re.split(rb"[?#\x00]", path, maxsplit=1)[0]


def _without_blanks(path: bytes) -> bytes:
    """Browsers' URL parsers drop tabs and line breaks; Windows drops spaces at a segment's end."""
    return re.sub(rb" +(?=/|\Z)", b"", re.sub(rb"[\t\r\n]", b"", path))


def _without_parameters(path: bytes) -> bytes:
    return b"/".join(segment.partition(b";")[0] for segment in path.split(b"/"))


def _never_above(path: bytes) -> bool:
    """Whether it stays at its root or below it all the way, empty segments counting as none."""
    depth = 0
    for segment in path.split(b"/"):
        if segment == b"..":
            depth -= 1
        elif segment not in {b"", b"."}:
            depth += 1
        if depth < 0:
            return False
    return True


MAPPINGS = [  # the upstream, the caller's prefix, and where the caller's base URL is
    (read_upstream("https://api.example/v2"), b"/crm", "http://localhost:8080/crm"),
    (read_upstream("https://api.example/v2"), b"", "http://localhost:8080"),
    (read_upstream("https://api.example:8443"), b"/crm", "http://localhost:8080/crm"),
    (read_upstream("https://api.example:8443"), b"", "http://localhost:8080"),
]


def check_link(value: bytes) -> None:
    """Lines stay lines; what isn't turned is as it was, and what is leads into the route."""
    for upstream, prefix, home in MAPPINGS:
        mapping = Mapping(upstream, prefix, b"http://localhost:8080", secure=False)
        for name in (b"Location", b"content-location", b"Set-Cookie"):
            block = b"\r\nA: 1\r\n%b: %b\r\nB: https://api.example/v2/x" % (name, value)
            lines = rewrite(block, mapping).split(b"\r\n")
            assert (len(lines), lines[1], lines[3]) == (4, b"A: 1", b"B: https://api.example/v2/x")
            assert lines[2].startswith(name + b": ")
            needs_rewrite = lines[2].removeprefix(name + b": ")
            if name == b"Set-Cookie":
                _check_cookie(value, needs_rewrite)
            elif needs_rewrite != value:
                _check_turned(needs_rewrite, home)
                led_to = urljoin(f"https://{upstream.authority}{upstream.base}/", value.decode("ascii"))
                assert _origin(led_to) == ("https", upstream.host, upstream.port)


def _check_turned(needs_rewrite: bytes, home: str) -> None:
    """Browsers take a backslash for a slash."""
    text = needs_rewrite.decode("ascii").replace("\\", "/")
    leads_to = urljoin(home + "/some/where", text)
    inside = is_prefix(home.encode(), leads_to.encode().partition(b"#")[0])
    assert inside or "/." in text, (needs_rewrite, leads_to)


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]


def _check_cookie(value: bytes, needs_rewrite: bytes) -> None:
    """Name and value stay, and no attribute is added that was not there."""
    pair, *attributes = value.split(b";")
    turned_pair, *turned_attributes = needs_rewrite.split(b";")
    assert turned_pair.strip(b" \t") == pair.strip(b" \t")
    names = [attribute.partition(b"=")[0].strip().lower() for attribute in attributes]
    turned_names = [attribute.partition(b"=")[0].strip().lower() for attribute in turned_attributes]
    assert turned_names == [name for name in names if name not in {b"domain", b"secure"}]
