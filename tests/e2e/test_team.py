"""Twenty people behind nginx with passwords, and two replicas that share a PostgreSQL, in turn.

Each person has a browser and logs in to an account of their own. Whatever replica a request reaches, it knows
the forms, logins and tickets of the other one; and what one person has begun, no other ends.
"""

import asyncio
import base64
import itertools
import re
import socket
import ssl
from collections import Counter
from contextlib import ExitStack, asynccontextmanager

import aiohttp
import pytest
import trustme

from proxy.admin.sessions import Sessions
from proxy.clock import SystemClock
from proxy.config.load import load
from proxy.demo.api import api_application
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.clients import Client
from proxy.demo.serve import running
from proxy.demo.wiring import free_ports
from proxy.store.seal import SealedStore
from tests.e2e.processes import plain_environment
from tests.e2e.proxy_process import COMMAND, REPOSITORY
from tests.fakes.id_tokens import logs_in
from tests.other_user import STRANGER, as_user
from tests.patience import within
from tests.servers.nginx import FROM, HEADER, Nginx
from tests.servers.postgres import Postgres, postgres

__all__ = ["postgres"]  # a fixture

pytestmark = [pytest.mark.e2e, pytest.mark.privileged]

PEOPLE = [f"person{number:02}" for number in range(20)]
SERIAL = "the-first"  # logs in alone, so that its requests reach the replicas in turn
PASSWORDS = {name: f"secret-of-{name}" for name in [SERIAL, *PEOPLE]}
KEY = base64.b64encode(b"k" * 32).decode()
CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
TICKET = re.compile(r'name="ticket" value="([A-Za-z0-9_-]{43})"')
CONFIG = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
public_url = "{public}"
state_dir = "{folder}"
admin_trusts = {{ header = "{header}", from = ["{proxy}"] }}

[store]
url = "{store}"
key = "{key}"

[credentials.person]
issuer = "{issuer}"
client_id = "team"
client_secret = "team-secret"
scopes = ["api"]

[[routes]]
path = "/api"
upstream = "{api}"
credential = "person"
account = {{ header = "Token-Proxy-Account" }}
"""


def password_of(name):
    return aiohttp.encode_basic_auth(name, PASSWORDS[name])


class Person:
    """A browser of one person, with a cookie jar and a password, at the team's address."""

    def __init__(self, team, name):
        self.name = name
        self.team = team
        self.replicas = []  # which have responded
        self._session = aiohttp.ClientSession(
            headers={"Authorization": password_of(name)},
            connector=aiohttp.TCPConnector(ssl=team.trust),
            cookie_jar=aiohttp.CookieJar(),
        )

    async def call(self, method, url, form=None, **headers):
        url = url if url.startswith("http") else self.team.url + url
        if method == "POST":
            headers = {"Origin": self.team.url, **headers}
        async with self._session.request(
            method, url, data=form, headers=headers, allow_redirects=False
        ) as response:
            await response.read()
            self.replicas.append(response.headers.get("X-Replica"))
            return response

    async def press(self, path, page, **more):
        """Post the form of `page`, a path or the page's text."""
        text = page if "<" in page else await (await self.call("GET", page)).text()
        return await self.call("POST", path, {"csrf": CSRF.search(text)[1], **more})

    async def begin(self, account):
        """The callback of a login to `account`, not opened yet."""
        path = f"/login/person/{account}"
        begun = await self.press(path, path)
        assert begun.status == 303, await begun.text()
        async with (
            aiohttp.ClientSession() as elsewhere,
            elsewhere.post(
                begun.headers["Location"], data={"user": self.name}, allow_redirects=False
            ) as approved,
        ):
            return approved.headers["Location"]

    async def log_in(self, account):
        return await self.call("GET", await self.begin(account))

    async def close(self):
        await self._session.close()


class Team:
    def __init__(self, public, data, admins, server, authority, folder):
        self.url = public
        self.data = [f"http://127.0.0.1:{port}" for port in data]
        self.admins = [f"http://127.0.0.1:{port}" for port in admins]
        self.server = server
        self.folder = folder
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        self.people = []

    def person(self, name):
        self.people.append(Person(self, name))
        return self.people[-1]

    async def whose(self, account):
        """Whose token requests of this account get, at each replica."""
        found = []
        async with aiohttp.ClientSession() as session:
            for url in self.data:
                async with session.get(f"{url}/api/x", headers={"Token-Proxy-Account": account}) as response:
                    found.append((await response.json())["hello"] if response.status == 200 else None)
        return found

    async def becomes(self, account, owner):
        """Until both replicas have seen it: within a second, on a machine that has the time."""
        async with within(30):
            while await self.whose(account) != [owner, owner]:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def replica(folder, name, text):
    path = folder / f"{name}.toml"
    path.write_text(text)
    with (folder / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "run", "-c", str(path), cwd=REPOSITORY, stderr=log, env=plain_environment(folder, {})
        )
    try:
        async with within(60), aiohttp.ClientSession() as session:
            while True:
                assert process.returncode is None, (folder / f"{name}.log").read_text()
                try:
                    url = re.search(r'admin = "([^"]*)"', text)[1]
                    async with session.get(f"http://{url}/healthz") as response:
                        if response.status == 200:
                            break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        yield
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def team(tmp_path, postgres: Postgres):
    data, admins, (front,) = free_ports(0, 0), free_ports(0, 0), free_ports(0)
    public = f"https://localhost:{front}"
    client = Client("team", "team-secret", redirect_uris=(f"{public}/callback",))
    server = AuthorizationServer(clients=(client,), users=(SERIAL, *PEOPLE))
    authority = trustme.CA()
    store = postgres.database()
    async with running(server.application()) as issuer, running(api_application(server)) as api:
        for name in (SERIAL, *PEOPLE):
            told = logs_in(issuer, "team", name, email=f"{name}@example.com")
            server.script(told, subject=name, times=None)
        texts = [
            CONFIG.format(
                data=own_data, admin=own_admin, public=public, folder=tmp_path / f"state{own_admin}",
                header=HEADER, proxy=FROM, store=store, key=KEY, issuer=issuer, api=api,
            )
            for own_data, own_admin in zip(data, admins, strict=True)
        ]  # fmt: skip
        backends = [f"127.0.0.1:{port}" for port in admins]
        nginx = Nginx(tmp_path / "nginx", authority.issue_cert("localhost"), front, PASSWORDS, backends)
        async with replica(tmp_path, "a", texts[0]), replica(tmp_path, "b", texts[1]):
            with ExitStack() as stack:
                await asyncio.to_thread(stack.enter_context, nginx)
                made = Team(public, data, admins, server, authority, tmp_path)
                try:
                    yield made
                finally:
                    for person in made.people:
                        await person.close()


