"""Links resolved and mapped, in both directions; no client that follows one leaves its route."""

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import pytest
import yarl
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from requests.utils import requote_uri

from proxy.config.address import Upstream, read_upstream
from proxy.hosts import Hosts
from proxy.http.links import normalise
from proxy.http.malformed import MalformedRequest
from proxy.http.mapping import Mapping
from proxy.http.target import read_target, upstream_path
from proxy.routes import RouteTable

TIMES = int(os.environ.get("TIMES", "1"))  # factor on the usual number of examples
ORIGIN = b"http://localhost:8080"


def mapping(url, prefix=b"", path=None, **more):
    """A route with a listener of its own, or (with a prefix) with all paths below the prefix."""
    fields = {
        "strip": True,
        "origin": ORIGIN,
        "secure": False,
        "is_route": lambda place: re.match(re.escape(prefix) + rb"(?![^/?])", place) is not None,
        "is_own": lambda host, port: (host, port) in {(b"localhost", 8080), (b"localhost", 8081)},
    }
    return Mapping(read_upstream(url), prefix, path=path or prefix + b"/a/b?c", **{**fields, **more})


API = mapping("https://api.example/v2", b"/crm")
BARE = mapping("https://api.example", b"/crm")
ROOT = mapping("https://api.example:8443")
WHOLE = mapping("https://api.example/v2")
KEPT = mapping("https://api.example/v2", b"/crm", strip=False)
SOCKET = mapping("unix:/run/api.sock:/v2", b"/crm")
NAMELESS = WHOLE._replace(origin=b"")
NESTED = API._replace(is_route=lambda place: place.startswith(b"/crm") and not place.startswith(b"/crm/b"))
NESTED_ODDLY = API._replace(is_route=lambda place: place.startswith(b"/crm") and b"/@b" not in place)
TO_CALLER = [  # mapping, the upstream's link, the caller's; None: dropped
    (API, b"https://api.example/v2/x?q=1#f", b"http://localhost:8080/crm/x?q=1#f"),
    (API, b"https://API.Example:443/v2/x", b"http://localhost:8080/crm/x"),
    (API, b"https://api.example/v2", b"http://localhost:8080/crm"),
    (API, b"https://api.example/v2?q", b"http://localhost:8080/crm?q"),
    (API, b"//api.example/v2/x", b"http://localhost:8080/crm/x"),
    (API, b"wss://api.example/v2/x", b"ws://localhost:8080/crm/x"),
    (API, b"/v2/x", b"/crm/x"),
    (API, b"/v2#top", b"/crm#top"),
    (API, b"x/y", b"x/y"),
    (API, b"x/y?to=/../z#:", b"x/y?to=/../z#:"),
    (API, b"?page=2", b"/crm/a/b?page=2"),
    (API, b"#top", b"/crm/a/b?c#top"),
    (API, b"", b""),
    (API, b"../up", b"/crm/up"),
    (API, b"./x", b"/crm/a/x"),
    (API, b"1a:b", b"/crm/a/1a:b"),
    (API, b"%7Euser", b"/crm/a/~user"),
    (API, b"caf\xc3\xa9 au lait", b"/crm/a/caf%C3%A9%20au%20lait"),
    (API, b"x?caf\xe9", b"/crm/a/x?caf%E9"),
    (API, b" /v2/x\t", b"/crm/x"),
    (API, b"/v2/x/../y/.", b"/crm/y/"),
    (API, b"../../x", b"https://api.example/x"),
    (API, b"/other", b"https://api.example/other"),
    (API, b"/v2x", b"https://api.example/v2x"),
    (API, b"/v2/../b/steal", b"https://api.example/b/steal"),
    (API, b"/v2/%2e%2E/b/steal", b"https://api.example/b/steal"),
    (API, b"/v2/.\t./b", b"https://api.example/b"),
    (API, b"..\\..\\b", b"https://api.example/b"),
    (API, b"https:/b", b"https://api.example/b"),
    (API, b"https:../../b", b"https://api.example/b"),
    (API, b"http:/b", b"http://b/"),
    (API, b"///evil.example/x", b"https://evil.example/x"),
    (API, b"/\\evil.example/x", b"https://evil.example/x"),
    (API, b"https://api.example/other", b"https://api.example/other"),
    (API, b"http://api.example/v2/x", b"http://api.example/v2/x"),
    (API, b"https://api.example:444/v2/x", b"https://api.example:444/v2/x"),
    (API, b"https://user@api.example/v2/x", b"https://user@api.example/v2/x"),
    (API, b"https://api.example.evil/v2/x", b"https://api.example.evil/v2/x"),
    (API, b"https://evil.example/v2/../x%41", b"https://evil.example/v2/../x%41"),
    (API, b"https://evil.example\\@localhost:8080/b", b"https://evil.example/@localhost:8080/b"),
    (API, b"https://[broken/v2", None),
    (API, b"https://ev\xc3\xadl.example/", None),
    (API, b"https://a:b:c/", None),
    (API, b"https://a:99999/", None),
    (API, b"https://", None),
    (API, b"https://a b/", None),
    (API, b"http://localhost:8080/b/x", None),
    (API, b"http://LocalHost:8081/", None),
    (API, b"http://l%6fcalhost:8080/b", None),
    (API, b"ws://u:p@localhost:8080/b", None),
    (API, b"http://localhost:8082/b/x", b"http://localhost:8082/b/x"),
    (API, b"mailto:a@api.example", b"mailto:a@api.example"),
    (API, b"myapp:/../../b", b"myapp:/../../b"),
    (API, b"myapp:x/../../../b", None),
    (API, b"x" * 41 + b":/../../../b", None),
    (API, b"x" * 41 + b"://b", b"x" * 41 + b"://b"),
    (API._replace(path=b"/crm"), b"x" * 41 + b"://b", None),  # to curl it is relative to /
    (NESTED, b"/v2/b/x", b"https://api.example/v2/b/x"),
    (NESTED, b"/v2/%62/x", b"https://api.example/v2/b/x"),
    (NESTED, b"/v2/b;x", b"https://api.example/v2/b;x"),
    (NESTED_ODDLY, b"/v2/%40b/x", b"https://api.example/v2/%40b/x"),  # yarl decodes it
    (API, b"..;", b"https://api.example/v2/a/..;"),  # dots to urljoin; refused as a target
    (API, b"/v2/a%5Cb", b"https://api.example/v2/a%5Cb"),
    (API, b"/v2/%252e%252e/b", b"https://api.example/v2/%252e%252e/b"),
    (BARE, b"x", b"x"),
    (BARE._replace(path=b"/crm"), b"x", b"/crm/x"),
    (BARE, b"/crm/x", b"/crm/crm/x"),
    (BARE, b"/../x", b"/crm/x"),
    (ROOT, b"https://api.example:8443/a", b"http://localhost:8080/a"),
    (ROOT, b"https://api.example:8443", b"http://localhost:8080/"),
    (ROOT, b"https://api.example/a", b"https://api.example/a"),
    (ROOT, b"/a", b"/a"),
    (WHOLE, b"/v2/x", b"/x"),
    (WHOLE, b"/v2//evil.example/x", b"http://localhost:8080//evil.example/x"),
    (WHOLE, b"/v2/\\evil.example/x", b"http://localhost:8080//evil.example/x"),
    (NAMELESS, b"/v2//evil.example/x", b"/.//evil.example/x"),
    (NAMELESS, b"https://api.example/v2/x", b"/x"),
    (KEPT, b"/v2/crm/x", b"/crm/x"),
    (KEPT, b"/v2/b/x", b"https://api.example/v2/b/x"),
    (KEPT, b"x", b"x"),
    (SOCKET, b"http://localhost/v2/x", b"http://localhost:8080/crm/x"),
    (SOCKET, b"/other", None),
]


