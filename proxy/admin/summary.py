"""What a process serves, as it says once at its start: in the event `start`, and on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from proxy.admin.base_urls import Listening, base_url
from proxy.compiled import look
from proxy.config.model import Config, Route
from proxy.config.route import AccountHeader
from proxy.observe.status import Entry, entry
from proxy.services import Services
from proxy.store.base import AccountId
from proxy.store.open import place_of

MOST: Final = 100  # routes in the event: as many make a line of some 25 KB


class ServedRoute(NamedTuple):
    name: str
    place: str  # where callers reach it
    upstream: str
    credential: str
    account: str  # or how each request names one, in parentheses
    token: Entry | None  # None if requests name the account


@dataclass(frozen=True, slots=True)
class Summary:
    version: str
    compiled: bool  # the data path
    config: str  # the file; "environment" if there is none
    store: str
    public_url: str
    routes: Sequence[ServedRoute]

    @property
    def tokens(self) -> list[Entry]:
        """Those of the routes, each once."""
        found = {(each["credential"], each["account"]): each for each in self._entries()}
        return list(found.values())

    def _entries(self) -> Iterable[Entry]:
        return (route.token for route in self.routes if route.token is not None)

    @property
    def waiting(self) -> list[Entry]:
        """Accounts that can't serve now."""
        return [each for each in self.tokens if not each["serves"]]

    @property
    def sentence(self) -> str:
        """Whether all accounts can serve."""
        waiting = self.waiting
        if not waiting:
            return "token-proxy is ready"
        first = "; ".join(part for part in (waiting[0]["reason"], waiting[0]["remedy"]) if part)
        key = f"{waiting[0]['credential']}/{waiting[0]['account']}"
        which = f"{len(waiting)} of {len(self.tokens)} accounts can't serve yet: {key}: {first}"
        more = f"; and {len(waiting) - 1} more, see `token-proxy status`" if len(waiting) > 1 else ""
        return f"token-proxy is ready, but {which}{more}"

    def fields(self) -> dict[str, Any]:
        """Those of the event."""
        listed = [
            {
                "name": route.name,
                "place": route.place,
                "upstream": route.upstream,
                "credential": route.credential,
                "account": route.account,
                "state": route.token["state"] if route.token else None,
            }
            for route in self.routes[:MOST]
        ]
        left_out = len(self.routes) - len(listed)
        return {
            "version": self.version,
            "compiled": self.compiled,
            "config": self.config,
            "store": self.store,
            "public_url": self.public_url,
            "routes": listed,
            **({"routes_left_out": left_out} if left_out else {}),
        }


def summarize(services: Services, listening: Iterable[Listening], accepted: Iterable[str]) -> Summary:
    """`accepted`: names that the Host field may have."""
    config, listening, accepted = services.config, list(listening), list(accepted)
    return Summary(
        version=version("token-proxy"),
        compiled=look().wholly,
        config=str(config.path.absolute()) if config.path else config.place,
        store=place_of(config.store.url.reveal(), config.server.state_dir),
        public_url=config.public_url,
        routes=[
            _served(route, services, place_of_route(route, listening, accepted)) for route in config.routes
        ],
    )


def _served(route: Route, services: Services, place: str) -> ServedRoute:
    token = None
    if isinstance(route.account, str):
        key = AccountId(route.credential, route.account)
        token = entry(services.tokens.account(*key), services.config)
    return ServedRoute(route.name, place, str(route.upstream), route.credential, account_of(route), token)


def account_of(route: Route) -> str:
    """The account, or what names it in parentheses."""
    account = route.account
    if isinstance(account, str):
        return account
    return f"(by {account.header})" if isinstance(account, AccountHeader) else "(the caller's)"


def configured(config: Config) -> list[Listening]:
    """The data listeners of a configuration, none of which need be open."""
    shared = [Listening(address, config.listener_tls(address)) for address in config.server.listen]
    own = [
        Listening(route.listen, config.listener_tls(route.listen), route.name)
        for route in config.routes
        if route.listen is not None
    ]
    return [*shared, *own]


def place_of_route(route: Route, listening: Sequence[Listening], accepted: Sequence[str]) -> str:
    """The URL by which callers reach a route; on a unix socket that, and the host and path."""
    url = base_url(route, listening, accepted)
    if url is not None:
        return f"{url}/" if route.path == "/" else url
    own = route.name if route.listen is not None else None
    socket = next((str(each.address) for each in listening if each.route == own), "")
    return f"{socket} {route.host or ''}{route.path or '/'}"
