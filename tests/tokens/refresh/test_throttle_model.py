"""For any mixture of healthy and failing accounts of one client: no healthy one waits for a failing one.

With one exception, since a probe shows no more than whether it failed: if an account fails as it would at a
server that is down (5xx, no response), and did not before the breaker opened, its probe costs a pause.

The real manager, scheduler and throttle, against an authorization server in memory, on a manual
clock. Hypothesis generates the accounts that fail and how, and when the server is down.
"""

from __future__ import annotations

import asyncio
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
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from proxy.errors import AuthorizationServerError
from proxy.oauth.token import Token
from proxy.observe.metrics import Metrics
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.account import Account
from proxy.tokens.manager import TokenManager
from proxy.tokens.refresh import backoff, single_flight
from tests.fakes.clock import FakeClock
from tests.tokens.conftest import SEAL, write_config

TIMES = int(os.environ.get("TIMES", "1"))  # factor on the usual number of examples
LIFETIME = 60.0  # seconds; refreshed from the 43rd on, expired at the 57th
RECOVERY = backoff.BACKOFF_LAST + 5  # seconds after which all healthy accounts must be fresh again ...
MISLED = backoff.BACKOFF_LAST + 1  # ... and seconds more for each account whose probe may be misleading
TURNS = 60  # iterations of the event loop per second: enough for all that does not wait
CREDENTIAL = 'client_id = "web"\ntoken_endpoint = "http://127.0.0.1:1/t"\nauthorization_endpoint = "http://127.0.0.1:1/a"'

HEALTHY = [f"good{number}" for number in range(4)]
OTHERS = [f"other{number}" for number in range(6)]


def refused(error: str, outcome: Any = "transient", status: int = 400) -> AuthorizationServerError:
    return AuthorizationServerError(outcome, error, status=status, refusal=True)


TROUBLES = {
    "unknown error": refused("other"),
    "empty": refused("http_400"),
    "access_denied": refused("access_denied", "misconfigured", 403),
    "invalid_grant": AuthorizationServerError("login_required", "invalid_grant", status=400),
    "invalid_client": AuthorizationServerError("misconfigured", "invalid_client", status=401),
    "page": AuthorizationServerError("transient", "not_json"),
    "its own 500": AuthorizationServerError("transient", "http_500", status=500),
    "its own timeout": AuthorizationServerError("transient", "timeout"),
}
OUTAGES = {
    "unreachable": AuthorizationServerError("transient", "unreachable", reached=False),
    "timeout": AuthorizationServerError("transient", "timeout"),
    "503": AuthorizationServerError("transient", "http_503", status=503),
    "429 with a pause": AuthorizationServerError("transient", "http_429", status=429, retry_after=7.0),
}


