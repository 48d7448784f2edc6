"""Requests that no route takes, and people who type the URL of the data listener: what is this port for?"""

import json

import pytest

from proxy.relay.no_route import LISTED

HOST = b"Host: localhost\r\nConnection: close\r\n"
TYPED = (
    b"Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nSec-Fetch-User: ?1\r\n"
)
CLICKED = TYPED.replace(b"none", b"cross-site")
FETCHED = b"Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\nOrigin: https://evil.example\r\n"
KEY = "a-key-of-our-own-making"
OTHERS = """
[[routes]]
path = "/{0}"
upstream = "http://127.0.0.1:9/secret-base"
credential = "cred"
"""


async def problem_of(proxy, kit, path=b"/", lines=b"", method=b"GET"):
    status, fields, body = kit.split(
        await proxy.ask(method + b" " + path + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n")
    )
    assert b"Content-Type: application/problem+json" in fields
    return status, json.loads(body)


@pytest.mark.parametrize("path", [b"/", b"/other", b"/upx", b"/?q=1", b"/%ff"])
async def test_a_program_learns_what_this_port_is_for_and_which_routes_there_are(proxy, kit, path):
    status, problem = await problem_of(proxy, kit, path)
    public_url = proxy.relay.context.public_url
    assert (status, problem["title"]) == (404, "No route")
    assert problem["detail"] == (
        "no route matches the host and path of this request. token-proxy passes requests of programs on, "
        f"with an OAuth token added. Its routes here: /up. Its status page: {public_url}/"
    )
    assert problem["documentation"] == f"{public_url}/help/no-route"


async def test_routes_are_shown_as_callers_reach_them_and_not_all(make_proxy, upstream, kit):
    more = "".join(OTHERS.format(f"r{number}") for number in range(LISTED + 1))
    named = OTHERS.format("deep/er").replace("[[routes]]", '[[routes]]\nhost = "crm.example"', 1)
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits=named + more) as proxy:
        _, problem = await problem_of(proxy, kit)
    assert "/up, crm.example/deep/er, /r0, " in problem["detail"]
    assert f"/r{LISTED - 3} and 3 more." in problem["detail"]
    assert "secret-base" not in problem["detail"]


async def test_a_route_with_a_listener_of_its_own_is_not_one_of_these(make_proxy, upstream, kit):
    own = OTHERS.format("own").replace('path = "/own"', 'name = "own"\nlisten = "127.0.0.1:9001"')
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits=own) as proxy:
        context = proxy.relay.context
        context.own = {1: next(each for each in context.runtimes if each.name == "own")}
        _, problem = await problem_of(proxy, kit)
    assert "Its routes here: /up. " in problem["detail"]


async def test_with_callers_no_route_is_named(make_proxy, upstream, kit):
    callers = f'[callers.build]\nkey = "{KEY}"\nroutes = []\n'
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits=callers) as proxy:
        unknown = await problem_of(proxy, kit)
        known = await problem_of(proxy, kit, lines=f"Token-Proxy-Key: {KEY}\r\n".encode())
        typed = await problem_of(proxy, kit, lines=TYPED)
    assert [each[0] for each in (unknown, known, typed)] == [401, 404, 403]
    for _, problem in (unknown, known, typed):
        assert "/up" not in problem["detail"]
    assert "token-proxy explain" in known[1]["detail"]


@pytest.mark.parametrize("path", [b"/", b"/other", b"/up"])
@pytest.mark.parametrize("lines", [TYPED, CLICKED])
async def test_a_person_who_types_the_url_is_told_where_the_status_page_is(proxy, kit, upstream, path, lines):
    status, problem = await problem_of(proxy, kit, path, lines)
    public_url = proxy.relay.context.public_url
    assert (status, problem["type"].rpartition(":")[2]) == (403, "browser-refused")
    assert problem["detail"] == (
        f"this port is for programs, not for browsers: try curl; the status page is {public_url}/"
    )
    assert upstream.requests == 0


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        (b"GET", FETCHED),
        (b"POST", TYPED),
        (b"GET", TYPED + b"Origin: https://evil.example\r\n"),
        (b"GET", b"Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n"),
        (b"GET", b"Sec-Fetch-Site: same-origin\r\n"),
        (b"GET", b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Mode: cors\r\n"),
    ],
)
async def test_a_web_page_is_told_how_its_operator_can_let_it_in(proxy, kit, method, lines):
    status, problem = await problem_of(proxy, kit, b"/up", lines, method)
    assert status == 403
    assert "this request comes from a web page" in problem["detail"]
    assert "`origins` of the route" in problem["detail"]
    assert proxy.relay.context.public_url not in problem["detail"]


async def test_a_browser_that_marks_nothing_is_told_the_same(make_proxy, upstream, kit):
    hosts = 'allowed_hosts = ["proxy.internal"]\n'
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", server=hosts) as proxy:
        raw = (
            b"GET / HTTP/1.1\r\nHost: proxy.internal\r\nUser-Agent: Mozilla/5.0\r\nConnection: close\r\n\r\n"
        )
        status, _, body = kit.split(await proxy.ask(raw))
    assert status == 403
    assert json.loads(body)["detail"].startswith("this port is for programs, not for browsers")
