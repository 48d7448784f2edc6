"""grant = "jwt_bearer" (RFC 7523): assertions signed here, and ones that the platform writes."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from joserfc import jwk, jwt

from proxy.config.load import load
from proxy.demo import faults
from proxy.demo.authorization_server import Client
from proxy.demo.serve import running
from proxy.errors import Misconfigured, TokenUnavailable
from tests.config.test_grant_keys import service_account
from tests.fakes import signing
from tests.fakes.clock import FakeClock
from tests.tokens.conftest import HOUR

ROBOT = "robot@p.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/drive"
KEY = 'grant = "jwt_bearer"\nkey = {{ file = "{file}" }}\nscopes = ["{scope}"]\nclient_auth = "none"\n{more}'


@pytest.fixture
def make_robot(make_side, tmp_path, monkeypatch):
    """The token side with a service-account file, as Google's console gives it, for the demo's server."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def make(more="", *, kind="rsa", file="sa.json", **options):
        from tests.tokens import conftest

        monkeypatch.setattr(conftest, "CONFIG", conftest.CONFIG.replace('client_secret = "s3cret"\n', ""))
        (tmp_path / "key.pem").write_text(signing.pem(kind))
        (tmp_path / "sa.json").write_text(service_account())
        credential = KEY.format(file=file, scope=SCOPE, more=more)
        async with make_side(credential=credential, clients=(Client("unused"),), **options) as side:
            side.server.trust.keys[ROBOT] = signing.public_pem("rsa")
            side.server.trust.keys["web"] = signing.public_pem(kind)
            yield side

    return make


async def test_a_service_account_gets_tokens_and_renews_itself(make_robot):
    async with make_robot() as side:
        account = side.account()
        served = await side.tokens.get(account)
        assert side.is_good(served)
        (claims,) = side.server.trust.claims
        (header,) = side.server.trust.headers
        assert (claims["iss"], claims["scope"], claims["aud"]) == (
            ROBOT,
            SCOPE,
            f"{side.server.issuer}/token",
        )
        assert "sub" not in claims
        assert claims["exp"] - claims["iat"] <= HOUR
        assert (header["alg"], header["kid"], header["typ"]) == ("RS256", "kid-1", "JWT")
        assert account.state() == "valid"
        assert not account.diagnosis().needs_person
        side.clock.advance(HOUR)
        assert await side.tokens.get(account) is not served
        assert len({each["jti"] for each in side.server.trust.claims}) == 2


async def test_a_person_can_be_named_whom_it_acts_for(make_robot):
    async with make_robot('claims = { sub = "ann@p.example", extra = ["x", 1] }') as side:
        served = await side.tokens.get(side.account())
        assert side.server.active(served.access_token.reveal()) == "ann@p.example"
        (claims,) = side.server.trust.claims
        assert claims["extra"] == ["x", 1]


async def test_tokens_of_another_subject_are_never_used(make_robot, tmp_path):
    async with make_robot('claims = { sub = "ann@p.example" }') as side:
        served = await side.tokens.get(side.account())
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace("ann@p.example", "bob@p.example"))
        config = load(file).config
        side.tokens.use(config, side.tokens.planned(config))
        account = side.account()
        assert side.tokens.ready(account) is None
        other = await side.tokens.get(account)
        assert other is not served
        assert side.server.active(other.access_token.reveal()) == "bob@p.example"


@pytest.mark.parametrize("kind", ["p256", "rsa"])
async def test_a_key_alone_signs_for_a_client(make_robot, kind):
    async with make_robot('client_id = "web"', kind=kind, file="key.pem") as side:
        assert side.is_good(await side.tokens.get(side.account()))
        (claims,) = side.server.trust.claims
        assert (claims["iss"], claims["sub"]) == ("web", "web")
        assert "scope" not in claims


async def test_each_request_has_an_assertion_of_its_own(make_robot):
    """A server may refuse one that it has seen (RFC 7523 section 3, jti)."""
    async with make_robot() as side:
        side.server.script(faults.NAMED["drop-after-commit"])
        assert side.is_good(await side.tokens.get(side.account()))
        assert len({each["jti"] for each in side.server.trust.claims}) == 2


@pytest.mark.parametrize("ahead", [600, -600])
async def test_a_server_whose_clock_differs_gets_assertions_of_its_own_time(make_robot, clock, ahead):
    theirs = FakeClock(clock.wall() + ahead)
    async with make_robot(clock=theirs) as side:
        account = side.account()
        await side.tokens.get(account)  # the first is of our time: refused, and signed anew by its Date
        (claims,) = side.server.trust.claims
        assert claims["iat"] <= theirs.wall() < claims["exp"]
        assert account.failures == 0
        asked = len(side.server.token_requests)
        for each in (clock, theirs):
            each.advance(HOUR)
        await side.tokens.get(account)
        assert len(side.server.token_requests) == asked + 1


