"""Requests of web pages: what browsers send by themselves, on each kind of listener."""

import asyncio
import json
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from proxy import listen
from proxy.hosts import Hosts
from proxy.http.message import HeadLimits
from proxy.http.request_head import read_request
from proxy.relay import web_pages
from proxy.relay.problems import AboutUs, Refusal
from proxy.relay.server import Listener
from proxy.relay.web_pages import NO_PAGES, Pages

LISTED = b"https://app.example"
STATUS_PAGE = "http://127.0.0.1:8081"
EXTENSION = b"chrome-extension://abcdefghijklmnop"
PAGES = Pages(frozenset({LISTED, EXTENSION}), None)
CHROMIUM = b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"
CURL = b"User-Agent: curl/8.0"
LIMITS = HeadLimits(131072, 32768, 200)
LOOPBACK, ELSEWHERE, TLS = (b"localhost", False), (b"proxy.internal", False), (b"proxy.internal", True)
NAMED, ADDRESS, LAN = (b"crm.localhost", False), (b"127.0.0.1", False), (b"192.168.1.5", False)
MARKED = (LOOPBACK, NAMED, ADDRESS, (b"[::1]", False), (b"localhost", True), TLS)
UNMARKED = (ELSEWHERE, LAN, (b"localhost.evil.example", False), (b"fd00--1.ipv6", False))


def outcome(listener, lines, *, method=b"GET", pages=NO_PAGES, has_safe_key=False):
    """ "passes", "refused", "preflight", or "page": passes, and the response may be read by a page."""
    host, is_tls = listener
    request = read_request(
        b"\r\n".join([method + b" /x HTTP/1.1", b"Host: " + host + b":8080", *lines, b"", b""]), LIMITS
    )
    name = host.decode().strip("[]")
    try:
        web_pages.check(request, pages, name, STATUS_PAGE, is_tls=is_tls, has_safe_key=has_safe_key)
    except AboutUs:
        return "preflight"
    except Refusal as refusal:
        return {"browser-refused": "refused"}[refusal.case.ending]
    return "page" if request.page else "passes"


SITE = b"Sec-Fetch-Site: "
EVERYWHERE_REFUSED = [
    *([SITE + value] for value in (b"cross-site", b"same-site", b"same-origin", b"none", b"", b"NONE", b"x")),
    *([b"Sec-Fetch-Mode: " + value] for value in (b"no-cors", b"navigate", b"No-Cors")),
    [b"Sec-Fetch-Mode: cors", SITE + b"same-origin"],
    *(
        [b"Origin: " + value]
        for value in (b"https://evil.example", b"null", b"", LISTED, b"http://localhost")
    ),
    [b"Origin: http://localhost:8080", SITE + b"same-origin"],
    [b"Origin: http://localhost:8080", b"Origin: https://evil.example"],
]


@pytest.mark.parametrize("listener", [*MARKED, *UNMARKED])
@pytest.mark.parametrize("lines", EVERYWHERE_REFUSED)
def test_what_marks_a_page_is_refused_on_every_listener(listener, lines):
    assert outcome(listener, [CURL, *lines]) == "refused"


@pytest.mark.parametrize("listener", [*MARKED, *UNMARKED])
@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"Sec-Fetch-Mode: cors"],  # Node's fetch
        [b"Sec-Fetch-Dest: image"],
        [b"Referer: https://evil.example/"],
        [b"X: Mozilla/5.0"],
        [b"User-Agent: not Mozilla/5.0"],
    ],
)
def test_programs_pass_on_every_listener(listener, lines):
    assert outcome(listener, [CURL, *lines]) == "passes"


@pytest.mark.parametrize("scheme", [b"http", b"https"])
@pytest.mark.parametrize("listener", [*MARKED, *UNMARKED])
def test_a_program_may_send_our_own_origin_where_browsers_mark_theirs(listener, scheme):
    expected = "passes" if listener in MARKED else "refused"
    assert outcome(listener, [b"Origin: " + scheme + b"://" + listener[0] + b":8080"]) == expected


@pytest.mark.parametrize("listener", [*MARKED, *UNMARKED])
def test_a_browser_is_known_by_its_user_agent_where_it_marks_nothing_else(listener):
    expected = "passes" if listener in MARKED else "refused"
    assert outcome(listener, [CHROMIUM]) == expected
    assert outcome(listener, [b"user-agent:Mozilla/5.0"]) == expected
    assert outcome(listener, [CHROMIUM], has_safe_key=True) == "passes"