class Server:
    """An authorization server without rotation, with the interface of `oauth.endpoint`."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.troubles: dict[str, AuthorizationServerError] = {}
        self.down: AuthorizationServerError | None = None
        self.sent: list[float] = []  # boot clock
        self.inside = self.most_inside = 0
        self.ends_with: str | None = None  # the account with whose request an outage ends

    async def token(
        self, _credential: Any, form: Any, before_send: Any = None, *, before: Any = None
    ) -> Token:
        name = form["refresh_token"].removeprefix("RT-")
        before_send()
        self.sent.append(self.clock.boot())
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.inside -= 1
        if name == self.ends_with:
            self.down = None
        error = self.down or self.troubles.get(name)
        if error is not None:
            raise AuthorizationServerError(**vars(error))
        return self.issue(name)

    def issue(self, name: str, lifetime: float = LIFETIME) -> Token:
        return Token(
            access_token=Secret(f"AT-{len(self.sent)}"),
            refresh_token=Secret(f"RT-{name}"),
            server="http://127.0.0.1:1/t",
            client_id="web",
            issued_at=self.clock.wall(),
            issued_boot=self.clock.boot(),
            boot_id=self.clock.boot_id,
            lifetime=lifetime,
        )


class Throttled(RuleBasedStateMachine):
    @initialize(other_first=st.booleans())
    def begin(self, other_first: bool) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(single_flight, "ATTEMPTS", 1)  # no real sleep
        logging.disable(logging.CRITICAL)
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        folder = Path(self.stack.enter_context(TemporaryDirectory()))
        config = write_config(folder, "", credential=CREDENTIAL)
        limits = config.limits.model_copy(update={"authorization_server_rate": 1e6, "token_wait": 0.01})
        self.clock = FakeClock()
        self.server = Server(self.clock)
        self.up_since = self.clock.boot() - RECOVERY
        self.all_served_at = self.last_waited_at = self.open_at = self.clock.boot()
        self.misleading: set[str] = set()
        store = SealedStore(MemoryStore(self.clock), SEAL)
        self.runner.run(self._open(config.model_copy(update={"limits": limits}), store))
        names = [*OTHERS, *HEALTHY] if other_first else [*HEALTHY, *OTHERS]
        for name in names:
            self.a_person_logs_in(name)
        self.accounts: list[Account] = [self.tokens.account("crm", name) for name in names]

    async def _open(self, config: Any, store: Any) -> None:
        self.tokens = TokenManager(config, store, self.server, self.clock, Metrics())
        await self.tokens.start()

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.tokens.close(0))
            self.runner.run(self.stack.aclose())
            self.runner.close()
            logging.disable(logging.NOTSET)
            self.patch.undo()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(asyncio.wait_for(work, 20))

    # -- what happens

    @rule(name=st.sampled_from(OTHERS), trouble=st.sampled_from(sorted(TROUBLES)))
    def an_account_gets_into_trouble(self, name: str, trouble: str) -> None:
        self.server.troubles[name] = TROUBLES[trouble]

    @rule(trouble=st.sampled_from(sorted(TROUBLES)))
    def all_of_them_do(self, trouble: str) -> None:
        self.server.troubles.update(dict.fromkeys(OTHERS, TROUBLES[trouble]))

    @rule(name=st.sampled_from(OTHERS), lifetime=st.sampled_from([LIFETIME, 5 * LIFETIME]))
    def a_person_logs_in(self, name: str, lifetime: float = LIFETIME) -> None:
        """With a token that lasts longer, an account may join an outage when the others have failed often."""
        self.server.troubles.pop(name, None)
        self.run(self.tokens.adopt(AccountId("crm", name), self.server.issue(name, lifetime)))

    @rule(name=st.sampled_from(OTHERS))
    def a_person_presses_refresh(self, name: str) -> None:
        async def press() -> None:
            await asyncio.gather(
                self.tokens.refresh_now(self.tokens.account("crm", name)), return_exceptions=True
            )

        self.run(press())

    @rule(seconds=st.sampled_from([1, 5, 50, 100]))
    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.run(self._second())
            if self.server.down is None:
                self._all_healthy_serve()

    @rule(kind=st.sampled_from(sorted(OUTAGES)), seconds=st.sampled_from([3, 30, 200]))
    def the_server_is_down(self, kind: str, seconds: int) -> None:
        self.server.down = OUTAGES[kind]
        self._let_all_notice()
        began, self.server.most_inside = self.clock.boot(), 0
        self.time_passes(seconds)
        self._is_left_alone(began)
        self.server.down, self.up_since = None, self.clock.boot()
        self.time_passes(int(RECOVERY + len(self._misleading()) * MISLED) + 1)

    async def _second(self, *, asking: bool = True) -> None:
        """A request to each account, and a check by the scheduler."""
        self.clock.advance(1)
        asked = [asyncio.create_task(self._request(account)) for account in self.accounts if asking]
        look = asyncio.create_task(self.tokens.scheduler.look(self.clock.wall()))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await asyncio.gather(look, *asked, return_exceptions=True)

    async def _request(self, account: Account) -> None:
        if self.tokens.ready(account) is None:
            await self.tokens.get(account)

    def _let_all_notice(self) -> None:
        """Until the first requests have failed: only then the server is known to be down."""
        for _ in range(int(LIFETIME)):
            if not self.tokens.account("crm", "good0").throttle.is_closed:
                return
            self.run(self._second())

    # -- what must hold

    def _misleading(self) -> set[str]:
        """The accounts that fail as they would at a server that is down."""
        return {name for name, error in self.server.troubles.items() if error.about == "server"}

    def _all_healthy_serve(self) -> None:
        now = self.clock.boot()
        accounts = [self.tokens.account("crm", name) for name in HEALTHY]
        waiting = [account.name for account in accounts if not account.is_usable]
        if waiting:
            self.last_waited_at = now
        else:
            self.all_served_at, self.misleading = now, set()
        if not accounts[0].throttle.is_closed:
            self.open_at = now
        self.misleading |= self._misleading()
        until = max(self.up_since + RECOVERY, self.all_served_at)
        if now - self.open_at <= 1:
            until += len(self.misleading) * MISLED
        assert not waiting or now < until, f"{waiting} wait for {self.server.troubles}"

    def _is_left_alone(self, began: float) -> None:
        assert self.server.most_inside <= 1, "more than one probe at a time"
        sent = [at for at in self.server.sent if at > began]
        now = self.clock.boot()
        if now - began >= 150:
            late = [at for at in sent if at > now - 60]
            assert len(late) <= 60 / (backoff.BACKOFF_LAST / 2) + 1, "the pauses don't grow"


Throttled.TestCase.settings = settings(
    deadline=None,
    max_examples=15 * TIMES,
    stateful_step_count=15,
    suppress_health_check=list(HealthCheck),
)
TestThrottled = Throttled.TestCase


FAILS_SINCE_AN_OUTAGE = [  # seconds before the outage, its kind and duration, failure of one account since
    (0, "429 with a pause", 30, "its own 500"),
    (100, "503", 200, "its own timeout"),
]


@pytest.mark.parametrize(("before", "outage", "seconds", "trouble"), FAILS_SINCE_AN_OUTAGE)
def test_an_account_that_fails_since_an_outage_delays_the_others_by_one_pause_at_most(
    before: int, outage: str, seconds: int, trouble: str
):
    """The server is up again, and its probe is the first: the others can't know more."""
    machine, bad = Throttled(), "other0"
    machine.begin(other_first=True)
    try:
        machine.time_passes(before)
        machine.an_account_gets_into_trouble(bad, trouble)
        machine.server.down = OUTAGES[outage]
        machine._let_all_notice()
        for second in range(3600):
            machine.server.ends_with = bad if second >= seconds else None
            machine.run(machine._second())
            if machine.server.down is None:
                break
        before_it, its_probe = machine.server.sent[-2:]
        machine.up_since = before_it  # for all that the accounts can know
        machine.time_passes(int(RECOVERY + MISLED) + 1)
        assert its_probe < machine.last_waited_at
    finally:
        machine.teardown()