@pytest.mark.parametrize(("mapped_by", "said", "read"), TO_CALLER)
def test_a_link_of_a_response_is_resolved_then_mapped(mapped_by, said, read):
    assert mapped_by.to_caller(said) == read


REFUSED = "refused"
TO_UPSTREAM = [  # mapping, the caller's link, the upstream's
    (API, b"http://localhost:8080/crm/b", b"https://api.example/v2/b"),
    (API, b"HTTP://LOCALHOST:8080/crm/b?c", b"https://api.example/v2/b?c"),
    (API, b"https://localhost:8080/crm/b", b"https://api.example/v2/b"),  # TLS ends before us
    (API, b"http://localhost:8080/crm", b"https://api.example/v2"),
    (API, b"/crm/a%20b", b"/v2/a%20b"),
    (ROOT, b"http://localhost:8080", b"https://api.example:8443/"),
    (KEPT, b"http://localhost:8080/crm/b", b"https://api.example/v2/crm/b"),
    (SOCKET, b"http://localhost:8080/crm/b", b"http://localhost/v2/b"),
    (API, b"https://elsewhere.example/b", b"https://elsewhere.example/b"),
    (API, b"https://api.example/v2/b", b"https://api.example/v2/b"),
    (API, b"LHR", b"LHR"),
    (API, b"urn:x:y", b"urn:x:y"),
    (API, b"ws://localhost:8080/crm/b", b"https://api.example/v2/b"),
    (API, b"wss://elsewhere.example/b", b"wss://elsewhere.example/b"),
    (API, b"http://localhost:8080/b", REFUSED),
    (API, b"ws://localhost:8080/b", REFUSED),
    (API, b"WSS://localhost:8081/crm/b", REFUSED),
    (API, b"http://localhost:8081/crm/b", REFUSED),
    (API, b"/b", REFUSED),
    (API, b"//localhost:8080/crm/b", REFUSED),
    (API, b"/crm/../b", REFUSED),
    (API, b"/crm/%2e%2e/b", REFUSED),
    (API, b"/crm/\\b", REFUSED),
    (API, b"/crm/b#c", REFUSED),
    (API, b"http://localhost:8080/crm/..;/b", REFUSED),
    (API, b"http://u@localhost:8080/crm/b", REFUSED),
    (API, b"http://l%6fcalhost:8080/b", REFUSED),
    (API, b"http://[broken/", REFUSED),
    (API, b"http:///crm/b", REFUSED),
    (NESTED, b"http://localhost:8080/crm/b/x", REFUSED),
]


