"""Links and cookies through a real relay: what a caller receives keeps it in its route.

`two` is a relay with two routes to two upstreams: /up to A, under /v2, and /b to B. Real clients follow what
A says; B must see nothing of it.
"""

import asyncio
import shutil
from contextlib import asynccontextmanager

import pytest
import requests

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")
SECOND = """
{options}
[[routes]]
path = "/b"
upstream = "http://127.0.0.1:{port}"
credential = "other"
[credentials.other]
token_endpoint = "http://127.0.0.1:1/token"
grant = "client_credentials"
client_id = "other"
client_secret = "secret"
"""
STEERING = [  # base of A's upstream, what A says in Location
    ("/v2", b"/b/steal"),
    ("/v2", b"/v2/../b/steal"),
    ("/v2", b"http://@A@/v2/../b/steal"),
    ("/v2", b"../b/steal"),
    ("/v2", b"/v2/%2e%2e/b/steal"),
    ("", b"../b/steal"),
    ("", b"/b/steal"),
    ("", b"/../b/steal"),
    ("", b"..\\b\\steal"),
    ("", b"\\b/steal"),
    ("", b"http:/b/steal"),
    ("", b"http:b/steal"),
    ("", b"/.\t./b/steal"),
    ("", b"//@A@/../b/steal"),
    ("/v2", b"http://localhost:@P@/b/steal"),
    ("/v2", b"http://127.0.0.1:@P@/b/steal"),
    ("/v2", b"http://2130706433:@P@/b/steal"),
    ("/v2", b"http://0x7f.1:@P@/b/steal"),
    ("/v2", b"http://u:p@localhost:@P@/b/steal"),
    ("/v2", b"//LOCALHOST.:@P@/b/steal"),
]


@asynccontextmanager
async def two_routes(make_proxy, upstream, kit, *, base="/v2", options=""):
    other = kit.Upstream()
    async with kit.serving(other):
        route = SECOND.format(options=options, port=other.port)
        async with make_proxy(f"http://127.0.0.1:{upstream.port}{base}", route=route) as proxy:
            await proxy.adopt("tokenofb", credential="other")
            proxy.other = other
            yield proxy


def redirect(location, *lines):
    head = [b"HTTP/1.1 307 Go", b"Location: " + location, *lines, b"Content-Length: 0", b"", b""]
    return b"\r\n".join(head)


@pytest.mark.parametrize(("base", "said"), STEERING)
@pytest.mark.parametrize("client", ["requests", pytest.param("curl", marks=needs_curl)])
async def test_no_redirect_leads_a_caller_into_another_route(make_proxy, upstream, kit, base, said, client):
    async with two_routes(make_proxy, upstream, kit, base=base) as proxy:
        said = said.replace(b"@A@", b"127.0.0.1:%d" % upstream.port).replace(b"@P@", b"%d" % proxy.port)
        upstream.script = [redirect(said)]
        url = f"http://127.0.0.1:{proxy.port}/up/x"
        if client == "curl":
            process = await asyncio.create_subprocess_exec(
                *(CURL, "-s", "-L", "-m", "5", "--noproxy", "*", "-d", "BODY-FOR-A", url),
                stdout=asyncio.subprocess.DEVNULL,
            )
            await process.wait()
        else:
            await asyncio.to_thread(follow, url)
        assert proxy.other.received == []
        assert upstream.requests >= 1


def follow(url):
    with requests.Session() as session:
        session.trust_env = False
        try:
            session.post(url, data="BODY-FOR-A", timeout=5)
        except requests.RequestException:
            return  # a link that leads nowhere is as good


async def test_an_app_can_follow_a_redirect_and_keeps_its_cookie(proxy, upstream, kit):
    upstream.script = [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/base/y\r\n"
        b"Set-Cookie: s=1; Domain=127.0.0.1; Path=/base; Secure\r\nContent-Length: 0\r\n\r\n" % upstream.port
    ]
    _, fields, _ = kit.split(await proxy.get())
    assert b"Location: http://localhost/up/y" in fields
    assert b"Set-Cookie: s=1; Path=/up" in fields


async def test_a_redirect_elsewhere_is_passed_on_and_not_followed(proxy, upstream, kit):
    upstream.script = [b"HTTP/1.1 307 Go\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n"]
    status, fields, _ = kit.split(await proxy.get())
    assert status == 307
    assert b"Location: https://evil.example/" in fields
    assert upstream.requests == 1
