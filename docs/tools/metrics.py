"""The metrics: names, types, labels and help from the registry; here, when each of them exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from prometheus_client import Metric

from docs.tools.markdown import code, table, text
from proxy.config.model import Log
from proxy.notify.metrics import NotificationMetrics
from proxy.observe.audit import AuditLog, AuditMetrics
from proxy.observe.metrics import PREFIX, Metrics
from proxy.observe.token_metrics import TokenHealth
from proxy.tokens.lifetime import STATES

_ALWAYS: Final = "always"
_START: Final = "from the start"
_ACCOUNT: Final = "for each account"
_ROUTE: Final = "for each route"

# The groups of the page, each with its metrics (without the prefix) and when they exist.
GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "tokens": {
        "ready": _ALWAYS,
        "login_required": _ACCOUNT,
        "accounts": "for each credential",
        "token_state": _ACCOUNT,
        "token_expiry_timestamp_seconds": "where it is known",
        "token_issued_timestamp_seconds": "with a token",
        "token_refresh_due_timestamp_seconds": "where it can be refreshed",
        "token_last_refresh_success_timestamp_seconds": "after the first",
        "token_next_try_timestamp_seconds": "after a failure",
        "token_refresh_failures_consecutive": _ACCOUNT,
        "refresh_token_expiry_timestamp_seconds": "where the server or the configuration states it",
        "client_secret_expiry_timestamp_seconds": (
            "with `client_secret_expires`, or for a registered client with an end"
        ),
        "clock_skew_seconds": "after the first token response",
    },
    "requests for tokens": {
        "token_refreshes_total": _START,
        "token_refresh_errors_total": "the common codes from the start",
        "token_refresh_duration_seconds": _START,
        "token_wait_seconds": _START,
        "logins_total": _START,
        "notifications_total": "with `[notify]`",
        "tokens_unsaved": _ALWAYS,
        "store_writable": _ALWAYS,
    },
    "requests of callers": {
        "requests_total": "after the first with these labels",
        "request_duration_seconds": _ROUTE,
        "requests_in_flight": _ROUTE,
        "caller_requests_total": "with `[callers]`",
        "refused_total": _START,
        "upstream_errors_total": _START,
        "upstream_unauthorized_total": _START,
        "last_unauthorized_timestamp_seconds": "after the first",
        "upstream_connections": _ROUTE,
        "upstream_queued": _ROUTE,
    },
    "the process": {
        "config_last_reload_successful": _ALWAYS,
        "config_last_reload_success_timestamp_seconds": _ALWAYS,
        "sink_writes_total": "with `[log] audit` (sink `audit`)",
        "log_lines_dropped_total": _ALWAYS,
        "internal_errors_total": _ALWAYS,
        "build_info": _ALWAYS,
    },
}
_OF_PROCESSES: Final = "process_"  # the usual names, on Linux


class Exported(NamedTuple):
    kind: str
    labels: list[str]
    help: str


class Unlisted(Exception):
    """Metrics without a group, or names in a group that no metric has."""


def page(group: str, exported: Mapping[str, Exported]) -> str:
    """The table of a group. Raises Unlisted."""
    listed = {PREFIX + name for names in GROUPS.values() for name in names}
    ours = {name for name in exported if not name.startswith(_OF_PROCESSES)}
    if listed != ours:
        raise Unlisted(", ".join(sorted(listed ^ ours)))
    when = {PREFIX + name: text(exists) for name, exists in GROUPS[group].items()}
    if group == "the process":
        when |= {name: "on Linux" for name in exported if name.startswith(_OF_PROCESSES)}
    head = ("metric", "type", "labels", "meaning", "exists")
    return table(head, (_row(name, exported[name], exists) for name, exists in when.items()))


def _row(name: str, metric: Exported, exists: str) -> tuple[str, str, str, str, str]:
    return code(name), metric.kind, ", ".join(map(code, metric.labels)), text(metric.help), exists


def exported() -> dict[str, Exported]:
    """Every metric, by its name, from a registry in which each has a sample."""
    with _samples() as metrics:
        found = list(metrics.registry.collect())
    return {_name(each): Exported(each.type, _labels(each), each.documentation) for each in found}


@contextmanager
def _samples() -> Iterator[Metrics]:
    metrics, audit = Metrics(), AuditLog()
    metrics.declare(["crm"], ["crm"], upstream_errors=["upstream-timeout"], endings=["no-route"])
    metrics.requests.of("crm").count(b"GET", 200, 0.001)
    for gauge in (metrics.requests_in_flight, metrics.last_unauthorized, metrics.upstream_queued):
        gauge.labels("crm").set(1)
    metrics.upstream_connections.labels("crm", "idle").set(1)
    metrics.account_counts = {"crm": {"valid": 1}}
    health = TokenHealth("crm", "default", "valid", 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0, login_required=False)
    metrics.show_tokens(lambda: [health], STATES, lambda: 100, lambda: [("crm", -7.0)])
    metrics.show_secrets(lambda: [("crm", 7.0)])
    metrics.caller_requests.of("build").count("crm", 200)
    metrics.caller_requests.show()
    NotificationMetrics(PREFIX, metrics.registry).is_configured = True
    with TemporaryDirectory() as folder:
        audit.use(Log(audit=Path(folder) / "audit.log"))
        AuditMetrics(PREFIX, metrics.registry, audit)
        try:
            yield metrics
        finally:
            audit.close(30)


def _name(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _labels(metric: Metric) -> list[str]:
    return list(dict.fromkeys(label for sample in metric.samples for label in sample.labels if label != "le"))