def test_accounts_that_join_an_outage_and_fail_by_themselves_cost_a_pause_each():
    """The others have failed often by then: each new account would be the first choice many times."""
    machine = Throttled()
    machine.begin(other_first=True)
    try:
        for name in OTHERS:
            machine.a_person_logs_in(name, 15 * LIFETIME)
        machine.all_of_them_do("its own 500")
        machine.the_server_is_down("503", 660)
    finally:
        machine.teardown()


MIXTURES = [  # failure, accounts with it, accounts without
    ("unknown error", 2, 3),
    ("access_denied", 2, 3),
    ("its own 500", 2, 3),
    ("its own timeout", 2, 3),
    ("unknown error", 6, 30),
]


@pytest.mark.parametrize(("trouble", "bad", "good"), MIXTURES)
def test_requests_of_healthy_accounts_do_not_fail_for_those_that_are_refused(
    trouble: str, bad: int, good: int
):
    """Lifetimes of a minute; for five minutes, a request to each healthy account every five seconds."""
    machine = Throttled()
    machine.begin(other_first=True)
    try:
        names = [f"well{number}" for number in range(good)]
        refused = [f"bad{number}" for number in range(bad)]
        for name in (*refused, *names):
            machine.a_person_logs_in(name)
        machine.accounts = [machine.tokens.account("crm", name) for name in names]
        machine.server.troubles.update(dict.fromkeys(refused, TROUBLES[trouble]))
        unserved = 0
        for second in range(300):
            machine.run(machine._second(asking=second % 5 == 0))
            unserved += sum(not account.is_usable for account in machine.accounts)
        assert unserved == 0
    finally:
        machine.teardown()