@pytest.mark.parametrize(("mapped_by", "said", "sent"), TO_UPSTREAM)
def test_a_link_of_a_request_stays_within_its_route(mapped_by, said, sent):
    if sent is REFUSED:
        with pytest.raises(MalformedRequest):
            mapped_by.to_upstream(said)
    else:
        assert mapped_by.to_upstream(said) == sent


# -- the property: a model of the proxy, and callers that follow the links they get


@dataclass(eq=False)
class Place:
    """A route of a layout; `port`: of its own listener."""

    name: str
    prefix: bytes
    host: str
    port: int
    upstream: Upstream
    strip: bool
    table: RouteTable | None = field(default=None, repr=False)

    def has(self, host, path):
        return bool(self.port) or self.table.match(host, path) is self


SHARED, ADMIN, OTHER_PORT = 8080, 8081, 3000
HOSTS = Hosts(["crm.internal"])
SEGMENTS = [b"a", b"b", b"a b", b"..", b"crm"]
PREFIXES = st.sampled_from([b"", b"/a", b"/b", b"/a/b", b"/a/b/c", b"/b/a", b"/A", b"/a.b"])
BASES = st.sampled_from(["", "", "/v2", "/a", "/a/b", "/b", "/v2/a%7Eb"])
UPSTREAM_HOSTS = st.sampled_from(
    [
        "https://api.example",
        "http://127.0.0.1:3000",
        "http://localhost",
        "http://localhost:8082",
        "unix:/run/a.sock:",
    ]
)


@st.composite
def layouts(draw):
    places = {}
    for number in range(draw(st.integers(2, 4))):
        host, base = draw(UPSTREAM_HOSTS), draw(BASES)
        port = 9000 + number if draw(st.integers(0, 3)) == 0 else 0
        prefix = b"" if port else draw(PREFIXES)
        name = "" if port else draw(st.sampled_from(["", "", "localhost", "crm.internal"]))
        upstream = read_upstream(host + base)
        places.setdefault(
            (port, name, prefix), Place(str(number), prefix, name, port, upstream, draw(st.booleans()))
        )
    table = RouteTable(place for place in places.values() if not place.port)
    for place in places.values():
        place.table = table
    return list(places.values())