@pytest.mark.parametrize("listener", MARKED)
def test_a_browser_that_sends_our_own_origin_is_a_page_of_it(listener):
    """Chromium with WebSocket, from a page that another program has left in the browser."""
    lines = [CHROMIUM, b"Origin: http://" + listener[0] + b":8080", b"Upgrade: websocket"]
    assert outcome(listener, lines) == "refused"
    assert outcome(listener, lines, has_safe_key=True) == "passes"
    assert outcome(listener, [CURL, *lines[1:]]) == "passes"


@pytest.mark.parametrize("listener", UNMARKED)
def test_a_key_excuses_the_user_agent_only(listener):
    for lines in EVERYWHERE_REFUSED:
        assert outcome(listener, [CHROMIUM, *lines], has_safe_key=True) == "refused"


FROM_LISTED = [  # lines, outcome where browsers mark their requests
    ([], "page"),
    ([SITE + b"cross-site", b"Sec-Fetch-Mode: cors"], "page"),
    ([SITE + b"same-site", b"Sec-Fetch-Mode: cors"], "page"),
    ([SITE + b"cross-site", b"Sec-Fetch-Mode: websocket"], "passes"),
    ([SITE + b"cross-site", b"Sec-Fetch-Mode: no-cors"], "refused"),
    ([SITE + b"cross-site", b"Sec-Fetch-Mode: navigate"], "refused"),
    ([SITE + b"cross-site", b"Sec-Fetch-Mode: same-origin"], "refused"),
    ([SITE + b"cross-site", b"Sec-Fetch-Mode: cors", b"Sec-Fetch-Mode: navigate"], "refused"),
    ([b"Origin: https://evil.example"], "refused"),
]


@pytest.mark.parametrize("listener", [*MARKED, *UNMARKED])
@pytest.mark.parametrize(("lines", "expected"), FROM_LISTED)
@pytest.mark.parametrize("origin", [LISTED, EXTENSION])
def test_a_page_of_a_listed_origin_passes_in_the_modes_that_need_cors(listener, lines, expected, origin):
    lines = [CHROMIUM, b"Origin: " + origin, *lines]
    assert outcome(listener, lines, pages=PAGES) == (expected if listener in MARKED else "refused")
    assert outcome(listener, lines) == "refused"


@pytest.mark.parametrize(
    "origin",
    [b"http://app.example", b"https://app.example:8443", b"https://app.example.evil", b"HTTPS://app.example"],
)
def test_origins_are_compared_as_they_are(origin):
    assert outcome(LOOPBACK, [b"Origin: " + origin], pages=PAGES) == "refused"


ASKS = b"Access-Control-Request-Method: "


@pytest.mark.parametrize(
    ("method", "lines", "expected"),
    [
        (b"OPTIONS", [ASKS + b"DELETE"], "preflight"),
        (b"OPTIONS", [ASKS + b"FOO"], "preflight"),  # which permits nothing
        (b"OPTIONS", [], "page"),
        (b"OPTIONS", [ASKS + b"GET", ASKS + b"GET"], "page"),
        (b"GET", [ASKS + b"GET"], "page"),
        (b"OPTIONS", [ASKS + b"GET", b"Sec-Fetch-Mode: no-cors"], "refused"),
    ],
)
def test_a_preflight_is_an_options_request_that_names_one_method(method, lines, expected):
    lines = [b"Origin: " + LISTED, *lines]
    assert outcome(TLS, lines, method=method, pages=PAGES) == expected
    assert outcome(TLS, lines, method=method) == "refused"


# -- any combination, against the rules as the contract words them

VALUES = {
    b"Sec-Fetch-Site": (b"cross-site", b"same-site", b"same-origin", b"none", b""),
    b"Sec-Fetch-Mode": (b"cors", b"no-cors", b"navigate", b"websocket", b"same-origin"),
    b"Origin": (
        b"null",
        b"https://evil.example",
        LISTED,
        b"http://localhost:8080",
        b"https://proxy.internal:8080",
    ),
    b"User-Agent": (b"Mozilla/5.0 (X11)", b"curl/8", b"python Mozilla/5.0"),
}
FIELDS = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in VALUES.items()}
)


def may_pass(listener, fields, pages, *, has_safe_key):
    """DESIGN 1.5, "Web pages", sentence by sentence."""
    host, is_tls = listener
    site, mode, origin = (fields.get(name) for name in (b"Sec-Fetch-Site", b"Sec-Fetch-Mode", b"Origin"))
    another_name = not is_tls and listener in UNMARKED
    browser = fields.get(b"User-Agent", b"").startswith(b"Mozilla/") and not has_safe_key
    if another_name:
        return origin is None and site is None and mode not in {b"no-cors", b"navigate"} and not browser
    if origin is not None and origin in pages.origins:
        return mode in {None, b"cors", b"websocket"}
    own = {scheme + b"://" + host + b":8080" for scheme in (b"http", b"https")}
    own_of_program = origin in own and not browser  # Chromium sends no Sec-Fetch-Site with WebSocket
    return site is None and mode not in {b"no-cors", b"navigate"} and (origin is None or own_of_program)


