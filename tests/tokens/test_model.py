"""For any events in any order: no refresh token is lost, and no invalid access token is used.

Two processes share a store and a server that accepts each refresh token once, within its grace. Hypothesis
generates the events: callers, people, the network, clocks, disks and kill -9. Everything is compared with the
state of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.demo import faults
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.faults import Fault
from proxy.demo.serve import running
from proxy.errors import LoginRequired, Misconfigured, StoreError, TokenError
from proxy.store.base import AccountId, Record, Store
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment
from proxy.tokens.refresh import backoff, lease, refresh
from proxy.tokens.saved import codec
from tests.fakes.clock import FakeClock
from tests.tokens.conftest import CLIENTS, HOUR, SEAL, Side, process, write_config

TIMES = int(os.environ.get("TIMES", "1"))  # factor on the usual number of examples
NAMES = ("default", "ann")
FAULTS = (
    "drop-before",
    "drop-after-commit",
    "outage",
    "html",
    "error-in-200",
    "too-many-requests",
    "invalid-client",
    "short-expires-in",
    "odd-expires-in",
)
# What a process does to the store in a refresh: lease, get, intend, put and a few more.
OPERATIONS = 8

WHO = st.integers(0, 1)
NAME = st.sampled_from(NAMES)


class MortalStore:
    """The store as one process sees it: its disk may be full, and the process may die at any call.

    A dead process does nothing more, and never learns the result of its last call.
    """

    def __init__(self, store: Store, saved: set[str]) -> None:
        self._store = store
        self._saved = saved  # every access token that any process has put
        self.full = False
        self.calls_to_live: int | None = None
        self.acts_before_it_dies = False
        self.dead = asyncio.Event()

    def changes(self) -> Any:
        return self._store.changes()

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.dead.is_set():
                raise StoreError("the process is dead")
            if self.calls_to_live is not None:
                self.calls_to_live -= 1
                if self.calls_to_live < 0:
                    if self.acts_before_it_dies:
                        await self._do(name, *args, **kwargs)
                    self.dead.set()
                    await asyncio.Event().wait()
            if self.full and name in {"put", "intend", "postpone", "touch"}:
                raise StoreError("the disk is full")
            return await self._do(name, *args, **kwargs)

        return call

    async def _do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        done = await getattr(self._store, name)(*args, **kwargs)
        if name == "put" and (token := codec.decode(args[0].body).access_token) is not None:
            self._saved.add(token.reveal())
        return done


class Tokens(RuleBasedStateMachine):
    @initialize(grace=st.sampled_from([0, 5, 30]))
    def begin(self, grace: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.sides: list[Side] = []
        self.patch.setattr(backoff, "BACKOFF_FIRST", 0.001)
        self.patch.setattr(lease, "POLL_EVERY", 0.001)
        self.patch.setattr(refresh, "SAVE_AGAIN", 0.001)
        self.patch.setattr(refresh, "TIME_TO_SAVE", 0.005)
        logging.disable(logging.CRITICAL)
        self.runner = asyncio.Runner()
        self.grace = grace
        self.clock, self.server_clock = FakeClock(), FakeClock()
        self.generations: dict[str, int] = {}
        self.saved: set[str] = set()
        self.logged_in: set[str] = set()
        self.doubt: dict[str, float] = {}  # since when the server has issued more than was saved
        self.reused = 0  # refresh tokens sent again after the grace
        self.run(self._open())
        for name in NAMES:
            self.log_in(0, name)

    async def _open(self) -> None:
        self.stack = AsyncExitStack()
        self.folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.server = AuthorizationServer(
            clients=CLIENTS, access_token_lifetime=HOUR, clock=self.server_clock, grace=self.grace
        )
        await self.stack.enter_async_context(running(self.server.application()))
        self.config = write_config(self.folder, self.server.issuer)
        self.store = SealedStore(MemoryStore(self.clock), SEAL)
        self.lives: list[AsyncExitStack] = [AsyncExitStack(), AsyncExitStack()]
        for who in range(2):
            self.sides.append(await self._start(who))

    async def _start(self, who: int) -> Side:
        store = MortalStore(self.store, self.saved)
        side = await self.lives[who].enter_async_context(process(self.config, self.clock, self.server, store))
        await side.tokens.start()
        await self._settle(side)
        return side

    async def _settle(self, side: Side) -> None:
        """As the scheduler does each second."""
        with contextlib.suppress(StoreError):
            await side.tokens.scheduler.look(self.clock.wall())
        for account in side.tokens.accounts():
            await self._landed(side, account)

    async def _landed(self, side: Side, account: Account) -> None:
        """Wait for the account's refresh, unless it waits for a full disk, or for another that does."""
        if account.flight is not None:
            await asyncio.wait((account.flight,), timeout=self.patience)

    @property
    def patience(self) -> float:
        """A refresh may wait long for its save, and another process for that refresh."""
        return 0.02 if any(side.store.full for side in self.sides) else 15.0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        for side in self.sides:
            side.tokens._patience = self.patience
        return self.runner.run(asyncio.wait_for(work, 20))

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return

        async def close() -> None:
            for side in self.sides:
                side.store.full = False
            for life_ in self.lives:
                await life_.aclose()
            await self.stack.aclose()

        self.run(close())
        self.runner.close()
        logging.disable(logging.NOTSET)
        self.patch.undo()

    # -- what happens

    @rule(who=WHO, name=NAME)
    def log_in(self, who: int, name: str) -> None:
        if self.sides[who].store.full:
            return
        self.run(self.sides[who].log_in(name))
        self.logged_in.add(name)
        self.doubt.pop(name, None)

    @rule(who=WHO, name=NAME)
    def log_out(self, who: int, name: str) -> None:
        if self.sides[who].store.full:
            return
        self.run(self.sides[who].logins.log_out(AccountId("crm", name)))
        self.logged_in.discard(name)

    @rule(who=WHO, name=NAME, callers=st.integers(1, 20), later=st.sampled_from([0, 0, 3000, HOUR]))
    def requests(self, who: int, name: str, callers: int, later: float) -> None:
        self._advance(later)
        before = len(self.server.token_requests)
        self.run(self._requests(self.sides[who], name, callers))
        assert len(self.server.token_requests) - before <= 2 * 3 + 1, "one flight, or one of each account"

    async def _requests(self, side: Side, name: str, callers: int) -> None:
        account = side.account(name)
        asked = await asyncio.gather(
            *(side.tokens.get(account) for _ in range(callers)), return_exceptions=True
        )
        for outcome in asked:
            self._is_right(side, name, outcome)
        await self._landed(side, account)

    @rule(who=WHO, name=NAME)
    def rejected_by_the_upstream(self, who: int, name: str) -> None:
        async def reject(side: Side) -> None:
            served = side.tokens.ready(side.account(name))
            if served is None:
                return
            replacing = side.tokens.reject(side.account(name), served)
            if replacing is not None and (better := await replacing) is not None:
                self._is_right(side, name, better)

        if not self.sides[who].store.full:
            self.run(reject(self.sides[who]))

    @rule(who=WHO, name=NAME)
    def a_person_presses_refresh(self, who: int, name: str) -> None:
        async def refresh(side: Side) -> None:
            with contextlib.suppress(TokenError):
                await side.tokens.refresh_now(side.account(name))

        if not self.sides[who].store.full:
            self.run(refresh(self.sides[who]))

    @rule(who=WHO)
    def a_second_passes(self, who: int) -> None:
        self._advance(1)
        self.run(self._settle(self.sides[who]))

    @rule(seconds=st.sampled_from([4, 31, 3000, HOUR, 3 * HOUR]))
    def time_passes(self, seconds: float) -> None:
        self._advance(seconds)

    @rule(seconds=st.sampled_from([-HOUR, HOUR]))
    def the_wall_clock_jumps(self, seconds: float) -> None:
        self.clock.jump(seconds)

    @rule(who=WHO, name=NAME, trouble=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4))
    def trouble_at_the_server(self, who: int, name: str, trouble: list[str]) -> None:
        self.server.script(*(faults.NAMED[fault] for fault in trouble))
        self.requests(who, name, 1, HOUR)

    @rule()
    def a_lie_of_the_server(self) -> None:
        self.server.script(faults.NAMED["invalid-grant"])

    @rule()
    def the_server_is_well_again(self) -> None:
        self.server.faults.clear()

    @rule(name=NAME)
    def a_person_withdraws_consent(self, name: str) -> None:
        record = self.run(self.store.get(AccountId("crm", name)))
        if record is None or (token := codec.decode(record.body)).refresh_token is None:
            return
        self.server.revoke_family(token.refresh_token.reveal())

    @rule(who=WHO, full=st.booleans())
    def the_disk(self, who: int, full: bool) -> None:
        self.sides[who].store.full = full
        if not full:
            self.run(self._settle(self.sides[who]))

    @rule(who=WHO, name=NAME)
    def the_disk_fills_up_while_the_server_answers(self, who: int, name: str) -> None:
        async def refresh(side: Side) -> None:
            async def fill() -> None:
                side.store.full = True

            self.server.faults.clear()
            self.server.script(Fault(wait_after=fill))
            side.tokens._patience = 0.02
            with contextlib.suppress(TokenError):
                await side.tokens.refresh_now(side.account(name))
            if (served := side.tokens.ready(side.account(name))) is not None:
                self._is_right(side, name, served)

        if not self.sides[who].store.full:
            self.run(refresh(self.sides[who]))

    @rule(who=WHO, name=NAME, calls=st.integers(0, OPERATIONS), acts=st.booleans())
    def a_process_dies_in_a_refresh(self, who: int, name: str, calls: int, acts: bool) -> None:
        self.run(self._die(who, name, calls, acts))

    async def _die(self, who: int, name: str, calls: int, acts: bool) -> None:
        side = self.sides[who]
        store = side.store
        store.calls_to_live, store.acts_before_it_dies = calls, acts
        refreshing = asyncio.create_task(side.tokens.refresh_now(side.account(name)))
        dying = asyncio.create_task(store.dead.wait())
        await asyncio.wait([refreshing, dying], return_when=asyncio.FIRST_COMPLETED)
        store.dead.set()
        for task in (refreshing, dying):
            task.cancel()
        await asyncio.gather(refreshing, dying, return_exceptions=True)
        await side.tokens.close(0)
        await self.lives[who].aclose()
        self._advance(lease.LIFETIME)  # its lease ends; on another host nobody could know that it is dead
        self._note_doubt(await self.store.page(None, 100))
        self.lives[who] = AsyncExitStack()
        self.sides[who] = await self._start(who)

    def _advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.server_clock.advance(seconds)

    # -- what must hold

    def _is_right(self, side: Side, name: str, outcome: object) -> None:
        if isinstance(outcome, Attachment):
            token = outcome.access_token.reveal()
            assert token in self.saved, "a token is served that is not saved"
            verdict, _ = self.server.judge(token, self.server_clock.boot())
            assert verdict in {"good", "revoked"}, "a token is served that has expired"
            return
        assert isinstance(outcome, TokenError), repr(outcome)
        if isinstance(outcome, LoginRequired):
            assert name not in self.logged_in or self._was_refused(name), "a login is asked for in vain"
        if isinstance(outcome, Misconfigured):
            assert any(request.error == "invalid_client" for request in self.server.token_requests)

    def _was_refused(self, name: str) -> bool:
        return any(request.error == "invalid_grant" for request in self.server.token_requests) or any(
            request.error == "bad_refresh_token" for request in self.server.token_requests
        )

    @invariant()
    def nothing_is_lost_and_no_family_is_revoked_in_vain(self) -> None:
        if hasattr(self, "runner"):
            self._note_doubt(self.run(self.store.page(None, 100)))
            self._check_families()

    def _note_doubt(self, records: list[Record]) -> None:
        ledger = self.server._ledger
        for record in records:
            name = record.key.account
            assert record.generation >= self.generations.get(name, 0), "a generation went back"
            self.generations[name] = record.generation
            token = codec.decode(record.body)
            if record.state == "logged_out":
                assert name not in self.logged_in
                self.doubt.pop(name, None)
                continue
            assert token.refresh_token is not None, "a refresh token is gone"
            held = ledger.find(token.refresh_token.reveal())
            if held.spent_at is None:
                self.doubt.pop(name, None)
                continue
            self.doubt.setdefault(name, held.spent_at)
            successor = ledger.find(held.answer["refresh_token"])
            in_hand = any(side.account(name).flight for side in self.sides)
            assert successor.spent_at is None or in_hand, "the store is two tokens behind"
        assert {record.key.account for record in records} >= self.logged_in, "an account is gone"

    def _check_families(self) -> None:
        reused = sum(request.outcome == "reuse_detected" for request in self.server.token_requests)
        if reused > self.reused:
            now = self.server_clock.boot()
            assert any(now - since >= self.grace for since in self.doubt.values()), (
                "a refresh token was used twice, though the server had given it its grace"
            )
            self.reused = reused


Tokens.TestCase.settings = settings(
    deadline=None,
    max_examples=100 * TIMES,
    stateful_step_count=50,
    suppress_health_check=list(HealthCheck),
)
TestTokens = Tokens.TestCase
