"""One process of the run: `python -m tests.jepsen.worker SABOTAGE CONFIG NAME HISTORY API ACCOUNT…`.

The complete token side of a server, as built by services.py, with every step recorded. Its callers repeatedly
get a token for each account and use it at once. Orders arrive on stdin, one JSON object per line; at its end
the process shuts down in order, as `token-proxy run` does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from proxy import tasks
from proxy.clock import SystemClock
from proxy.config.load import load
from proxy.errors import LoginFailed, StoreError, TokenError
from proxy.oauth.fetch import Fetcher
from proxy.observe.metrics import Metrics
from proxy.store.base import AccountId
from proxy.store.open import open_store
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment
from proxy.tokens.login.logins import Logins
from proxy.tokens.login.pending import new_secret
from proxy.tokens.manager import TokenManager
from tests.jepsen.history import Recorder, fingerprint, now
from tests.jepsen.recording import RecordingServers, RecordingStore, Trap
from tests.jepsen.sabotage import WAYS

CREDENTIAL = "crm"
THINK = 0.1  # seconds between two requests of a caller
PATIENCE = 3.0  # seconds for the API, and between two tries to open the store
BEAT = 0.05  # seconds; a loop that is called much later has been starved
LATE = 0.25  # seconds


@dataclass(frozen=True, slots=True)
class Worker:
    name: str
    recorder: Recorder
    trap: Trap
    tokens: TokenManager
    logins: Logins
    web: aiohttp.ClientSession
    api: str
    accounts: Sequence[str]
    orders: set[asyncio.Task[None]] = field(default_factory=set)

    def account(self, name: str) -> Account:
        return self.tokens.account(CREDENTIAL, name)

    async def call_again_and_again(self, name: str) -> None:
        account = self.account(name)  # kept, as a route keeps its account
        while True:
            await self.request(account)
            await asyncio.sleep(THINK)

    async def request(self, account: Account) -> str:
        """As the relay: with the token, and once more if it is refused. Returns the outcome."""
        since = now()
        try:
            served = self.tokens.ready(account) or await self.tokens.get(account)
        except TokenError as error:
            reason = type(error).__name__
            about = {"account": account.key.account, "generation": account.held.generation}
            self.recorder.note("denied", since=since, reason=reason, **about)
            return reason
        status = await self._use(account, served, since)
        if status == "401" and (replacement := self.tokens.reject(account, served)):
            since = now()
            if better := await replacement:
                return await self._use(account, better, since)
        return status

    async def _use(self, account: Account, served: Attachment, since: float) -> str:
        got, generation = now(), account.held.generation
        headers = {"Authorization": f"Bearer {served.access_token.reveal()}"}
        try:
            async with self.web.get(f"{self.api}/{account.key.account}", headers=headers) as response:
                status = str(response.status)
        except (aiohttp.ClientError, TimeoutError):
            status = "no response"
        about = {"account": account.key.account, "generation": generation, "status": status}
        token = fingerprint(served.access_token.reveal())
        self.recorder.note("request", since=since, got=got, token=token, **about)
        return status

    async def log_in(self, name: str) -> None:
        """A person at a browser: the login form, then the redirect back to us."""
        since, ended = now(), "done"
        try:
            key, command = AccountId(CREDENTIAL, name), new_secret()
            url = await self.logins.begin_to_paste(key, command)
            async with self.web.post(url, data={"user": name}, allow_redirects=False) as response:
                callback = response.headers["Location"]
            await self.logins.paste(key, callback, command)
        except (LoginFailed, StoreError, aiohttp.ClientError, TimeoutError) as error:
            ended = type(error).__name__
        self.recorder.note("logged-in", since=since, account=name, ended=ended)

    async def log_out(self, name: str) -> None:
        since, ended = now(), "done"
        self.recorder.note("logging-out", account=name)
        try:
            await self.logins.log_out(AccountId(CREDENTIAL, name))
        except StoreError as error:
            ended = type(error).__name__
        self.recorder.note("logged-out", since=since, account=name, ended=ended)

    def say(self, word: str) -> None:
        print(word, flush=True)

    async def settle(self, seconds: float) -> None:
        """Request each account until it is served or requires a login."""
        await asyncio.gather(*(self._settle(name, now() + seconds) for name in self.accounts))
        self.say("settled")

    async def _settle(self, name: str, until: float) -> None:
        while (ended := await self.request(self.account(name))) not in {"200", "LoginRequired"}:
            if now() > until:
                break
            await asyncio.sleep(THINK)
        self.recorder.note("end", account=name, ended=ended)

    async def prove(self, seconds: float) -> None:
        """Refresh every account that is not lost: its refresh token must be valid."""
        for name in self.accounts:
            until = now() + seconds
            while (ended := await self._refresh(name)) == "TokenUnavailable" and now() < until:
                await asyncio.sleep(THINK)
            self.recorder.note("proof", account=name, ended=ended)
        self.say("proved")

    async def _refresh(self, name: str) -> str:
        try:
            await self.tokens.refresh_now(self.account(name))
        except TokenError as error:
            return type(error).__name__
        return "done"

    async def beat(self) -> None:
        """Record when this process was starved by the machine, without a pause of the nemesis."""
        before = now()
        while True:
            await asyncio.sleep(BEAT)
            after = now()
            if after - before > LATE:
                self.recorder.note("late", since=before)
            before = after

    async def obey(self, order: dict[str, Any]) -> None:
        match order:
            case {"do": "login", "account": name}:
                await self.log_in(name)
            case {"do": "logout", "account": name}:
                await self.log_out(name)
            case {"do": "refresh", "account": name}:
                await self._refresh(name)
            case {"do": "rest"}:
                others = [task for task in self.orders if task is not asyncio.current_task()]
                await asyncio.gather(*others)
                self.say("rested")
            case {"do": "settle", "seconds": seconds}:
                await self.settle(seconds)
            case {"do": "prove", "seconds": seconds}:
                await self.prove(seconds)
            case {"do": "trap", "step": step, "signal": number}:
                self.trap.set(step, signal.Signals(number))


async def main(sabotage: str, config_file: str, name: str, history: str, api: str, *accounts: str) -> None:
    clock, config = SystemClock(), load(Path(config_file)).config
    recorder = Recorder(Path(history), name)
    trap = Trap(recorder, name)
    async with AsyncExitStack() as stack:
        store = await _opened(config, clock)
        stack.push_async_callback(store.close)
        noted = WAYS[sabotage](RecordingStore(store, trap))
        fetcher = await stack.enter_async_context(Fetcher(config.limits))
        web = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE))
        )
        servers = RecordingServers(fetcher, clock)
        servers.trap = trap
        tokens = TokenManager(config, noted, servers, clock, Metrics())
        worker = Worker(
            name, recorder, trap, tokens, Logins(config, noted, servers, tokens), web, api, accounts
        )
        await _start(tokens)
        stack.push_async_callback(tokens.close, config.limits.authorization_server_total)
        recorder.note("started")
        work = [worker.beat(), tokens.scheduler.run()]
        work += [worker.call_again_and_again(account) for account in accounts]
        stack.push_async_callback(tasks.cancel, *(tasks.spawn(one, name) for one in work))
        worker.say("ready")
        await _obey_all(worker)


async def _opened(config: Any, clock: SystemClock) -> Any:
    while True:
        try:
            return await open_store(
                config.store.url.reveal(), config.server.state_dir, config.store.key, clock
            )
        except StoreError as error:  # a supervisor would start the process again
            logging.getLogger("proxy").warning("%s", error)
            await asyncio.sleep(0.2)


async def _start(tokens: TokenManager) -> None:
    while True:
        try:
            return await tokens.start()
        except StoreError as error:
            logging.getLogger("proxy").warning("%s", error)
            await asyncio.sleep(0.2)


async def _obey_all(worker: Worker) -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    while line := await orders.readline():
        order = tasks.spawn(worker.obey(json.loads(line)), "an order")
        worker.orders.add(order)
        order.add_done_callback(worker.orders.discard)


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    asyncio.run(main(*sys.argv[1:]))