async def test_a_refused_assertion_is_not_sent_again_for_that(make_robot):
    async with make_robot() as side:
        side.server.trust.keys.clear()
        with pytest.raises(Misconfigured):
            await side.tokens.get(side.account())
        assert len(side.server.token_requests) == 1


async def test_a_refused_assertion_is_a_fault_of_the_configuration(make_robot):
    async with make_robot() as side:
        side.server.trust.keys.clear()
        with pytest.raises(Misconfigured) as caught:
            await side.tokens.get(side.account())
        assert "refuses the assertion (invalid_grant)" in str(caught.value)
        assert "check key, claims or assertion of credentials.crm" in str(caught.value)
        assert side.account().state() == "misconfigured"
        assert signing.pem("rsa")[50:80] not in str(caught.value)


class Platform:
    """A token endpoint that notes the assertions that it gets."""

    def __init__(self):
        self.seen = []

    def application(self):
        app = web.Application()
        app.router.add_post("/token", self._token)
        return app

    async def _token(self, request):
        form = await request.post()
        self.seen.append(form["assertion"])
        return web.json_response(
            {"access_token": f"AT-{len(self.seen)}", "token_type": "Bearer", "expires_in": 60}
        )


@pytest.fixture
async def platform(make_side, tmp_path, monkeypatch):
    from tests.tokens import conftest

    monkeypatch.setattr(conftest, "CONFIG", conftest.CONFIG.replace('client_secret = "s3cret"\n', ""))
    (tmp_path / "assertion").write_text("a.b.1\n")
    made = Platform()
    async with running(made.application()) as url:
        credential = (
            f'grant = "jwt_bearer"\ntoken_endpoint = "{url}/token"\nassertion = {{ file = "assertion" }}'
        )
        async with make_side(credential=credential) as side:
            yield made, side, tmp_path / "assertion"


async def test_an_assertion_of_the_platform_is_read_again_for_each_request(platform):
    made, side, file = platform
    await side.tokens.get(side.account())
    file.write_text("a.b.2")
    side.clock.advance(HOUR)
    await side.tokens.get(side.account())
    assert made.seen == ["a.b.1", "a.b.2"]


@pytest.mark.parametrize("content", [b"", b"a b", b"\xff\xfe", b"a.b\r\nX: y", b"x" * 70_000, None])
async def test_an_unusable_file_sends_nothing_and_heals(platform, content):
    made, side, file = platform
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(TokenUnavailable) as caught:
        await side.tokens.get(side.account())
    assert "(token_file" in str(caught.value)
    assert "check the file that credentials.crm names" in str(caught.value)
    assert made.seen == []
    file.write_text("a.b.3")
    side.clock.advance(60)
    assert (await side.tokens.get(side.account())).access_token.reveal() == "AT-1"
    assert made.seen == ["a.b.3"]


async def test_a_file_that_hangs_does_not_hold_the_loop(platform, monkeypatch):
    from proxy.oauth import used_files

    monkeypatch.setattr(used_files, "LONGEST", 0.1)
    _made, side, file = platform
    file.unlink()
    import os

    os.mkfifo(file)
    with pytest.raises(TokenUnavailable):
        await side.tokens.get(side.account())
    await asyncio.sleep(0)
    writer = os.open(file, os.O_RDWR)  # releases the thread that reads
    os.write(writer, b"x\n")
    os.close(writer)


def test_the_signature_is_verified_by_another_library():
    """By joserfc's own verification with the public key, from the compact form alone."""
    from proxy.config.grant_keys import read_assertion_key
    from proxy.config.model import Credential
    from proxy.oauth.grants.base import Proof
    from proxy.oauth.grants.jwt_bearer import JWT_BEARER

    credential = Credential.model_validate(
        {"grant": "jwt_bearer", "key": read_assertion_key(service_account()), "name": "g"}
    )
    form = JWT_BEARER.proof(credential, Proof("https://as.example/token", 1_000_000.0))
    key = jwk.RSAKey.import_key(signing.public_pem("rsa"))
    token = jwt.decode(form["assertion"], key, ["RS256"])
    assert token.claims["aud"] == "https://as.example/token"
    assert json.dumps(token.claims)