async def test_each_of_twenty_people_logs_in_and_ends_what_is_theirs(team):
    first = team.person(SERIAL)
    assert (await first.log_in(SERIAL)).status == 200
    page, begun, ended = first.replicas
    assert page == ended != begun, "one replica shows the form, the other one takes it, the first one ends it"

    people = [team.person(name) for name in PEOPLE]
    done = await asyncio.gather(*[person.log_in(person.name) for person in people])
    assert Counter(page.status for page in done) == {200: 20}
    for person, page in zip(people, done, strict=True):
        assert f"{person.name}@example.com" in await page.text()
        await team.becomes(person.name, person.name)

    # Another person's login is not theirs to end, not even in the same browser.
    pairs = list(zip(people[::2], people[1::2], strict=True))
    for one, other in pairs[:3]:
        callback = await one.begin(one.name)
        assert (await other.call("GET", callback)).status == 400
        callback = await one.begin(one.name)
        as_other = {"Authorization": password_of(other.name)}
        assert (await one.call("GET", callback, **as_other)).status == 400
        # and a form of one of them is worth nothing in the hands of the other
        text = await (await one.call("GET", f"/login/person/{one.name}")).text()
        assert (await other.press(f"/logout/person/{one.name}", text)).status == 403

    await asyncio.gather(*[take_over(team, one, other) for one, other in pairs])

    # The people of a pair have swapped: each account is that of the other one by now. All log out.
    out = await asyncio.gather(
        *[person.press(f"/logout/person/{person.name}", f"/login/person/{person.name}") for person in people]
    )
    assert Counter(response.status for response in out) == {303: 20}
    for name in PEOPLE:
        await team.becomes(name, None)
    assert (await team.whose(SERIAL)) == [SERIAL] * 2, "nobody has touched that one"


async def take_over(team, one, other):
    """`one` logs in to the account of `other`: nothing happens before `one` decides."""
    for decides, decision, status, owner in (
        (other, "replace", 400, other),
        (one, "cancel", 200, other),
        (one, "replace", 200, one),
    ):
        asked = await one.log_in(other.name)
        assert asked.status == 409, await asked.text()
        ticket = TICKET.search(await asked.text())[1]
        assert await team.whose(other.name) == [other.name] * 2
        page = await asked.text() if decides is one else f"/login/person/{other.name}"
        decided = await decides.press("/callback", page, ticket=ticket, decision=decision)
        assert decided.status == status, await decided.text()
        await team.becomes(other.name, owner.name)


async def test_without_the_proxy_a_name_is_worth_nothing(team):
    """Another user of the machine forges it, with the person's own cookies and with any form token at all."""
    victim = team.person(PEOPLE[0])
    await victim.log_in(PEOPLE[0])
    cookies = {morsel.key: morsel.value for morsel in victim._session.cookie_jar}
    forged = {
        HEADER: PEOPLE[0],
        "Origin": team.url,
        "Host": team.url.removeprefix("https://"),
        "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
    }
    key = SealedStore(None, b"k" * 32).derive("session")
    sessions = Sessions(load(team.folder / "a.toml").config, key, SystemClock())
    browser = cookies[sessions.browser_cookie]
    connector = aiohttp.TCPConnector(socket_factory=of_a_stranger)
    async with aiohttp.ClientSession(connector=connector) as direct:
        for identity, words in (
            (browser, "Sign in first"),
            (f"{browser} proxy:{PEOPLE[0]}", "Request refused"),
        ):
            form = {"csrf": sessions.csrf_token(identity)}
            for admin, action in itertools.product(team.admins, ("login", "logout", "refresh")):
                url = f"{admin}/{action}/person/{PEOPLE[0]}"
                async with direct.post(url, data=form, headers=forged, allow_redirects=False) as response:
                    assert (action, response.status) == (action, 403)
                    assert words in await response.text()
    assert await team.whose(PEOPLE[0]) == [PEOPLE[0]] * 2


def of_a_stranger(info):
    with as_user(STRANGER):
        return socket.socket(info[0], info[1], info[2])


async def test_through_the_proxy_nobody_chooses_a_name(team):
    person = team.person(PEOPLE[0])
    begun = await person.begin(PEOPLE[0])
    assert (await person.call("GET", begun, **{HEADER: PEOPLE[1]})).status == 200, "nginx sets its own"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=team.trust)) as nobody,
        nobody.get(team.url, headers={HEADER: PEOPLE[0]}) as response,
    ):
        assert response.status == 401