@given(
    st.sampled_from([*MARKED, *UNMARKED]),
    FIELDS,
    st.sampled_from([NO_PAGES, PAGES]),
    st.booleans(),
    st.sampled_from([b"GET", b"POST", b"OPTIONS"]),
)
@example(
    TLS, {b"Origin": b"https://proxy.internal:8080", b"User-Agent": b"Mozilla/5.0"}, NO_PAGES, False, b"GET"
)
def test_each_combination_is_judged_as_the_contract_says(listener, fields, pages, has_safe_key, method):
    lines = [name + b": " + value for name, value in fields.items()]
    got = outcome(listener, lines, method=method, pages=pages, has_safe_key=has_safe_key)
    assert (got != "refused") == may_pass(listener, fields, pages, has_safe_key=has_safe_key)
    assert (got == "page") == (
        got != "refused"
        and fields.get(b"Origin") in pages.origins
        and fields.get(b"Sec-Fetch-Mode") != b"websocket"
    )


# -- through the relay

ORIGINS = 'origins = ["https://app.example"]'
FROM_APP = b"Origin: https://app.example"


@pytest.fixture
async def listed(make_proxy, upstream):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}/base", route=ORIGINS) as made:
        yield made


def fields_of(answer):
    head = answer.partition(b"\r\n\r\n")[0]
    pairs = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
    return [(name.lower(), value) for name, _, value in pairs]


READABLE = {
    (b"access-control-allow-origin", b"https://app.example"),
    (b"access-control-expose-headers", b"*"),
    (b"vary", b"Origin"),
}


async def test_a_preflight_is_answered_without_the_upstream_and_the_connection_goes_on(listed, upstream, kit):
    asked = [
        *(
            FROM_APP,
            b"Access-Control-Request-Method: PUT",
            b"Sec-Fetch-Mode: cors",
            b"Sec-Fetch-Site: cross-site",
        ),
        b"Access-Control-Request-Headers: authorization,token-proxy-account",
        b"Access-Control-Request-Private-Network: true",
    ]
    answer = await listed.ask(
        kit.request(b"OPTIONS", b"/up/x", *asked)
        + kit.request(b"OPTIONS", b"/up/x", *asked, b"Connection: close")
    )
    assert answer.count(b"HTTP/1.1 204 No Content\r\n") == 2
    assert fields_of(answer) == [
        (b"access-control-allow-origin", b"https://app.example"),
        (b"access-control-allow-methods", b"PUT"),
        (b"access-control-max-age", b"7200"),
        (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        (b"access-control-allow-headers", b"authorization,token-proxy-account"),
    ]
    assert upstream.requests == 0


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        (b"Access-Control-Request-Method: TRACE", b"access-control-allow-methods"),
        (b"Access-Control-Request-Method: FOO", b"access-control-allow-methods"),
        (b"Access-Control-Request-Method: GET, PUT", b"access-control-allow-methods"),
        (b"Access-Control-Request-Headers: a b", b"access-control-allow-headers"),
        (b"Access-Control-Request-Headers: a:b", b"access-control-allow-headers"),
        (b"Access-Control-Request-Headers: ,", b"access-control-allow-headers"),
    ],
)
async def test_a_preflight_permits_no_odd_method_and_no_odd_field(listed, kit, line, missing):
    more = [] if b"Method" in line else [b"Access-Control-Request-Method: GET"]
    answer = await listed.ask(kit.request(b"OPTIONS", b"/up", FROM_APP, line, *more, b"Connection: close"))
    assert dict(fields_of(answer)).get(missing, b"") == b""


@pytest.mark.parametrize(("methods", "permitted"), [('["GET", "PUT"]', b"GET, PUT"), ("[]", b"")])
async def test_a_preflight_permits_the_methods_of_the_route(make_proxy, kit, methods, permitted):
    async with make_proxy("http://127.0.0.1:1", route=f"{ORIGINS}\nmethods = {methods}") as proxy:
        lines = [FROM_APP, b"Access-Control-Request-Method: DELETE", b"Connection: close"]
        answer = await proxy.ask(kit.request(b"OPTIONS", b"/up", *lines))
    assert dict(fields_of(answer))[b"access-control-allow-methods"] == permitted


