"""The audit log: a JSON line for each request and its decision, for logins, logouts and tokens handed out.

Every field is in each line of its kind. JSON leaves no way to inject lines; no line has a query, a field's
value or a token. Where [log] audit is not set there is no object of this module, and requests cost nothing.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.errors import ProxyError
from proxy.observe.audit_file import CLOSE_TIME, STDOUT, AuditFile, open_audit_file
from proxy.observe.events import INFO, fields_of
from proxy.observe.logs import EVENT_FIELDS

if TYPE_CHECKING:
    from proxy.config.model import Log

ALLOWED: Final = "allowed"
LONGEST_PATH: Final = 1024  # bytes
EVENTS: Final = frozenset({"login", "login_failed", "logout", "token_handed_out"})
_ALL: Final = logging.getLogger("proxy")
_OF_LOGINS: Final = (logging.getLogger("proxy.logins"), logging.getLogger("proxy.tokens"))


class AuditLog:
    """One of a process. It outlives a reload; `use` changes its file, or ends it."""

    def __init__(self) -> None:
        self._file: AuditFile | None = None
        self._required = False
        self._former: list[AuditFile] = []  # whose counts go on
        self._handler = _Events(self)
        self._raised: dict[logging.Logger, int] = {}  # loggers that say more for us -> their level before

    def use(self, log: Log) -> None:
        """Write as configured from now on. The level of logins is set anew: call it after logs.set_up."""
        self._required = log.audit_required
        self._stop_listening()
        if log.audit is None:
            self._end(seconds=0)
            return
        if self._file is None or self._file.path != log.audit:
            self._end(seconds=0)
            self._file = AuditFile(log.audit)
        self._listen()

    @property
    def is_on(self) -> bool:
        return self._file is not None

    @property
    def refuses(self) -> bool:
        """Whether requests must be refused, as their lines could not be written."""
        return self._required and self._file is not None and not self._file.accepts

    def reopen(self) -> None:
        """For SIGHUP."""
        if self._file is not None:
            self._file.reopen()

    def close(self, seconds: float) -> None:
        """Write what is queued, for at most `seconds`. No further line is written."""
        self._stop_listening()
        self._end(seconds)

    def _end(self, seconds: float) -> None:
        former, self._file = self._file, None
        if former is not None:
            self._former.append(former)
            former.close(seconds)

    def _listen(self) -> None:
        _ALL.addHandler(self._handler)
        for logger in _OF_LOGINS:
            if not logger.isEnabledFor(INFO):  # the other log leaves such lines out by its handler
                self._raised[logger] = logger.level
                logger.setLevel(INFO)

    def _stop_listening(self) -> None:
        _ALL.removeHandler(self._handler)
        for logger, level in self._raised.items():
            logger.setLevel(level)
        self._raised.clear()

    def request(  # all that is known of it
        self,
        *,
        request_id: str,
        caller: str,
        peer: str,
        route: str,
        credential: str,
        account: str,
        method: str,
        target: bytes,
        decision: str,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
    ) -> None:
        """`target`: path and query. `decision`: ALLOWED or an ending."""
        self._write(
            {
                "ts": round(time.time(), 3),
                "event": "request",
                "request_id": request_id,
                "caller": caller,
                "peer": peer,
                "route": route,
                "credential": credential,
                "account": account,
                "method": method,
                "path": path_of(target),
                "decision": decision,
                "status": status,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "duration_ms": round(seconds * 1000, 1),
            }
        )

    def unread(self, peer: str, decision: str, status: int, bytes_out: int) -> None:
        """A request that is refused before it is read, or without its head being understood."""
        self.request(
            **dict.fromkeys(("request_id", "caller", "route", "credential", "account", "method"), ""),
            peer=peer,
            target=b"",
            decision=decision,
            status=status,
            bytes_in=0,
            bytes_out=bytes_out,
            seconds=0.0,
        )

    def write_event(self, record: logging.LogRecord) -> None:
        name = getattr(record, "event", "")
        others = {field: getattr(record, field) for field in EVENT_FIELDS if hasattr(record, field)}
        self._write({"ts": round(record.created, 3), "event": name, **others, **fields_of(record)})

    def _write(self, line: dict[str, object]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line).encode("ascii") + b"\n")

    def counts(self) -> dict[str, int]:
        """The numbers of lines written, of failed attempts, and of lines dropped."""
        files = [*self._former, *([self._file] if self._file is not None else [])]
        return {
            "success": sum(each.written for each in files),
            "failure": sum(each.failures for each in files),
            "dropped": sum(each.dropped for each in files),
        }


def path_of(target: bytes) -> str:
    """The path of a request's target, without its query: at most LONGEST_PATH bytes.

    Of an absolute-form target that was refused, nothing: it may have a user and a password.
    """
    if not target.startswith(b"/"):
        return ""
    return target.partition(b"?")[0][:LONGEST_PATH].decode("latin-1")


class _Events(logging.Handler):
    """Logins, logouts and tokens handed out, as the other log has them."""

    def __init__(self, audit: AuditLog) -> None:
        super().__init__(INFO)
        self._audit = audit

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", "") in EVENTS:
            self._audit.write_event(record)


class AuditMetrics(Collector):
    """`sink_writes_total`, while there is an audit log."""

    def __init__(self, prefix: str, registry: CollectorRegistry, audit: AuditLog) -> None:
        self._name = prefix + "sink_writes"
        self._audit = audit
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing to check for clashes before the first scrape

    def collect(self) -> Iterator[Metric]:
        if not self._audit.is_on:
            return
        writes = CounterMetricFamily(
            self._name,
            "Lines written (success), failed attempts to write (failure), and lines lost (dropped).",
            labels=("sink", "outcome"),
        )
        for outcome, count in self._audit.counts().items():
            writes.add_metric(("audit", outcome), count)
        yield writes


@contextmanager
def audited(log: Log) -> Iterator[None]:
    """For commands: logins and logouts within the block are in the audit log. Raises ProxyError if required.

    Not in the standard output, which is a command's own.
    """
    if log.audit is None or log.audit == STDOUT:
        yield
        return
    if log.audit_required and (why := why_unusable(log.audit)):
        raise ProxyError(f"log.audit is required, but {why}")
    audit = AuditLog()
    audit.use(log)
    try:
        yield
    finally:
        audit.close(CLOSE_TIME)


def why_unusable(path: Path) -> str:
    """A sentence if the audit log can't be opened, with the system's name for the error; else empty."""
    try:
        os.close(open_audit_file(path))
    except OSError as error:
        cause = os.strerror(error.errno).lower() if error.errno else "unknown error"
        return f"{path} can't be opened ({cause}): expected a file that this user may create or write"
    return ""
