"""For any events in any order: a code is sent at most once, to its own server, and by the right party only.

Two processes share a store. There are two servers: of a credential with an issuer and the shared callback,
and of one with endpoints by hand and its own callback. Pages and commands begin logins; browsers, commands,
strangers and restarts follow. Whatever a stranger does, the login goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.config.load import load
from proxy.demo.authorization_server import AuthorizationServer, Client
from proxy.demo.serve import running
from proxy.errors import LoginFailed
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.login.ends import Cancelled, End, LoggedIn
from proxy.tokens.login.pending import TIME_TO_LOG_IN, UnknownLogin, party
from proxy.tokens.login.takeover import Takeover
from tests.fakes.clock import FakeClock
from tests.fakes.id_tokens import logs_in
from tests.tokens.conftest import HOUR, SEAL, Side, process
from tests.tokens.login.test_logins import redirect, ticket_of

TIMES = int(os.environ.get("TIMES", "1"))  # factor on the usual number of examples
PUBLIC_URL = "http://127.0.0.1:8081"
CALLBACKS = {"one": "/callback", "two": "/callback/two"}
ISSUER = """
[credentials.one]
client_id = "app-one"
client_secret = "s3cret"
scopes = ["openid"]
issuer = "{issuer}"
"""
BY_HAND = """
[credentials.two]
client_id = "app-two"
client_secret = "s3cret"
scopes = ["openid"]
authorization_endpoint = "{issuer}/authorize"
token_endpoint = "{issuer}/token"
callback = "own"
"""
PEOPLE = ("alice", "bob")
BROWSERS = ("browser 0", "browser 1", "")
WAYS = (
    "as it came",
    "as it came",
    "with a repeated scope",
    "at the other callback",
    "without iss",
    "iss of the other server",
    "code twice",
    "iss twice",
    "state twice",
    "error beside the code",
)
CRED, BROWSER = st.sampled_from(tuple(CALLBACKS)), st.sampled_from(BROWSERS)
WHO = st.integers(0, 1)
PICK = st.integers(0, 1_000_000)
PERSON = st.sampled_from((*PEOPLE, *PEOPLE, ""))
MOSTLY = st.sampled_from((True, True, True, False))


@dataclass
class Login:
    key: AccountId
    parties: set[str]  # the secrets of those who may end it
    command: str  # "": a page began it
    user: str  # who logs in at the server; "": declines
    redirect: str
    is_over: bool = False


@dataclass
class Invitation:
    key: AccountId
    command: str
    ticket: str
    is_over: bool = False


@dataclass
class Asked:
    takeover: Takeover
    browser: str
    command: str
    user: str
    owner: str
    is_over: bool = False


@dataclass
class Model:
    logins: list[Login] = field(default_factory=list)
    invitations: list[Invitation] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    owners: dict[AccountId, str] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CALLBACKS, 0))
    commands: list[str] = field(default_factory=list)
    reported: set[str] = field(default_factory=set)  # commands that have an outcome


class Logins(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        logging.disable(logging.CRITICAL)
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.model = Model()
        self.stack = AsyncExitStack()
        self.run(self._open())
        for name in CALLBACKS:
            self.a_page_begins(0, name, BROWSERS[0], PEOPLE[0])
            self.a_command_begins(1, name, PEOPLE[1])

    async def _open(self) -> None:
        folder = Path(self.stack.enter_context(TemporaryDirectory())) / "config.toml"
        self.servers = {
            name: AuthorizationServer(
                clients=[
                    Client(
                        f"app-{name}", "s3cret", redirect_uris=(PUBLIC_URL + path,), scopes=("openid", "api")
                    )
                ],
                users=PEOPLE,
                access_token_lifetime=HOUR,
                clock=self.clock,
            )
            for name, path in CALLBACKS.items()
        }
        for server in self.servers.values():
            await self.stack.enter_async_context(running(server.application()))
        texts = zip((ISSUER, BY_HAND), self.servers.values(), strict=True)
        folder.write_text("".join(text.format(issuer=server.issuer) for text, server in texts))
        self.config = load(folder).config
        self.store = SealedStore(MemoryStore(self.clock), SEAL)
        self.lives = [AsyncExitStack(), AsyncExitStack()]
        self.sides = [await self._start(who) for who in range(2)]

    async def _start(self, who: int) -> Side:
        return await self.lives[who].enter_async_context(
            process(self.config, self.clock, self.servers["one"], self.store)
        )

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        if hasattr(self, "sides"):
            for life in self.lives:
                self.run(life.aclose())
            self.run(self.stack.aclose())
        self.runner.close()
        logging.disable(logging.NOTSET)

    # -- beginnings

    def _begun(self, key: AccountId, parties: set[str], command: str, user: str, url: str) -> None:
        self.model.logins.append(Login(key, parties, command, user, self.run(redirect(url, user))))

    @rule(who=WHO, name=CRED, browser=st.sampled_from(BROWSERS[:2]), user=PERSON)
    def a_page_begins(self, who: int, name: str, browser: str, user: str) -> None:
        key = AccountId(name, "default")
        url = self.run(self.sides[who].logins.begin(key, browser=browser))
        self._begun(key, {browser}, "", user, url)

    @rule(who=WHO, name=CRED, user=PERSON)
    def a_command_begins(self, who: int, name: str, user: str) -> None:
        key, command = AccountId(name, "default"), f"command {len(self.model.commands)}"
        logins = self.sides[who].logins
        self.model.commands.append(command)
        ticket = ticket_of(self.run(logins.invite(key, command)))
        self.model.invitations.append(Invitation(key, command, ticket))
        to_paste = self.run(logins.begin_to_paste(key, command))
        self._begun(key, {command}, command, user, to_paste)

    @precondition(lambda self: self.model.invitations)
    @rule(who=WHO, pick=PICK, browser=st.sampled_from(BROWSERS[:2]), user=PERSON)
    def a_browser_comes_with_a_ticket(self, who: int, pick: int, browser: str, user: str) -> None:
        invitation = self.model.invitations[-1 - pick % len(self.model.invitations)]
        accepting = self.sides[who].logins.accept(invitation.key, invitation.ticket, browser=browser)
        url = self.run(outcome_of(accepting))
        if invitation.is_over:
            assert isinstance(url, UnknownLogin)
            return
        invitation.is_over = True
        command = invitation.command
        self._begun(invitation.key, {browser, command}, command, user, url)

    # -- ends

    @precondition(lambda self: self.model.logins)
    @rule(who=WHO, pick=PICK, is_open=MOSTLY, is_own=MOSTLY, browser=BROWSER, way=st.sampled_from(WAYS))
    def a_callback_comes(
        self, who: int, pick: int, is_open: bool, is_own: bool, browser: str, way: str
    ) -> None:
        login = self._pick(pick, is_open=is_open)
        if is_own and login.parties & set(BROWSERS):
            (browser,) = login.parties & set(BROWSERS)
        path, query = self._changed(login, way)
        finishing = self.sides[who].logins.finish(Query(query), browser, path=path)
        self._check_end(login, browser, way, finishing)

    @precondition(lambda self: self.model.commands)
    @rule(who=WHO, pick=PICK, is_open=MOSTLY, is_own=MOSTLY, other=PICK, way=st.sampled_from(WAYS))
    def a_url_is_pasted(self, who: int, pick: int, is_open: bool, is_own: bool, other: int, way: str) -> None:
        login = self._pick(pick, is_open=is_open)
        command = self.model.commands[other % len(self.model.commands)]
        if is_own and login.command:
            command = login.command
        path, query = self._changed(login, way)
        pasting = self.sides[who].logins.paste(login.key, f"{PUBLIC_URL}{path}?{urlencode(query)}", command)
        is_known_at_once = way != "at the other callback"  # the command asks for the right URL
        self._check_end(login, command if is_known_at_once else "", way, pasting)

    def _pick(self, pick: int, *, is_open: bool) -> Login:
        logins = self.model.logins
        wanted = [login for login in logins if login.is_over != is_open] or logins
        return wanted[pick % len(wanted)]

    def _changed(self, login: Login, way: str) -> tuple[str, list[tuple[str, str]]]:
        path, query = urlsplit(login.redirect).path, parse_qsl(urlsplit(login.redirect).query)
        other = "two" if login.key.credential == "one" else "one"
        if way == "at the other callback":
            path = CALLBACKS[other]
        elif way == "iss of the other server":
            query = [pair for pair in query if pair[0] != "iss"] + [("iss", self.servers[other].issuer)]
        elif way == "without iss":
            query = [pair for pair in query if pair[0] != "iss"]
        elif way == "error beside the code":
            query.append(("error", "server_error"))
        elif way == "with a repeated scope":
            query += [("scope", "a"), ("scope", "b")]
        elif way != "as it came":
            query.append((way.split(maxsplit=1)[0], "x"))
        return path, query

    def _check_end(self, login: Login, by: str, way: str, ending: Coroutine[Any, Any, End]) -> None:
        model, name = self.model, login.key.credential
        harmless = {"as it came", "with a repeated scope"} | ({"without iss"} if name == "two" else set())
        is_good = way in harmless and login.user != ""
        is_party = by in login.parties and not login.is_over and way != "state twice"
        if is_party and is_good:
            server = self.servers[name]
            server.script(logs_in(server.issuer, f"app-{name}", login.user))
            model.sent[name] += 1
        end = self.run(outcome_of(ending))
        if not is_party:
            assert isinstance(end, LoginFailed)
            return
        login.is_over = True
        if is_good:
            self._check_good_end(login, by, end)
            return
        assert isinstance(end, LoginFailed)
        assert not isinstance(end, UnknownLogin)
        model.reported.add(login.command)

    def _check_good_end(self, login: Login, by: str, end: End | LoginFailed) -> None:
        model, owner = self.model, self.model.owners.get(login.key)
        if owner in {None, login.user}:
            assert isinstance(end, LoggedIn), end
            model.owners[login.key] = login.user
        elif by in BROWSERS:
            assert isinstance(end, Takeover), end
            model.asked.append(Asked(end, by, login.command, login.user, owner))
            return
        else:
            assert isinstance(end, LoginFailed), end  # nobody can be asked
        model.reported.add(login.command)

    @precondition(lambda self: self.model.asked)
    @rule(who=WHO, pick=PICK, is_own=st.booleans(), browser=BROWSER, replace=st.booleans())
    def somebody_decides(self, who: int, pick: int, is_own: bool, browser: str, replace: bool) -> None:
        asked, model = self.model.asked[-1 - pick % len(self.model.asked)], self.model
        browser = asked.browser if is_own else browser
        key = asked.takeover.key
        deciding = self.sides[who].logins.decide(asked.takeover.ticket, browser, replace=replace)
        end = self.run(outcome_of(deciding))
        if asked.is_over or browser != asked.browser:
            assert isinstance(end, UnknownLogin)
            return
        asked.is_over = True
        if not replace:
            assert isinstance(end, Cancelled)
        elif model.owners[key] in {asked.owner, asked.user}:
            assert isinstance(end, LoggedIn)
            model.owners[key] = asked.user
        else:  # it has changed hands meanwhile: asked again
            assert isinstance(end, Takeover)
            model.asked.append(Asked(end, browser, asked.command, asked.user, model.owners[key]))
            return
        model.reported.add(asked.command)

    # -- what happens besides

    @rule(who=WHO)
    def a_process_restarts(self, who: int) -> None:
        self.run(self.lives[who].aclose())
        self.lives[who] = AsyncExitStack()
        self.sides[who] = self.run(self._start(who))

    @rule(is_late=st.integers(0, 4))
    def time_passes(self, is_late: int) -> None:
        if is_late != 4:
            return
        self.clock.advance(TIME_TO_LOG_IN + 1)
        for each in (*self.model.logins, *self.model.invitations, *self.model.asked):
            each.is_over = True
        self.model.reported.clear()  # outcomes last as long

    # -- what holds

    @invariant()
    def no_code_is_sent_twice_or_to_another_server(self) -> None:
        if not hasattr(self, "sides"):
            return
        for name, server in self.servers.items():
            requests = server.token_requests
            assert len(requests) == self.model.sent[name]
            assert all(request.outcome == "granted" for request in requests), (
                "code, verifier and redirect URI fit"
            )

    @invariant()
    def accounts_belong_to_those_who_logged_in(self) -> None:
        if not hasattr(self, "sides"):
            return
        for key, owner in self.model.owners.items():
            found = self.run(self.sides[0].tokens.owner(key))
            assert found is not None
            assert found.subject == owner

    @invariant()
    def a_command_has_an_outcome_when_its_login_is_over_and_not_before(self) -> None:
        if not hasattr(self, "sides"):
            return
        for command in self.model.commands:
            outcome = self.run(self.store.take(f"outcome:{party(command)}"))
            assert (outcome is not None) == (command in self.model.reported)
            self.model.reported.discard(command)


class Query(dict):  # type: ignore[type-arg]
    """Parameters that may repeat, as aiohttp gives them."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def items(self):  # type: ignore[no-untyped-def]
        return self._pairs


async def outcome_of(work: Coroutine[Any, Any, Any]) -> Any:
    """The result, or the exception of a failed login."""
    try:
        return await work
    except LoginFailed as error:
        return error


Logins.TestCase.settings = settings(
    deadline=None,
    max_examples=60 * TIMES,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
TestLogins = Logins.TestCase
