"""The health of tokens as metrics: read at each scrape, as it depends on the time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

Counts = Mapping[str, Mapping[str, int]]  # credential -> state -> accounts


@dataclass(frozen=True, slots=True)
class TokenHealth:
    """One account as exported: times in Unix seconds, None if unknown."""

    credential: str
    account: str
    state: str
    issued_at: float | None
    expires_at: float | None
    refresh_due_at: float | None
    refresh_expires_at: float | None
    last_success_at: float | None
    next_try_at: float | None  # of a refresh that is held back after a failure
    failures: int
    login_required: bool  # a person must act


_GAUGES: Final[tuple[tuple[str, str, str], ...]] = (  # name, help, attribute of TokenHealth
    ("token_expiry_timestamp_seconds", "Unix time at which the access token expires.", "expires_at"),
    ("token_issued_timestamp_seconds", "Unix time at which the access token was issued.", "issued_at"),
    (
        "token_refresh_due_timestamp_seconds",
        "Unix time at which the access token will be refreshed, ahead of its expiry.",
        "refresh_due_at",
    ),
    (
        "token_last_refresh_success_timestamp_seconds",
        "Unix time of the last successful refresh by this process.",
        "last_success_at",
    ),
    (
        "token_next_try_timestamp_seconds",
        "Unix time of the next try to refresh after a failure. Absent while no try is held back.",
        "next_try_at",
    ),
    (
        "refresh_token_expiry_timestamp_seconds",
        "Unix time at which the refresh token expires unless it is used or replaced before.",
        "refresh_expires_at",
    ),
    (
        "token_refresh_failures_consecutive",
        "Failed requests for a new token since the last successful one.",
        "failures",
    ),
    (
        "login_required",
        "Whether a person must act (log in, or provide a new refresh token): 1 or 0.",
        "login_required",
    ),
)


class TokenCollector(Collector):
    """Converts the health of the tokens to samples. The arguments are those of Metrics.show_tokens."""

    def __init__(
        self,
        prefix: str,
        read: Callable[[], Iterable[TokenHealth]],
        counts: Callable[[], Counts],
        states: tuple[str, ...],
        limit: Callable[[], int],
        skews: Callable[[], Iterable[tuple[str, float]]],
    ) -> None:
        self._prefix = prefix
        self._read = read
        self._counts = counts
        self._states = states
        self._limit = limit
        self._skews = skews

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()  # nothing to check for clashes before the first scrape

    def collect(self) -> Iterator[GaugeMetricFamily]:
        counts, limit = self._counts(), self._limit()
        many = {name for name, states in counts.items() if sum(states.values()) > limit}
        named = [health for health in self._read() if health.credential not in many]
        families = [
            self._accounts(counts),
            self._states_of(named),
            *(self._gauge(named, *row) for row in _GAUGES),
            self._clock_skew(),
        ]
        yield from (family for family in families if family.samples)

    def _accounts(self, counts: Counts) -> GaugeMetricFamily:
        text = "Accounts in this state, by name or not (see limits.account_labels)."
        family = GaugeMetricFamily(f"{self._prefix}accounts", text, labels=("credential", "state"))
        for credential, states in counts.items():
            for state in self._states:
                family.add_metric((credential, state), states.get(state, 0))
        return family

    def _states_of(self, named: list[TokenHealth]) -> GaugeMetricFamily:
        text = "Whether the account is in this state: 1 for its current state, else 0."
        labels = ("credential", "account", "state")
        family = GaugeMetricFamily(f"{self._prefix}token_state", text, labels=labels)
        for health in named:
            for state in self._states:
                family.add_metric((health.credential, health.account, state), float(health.state == state))
        return family

    def _gauge(self, named: list[TokenHealth], name: str, text: str, attribute: str) -> GaugeMetricFamily:
        family = GaugeMetricFamily(self._prefix + name, text, labels=("credential", "account"))
        for health in named:
            value = getattr(health, attribute)
            if value is not None:
                family.add_metric((health.credential, health.account), float(value))
        return family

    def _clock_skew(self) -> GaugeMetricFamily:
        text = (
            "Seconds that the clock of the authorization server is ahead of this machine's, by its "
            "last token response; negative: behind."
        )
        family = GaugeMetricFamily(f"{self._prefix}clock_skew_seconds", text, labels=("credential",))
        for credential, seconds in self._skews():
            family.add_metric((credential,), seconds)
        return family


class SecretCollector(Collector):
    """When client secrets expire, as the configuration or a registration says."""

    def __init__(self, prefix: str, ends: Callable[[], Iterable[tuple[str, float]]]) -> None:
        self._name = f"{prefix}client_secret_expiry_timestamp_seconds"
        self._ends = ends

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()  # nothing to check for clashes before the first scrape

    def collect(self) -> Iterator[GaugeMetricFamily]:
        text = "Unix time at which the client secret expires, as configured or as registered."
        family = GaugeMetricFamily(self._name, text, labels=("credential",))
        for credential, expires_at in self._ends():
            family.add_metric((credential,), expires_at)
        if family.samples:
            yield family
