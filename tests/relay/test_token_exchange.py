"""Callers' own tokens, exchanged for the upstream's (RFC 8693): nobody gets a token of somebody else."""

import asyncio
import base64
import hashlib
import json
import random
import re

import pytest

from proxy.demo import faults
from proxy.tokens import exchanged
from proxy.tokens.refresh import backoff

from .conftest import proxying

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
SUBJECT = 'subject_token = { header = "Authorization" }\naudience = "https://api.example"\n'
KEY = "tpk_" + "b" * 43
GIVEN = "a-key-of-our-own-making"
DIGEST = "only-its-digest-is-in-the-file"
CALLERS = f"""
[callers.build]
key = "{KEY}"
[callers.given]
key = "{GIVEN}"
[callers.digest]
key_sha256 = "{hashlib.sha256(DIGEST.encode()).hexdigest()}"
"""
AUTHORIZATION = re.compile(rb"\r\nAuthorization: Bearer ([^\r]+)\r\n")


@pytest.fixture
def make(tmp_path, upstream, monkeypatch):
    monkeypatch.setattr(backoff, "BACKOFF_FIRST", 0.002)

    def made(credential=SUBJECT, **more):
        url = f"http://127.0.0.1:{upstream.port}/base"
        return proxying(tmp_path, url, grant="token_exchange", credential=credential, **more)

    return made


def subject(proxy, person):
    """A person's own token, as from a login elsewhere."""
    return proxy.server.issue("machine", person)["access_token"]


def bearer(token):
    return b"Authorization: Bearer " + token.encode()


def whose(proxy, received):
    """The subjects of the tokens that the upstream has got."""
    return [proxy.server.active(each.decode()) for each in AUTHORIZATION.findall(received)]


def exchanges(proxy):
    return [each for each in proxy.server.token_requests if each.grant_type == EXCHANGE]


async def problem(proxy, kit, *lines):
    status, fields, body = kit.split(await proxy.get(b"/up/x", *lines))
    return status, json.loads(body) if status >= 400 else None, fields