PARTS = st.sampled_from(
    [
        *(b"/", b"/", b"/", b"//", b"\\", b"a", b"b", b"c", b"v2", b"..", b".", b"../", b"/../", b"../../b/"),
        *(
            b"%2e",
            b"%2E%2e",
            b".%2e/",
            b"%61",
            b"%62",
            b"%2f",
            b"%5c",
            b"%25",
            b"%",
            b"%zz",
            b"%00",
            b";",
            b"..;",
        ),
        *(
            b"?",
            b"#",
            b"?x=/../b",
            b":",
            b"@",
            b" ",
            b"\t",
            b"\x01",
            b"\xc3\xa9",
            b"\x85",
            b'"',
            b"<",
            b"|",
            b"~",
        ),
        *(
            b"http:",
            b"https:",
            b"HTTP://",
            b"ws:",
            b"wss://",
            b"ftp://",
            b"x:",
            b"mailto:",
            b"http:/",
            b"http:///",
        ),
        *(
            b"localhost",
            b"LOCALHOST",
            b"127.0.0.1",
            b"127.1",
            b"2130706433",
            b"0x7f.0.0.1",
            b"[::1]",
            b"0177.0.0.1",
        ),
        *(b":8080", b":8081", b":9001", b":9000", b":3000", b":80", b":443", b":", b":08080", b"api.example"),
        *(
            b"//localhost:8080/b/x",
            b"//crm.internal:8080/a",
            b"[::ffff:127.0.0.1]",
            b"localhost.",
            b"u:p@",
            b"evil.example",
        ),
        *(
            b"http://localhost:8080",
            b"http://127.0.0.1:9001/",
            b"https://api.example",
            b"http://127.0.0.1:3000",
        ),
    ]
)
ANYTHING = st.lists(PARTS, max_size=7).map(b"".join)
CLIMBING = st.builds(  # a disguised path out of the route and into another one
    lambda start, climbs, to: start + b"".join(climbs) + to,
    st.sampled_from(
        [b"", b"/", b"x/", b"/v2/", b"/a/", b"\\", b"https:", b"http:", b"http:/", b"//@/", b"x:"]
    ),
    st.lists(
        st.sampled_from(
            [
                b"../",
                b"../",
                b"%2e%2e/",
                b".%2E/",
                b"..\\",
                b".\t./",
                b"..%2f",
                b"..;/",
                b"%2e./",
                b"./",
                b"/",
            ]
        ),
        max_size=5,
    ),
    st.sampled_from([b"b/x", b"a/b", b"a/b/c?x", b"%62/x", b"a/%62/x", b"b", b"", b"b\\x", b"v2/a/../b"]),
)
OUR_HOSTS = st.sampled_from(
    [
        *(b"localhost", b"LocalHost", b"127.0.0.1", b"127.1", b"2130706433", b"0x7f.0.0.1", b"0177.0.0.1"),
        *(
            b"l%6fcalhost",
            b"crm.internal",
            b"u:p@localhost",
            b"a@b@localhost",
            b"[::1]",
            b"localhost\t",
            b"api.example",
        ),
    ]
)
ABSOLUTE = st.builds(
    lambda *parts: b"".join(parts),
    st.sampled_from(
        [b"http://", b"HTTP://", b"//", b"\\\\", b"http:/", b"ws://", b"/\\", b"http:\\\\", b" http://"]
    ),
    OUR_HOSTS,
    st.sampled_from([b":8080", b":08080", b":9000", b":9001", b":8081", b"", b":3000", b":\t8080"]),
    st.one_of(CLIMBING, st.just(b"/b/x")),
)
REFERENCES = st.one_of(ANYTHING, CLIMBING, CLIMBING, ABSOLUTE)
UPWARDS = [b"../", b"%2e%2e/", b".%2E/", b"..\\", b"..\t/", b"%2e./", b"./../"]


