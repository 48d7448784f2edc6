"""The health of every account, as /api/status, /readyz, /metrics, the page and the `status` command show it.

Memory has precedence, as failures are not in the records. If there are very many accounts, it does not hold
all of them: the others are read from the store, a page at a time (listing.py). Nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, TypedDict

from prometheus_client import CollectorRegistry

from proxy.config.model import Config
from proxy.errors import StoreError
from proxy.observe.listing import Listing, named
from proxy.observe.query import Query
from proxy.observe.status import Status, can_serve, joinable
from proxy.observe.token_metrics import Counts
from proxy.services import Services
from proxy.store.base import AccountId
from proxy.tokens.account import Account
from proxy.tokens.lifetime import TokenState

EVERYTHING: Final = Query()


class NotReady(TypedDict):
    """A reason in /readyz."""

    credential: str
    account: str
    state: TokenState


class Health:
    """Reads the state of the tokens; `draining` is set when the process is about to stop."""

    def __init__(self, services: Services) -> None:
        self.draining = False
        self._listing = Listing(services)
        self.use(services)

    def use(self, services: Services) -> None:
        """Read the accounts of these services from now on; called again by each reload."""
        self._listing.drop()
        self._listing = Listing(services)
        self._config = services.config
        self._clock = services.clock
        self._store = services.store
        self._tokens = services.tokens
        self._metrics = services.metrics
        self.refused = services.metrics.refused
        self._named = frozenset(named(services.config))
        self._required = sorted(set(_required(services.config)))

    @property
    def ready(self) -> bool:
        return not self.draining and not self.not_ready()

    def not_ready(self) -> list[NotReady]:
        """The required accounts without a usable token."""
        accounts = [self._tokens.account(*key) for key in self._required]
        return [
            {"credential": account.key.credential, "account": account.key.account, "state": account.state()}
            for account in accounts
            if not can_serve(account)
        ]

    def hints(self) -> list[str]:
        """A sentence for each of them, with the next step."""
        unready = [AccountId(each["credential"], each["account"]) for each in self.not_ready()]
        return [f"{key}: {self._tokens.account(*key).diagnosis().text}" for key in unready]

    async def metrics(self) -> CollectorRegistry:
        """The registry to scrape, with the present numbers of accounts."""
        if not self.draining:  # the store may be closed
            self._metrics.account_counts = await self.counts()
        return self._metrics.registry

    async def status(self, query: Query = EVERYTHING) -> Status:
        """A page of the accounts that fit `query`, and the counts of all."""
        page = await self._listing.page(query)
        return {
            "version": 1,
            "now": self._clock.wall(),
            "ready": self.ready,
            "tokens": page.entries,
            "counts": page.counts,
            "attention": page.attention,
            "joinable": joinable(self._config),
            "next": page.next,
        }

    async def counts(self) -> Counts:
        """The number of accounts in each state: from memory if it holds all of them, else from the store."""
        counts: dict[str, Counter[str]] = {name: Counter() for name in self._config.credentials}
        known = self._known()
        for account in known.values():
            counts[account.key.credential][account.state()] += 1
        for key in self._named - known.keys():
            counts[key.credential]["absent"] += 1
        try:
            stored = await self._store.counts(self._clock.wall())
        except StoreError:
            return counts
        for credential, states in stored.items():
            if self._config.is_stored(credential) and sum(states.values()) > counts[credential].total():
                counts[credential] = _as_states(states)
        return counts

    def _known(self) -> dict[AccountId, Account]:
        accounts = self._tokens.accounts()
        return {each.key: each for each in accounts if each.key.credential in self._config.credentials}


def _required(config: Config) -> Iterator[AccountId]:
    """Those of /readyz: the fixed accounts of a required credential, or `default` if it has none."""
    for name in filter(config.required, config.credentials):
        accounts = [route.account for route in config.routes if route.credential == name]
        fixed = {account for account in accounts if isinstance(account, str)}
        for account in fixed or {"default"}:
            yield AccountId(name, account)


def _as_states(stored: Mapping[str, int]) -> Counter[str]:
    """The states of the store, as those of `TokenState`."""
    states: Counter[str] = Counter()
    for state, count in stored.items():
        states["absent" if state in {"logged_out", "unreadable"} else state] += count
    return states
