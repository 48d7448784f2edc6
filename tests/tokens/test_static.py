"""Grant `static`: the configuration gives the token. Nothing is requested, stored or refreshed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config.load import Loaded, load
from proxy.errors import LoginFailed, Misconfigured, TokenError
from proxy.observe.health import Health
from proxy.services import Services, open_services
from proxy.store.base import AccountId

CONFIG = """
[server]
state_dir = "{folder}/state"
[credentials.key]
{credential}
[[routes]]
path = "/up"
upstream = "http://127.0.0.1:1"
credential = "key"
"""
STATIC = 'grant = "static"\nvalue = { file = "api.key" }\n'
CLIENT = 'client_id = "app"\ntoken_endpoint = "http://127.0.0.1:1"\n'
X_API_KEY = 'attach = { header = "X-Api-Key", scheme = "" }'


def loaded(folder: Path, value: str = "key-1", credential: str = STATIC) -> Loaded:
    (folder / "api.key").write_text(value + "\n")
    (folder / "config.toml").write_text(CONFIG.format(folder=folder, credential=credential))
    return load(folder / "config.toml")


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Services]:
    async with open_services(loaded(folder).config) as services:
        await services.tokens.start()
        yield services


def change(services: Services, folder: Path, value: str, credential: str = STATIC) -> None:
    """As a reload does."""
    config = loaded(folder, value, credential).config
    services.tokens.use(config, services.tokens.planned(config))


async def test_it_is_valid_at_once_and_has_no_end(tmp_path: Path) -> None:
    async with served(tmp_path) as services:
        account = services.tokens.account("key", "default")
        attachment = services.tokens.ready(account)
        assert attachment is not None
        assert attachment.fields == b"\r\nAuthorization: Bearer key-1"
        (entry,) = (await Health(services).status())["tokens"]
        assert (entry["state"], entry["generation"], entry["serves"]) == ("valid", 1, True)
        assert (entry["expires_at"], entry["refresh_due_at"], entry["login_url"]) == (None, None, None)
        assert (entry["actions"], entry["reason"], entry["needs_person"]) == ([], None, False)
        assert Health(services).ready


async def test_it_is_never_stored(tmp_path: Path) -> None:
    async with served(tmp_path) as services:
        account = services.tokens.account("key", "default")
        await services.tokens.get(account)
        account.reject()
        change(services, tmp_path, "key-2")
        await services.tokens.look_at(account.key)
        await services.tokens.scheduler.look(services.clock.wall())
        assert await services.store.page(None, 10) == []
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    assert b"key-1" not in stored


async def test_another_value_is_another_token_and_the_same_value_is_not(tmp_path: Path) -> None:
    async with served(tmp_path) as services:
        account = services.tokens.account("key", "default")
        first = services.tokens.ready(account)
        change(services, tmp_path, "key-1")
        assert services.tokens.ready(account) is first
        change(services, tmp_path, "key-2")
        assert services.tokens.account("key", "default") is account
        second = services.tokens.ready(account)
        assert second is not None
        assert second.fields == b"\r\nAuthorization: Bearer key-2"
        assert account.held.generation == 2
        change(services, tmp_path, "key-2", STATIC + X_API_KEY)
        third = services.tokens.ready(account)
        assert third is not None
        assert third.fields == b"\r\nX-Api-Key: key-2"


async def test_a_401_starts_nothing_and_one_to_a_replaced_value_is_replayed(tmp_path: Path) -> None:
    async with served(tmp_path) as services:
        tokens = services.tokens
        account = tokens.account("key", "default")
        first = tokens.ready(account)
        assert first is not None
        assert tokens.reject(account, first) is None
        assert account.flight is None
        assert tokens.ready(account) is first
        change(services, tmp_path, "key-2")
        replay = tokens.reject(account, first)
        assert replay is not None
        assert await replay is tokens.ready(account)


async def test_there_is_nothing_to_refresh_or_to_log_out_of(tmp_path: Path) -> None:
    async with served(tmp_path) as services:
        account = services.tokens.account("key", "default")
        with pytest.raises(TokenError):
            await services.tokens.refresh_now(account)
        with pytest.raises(LoginFailed, match=r"change or remove credentials\.key\.value"):
            await services.logins.log_out(account.key)
        with pytest.raises(LoginFailed, match=r"set credentials\.key\.value to a new one"):
            await services.logins.begin(account.key, browser="b" * 43)
        assert services.tokens.ready(account) is not None


async def test_a_value_that_can_not_be_read_any_more_is_a_misconfiguration_that_serves(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as services:
        account = services.tokens.account("key", "default")
        services.tokens.values_lost({"key"})
        diagnosis = account.diagnosis()
        assert account.state() == "misconfigured"
        assert diagnosis.text.startswith(
            "its value can't be read now, and the last one that could be is attached"
        )
        assert (diagnosis.serves, diagnosis.exit_code, diagnosis.needs_person) == (True, 0, False)
        assert isinstance(diagnosis.error(retry_after=1), Misconfigured)
        assert services.tokens.ready(account) is not None
        services.tokens.values_lost(())
        assert account.state() == "valid"


async def test_tokens_of_an_earlier_grant_stay_stored_and_count_for_nothing(tmp_path: Path) -> None:
    oauth = loaded(
        tmp_path, credential=f'{CLIENT}grant = "refresh_token"\nrefresh_token = {{ file = "api.key" }}'
    )
    async with open_services(oauth.config) as services:
        await services.tokens.start()
        account = services.tokens.account("key", "default")
        assert account.held.token is not None
        assert account.held.token.refresh_token is not None
    async with served(tmp_path) as services:
        account = services.tokens.account("key", "default")
        assert (account.state(), account.held.generation) == ("valid", 1)
        (record,) = await services.store.page(None, 10)
        for name in ("alice", "bob"):
            await services.store.put(replace(record, key=AccountId("key", name), generation=1), expected=0)
        status = await Health(services).status()
        assert [each["account"] for each in status["tokens"]] == ["default"]
        assert status["counts"] == {"key": {"valid": 1}}
        await services.tokens.load_new()
        assert [each.key.account for each in services.tokens.accounts()] == ["default"]
        await asyncio.sleep(0)
        assert services.tokens.ready(account) is not None
    async with open_services(oauth.config) as services:
        await services.tokens.start()
        held = services.tokens.account("key", "default").held
        assert held.token is not None
        assert held.token.refresh_token is not None


async def test_a_credential_that_becomes_static_serves_its_value_at_once(tmp_path: Path) -> None:
    before = loaded(tmp_path, credential=f'{CLIENT}grant = "client_credentials"\nclient_auth = "none"')
    async with open_services(before.config) as services:
        await services.tokens.start()
        change(services, tmp_path, "key-9")
        account = services.tokens.account("key", "default")
        assert account.key == AccountId("key", "default")
        assert services.tokens.ready(account) is not None
