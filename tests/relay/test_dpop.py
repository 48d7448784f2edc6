"""Proofs towards an upstream that verifies each of them: nonces, replays, many requests at once."""

import asyncio

import pytest

from proxy.oauth.dpop import Nonces, Prover, new_key
from proxy.tokens import proofs
from tests.fakes.dpop import BadProof, Verifier

DPOP = "dpop = true\n"
KEY = new_key(None)
THUMBPRINT = Prover(KEY).thumbprint


@pytest.fixture(autouse=True)
def no_nonces(monkeypatch):
    monkeypatch.setattr(proofs, "_nonces", Nonces())


class Judge:
    """A script for the upstream: it verifies each request, and answers 200, or 401 as RFC 9449 says."""

    def __init__(self, proxy, upstream, nonce="", renews=False):
        self.verifier = Verifier(proxy.state.clock.wall, nonce)
        self.origin = f"http://127.0.0.1:{upstream.port}"
        self.renews, self.verdicts, self.faults, self.count = renews, [], [], 0
        self.challenge = b'DPoP algs="ES256", error="use_dpop_nonce"'
        self.token = "bound"

    async def __call__(self, connection):
        head = connection.received.rpartition(b" HTTP/1.1\r\n")
        start = head[0].rpartition(b"\n")[2].split(b" ")
        lines = head[2].partition(b"\r\n\r\n")[0].split(b"\r\n")
        fields = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
        ]
        self.count += 1
        method, target = (part.decode("latin-1") for part in start[:2])
        given = [value.decode() for name, value in fields if name == b"dpop"]
        authorization = [value.decode() for name, value in fields if name == b"authorization"]
        try:
            assert authorization == [f"DPoP {self.token}"], authorization
            url = self.origin + target.partition("?")[0]
            assert self.verifier.check(given, method, url, self.token) == THUMBPRINT
            self.verdicts.append(200)
        except LookupError:
            self.verdicts.append(401)
        except (BadProof, AssertionError) as error:
            self.faults.append(error)
            self.verdicts.append(400)
        if self.renews:
            self.verifier.nonce = f"n-{self.count}"
        status = {200: b"200 OK", 401: b"401 Unauthorized", 400: b"400 Bad Request"}[self.verdicts[-1]]
        more = b"\r\nDPoP-Nonce: " + self.verifier.nonce.encode() if self.verifier.nonce else b""
        if self.verdicts[-1] == 401:
            more += b"\r\nWWW-Authenticate: " + self.challenge
        connection.writer.write(b"HTTP/1.1 " + status + more + b"\r\nContent-Length: 2\r\n\r\nok")
        await connection.writer.drain()


@pytest.fixture
async def bound(make_proxy, upstream):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}/base", credential=DPOP) as made:
        await made.adopt("bound", dpop_key=KEY)
        yield made


def judge(proxy, upstream, count=100, **more):
    made = Judge(proxy, upstream, **more)
    upstream.script = [made] * count
    return made


PATHS = [b"/up", b"/up/", b"/up/a?b=c&d=%26", b"/up/%C3%A9/x%20y", b"/up/a;b=c", b"/up//x", b"/up/x?"]


@pytest.mark.parametrize("path", PATHS)
async def test_each_request_has_a_proof_of_its_own(bound, upstream, kit, path):
    verdicts = judge(bound, upstream)
    for method in (b"GET", b"POST", b"DELETE", b"PROPFIND"):
        body = [b"Content-Length: 0"] if method == b"POST" else []
        answer = await bound.ask(kit.request(method, path, *body, b"Connection: close"))
        assert kit.split(answer)[0] == 200
    assert (verdicts.verdicts, verdicts.faults) == ([200] * 4, [])