@st.composite
def steering(draw, layout, place, path):
    """A hostile upstream's link: a disguised URL of another route of the layout."""
    to = draw(st.sampled_from(layout))
    prefix = to.prefix.lstrip(b"/")
    if draw(st.booleans()):
        prefix = b"".join(b"%%%02x" % byte if byte != 0x2F else b"/" for byte in prefix)
    aim = prefix + b"/steal" if prefix else b"steal"
    up = draw(st.sampled_from(UPWARDS))
    match draw(st.sampled_from(["relative", "path", "url", "below"])):
        case "relative":
            return up * (path.partition(b"?")[0].count(b"/") - draw(st.integers(0, 1))) + aim
        case "path":
            base = place.upstream.base.encode()
            return base + b"/" + up * draw(st.integers(0, base.count(b"/") + 1)) + aim
        case "below":  # where one route lies within another
            home = place.upstream.base.encode() + (b"" if place.strip else place.prefix)
            return home + b"/" + (aim[len(place.prefix.lstrip(b"/")) :].lstrip(b"/") or b"x")
    host, port = draw(OUR_HOSTS), b"%d" % (to.port or SHARED)
    return (
        draw(st.sampled_from([b"http://", b"//", b"\\/", b"http:/", b"HTTP:\\"]))
        + host
        + b":"
        + port
        + b"/"
        + aim
    )


PATHS = st.sampled_from(
    [b"", b"/", b"/x", b"/x/y", b"/x/y/", b"?q", b"/a", b"/b/x?q=/../", b"/%41/b", b"//a", b"/a;b"]
)


def by_urllib(base, reference):
    return urljoin(base, reference.decode("latin-1"))


def by_requests(base, reference):
    """As requests follows it: `requote_uri` decodes unreserved characters."""
    return urljoin(base, requote_uri(reference.decode("latin-1")))


def by_yarl(base, reference):
    """As aiohttp follows it: yarl decodes more, and drops dot segments."""
    return str(yarl.URL(base).join(yarl.URL(reference.decode("latin-1"))))


def by_browser(base, reference):
    """As the URL standard prescribes for backslashes, tabs, encoded dots and missing slashes."""
    text = reference.strip(bytes(range(33))).translate(None, b"\t\r\n").decode("latin-1")
    scheme, colon, rest = text.partition(":")
    own = urlsplit(base).scheme
    if colon and scheme.lower() in {"http", "https", "ws", "wss"}:
        before = rest.replace("\\", "/").lstrip("/")
        if scheme.lower() != own or rest.replace("\\", "/").startswith("//"):
            return _undotted(f"{scheme.lower()}://{before}")
        text = rest
    path, mark, behind = text.partition("?") if "?" in text else text.partition("#")
    path = path.replace("\\", "/")
    if path.startswith("//"):
        return _undotted(f"{own}://{path.lstrip('/')}{mark}{behind}")
    return _undotted(urljoin(base, path + mark + behind))


def by_curl(base, reference):
    """As curl follows it: a scheme is up to 40 characters before a colon; it joins paths by itself."""
    text = reference.decode("latin-1")
    if not text:
        return base  # curl does not follow it
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]{0,39}:/", text):
        return _undotted(re.sub(r":/{1,3}", "://", text, count=1))
    origin, path = re.fullmatch(r"(https?://[^/?#]*)([^?#]*).*", base).groups()
    if text.startswith("//"):
        return _undotted(origin.partition("//")[0] + text)
    if text.startswith("?"):
        return origin + path + text
    directory = "" if text.startswith("/") else path[: path.rfind("/") + 1]
    return _undotted(origin + directory + text)


def _undotted(url):
    found = re.fullmatch(r"(\w+:)//([^/?#]*)([^?#]*)(.*)", url, re.DOTALL)
    if not found:
        return url
    path = re.sub(r"(?i)%2e", ".", found[3])
    out = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            out = out[:-1]
        elif segment != ".":
            out.append(segment)
    return f"{found[1]}//{found[2]}/{'/'.join(out)}{found[4]}"


CALLERS = [by_urllib, by_requests, by_yarl, by_browser, by_curl]
SAME_AS_LOOPBACK = {"127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.1"}


def arrives(layout, url):
    """The route of a request to this URL, by the proxy's own rules. None: not ours, or refused."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "ws": 80, "https": 443, "wss": 443}.get(parts.scheme, 0)
    except ValueError:
        return None
    host = (parts.hostname or "").lower()
    host = "127.0.0.1" if host in SAME_AS_LOOPBACK else host
    if HOSTS.read(f"[{host}]" if ":" in host else host, "127.0.0.1") is None:
        return None
    own = next((place for place in layout if place.port and place.port == port), None)
    if own is None and port != SHARED:
        return None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        path, _ = read_target(target.encode("latin-1", "replace"))
    except MalformedRequest:
        return None
    return own or layout[0].table.match(host, path)


@st.composite
def requests_in(draw, layout):
    """A request that belongs to its route: the route, the host, the path, the caller's URL."""
    place = draw(st.sampled_from(layout))
    host = place.host or draw(st.sampled_from(["localhost", "127.0.0.1", "crm.internal"]))
    path = place.prefix + draw(PATHS)
    path = path if path.startswith(b"/") else b"/" + path
    assume(place.has(host, path))
    return place, host, path, f"http://{host}:{place.port or SHARED}"


