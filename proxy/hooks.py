"""Callbacks at the turns of a serving process's life, for modules that it does not know."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

_log = logging.getLogger("proxy.process")
Call = Callable[[], object]


@dataclass(slots=True)
class Hooks:
    """Called at the turns of a process's life. None of them may raise or block."""

    ready: list[Call] = field(default_factory=list)  # all listeners accept connections
    hangup: list[Call] = field(default_factory=list)  # SIGHUP: reopen files; a reload follows
    reloading: list[Call] = field(default_factory=list)  # a reload begins
    reloaded: list[Call] = field(default_factory=list)  # another generation serves
    not_reloaded: list[Call] = field(default_factory=list)  # the reload has failed: nothing has changed
    settled: list[Call] = field(default_factory=list)  # the reload is over, failed or not
    draining: list[Call] = field(default_factory=list)  # the first step of the stop


def call(hooks: list[Call]) -> None:
    for hook in hooks:
        try:
            hook()
        except Exception as error:  # noqa: BLE001 (whatever hangs there must not end the process)
            _log.error("a hook failed unexpectedly", exc_info=error)
