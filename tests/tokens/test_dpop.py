"""The key of an account: made at its login or first token, kept with the tokens, one for all processes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.demo.serve import running
from proxy.errors import TokenError
from proxy.oauth.dpop import Prover
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens.login.ends import LoggedIn
from proxy.tokens.proofs import ProvingAttachment
from proxy.tokens.saved import codec
from tests.fakes.dpop import DpopServer, Verifier
from tests.tokens.conftest import HOUR, process
from tests.tokens.login.test_logins import BROWSER

DPOP = "dpop = true\n"
KEY = AccountId("crm", "default")


@pytest.fixture
def bound_side(make_side, clock, tmp_path):
    """A side whose server binds everything to the key; `keys`: more of the credential."""

    @asynccontextmanager
    async def make(keys=DPOP, grant="authorization_code", store=None):
        server = DpopServer(Verifier(clock.wall), lifetime=HOUR)
        async with running(server.application()) as server.url:
            client = f'issuer = "{server.url}"\nclient_id = "web"\ngrant = "{grant}"\n{keys}'
            async with make_side(credential=client, store=store) as side:
                yield side, server

    return make


async def log_in(side, server, key=KEY):
    """The thumbprint in the authorization request, whose code works for that key only."""
    parameters = parse_qs(urlsplit(await side.logins.begin(key, browser=BROWSER)).query)
    (thumbprint,), (state,) = parameters.get("dpop_jkt", [""]), parameters["state"]
    server.codes["C"] = thumbprint
    done = await side.logins.finish({"code": "C", "state": state}, BROWSER)
    assert done == LoggedIn(key, None)
    return thumbprint


def key_of(side, account="default"):
    return side.account(account).held.token.dpop_key


async def test_a_login_binds_its_code_and_its_tokens_to_the_accounts_key(bound_side):
    async with bound_side() as (side, server):
        thumbprint = await log_in(side, server)
        attachment = await side.tokens.get(side.account())
        assert isinstance(attachment, ProvingAttachment)
        assert Prover(key_of(side)).thumbprint == thumbprint
        for _ in range(3):
            side.clock.advance(HOUR)
            await side.tokens.get(side.account())
        assert set(server.bound.values()) == {thumbprint}
        assert server.outcomes == ["success"] * 4


async def test_each_account_and_each_login_has_a_key_of_its_own(bound_side):
    async with bound_side() as (side, server):
        thumbprints = [await log_in(side, server, AccountId("crm", name)) for name in ("ann", "bob", "ann")]
        assert len(set(thumbprints)) == 3


async def test_the_key_survives_a_restart_and_is_the_one_of_every_replica(bound_side, clock, tmp_path):
    async with bound_side() as (side, server):
        thumbprint = await log_in(side, server)
        async with process(side.config, clock, side.server, side.store) as other:
            await other.tokens.start()
            clock.advance(HOUR)
            await other.tokens.get(other.account())
            assert Prover(key_of(other)).thumbprint == thumbprint
        assert server.outcomes[-1] == "success"


async def test_the_key_is_sealed_and_shown_nowhere(bound_side, caplog):
    async with bound_side() as (side, server):
        await log_in(side, server)
        private = codec.decode((await side.stored()).body).dpop_key
        assert private is not None
        raw = await side.store._store.get(KEY)
        assert private.reveal().encode() not in raw.body
        assert b"jwk" not in raw.body
        shown = repr(side.account().held) + caplog.text + repr(side.account().attachment)
        assert private.reveal() not in shown
        assert private.reveal()[20:60] not in shown


async def test_a_client_that_logs_itself_in_keeps_its_key_too(bound_side):
    async with bound_side(grant="client_credentials") as (side, server):
        for _ in range(3):
            await side.tokens.get(side.account())
            side.clock.advance(HOUR)
        assert len(server.bound) == 3
        assert len(set(server.bound.values())) == 1


async def test_a_bearer_token_in_return_is_refused_and_the_new_refresh_token_kept(bound_side):
    async with bound_side() as (side, server):
        await log_in(side, server)
        server.token_type = "Bearer"
        side.clock.advance(HOUR)
        with pytest.raises(TokenError) as caught:
            await side.tokens.get(side.account())
        assert "no_dpop" in str(caught.value)
        assert side.account().state() == "misconfigured"
        stored = codec.decode((await side.stored()).body)
        assert stored.refresh_token == Secret(f"R{len(server.forms)}")
        server.token_type = "DPoP"
        side.clock.advance(HOUR)
        await side.tokens.refresh_now(side.account())
        assert side.account().state() == "valid"
        assert len(set(server.bound.values())) == 1


async def test_a_login_that_brings_a_bearer_token_fails_and_keeps_its_refresh_token(bound_side):
    async with bound_side() as (side, server):
        server.token_type = "Bearer"
        with pytest.raises(Exception, match="DPoP") as caught:
            await log_in(side, server)
        assert caught.value.error == "no_dpop"
        stored = codec.decode((await side.stored()).body)
        assert (stored.access_token, stored.refresh_token) == (None, Secret("R1"))
        assert Prover(stored.dpop_key).thumbprint == server.bound["A1"]


async def test_turned_on_later_the_bearer_token_is_replaced_at_once(bound_side, clock):
    async with bound_side() as (side, server):
        server.refresh_tokens["old"] = ""  # issued before to anybody
        token = side.issued()
        from dataclasses import replace

        from proxy.oauth.binding import bind, server_of

        crm = side.config.credentials["crm"]
        old = replace(token, refresh_token=Secret("old"), server=server_of(crm), endpoints=(), grant="")
        await side.tokens.adopt(KEY, bind(old, crm))
        assert side.tokens.ready(side.account()) is None, "the bearer token is not attached any more"
        server.refresh_tokens["old"] = _Any()
        attachment = await side.tokens.get(side.account())
        assert isinstance(attachment, ProvingAttachment)
        assert key_of(side) is not None


class _Any(str):
    """Equals every thumbprint: a refresh token that is bound to none."""

    __slots__ = ()

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __hash__(self):
        return 0


async def test_turned_off_later_the_bound_token_is_not_attached(bound_side, clock, tmp_path):
    async with bound_side() as (side, server):
        await log_in(side, server)
        without = side.config.credentials["crm"].model_copy(update={"dpop": False})
        side.account().use(without)
        assert side.tokens.ready(side.account()) is None
        assert key_of(side) is not None, "nothing is deleted"
        side.account().use(side.config.credentials["crm"])
        assert side.tokens.ready(side.account()) is not None


async def test_a_nonce_is_asked_for_once_by_all_accounts_of_a_process(bound_side):
    async with bound_side() as (side, server):
        server.verifier.nonce = "n-1"
        for name in ("ann", "bob"):
            await log_in(side, server, AccountId("crm", name))
        assert server.outcomes == ["use_dpop_nonce", "success", "success"]