async def test_a_nonce_that_is_asked_for_is_sent_with_the_same_request(bound, upstream, kit):
    verdicts = judge(bound, upstream, nonce="n-0")
    bodies = [
        ([], b""),
        ([b"Content-Length: 5"], b"hello"),
        ([b"Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n"),
    ]
    for number, (lines, body) in enumerate(bodies):
        verdicts.verifier.nonce = f"n-{number}"
        answer = await bound.ask(kit.request(b"POST", b"/up", *lines, b"Connection: close", body=body))
        assert kit.split(answer)[0] == 200
    assert verdicts.verdicts == [401, 200] * 3
    assert verdicts.faults == []
    assert bound.server.token_requests == []  # the token was not at fault
    assert bound.sample("upstream_unauthorized_total", route="up", action="replayed") == 3
    assert (await bound.get()).startswith(b"HTTP/1.1 200 "), "the last one is remembered"
    assert verdicts.verdicts[6:] == [200]


async def test_a_token_that_ends_beside_a_nonce_is_replaced_all_the_same(bound, upstream, kit):
    """The request was sent again for the nonce alone; a better token is worth another time."""

    async def ended(connection):
        connection.writer.write(
            b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: DPoP error="invalid_token"\r\n'
            b"Content-Length: 0\r\n\r\n"
        )
        await connection.writer.drain()

    verdicts = judge(bound, upstream, nonce="n-0")
    upstream.script = [verdicts, ended]
    answer = await bound.ask(kit.request(b"GET", b"/up", b"Connection: close"))
    assert kit.split(answer)[0] == 401, "the server of these tests has no bound token to give"
    assert len(bound.server.token_requests) == 1


async def test_a_nonce_of_any_response_is_used_next(bound, upstream):
    verdicts = judge(bound, upstream, nonce="n-0", renews=True)
    for _ in range(5):
        assert (await bound.get()).startswith(b"HTTP/1.1 200 ")
    assert verdicts.verdicts == [401, 200, 200, 200, 200, 200]


async def test_many_requests_at_once_learn_the_same_nonce(bound, upstream):
    verdicts = judge(bound, upstream, nonce="n-0")
    answers = await asyncio.gather(*(bound.get() for _ in range(20)))
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert verdicts.verdicts.count(200) == 20
    assert verdicts.faults == []
    assert bound.server.token_requests == []


async def test_an_upstream_that_never_takes_a_nonce_is_asked_twice(bound, upstream, kit):
    verdicts = judge(bound, upstream, nonce="n-0")
    verdicts.verifier.check = lambda *_: (_ for _ in ()).throw(LookupError)
    assert kit.split(await bound.get())[0] == 401
    assert verdicts.verdicts == [401, 401]
    assert bound.server.token_requests == []


async def test_a_body_too_long_to_repeat_gets_its_401_and_the_next_one_has_the_nonce(bound, upstream, kit):
    verdicts = judge(bound, upstream, nonce="n-0")
    body = b"x" * 200_000 + b"\n"
    size = [b"Content-Length: %d" % len(body), b"Connection: close"]
    request = kit.request(b"POST", b"/up", *size, body=body)
    answers = [kit.split(await bound.ask(request))[0] for _ in range(2)]
    assert answers == [401, 200]
    assert verdicts.verdicts == [401, 200]


CHALLENGES = [  # of a 401 with a nonce, whether the request is sent again with the same token
    (b'DPoP error="use_dpop_nonce"', True),
    (b"DPoP error=use_dpop_nonce", True),
    (b'dpop realm="x", error="use_dpop_nonce", error_description="a, b"', True),
    (b'Bearer realm="x", DPoP algs="ES256 PS256", error="use_dpop_nonce"', True),
    (b'DPoP error="invalid_token"', False),
    (b'DPoP error="use_dpop_nonces"', False),
    (b'Bearer error="use_dpop_nonce"', False),
    (b'DPoP realm="use_dpop_nonce"', False),
    (b"XDPoP error=use_dpop_nonce", False),
]


@pytest.mark.parametrize(("challenge", "again"), CHALLENGES)
async def test_only_the_code_of_the_rfc_asks_for_a_nonce(bound, upstream, challenge, again):
    verdicts = judge(bound, upstream, nonce="n-0")
    verdicts.challenge = challenge
    await bound.get()
    assert (verdicts.verdicts == [401, 200]) is again
    assert bool(bound.server.token_requests) is not again, "else the token is refreshed"


@pytest.mark.parametrize("field", [b"", b"DPoP-Nonce: a b\r\n", b"DPoP-Nonce: a\r\nDPoP-Nonce: b\r\n"])
async def test_without_one_valid_nonce_it_is_a_401_like_others(bound, upstream, field):
    challenge = b'WWW-Authenticate: DPoP error="use_dpop_nonce"\r\n'
    upstream.script = [b"HTTP/1.1 401 Unauthorized\r\n" + challenge + field + b"Content-Length: 0\r\n\r\n"]
    await bound.get()
    assert len(bound.server.token_requests) == 1


async def test_the_proof_of_a_caller_never_passes(bound, proxy, upstream, kit):
    verdicts = judge(bound, upstream, 2)
    lines = [b"DPoP: forged", b"Dpop_: forged", b"dpop: x", b"Authorization: DPoP theirs"]
    assert (await bound.get(b"/up", *lines)).startswith(b"HTTP/1.1 200 ")
    assert verdicts.faults == []
    upstream.script = []
    await proxy.adopt("plain")
    await proxy.get(b"/up", *lines)
    sent = upstream.connections[-1].received
    assert b"forged" not in sent
    assert b"dpop" not in sent.lower()
    assert sent.count(b"Authorization: Bearer plain") == 1


@pytest.mark.parametrize("key", [None, KEY], ids=["a bearer token", "a bound token"])
async def test_a_token_of_the_other_kind_is_not_attached(make_proxy, upstream, key):
    keys = DPOP if key is None else ""
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", credential=keys) as proxy:
        await proxy.adopt("other-kind", dpop_key=key)
        await proxy.get()
        assert not any(b"other-kind" in received for received in upstream.received)