async def test_a_preflight_of_a_page_that_is_not_listed_is_refused(listed, upstream, kit):
    lines = [b"Origin: https://evil.example", b"Access-Control-Request-Method: GET", b"Connection: close"]
    answer = await listed.ask(kit.request(b"OPTIONS", b"/up", *lines))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"access-control" not in answer.lower()
    assert upstream.requests == 0


FROM_UPSTREAM = (
    b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n"
    b"Access_Control_Allow_Origin: x\r\naccess-control-max-age: 1\r\nStrict-Transport-Security: max-age=1\r\n"
    b"Vary: Accept\r\nX-Rate: 1\r\nContent-Length: 2\r\n\r\nok"
)


async def test_a_listed_page_reads_by_our_word_not_by_the_upstreams(listed, upstream):
    upstream.script = [FROM_UPSTREAM]
    answer = await listed.get(b"/up", FROM_APP, b"Sec-Fetch-Mode: cors", b"Sec-Fetch-Site: cross-site")
    assert fields_of(answer)[:-1] == [
        *((b"vary", b"Accept"), (b"x-rate", b"1"), (b"content-length", b"2")),
        *((b"access-control-allow-origin", b"https://app.example"), (b"access-control-expose-headers", b"*")),
        (b"vary", b"Origin"),
    ]
    assert b"\r\nOrigin: https://app.example\r\n" in upstream.received[0]


async def test_cors_fields_of_an_upstream_do_not_pass_on_localhost(proxy, upstream):
    upstream.script = [FROM_UPSTREAM]
    answer = await proxy.get()
    assert b"access" not in answer.lower()
    assert b"\r\nVary: Accept\r\nX-Rate: 1\r\n" in answer


async def test_a_program_on_another_name_gets_the_upstreams_cors_fields(proxy, upstream):
    proxy.relay.context.hosts = Hosts(["proxy.internal"])
    upstream.script = [FROM_UPSTREAM]
    answer = await proxy.ask(b"GET /up HTTP/1.1\r\nHost: proxy.internal\r\nConnection: close\r\n\r\n")
    assert (b"access-control-allow-origin", b"*") in fields_of(answer)
    assert b"\r\nStrict-Transport-Security: max-age=1\r\n" in answer


async def test_a_listed_page_reads_our_own_refusals_too(listed, upstream):
    answer = await listed.get(b"/up", FROM_APP, b"Expect: more")
    assert answer.startswith(b"HTTP/1.1 417 ")
    assert set(fields_of(answer)) >= READABLE
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 417


async def test_no_other_response_has_our_cors_fields(listed, upstream):
    for lines in ([], [b"Origin: http://localhost"], [b"Origin: https://evil.example"]):
        assert b"access-control" not in (await listed.get(b"/up", *lines)).lower()
    answer = await listed.get(b"/elsewhere", FROM_APP)  # no route, so no route's origins
    assert answer.startswith(b"HTTP/1.1 403 ")


async def test_a_browser_on_a_plain_name_is_refused_whether_or_not_another_field_needs_checks(
    proxy, upstream
):
    proxy.relay.context.hosts = Hosts(["proxy.internal"])
    for more in (b"", b"Via: 1.1 other\r\n"):
        head = b"GET /up HTTP/1.1\r\nHost: proxy.internal:1\r\n" + CHROMIUM + b"\r\n" + more
        assert (await proxy.ask(head + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
    assert upstream.requests == 0
    assert proxy.refused("browser-refused") == 2


@asynccontextmanager
async def tls_listener(proxy):
    """The relay on a TLS listener too; its port, and the context of a caller."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("proxy.internal").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    runner = web.ServerRunner(Listener(proxy.relay))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    yield site.port, trusting
    await listen.close(runner)


async def test_on_tls_a_browser_is_known_by_fetch_metadata(make_proxy, upstream):
    async with (
        make_proxy(f"http://127.0.0.1:{upstream.port}", route=ORIGINS) as proxy,
        tls_listener(proxy) as tls,
    ):
        proxy.relay.context.hosts = Hosts(["proxy.internal"])
        for line, status in ((SITE + b"none", 403), (FROM_APP, 200), (b"Accept: */*", 200)):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", tls[0], ssl=tls[1], server_hostname="proxy.internal"
            )
            head = [
                b"GET /up HTTP/1.1",
                b"Host: proxy.internal",
                CHROMIUM,
                line,
                b"Connection: close",
                b"",
                b"",
            ]
            writer.write(b"\r\n".join(head))
            answer = await asyncio.wait_for(reader.read(), 30)
            assert int(answer.split()[1]) == status, line
            writer.close()
