"""The URLs that targets and links lead to, as read by the most lenient servers and browsers."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from proxy.config.address import Upstream, read_upstream
from proxy.http.malformed import MalformedRequest
from proxy.http.mapping import Mapping
from proxy.http.rewrite import response_fields
from proxy.http.target import read_target, upstream_path
from proxy.routes import is_prefix

LANES = [  # base, prefix, whether it is stripped
    *((b"/base", b"/up", True), (b"", b"/up", True), (b"/base", b"", True)),
    *((b"", b"", False), (b"/base", b"/up", False)),
]
DECODINGS = 24  # more than any target here has layers of encoding
OVERLONG = {  # overlong forms of these characters, which a careless UTF-8 decoder accepts
    char: [bytes([0xC0 | code >> 6, 0x80 | code & 63]), bytes([0xE0, 0x80 | code >> 6, 0x80 | code & 63])]
    for char, code in ((bytes([code]), code) for code in b"./\\;?#\x00%25efEF")
}


def check_target(target: bytes) -> None:
    """An accepted target never leaves its route, and is forwarded unchanged after the prefix."""
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
    """Decode repeatedly; after each decoding, check that no parser reads a path outside `home`."""
    for _ in range(DECODINGS):
        for read in readings(path):
            assert _never_above(read.removeprefix(home)), (path, read)
        decoded = unquote_to_bytes(path)
        if decoded == path:
            return
        path = decoded
    raise AssertionError(f"encoded without an end: {path!r}")


def readings(path: bytes) -> set[bytes]:
    """The paths that different kinds of servers read in one path."""
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
    """The path of servers that parse a decoded path as a URL again, or as a C string."""
    return re.split(rb"[?#\x00]", path, maxsplit=1)[0]


def _without_blanks(path: bytes) -> bytes:
    """Browsers' URL parsers drop tabs and line breaks; Windows drops spaces at a segment's end."""
    return re.sub(rb" +(?=/|\Z)", b"", re.sub(rb"[\t\r\n]", b"", path))


def _without_parameters(path: bytes) -> bytes:
    return b"/".join(segment.partition(b";")[0] for segment in path.split(b"/"))


def _never_above(path: bytes) -> bool:
    """Whether no prefix of the path is above its root, empty segments not counting."""
    depth = 0
    for segment in path.split(b"/"):
        if segment == b"..":
            depth -= 1
        elif segment not in {b"", b"."}:
            depth += 1
        if depth < 0:
            return False
    return True


MAPPINGS = [  # the upstream, and the caller's prefix
    *((read_upstream("https://api.example/v2"), prefix) for prefix in (b"/crm", b"")),
    *((read_upstream("https://api.example:8443"), prefix) for prefix in (b"/crm", b"")),
]
ORIGIN = "http://localhost:8080"


def mapping(upstream: Upstream, prefix: bytes) -> Mapping:
    return Mapping(
        upstream=upstream,
        prefix=prefix,
        strip=True,
        path=prefix + b"/some/where",
        origin=ORIGIN.encode(),
        secure=False,
        is_route=lambda path: is_prefix(prefix, path),
        is_own=lambda host, port: (host, port) == (b"localhost", 8080),
    )


def check_link(value: bytes) -> None:
    """Lines stay lines; links to the proxy, and cookies, stay in their route."""
    for upstream, prefix in MAPPINGS:
        for name in (b"Location", b"content-location", b"Refresh", b"Link", b"Set-Cookie"):
            block = b"\r\nA: 1\r\n%b: %b\r\nB: https://api.example/v2/x" % (name, value)
            lines = response_fields(block, mapping(upstream, prefix))[0].split(b"\r\n")
            assert (lines[1], lines[-1]) == (b"A: 1", b"B: https://api.example/v2/x")
            if len(lines) == 3:
                continue  # dropped
            assert (len(lines), lines[2].startswith(name + b": ")) == (4, True)
            read = lines[2].removeprefix(name + b": ")
            if name == b"Set-Cookie":
                _check_cookie(value, read, prefix)
            elif name in {b"Location", b"content-location"}:
                _check_leads(read, prefix)


def _check_leads(read: bytes, prefix: bytes) -> None:
    """Browsers read a backslash as a slash."""
    text = read.decode("latin-1")
    for said in (text, text.replace("\\", "/")):
        url = urljoin(f"{ORIGIN}{prefix.decode()}/some/where", said)
        if _origin(url) == ("http", "localhost", 8080):
            path = urlsplit(url).path.encode("latin-1")
            assert is_prefix(prefix, path), (read, url)
            assert _never_above(path.removeprefix(prefix)), (read, url)


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def _check_cookie(value: bytes, read: bytes, prefix: bytes) -> None:
    """Name and value are unchanged, and no attribute but Path is added."""
    pair, *attributes = value.split(b";")
    read_pair, *read_attributes = read.split(b";")
    assert read_pair.strip(b" \t") == pair.strip(b" \t")
    spaces = b" \t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0"  # of Latin-1, as Python's jar strips them
    names = [attribute.partition(b"=")[0].strip(spaces).lower() for attribute in attributes]
    read_names = [attribute.partition(b"=")[0].strip(spaces).lower() for attribute in read_attributes]
    left_out = {b"domain", b"secure", b"path"}
    assert [name for name in read_names if name != b"path"] == [
        name for name in names if name not in left_out
    ]
    for attribute in read_attributes:
        name, _, path = attribute.partition(b"=")
        if name.strip().lower() == b"path":
            assert path == b"/" if not prefix and path == b"/" else is_prefix(prefix, path)
