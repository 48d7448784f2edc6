"""GET /.token-proxy/token/CREDENTIAL on a data listener: a caller fetches a token itself."""

import json

import pytest

from proxy.relay.token_requests import is_reserved

KEYS = {name: b"tpk_" + name[:1].encode() * 43 for name in ("build", "reader", "all")}
CALLERS = f"""
[callers.build]
key = "{KEYS["build"].decode()}"
tokens = ["cred"]
account = "mine"
[callers.all]
key = "{KEYS["all"].decode()}"
tokens = ["cred"]
accounts = ["*"]
[callers.reader]
key = "{KEYS["reader"].decode()}"
"""
ROOT = """
[[routes]]
path = "/"
upstream = "{upstream}"
credential = "cred"
"""
PATH = b"/.token-proxy/token/cred"


def key(name):
    return b"Token-Proxy-Key: " + KEYS[name]


@pytest.fixture
async def proxy(make_proxy, upstream):
    url = f"http://127.0.0.1:{upstream.port}"
    async with make_proxy(url, route=ROOT.format(upstream=url) + CALLERS) as made:
        yield made


async def test_a_caller_that_lists_the_credential_gets_its_token(proxy, upstream, kit):
    status, fields, body = kit.split(await proxy.get(PATH, key("build")))
    document = json.loads(body)
    assert status == 200
    assert document["access_token"] == proxy.account.attachment.access_token.reveal()
    assert document["token_type"] == "Bearer"
    assert 0 < document["expires_in"] <= 60
    now = proxy.state.clock.wall()
    assert abs(document["expires_at"] - now - document["expires_in"]) < 60
    assert set(document) == {"access_token", "token_type", "expires_in", "expires_at"}
    assert b"Cache-Control: no-store" in fields
    assert b"Content-Type: application/json" in fields
    assert upstream.requests == 0


async def test_a_query_does_not_matter_and_a_head_has_no_body(proxy, kit):
    assert (await proxy.get(PATH + b"?x=/y", key("build"))).startswith(b"HTTP/1.1 200 ")
    answer = await proxy.ask(kit.request(b"HEAD", PATH, key("build"), b"Connection: close"))
    status, fields, body = kit.split(answer)
    assert (status, body) == (200, b"")
    assert any(each.startswith(b"Content-Length: ") and each != b"Content-Length: 0" for each in fields)


async def test_the_connection_goes_on(proxy, kit):
    ask = kit.request(b"GET", PATH, key("build"))
    with_body = kit.request(
        b"GET", PATH, key("build"), b"Content-Length: 5", b"Connection: close", body=b"hello"
    )
    answer = await proxy.ask(ask + ask + kit.request(b"GET", b"/up", key("build")) + with_body)
    assert answer.count(b"HTTP/1.1 200 OK") == 4


REFUSED = [  # method, path, caller, status, ending
    (b"GET", PATH, None, 401, "caller-unknown"),
    (b"GET", PATH, "reader", 403, "caller-denied"),
    (b"GET", b"/.token-proxy/token/other", "build", 403, "caller-denied"),
    (b"GET", PATH + b"/alice", "build", 403, "caller-denied"),
    (b"GET", PATH + b"/", "build", 400, "account-invalid"),
    (b"GET", PATH + b"/a/b", "all", 400, "account-invalid"),
    (b"GET", PATH + b"/%61", "all", 400, "account-invalid"),
    (b"POST", PATH, "build", 405, "method-refused"),
    (b"OPTIONS", PATH, "build", 405, "method-refused"),
    (b"GET", b"/.token-proxy", "build", 404, "no-route"),
    (b"GET", b"/.token-proxy/", "build", 404, "no-route"),
    (b"GET", b"/.token-proxy/token", "build", 404, "no-route"),
    (b"GET", b"/.token-proxy/token/", "build", 404, "no-route"),
    (b"GET", b"/.token-proxy?x", "build", 404, "no-route"),
    (b"GET", b"/.token-proxy/other", "build", 404, "no-route"),
]


@pytest.mark.parametrize(("method", "path", "caller", "status", "ending"), REFUSED)
async def test_all_else_is_refused_and_nothing_goes_upstream(
    proxy, upstream, kit, method, path, caller, status, ending
):
    lines = [key(caller)] if caller else []
    answer = await proxy.ask(kit.request(method, path, *lines, b"Connection: close"))
    found, _, body = kit.split(answer)
    assert (found, json.loads(body)["type"].rpartition(":")[2]) == (status, ending)
    assert upstream.requests == 0
    assert proxy.refused(ending) == 1


async def test_a_web_page_gets_none(proxy, upstream):
    for line in (b"Sec-Fetch-Site: cross-site", b"Origin: https://evil.example"):
        assert (await proxy.get(PATH, key("build"), line)).startswith(b"HTTP/1.1 403 ")
    assert upstream.requests == 0


async def test_the_callers_own_account_and_named_ones(make_proxy, upstream, kit):
    url = f"http://127.0.0.1:{upstream.port}"
    async with make_proxy(url, route=CALLERS, grant="authorization_code") as proxy:
        for name in ("mine", "alice"):
            await proxy.adopt(f"token-of-{name}", name, lifetime=None)
        for caller, name in (("build", b"mine"), ("all", b"alice")):
            status, _, body = kit.split(await proxy.get(PATH + b"/" + name, key(caller)))
            assert (status, json.loads(body)["access_token"]) == (200, f"token-of-{name.decode()}")
            assert json.loads(body)["expires_in"] is json.loads(body)["expires_at"] is None
        status, _, body = kit.split(await proxy.get(PATH + b"/nobody", key("all")))
        document = json.loads(body)
        assert (status, document["type"].rpartition(":")[2]) == (503, "login-required")
        assert document["login_url"].endswith("/login/cred/nobody")


async def test_without_callers_the_path_is_reserved_all_the_same(make_proxy, upstream):
    url = f"http://127.0.0.1:{upstream.port}"
    async with make_proxy(url, route=ROOT.format(upstream=url)) as proxy:
        assert (await proxy.get(PATH)).startswith(b"HTTP/1.1 404 ")
        assert upstream.requests == 0
        assert (await proxy.get(b"/.token-proxyx")).startswith(b"HTTP/1.1 200 ")
        assert (await proxy.get(b"/.well-known/x")).startswith(b"HTTP/1.1 200 ")


async def test_it_is_logged_without_the_token(proxy, caplog):
    caplog.set_level("INFO")
    await proxy.get(PATH, key("build"))
    (record,) = [each for each in caplog.records if getattr(each, "event", "") == "token_handed_out"]
    assert record.getMessage() == "the access token of cred/default was handed out to build"
    assert proxy.account.attachment.access_token.reveal() not in caplog.text


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", False),
        (b"*", False),
        (b"/.", False),
        (b"/.token-prox", False),
        (b"/.token-proxy", True),
        (b"/.token-proxy?", True),
        (b"/.token-proxy/x", True),
        (b"/.token-proxyx", False),
        (b"/x/.token-proxy/", False),
    ],
)
def test_what_is_reserved(path, expected):
    assert is_reserved(path) == expected
