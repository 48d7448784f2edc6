"""Where the token goes, and what becomes of the caller's own field or parameter of that name."""

import base64
import re

import pytest

NO = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"
X_API_KEY = 'attach = { header = "X-Api-Key", scheme = "" }'
TOKEN_SCHEME = 'attach = { scheme = "token" }'
BASIC = 'attach = { basic_user = "x-access-token" }'
QUERY = 'attach = { query = "access_token" }'
SEVERAL = f"attach = [{{ }}, {X_API_KEY.removeprefix('attach = ')}, {QUERY.removeprefix('attach = ')}]"
PASS = 'caller_authorization = "pass"'


def basic(token):
    return b"Authorization: Basic " + base64.b64encode(b"x-access-token:" + token)


PLACES = {  # how the token appears in the head of a request
    X_API_KEY: lambda token: [b"X-Api-Key: " + token],
    TOKEN_SCHEME: lambda token: [b"Authorization: token " + token],
    BASIC: lambda token: [basic(token)],
    QUERY: lambda token: [b"access_token=" + token],
    SEVERAL: lambda token: [
        b"Authorization: Bearer " + token,
        b"X-Api-Key: " + token,
        b"access_token=" + token,
    ],
}
# everything that a caller may try to have in its place
FOREIGN = [
    b"Authorization: Bearer foreign",
    b"authorization_: foreign",
    b"X-Api-Key: foreign",
    b"x_api_key: foreign",
    b"-X-API-KEY: foreign",
    b"Connection: x-api-key, authorization, close",
]


HEAD = re.compile(rb"[A-Z]+ /[^\r\n]* HTTP/1\.1\r\n(?:[^\r\n]+\r\n)+(?=\r\n)")


def heads(upstream):
    return HEAD.findall(b"".join(upstream.received))


@pytest.fixture
def made(make_proxy, upstream):
    return lambda credential, route="": make_proxy(
        f"http://127.0.0.1:{upstream.port}/base", credential=credential, route=route
    )


@pytest.mark.parametrize("place", PLACES)
async def test_the_token_replaces_whatever_the_caller_has_there(made, upstream, kit, place):
    async with made(place) as proxy:
        await proxy.adopt("t0ken")
        path = b"/up/x?a=1&access_token=foreign&b=2&access%5Ftoken=foreign" if "query" in place else b"/up/x"
        lines = FOREIGN if "header" in place else [each for each in FOREIGN if b"uthorization" in each]
        await proxy.ask(kit.request(b"GET", path, *lines, b"Accept: */*", b"Connection: close"))
    (head,) = heads(upstream)
    assert b"foreign" not in head
    assert b"Accept: */*" in head
    for expected in PLACES[place](b"t0ken"):
        assert head.count(expected) == 1
        assert head.count(b"t0ken") == len(PLACES[place](b"t0ken")) - ("basic_user" in place)
    target = head.split(b" ")[1]
    assert target == (b"/base/x?a=1&b=2&access_token=t0ken" if "query" in place else b"/base/x")


@pytest.mark.parametrize("place", PLACES)
async def test_a_401_is_replayed_with_the_new_token_in_the_same_place(made, upstream, kit, place):
    async with made(place) as proxy:
        await proxy.adopt("rejected")
        upstream.script = [NO]
        answer = await proxy.ask(
            kit.request(b"POST", b"/up", b"Content-Length: 5", b"Connection: close", body=b"hello")
        )
        assert answer.startswith(b"HTTP/1.1 200 ")
        token = proxy.account.attachment.access_token.reveal().encode()
    first, second = heads(upstream)
    assert all(expected in first for expected in PLACES[place](b"rejected"))
    assert all(expected in second for expected in PLACES[place](token))
    assert b"rejected" not in second
    assert all(received.endswith(b"hello") for received in upstream.received)


