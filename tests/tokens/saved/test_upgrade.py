"""A store of the version before tokens were bound to grant and endpoints still works, without new logins."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from proxy.config.load import load
from proxy.demo.serve import running
from proxy.errors import LoginRequired
from proxy.services import Services, open_services
from proxy.store.base import AccountId
from proxy.tokens.refresh import refresh
from proxy.tokens.saved import codec
from tests.fakes.clock import FakeClock

FIXTURE = Path(__file__).parents[2] / "store" / "fixtures" / "before_bindings.db"
CONFIG = """
[server]
state_dir = "{folder}"
[store]
url = "sqlite:before_bindings.db"
key = {{ file = "store.key" }}
[credentials.person]
issuer = "https://login.example"
token_endpoint = "{url}/token"
client_id = "web"
[credentials.by_hand]
token_endpoint = "https://hand.example/token"
authorization_endpoint = "https://hand.example/authorize"
client_id = "web"
[credentials.seeded]
grant = "refresh_token"
issuer = "https://login.example"
token_endpoint = "{url}/token"
client_id = "web"
refresh_token = {{ env = "SEED" }}
[credentials.grown]
grant = "refresh_token"
issuer = "https://login.example"
token_endpoint = "{url}/token"
client_id = "web"
refresh_token = {{ env = "SEED" }}
[credentials.robot]
grant = "client_credentials"
issuer = "https://login.example"
token_endpoint = "{url}/token"
client_id = "robot"
client_secret = {{ env = "SEED" }}
"""
SERVED = {  # account -> its access token after the upgrade
    AccountId("person", "ann"): "access-of-ann",
    AccountId("person", "bob"): "access-of-bob",  # in doubt: it is used while its refresh is sent again
    AccountId("person", "cid"): "access-of-cid",  # login_required: it is used until it expires
    AccountId("by_hand", "eve"): "access-of-eve",
    AccountId("grown", "default"): "access-after-seed-1",
    AccountId("robot", "default"): "access-after-client_credentials",
}
REFRESHED = {  # account -> the refresh token that it presents
    AccountId("person", "ann"): "refresh-of-ann",
    AccountId("person", "bob"): "refresh-of-bob",
    AccountId("seeded", "default"): "seed-1",
    AccountId("grown", "default"): "refresh-after-seed-1",
    AccountId("robot", "default"): "client_credentials",
}


@dataclass
class Old:
    """The old store in a folder, and a server whose token endpoint records the tokens that it gets."""

    folder: Path
    url: str = ""
    presented: list[str] = field(default_factory=list)
    refuses: bool = False

    async def respond(self, request: web.Request) -> web.Response:
        form = dict(parse_qsl(await request.text()))
        self.presented.append(form.get("refresh_token", form["grant_type"]))
        if self.refuses:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response({"access_token": f"new-of-{self.presented[-1]}", "token_type": "Bearer"})

    def configure(self, replaced: str = "", by: str = "") -> Path:
        file = self.folder / "config.toml"
        text = CONFIG.format(folder=self.folder, url=self.url)
        assert replaced in text
        file.write_text(text.replace(replaced, by) if replaced else text)
        return file

    @asynccontextmanager
    async def opened(self, replaced: str = "", by: str = "") -> AsyncIterator[Services]:
        """The services of this version, with a part of the configuration replaced."""
        async with open_services(load(self.configure(replaced, by)).config, FakeClock()) as services:
            await services.tokens.start()
            yield services


@pytest.fixture
async def old(tmp_path, monkeypatch):
    monkeypatch.setenv("SEED", "seed-1")
    monkeypatch.setattr(refresh, "TIME_TO_SAVE", 0.05)
    shutil.copyfile(FIXTURE, tmp_path / "before_bindings.db")
    (tmp_path / "store.key").write_text(base64.b64encode(bytes(range(32))).decode())
    (tmp_path / "store.key").chmod(0o600)
    made = Old(tmp_path)
    app = web.Application()
    app.router.add_post("/token", made.respond)
    app.router.add_post("/moved", made.respond)
    async with running(app) as made.url:
        yield made


async def token_of(services, key):
    return codec.decode((await services.store.get(key)).body)


async def test_every_account_is_usable_and_in_its_state(old):
    async with old.opened() as services:
        for key, access_token in SERVED.items():
            served = await services.tokens.get(services.tokens.account(*key))
            assert served.access_token.reveal() == access_token
        assert services.tokens.account("person", "cid").state() == "login_required"
        for name in ("dan", "nobody"):
            with pytest.raises(LoginRequired):
                await services.tokens.get(services.tokens.account("person", name))
        assert (await services.store.get(AccountId("person", "dan"))).state == "logged_out"
    assert set(old.presented) <= {"refresh-of-bob"}


async def test_a_refresh_sends_what_was_stored_and_binds_what_it_saves(old):
    async with old.opened() as services:
        for key, presented in REFRESHED.items():
            account = services.tokens.account(*key)
            await services.tokens.refresh_now(account)
            assert old.presented[-1] == presented
            assert account.state() == "valid"
            token, credential = await token_of(services, key), account.credential
            assert token.grant == credential.grant
            assert dict(token.endpoints) == {"token_endpoint": f"{old.url}/token"}
            assert (token.principal is None) is (key.credential != "person")
    assert old.presented == list(REFRESHED.values())  # each once


async def test_a_refusal_binds_what_it_saves_too(old):
    key = AccountId("person", "ann")
    old.refuses = True
    async with old.opened() as services:
        account = services.tokens.account(*key)
        services.clock.advance(3600)  # no usable access token is left: the refusal is final
        with pytest.raises(LoginRequired):
            await services.tokens.refresh_now(account)
        token = await token_of(services, key)
        assert (token.grant, dict(token.endpoints)) == (
            "authorization_code",
            {"token_endpoint": f"{old.url}/token"},
        )
        assert token.refresh_token.reveal() == "refresh-of-ann"


OTHERS = [  # the configuration after that
    (
        "a grant",
        'issuer = "https://login.example"',
        'grant = "refresh_token"\nrefresh_token = "x"\nissuer = "https://login.example"',
    ),
    ("a token endpoint", "/token", "/moved"),
    ("a client", 'client_id = "web"', 'client_id = "other"'),
    ("an issuer", "https://login.example", "https://login.example/"),
]


@pytest.mark.parametrize(("replaced", "by"), [row[1:] for row in OTHERS], ids=[row[0] for row in OTHERS])
async def test_once_bound_a_token_goes_to_no_other(old, replaced, by):
    key = AccountId("person", "ann")
    async with old.opened() as services:
        await services.tokens.refresh_now(services.tokens.account(*key))
        record = await services.store.get(key)
    person = (
        "[credentials.person]"
        + CONFIG.format(folder="", url=old.url).partition("[credentials.person]")[2].partition("[")[0]
    )
    async with old.opened(person, person.replace(replaced, by)) as services:
        account = services.tokens.account(*key)
        assert services.tokens.ready(account) is None
        assert account.state() == "absent"
        with pytest.raises(LoginRequired):
            await services.tokens.get(account)
        assert await services.store.get(key) == record
    assert old.presented == ["refresh-of-ann"]
    async with old.opened() as services:  # the configuration is corrected
        assert await services.tokens.get(services.tokens.account(*key))


async def test_the_real_commands_serve_from_it(old):
    file = old.configure()

    async def run(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", *arguments, "-c", str(file), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return process.returncode, out.decode().strip()

    # refreshed or not by the real clock: the tokens of the fixture are of 15 January 2027
    assert await run("token", "person", "--account", "ann") in {
        (0, "access-of-ann"),
        (0, "new-of-refresh-of-ann"),
    }
    assert await run("token", "grown") in {(0, "access-after-seed-1"), (0, "new-of-refresh-after-seed-1")}
    assert await run("token", "seeded") == (0, "new-of-seed-1")
    assert (await run("token", "person", "--account", "dan"))[0] == 3
    code, out = await run("status", "--json")
    states = {(each["credential"], each["account"]): each["state"] for each in json.loads(out)["tokens"]}
    assert code == 3  # cid and dan
    assert states["person", "ann"] == "valid"
    assert states["person", "cid"] == "login_required"
    assert set(old.presented) <= {"refresh-of-ann", "refresh-after-seed-1", "seed-1"}