async def test_a_callers_own_token_is_exchanged_once_and_stays_here(make, kit, upstream):
    async with make() as proxy:
        own = subject(proxy, "ann")
        for _ in range(3):
            status, _, _ = await problem(proxy, kit, bearer(own), b"X-Kept: yes")
            assert status == 200
        (form,) = proxy.server.exchanges
        assert (form["subject_token"], form["audience"]) == (own, "https://api.example")
        assert form["subject_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
        for received in upstream.received:
            assert own.encode() not in received
            assert b"X-Kept: yes" in received
            assert set(whose(proxy, received)) == {"ann"}


async def test_many_people_at_once_each_get_their_own_and_one_exchange(make, upstream):
    """Hundreds of requests in any order, on any connection: each carries a token of its own caller."""
    async with make() as proxy:
        people = [f"p{number}" for number in range(12)]
        own = {name: subject(proxy, name) for name in people}
        asked = people * 20
        random.Random(8693).shuffle(asked)

        async def ask(name):
            answer = await proxy.get(b"/up/" + name.encode(), bearer(own[name]))
            assert answer.startswith(b"HTTP/1.1 200")

        await asyncio.gather(*map(ask, asked))
        assert len(exchanges(proxy)) == len(people)
        count = 0
        for connection in upstream.connections:
            for part in connection.received.split(b"GET ")[1:]:
                name = part.partition(b" ")[0].rpartition(b"/")[2].decode()
                token = AUTHORIZATION.search(part)[1].decode()
                assert proxy.server.active(token) == name
                count += 1
            assert len({part.partition(b" ")[0] for part in connection.received.split(b"GET ")[1:]}) <= 1
        assert count == len(asked)


NO_TOKEN = [
    [],
    [b"Authorization: "],
    [b"Authorization: Bearer"],
    [b"Authorization: Bearer "],
    [b"Authorization: Basic YTpi"],
    [b"Authorization: token-without-a-scheme"],
    [b"Authorization: Bearer a b"],
    [b"Authorization: Bearer a\tb"],
    [b"Authorization: Bearer \xc3\xa9"],
    [b"Authorization: Bearer one", b"Authorization: Bearer two"],
    [b"authorization: Bearer one", b"AUTHORIZATION: Bearer one"],
    [b"X-Authorization: Bearer one"],
]


@pytest.mark.parametrize("lines", NO_TOKEN)
async def test_without_one_token_of_its_own_a_caller_gets_a_401(make, kit, upstream, lines):
    async with make() as proxy:
        status, document, fields = await problem(proxy, kit, *lines)
        assert status == 401
        assert document["type"] == "urn:token-proxy:problem:caller-unknown"
        assert "needs the caller's own token" in document["detail"]
        assert b"WWW-Authenticate: Bearer" in fields
        assert exchanges(proxy) == []
        assert upstream.requests == 0


async def test_a_token_that_the_server_refuses_is_the_callers_fault_and_asked_about_once(make, kit, upstream):
    async with make() as proxy:
        for _ in range(5):
            status, document, fields = await problem(proxy, kit, bearer("not-a-token-of-this-server"))
            assert (status, document["type"].rpartition(":")[2]) == (401, "caller-unknown")
            assert "does not exchange the caller's own token (invalid_request)" in document["detail"]
            assert "not-a-token" not in json.dumps(document)
            assert b"WWW-Authenticate: Bearer" in fields
        assert len(exchanges(proxy)) == 1
        assert upstream.requests == 0
        own = subject(proxy, "ann")  # and nobody else is held back
        assert (await problem(proxy, kit, bearer(own)))[0] == 200


async def test_an_ended_jwt_is_not_sent_anywhere(make, kit):
    async with make() as proxy:
        status, document, _ = await problem(proxy, kit, bearer(jwt(proxy, -1)))
        assert (status, document["type"].rpartition(":")[2]) == (401, "caller-unknown")
        assert "expired_token" in document["detail"]
        assert exchanges(proxy) == []


def jwt(proxy, seconds):
    """Unsigned: only the server judges that."""
    parts = ({"alg": "none"}, {"exp": proxy.state.clock.wall() + seconds, "sub": "ann"})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2ln"])


async def test_a_new_token_ends_with_its_subject(make, kit, monkeypatch):
    async with make() as proxy:
        own = jwt(proxy, 20)
        monkeypatch.setattr(type(proxy.server._protocol.ledger), "subject_of", lambda *_: "ann")
        assert (await problem(proxy, kit, bearer(own)))[0] == 200
        (account,) = proxy.tokens._exchanged._accounts.values()
        left = account.usable_until - proxy.state.clock.boot()
        assert 0 < left <= 20
        assert account.held.token.lifetime <= 20


async def test_a_server_that_is_down_is_not_the_callers_fault(make, kit):
    async with make() as proxy:
        proxy.server.script(faults.NAMED["outage"], times=None)
        status, document, _ = await problem(proxy, kit, bearer(subject(proxy, "ann")))
        assert (status, document["type"].rpartition(":")[2]) == (503, "token-unavailable")


async def test_a_client_that_may_not_exchange_is_a_fault_of_the_configuration(make, kit):
    async with make() as proxy:
        proxy.server.script(faults.NAMED["invalid-client"], times=None)
        status, document, _ = await problem(proxy, kit, bearer(subject(proxy, "ann")))
        assert (status, document["type"].rpartition(":")[2]) == (503, "credential-misconfigured")


async def test_a_lost_response_is_asked_for_again(make, kit):
    async with make() as proxy:
        proxy.server.script(faults.NAMED["drop-after-commit"])
        assert (await problem(proxy, kit, bearer(subject(proxy, "ann"))))[0] == 200
        assert len(exchanges(proxy)) == 2


async def test_a_401_of_the_upstream_gets_a_new_exchange_of_the_same_person(make, kit, upstream):
    async with make() as proxy:
        own = {name: subject(proxy, name) for name in ("ann", "bob")}
        for name in own:
            assert (await problem(proxy, kit, bearer(own[name])))[0] == 200
        upstream.script = [b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", kit.OK]
        assert (await problem(proxy, kit, bearer(own["ann"])))[0] == 200
        assert len(exchanges(proxy)) == 3
        assert whose(proxy, upstream.received[-1]) == ["ann"]


# -- keys of this proxy beside the caller's own token


async def test_a_caller_is_known_by_another_field_and_its_token_is_no_key(make, kit, upstream):
    async with make(limits=CALLERS) as proxy:
        own = subject(proxy, "ann")
        status, _, _ = await problem(proxy, kit, bearer(own), b"Token-Proxy-Key: " + KEY.encode())
        assert status == 200
        (received,) = upstream.received
        assert whose(proxy, received) == ["ann"]
        assert KEY.encode() not in received
        assert own.encode() not in received


@pytest.mark.parametrize(
    "lines",
    [
        [b"Authorization: Bearer " + KEY.encode()],
        [b"Authorization: Basic " + base64.b64encode(b"me:" + KEY.encode())],
        [b"Authorization: Bearer " + KEY.encode(), b"Token-Proxy-Key: " + KEY.encode()],
        [bearer(GIVEN), b"Token-Proxy-Key: " + KEY.encode()],
        [bearer(DIGEST), b"Token-Proxy-Key: " + KEY.encode()],
        [bearer(GIVEN)],
    ],
)
async def test_a_key_is_never_read_from_the_subjects_field_nor_sent_to_the_server(make, kit, upstream, lines):
    async with make(limits=CALLERS) as proxy:
        status, document, _ = await problem(proxy, kit, *lines)
        assert (status, document["type"].rpartition(":")[2]) == (401, "caller-unknown")
        assert exchanges(proxy) == []
        assert upstream.requests == 0


async def test_on_a_machine_without_callers_a_key_is_not_sent_to_the_server_either(make, kit):
    async with make() as proxy:
        status, _, _ = await problem(proxy, kit, bearer("tpk_" + "x" * 43))
        assert status == 401
        assert exchanges(proxy) == []


async def test_a_caller_that_is_not_known_gets_nothing_for_its_token(make, kit):
    async with make(limits=CALLERS) as proxy:
        status, _, _ = await problem(proxy, kit, bearer(subject(proxy, "ann")))
        assert status == 401
        assert exchanges(proxy) == []


@pytest.mark.parametrize("name", [b"X-Own-Token", b"x-own-token", b"X-OWN-TOKEN"])
async def test_any_other_field_can_carry_it_and_is_cut(make, kit, upstream, name):
    async with make('subject_token = { header = "X-Own-Token" }\n') as proxy:
        own = subject(proxy, "ann")
        for value in (own, f"Bearer {own}"):
            status, _, _ = await problem(proxy, kit, name + b": " + value.encode(), bearer("other"))
            assert status == 200
        for received in upstream.received:
            assert own.encode() not in received
            assert b"other" not in received
            assert set(whose(proxy, received)) == {"ann"}


async def test_a_twin_of_the_field_does_not_pass_either(make, kit, upstream):
    async with make('subject_token = { header = "X-Own-Token" }\n') as proxy:
        own = subject(proxy, "ann")
        status, _, _ = await problem(
            proxy, kit, b"X-Own-Token: " + own.encode(), b"X_Own_Token: " + own.encode()
        )
        assert status == 200
        assert own.encode() not in upstream.received[0]


async def test_a_trailer_of_that_name_does_not_pass(make, kit, upstream):
    async with make('subject_token = { header = "X-Own-Token" }\n') as proxy:
        own = subject(proxy, "ann")
        head = kit.request(
            b"POST",
            b"/up/x",
            b"X-Own-Token: " + own.encode(),
            b"Transfer-Encoding: chunked",
            b"Connection: close",
        )
        body = b"1\r\nx\r\n0\r\nX-Own-Token: " + own.encode() + b"\r\nX-Other: y\r\n\r\n"
        answer = await proxy.ask(head + body)
        assert answer.startswith(b"HTTP/1.1 200")
        assert own.encode() not in upstream.received[0]
        assert b"X-Other: y" in upstream.received[0]


# -- memory


async def test_the_number_of_remembered_subjects_is_bounded(make, kit):
    async with make() as proxy:
        proxy.tokens._exchanged = exchanged.Exchanged(proxy.state.clock, most=5)
        for number in range(12):
            assert (await problem(proxy, kit, bearer(subject(proxy, f"p{number}"))))[0] == 200
        assert len(proxy.tokens._exchanged) <= 5


async def test_nothing_is_stored_and_no_label_grows(make, kit):
    async with make() as proxy:
        own = [subject(proxy, f"p{number}") for number in range(4)]
        for each in own:
            assert (await problem(proxy, kit, bearer(each)))[0] == 200
        assert await proxy.state.store.page(None, 100) == []
        shown = [
            sample.labels["account"]
            for family in proxy.state.metrics.registry.collect()
            for sample in family.samples
            if "account" in sample.labels
        ]
        assert set(shown) <= {"default"}
        assert proxy.sample("token_refreshes_total", credential="cred", outcome="success") == 4


async def test_the_status_says_that_callers_bring_their_own(make):
    async with make() as proxy:
        diagnosis = proxy.account.diagnosis()
        assert diagnosis.serves
        assert "each caller's own token is exchanged" in diagnosis.text
        assert not diagnosis.needs_person
        from proxy.errors import TokenUnavailable

        with pytest.raises(TokenUnavailable, match="each caller's own token is exchanged"):
            await proxy.tokens.get(proxy.account)
        assert exchanges(proxy) == []