async def test_the_token_in_a_query_is_in_no_response_and_no_log(made, upstream, kit, caplog):
    async with made(QUERY) as proxy:
        await proxy.adopt("t0k/en")
        to = b"http://127.0.0.1:%d/base/x/?page=1&access_token=t0k%%2Fen" % upstream.port
        link = b"Link: <https://other.example/?access_token=t0k%2Fen>; rel=next"
        fields = b"Location: %b\r\n%b\r\nContent-Length: 0" % (to, link)
        upstream.script = [b"HTTP/1.1 302 Found\r\n%b\r\n\r\n" % fields, NO]
        answer = await proxy.get(b"/up/x?page=1")
        answer += await proxy.get(b"/up/x?page=1")
    assert b"/up/x/?page=1\r\nLink: <https://other.example/>; rel=next\r\n" in answer
    assert b"t0k" not in answer
    assert "t0k" not in caplog.text
    assert b"access_token=t0k%2Fen" in heads(upstream)[0]


@pytest.mark.parametrize("place", [X_API_KEY, QUERY])
async def test_the_callers_authorization_passes_where_the_route_says_so(made, upstream, kit, place):
    lines = [b"Authorization: Digest a, b", b"authorization: Bearer c", b"Authorization_: d"]
    async with made(place, PASS) as proxy:
        await proxy.adopt("t0ken")
        await proxy.get(b"/up/x", *lines)
        await proxy.get(b"/up/x", *lines, b"Connection: authorization")
        await proxy.get(b"/up/x")
    passed, nominated, without = heads(upstream)
    assert b"\r\nAuthorization: Digest a, b\r\nAuthorization: Bearer c\r\n" in passed
    assert b"Authorization_" not in passed
    assert b"uthorization" not in nominated
    assert b"uthorization" not in without


async def test_without_it_the_callers_authorization_goes_nowhere(made, upstream):
    async with made(X_API_KEY) as proxy:
        await proxy.adopt("t0ken")
        await proxy.get(b"/up/x", b"Authorization: Bearer own")
    assert b"uthorization" not in heads(upstream)[0]


async def test_no_callers_key_passes_in_the_authorization_of_a_caller(make_proxy, upstream):
    key = b"tpk_" + b"k" * 43
    caller = f'[callers.build]\nkey = "{key.decode()}"'
    async with make_proxy(
        f"http://127.0.0.1:{upstream.port}", credential=X_API_KEY, route=f"{PASS}\n{caller}"
    ) as proxy:
        await proxy.adopt("t0ken")
        in_basic = base64.b64encode(b"me:" + key)
        for line in (b"Authorization: Bearer " + key, b"Authorization: Basic " + in_basic):
            assert (await proxy.get(b"/up", line)).startswith(b"HTTP/1.1 200 ")
        mine = await proxy.get(b"/up", b"Token-Proxy-Key: " + key, b"Authorization: Bearer own")
        assert mine.startswith(b"HTTP/1.1 200 ")
        assert (await proxy.get(b"/up", b"Authorization: Bearer own")).startswith(b"HTTP/1.1 401 ")
    received = b"".join(upstream.received)
    assert key not in received
    assert in_basic not in received
    assert received.count(b"Authorization: Bearer own") == 1


async def test_a_route_sets_authorization_where_the_token_goes_elsewhere(made, upstream):
    async with made(X_API_KEY, 'headers = { Authorization = "Basic eDp5" }') as proxy:
        await proxy.adopt("t0ken")
        await proxy.get(b"/up", b"Authorization: own")
    assert heads(upstream)[0].count(b"uthorization") == 1
    assert b"\r\nAuthorization: Basic eDp5\r\n" in heads(upstream)[0]


async def test_a_trailer_can_not_bring_the_field_back(made, upstream, kit):
    async with made(X_API_KEY) as proxy:
        await proxy.adopt("t0ken")
        body = b"2\r\nhi\r\n0\r\nX-Api-Key: foreign\r\nX-Checksum: 1\r\n\r\n"
        await proxy.ask(
            kit.request(b"POST", b"/up", b"Transfer-Encoding: chunked", b"Connection: close", body=body)
        )
    assert b"foreign" not in upstream.received[0]
    assert b"X-Checksum: 1" in upstream.received[0]
