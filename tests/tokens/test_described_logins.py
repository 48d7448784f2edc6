"""Described logins have the life of any other token: refreshed ahead, one flight, states, reasons."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from proxy.config.load import load
from proxy.demo.serve import running
from proxy.errors import Misconfigured, TokenUnavailable
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.refresh import lease
from tests.fakes.two_step import GitHubApp, Tableau, Toast, Veeva

from .conftest import SEAL, process

SERVERS = [GitHubApp, Tableau, Toast, Veeva]
CONFIG = """
[credentials.crm]
{table}
[[routes]]
path = "/crm"
upstream = "http://127.0.0.1:1"
credential = "crm"
[limits]
token_wait = 5.0
"""


@pytest.fixture
def make(tmp_path, clock, short_backoff):
    """`async with make(Server, processes=1) as (server, sides)`: on one store."""

    @asynccontextmanager
    async def make(kind, *, processes=1, environ=None, store=None):
        server = kind(clock)
        store = store or SealedStore(MemoryStore(clock), SEAL)
        async with running(server.application()) as url:
            file = tmp_path / "config.toml"
            file.write_text(CONFIG.format(table=server.configuration(url)))
            config = load(file, {**server.environment, **(environ or {})}).config
            sides = []
            async with AsyncExitStack() as stack:
                for _ in range(processes):
                    side = await stack.enter_async_context(process(config, clock, server, store))
                    await side.tokens.start()
                    sides.append(side)
                yield server, sides

    return make


def is_good(server, attachment):
    return server.active(attachment.access_token.reveal())


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_token_is_got_on_request_and_renewed_ahead_of_its_end(make, clock, kind):
    async with make(kind) as (server, [side]):
        account = side.account()
        assert (account.state(), account.diagnosis().serves) == ("absent", True)
        served = await side.tokens.get(account)
        assert is_good(server, served)
        assert (account.state(), server.logins) == ("valid", 1)
        clock.advance(account.held.token.lifetime * 0.9)
        assert account.state() == "stale"
        assert side.tokens.ready(account) is served  # it serves on, and one login runs behind it
        await side.landed(account)
        assert side.tokens.ready(account) is not served
        assert (account.state(), server.logins) == ("valid", 2)


async def test_a_thousand_requests_wait_for_one_login(make):
    async with make(GitHubApp) as (server, [side]):
        account = side.account()
        served = await asyncio.gather(*(side.tokens.get(account) for _ in range(1000)))
        assert (len(set(map(id, served))), server.logins) == (1, 1)


async def test_two_processes_log_in_once_and_share_the_token(make):
    async with make(GitHubApp, processes=2) as (server, sides):
        served = await asyncio.gather(*(side.tokens.get(side.account()) for side in sides))
        assert {each.access_token.reveal() for each in served} == {served[0].access_token.reveal()}
        assert server.logins == 1


async def test_a_restart_uses_the_stored_token(make, clock):
    store = SealedStore(MemoryStore(clock), SEAL)
    async with make(Toast, store=store) as (server, [side]):
        served = await side.tokens.get(side.account())
        async with process(side.config, clock, server, store) as other:
            await other.tokens.start()
            again = await other.tokens.get(other.account())
        assert again.access_token == served.access_token
        assert server.logins == 1


async def test_a_401_of_the_upstream_starts_one_login(make):
    async with make(Toast) as (server, [side]):
        account = side.account()
        served = await side.tokens.get(account)
        server.end_all()
        better = await side.tokens.reject(account, served)
        assert is_good(server, better)
        assert server.logins == 2


async def test_a_refused_login_is_misconfigured_with_the_step_that_was_refused(make):
    async with make(Toast, environ={"TOAST_SECRET": "wrong"}) as (server, [side]):
        account = side.account()
        with pytest.raises(Misconfigured) as caught:
            await side.tokens.get(account)
        assert account.state() == "misconfigured"
        found = account.diagnosis()
        assert (found.exit_code, found.needs_person, found.can_log_in) == (1, False, False)
        assert "the server refuses the described login (step_refused)" in found.sentence
        assert "check the secrets in step 1 of credentials.crm.steps" in found.remedy
        assert "wrong" not in str(caught.value)
        assert _sample(side, "token_proxy_token_refreshes_total", outcome="misconfigured") == 1
        assert _sample(side, "token_proxy_token_refresh_errors_total", error="step_refused") == 1
        asked = len(server.requests)
        with pytest.raises(Misconfigured):  # held back: a person must correct it
            await side.tokens.get(account)
        assert len(server.requests) == asked


async def test_a_corrected_secret_is_tried_at_once(make, tmp_path):
    async with make(Toast, environ={"TOAST_SECRET": "wrong"}) as (server, [side]):
        with pytest.raises(Misconfigured):
            await side.tokens.get(side.account())
        right = load(tmp_path / "config.toml", server.environment).config
        side.tokens.use(right, side.tokens.planned(right))
        assert is_good(server, await side.tokens.get(side.account()))


async def test_another_description_does_not_use_the_stored_token(make, tmp_path):
    async with make(GitHubApp) as (server, [side]):
        await side.tokens.get(side.account())
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace('contents = "read"', 'contents = "write"'))
        other = load(file, server.environment).config
        side.tokens.use(other, side.tokens.planned(other))
        account = side.account()
        await side.tokens.get(account)
        assert server.logins == 2


async def test_an_outage_is_waited_out_while_the_token_serves_on(make, clock):
    async with make(Toast) as (server, [side]):
        account = side.account()
        served = await side.tokens.get(account)
        clock.advance(0.9 * server.lifetime)
        server.fails_with = [web.Response(status=503, headers={"Retry-After": "20"})]
        assert side.tokens.ready(account) is served
        await side.landed(account)
        assert side.tokens.ready(account) is served
        assert account.diagnosis().reason == "http_503"
        asked = len(server.requests)
        clock.advance(10)
        side.tokens.ready(account)
        assert (account.flight, len(server.requests)) == (None, asked)  # the Retry-After holds it back
        clock.advance(11)
        side.tokens.ready(account)
        await side.landed(account)
        assert (account.state(), server.logins) == ("valid", 2)


async def test_an_outage_without_a_token_is_unavailable_for_the_pause_that_is_asked_for(make):
    async with make(Toast) as (server, [side]):
        server.fails_with = [web.Response(status=429, headers={"Retry-After": "20"})]
        with pytest.raises(TokenUnavailable) as caught:
            await side.tokens.get(side.account())
        assert caught.value.retry_after == 20


async def test_a_process_that_lost_its_lease_sends_no_further_step(make, clock, monkeypatch):
    """Suspended between two steps, for longer than the lease: another process may be logging in."""
    async with make(GitHubApp) as (server, [side]):
        monkeypatch.setattr(server, "_refusal", _once(server, clock))
        assert is_good(server, await side.tokens.get(side.account()))
        assert [request.path for request in server.requests].count("/repos/octo/cat/installation") == 2
        assert server.logins == 1


def _once(server, clock):
    """The clock jumps during the first request."""
    check, calls = server._refusal, []

    def refusal(request):
        calls.append(request)
        found = check(request)
        if len(calls) == 1:
            clock.advance(2 * lease.LIFETIME)
        return found

    return refusal


def _sample(side, name, **labels):
    return side.metrics.registry.get_sample_value(name, {"credential": "crm", **labels})