def mapping_of(place, host, path, origin, layout):
    ports = {SHARED, ADMIN, *(each.port for each in layout if each.port)}
    return Mapping(
        upstream=place.upstream,
        prefix=place.prefix,
        strip=place.strip,
        path=path,
        origin=origin.encode(),
        secure=False,
        is_route=lambda found: place.has(host, found),
        is_own=lambda named, port: port in ports and HOSTS.leads_here(named.decode("latin-1"), "127.0.0.1"),
    )


@settings(max_examples=500 * TIMES, deadline=None)
@given(st.data())
def test_no_caller_that_follows_a_link_leaves_its_route(data):
    layout = data.draw(layouts())
    place, host, path, origin = data.draw(requests_in(layout))
    said = data.draw(st.one_of(REFERENCES, steering(layout, place, path), steering(layout, place, path)))
    known = data.draw(st.sampled_from([origin, origin, ""]))  # unknown: HTTP/1.0 without a Host
    got = mapping_of(place, host, path, known, layout).to_caller(said)
    if got is None:
        return
    for follow in CALLERS:
        try:
            url = follow(origin + path.decode("latin-1"), got)
        except ValueError:
            continue
        assert arrives(layout, url) in {place, None}, (follow.__name__, said, got, url)


INSIDE = st.lists(
    st.sampled_from([b"x", b"y", b"b", b"a", b"~u", b"a%20b", b"c;d=1", b"@v"]), max_size=4
).map(lambda parts: b"".join(b"/" + part for part in parts))


@settings(max_examples=300 * TIMES, deadline=None)
@given(st.data())
def test_an_ordinary_link_leads_to_its_route_and_the_right_path(data):
    layout = data.draw(layouts())
    place, host, path, origin = data.draw(requests_in(layout))
    mapped_by = mapping_of(place, host, path, origin, layout)
    seen = place.prefix + data.draw(INSIDE) or b"/"
    assume(place.has(host, seen))
    upstream_seen = upstream_path(mapped_by.base, place.prefix, seen, strip=place.strip)
    start = f"{place.upstream.scheme}://{place.upstream.authority}".encode()
    said = data.draw(
        st.sampled_from([upstream_seen, start + upstream_seen, start.partition(b":")[2] + upstream_seen])
    )
    assume(not said.startswith(b"///"))
    got = mapped_by.to_caller(said)
    assert got is not None
    for follow in CALLERS:
        url = follow(origin + path.decode("latin-1"), got)
        assert arrives(layout, url) is place, (follow.__name__, said, got, url)
        again = upstream_path(
            mapped_by.base, place.prefix, urlsplit(url).path.encode("latin-1"), strip=place.strip
        )
        assert normalise(again).rstrip(b"/") == normalise(upstream_seen).rstrip(b"/")


@settings(max_examples=300 * TIMES, deadline=None)
@given(st.data())
def test_a_destination_never_names_another_route_of_ours_to_an_upstream(data):
    layout = data.draw(layouts())
    place, host, path, origin = data.draw(requests_in(layout))
    said = data.draw(
        st.one_of(REFERENCES, REFERENCES.map(lambda tail: origin.encode() + place.prefix + b"/" + tail))
    )
    try:
        sent = mapping_of(place, host, path, origin, layout).to_upstream(said.strip())
    except MalformedRequest:
        return
    start = f"{place.upstream.scheme}://{place.upstream.authority}".encode()
    base = place.upstream.base.encode() + (b"" if place.strip else place.prefix)
    if sent != said.strip():
        assert sent.startswith((start + base, base))
        behind = sent.removeprefix(start)
        assert normalise(behind.partition(b"?")[0]).startswith(normalise(base).rstrip(b"/"))
    else:
        own = urlsplit(sent.decode("latin-1")).netloc if b"[" not in sent else ""
        assert f"//{own}" != origin.partition(":")[2]
