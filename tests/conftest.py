"""For all tests: the event loop, groups that are left out, room for hundreds of connections, the log."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy import compiled, fd_limits
from proxy.commands import hardening
from proxy.observe import logs
from tests import order
from tests.browsers import browsers
from tests.servers import debian, programs

TESTS = Path(__file__).parent
CALLERS = 2000
LOGGERS = (  # whose levels logs.py sets
    *("root", "proxy", "proxy.logins", "proxy.store.upgrade"),
    *("authlib", "aiohttp", "asyncio"),
)
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
MARKED_GROUPS = {  # left out unless -m names them
    "browsers": "they need Chromium and Firefox, and run in CI",
    "debian": "they need LemonLDAP::NG, which apt-get does not offer here",
    "monitoring": "they need Prometheus and promtool, and run in CI",
    "privileged": "they need root on Linux, strace, nginx and systemd-analyze, and run in CI",
    "shells": "they need zsh and fish, and run in CI",
    "torture": "they take long, and are what `make torture` runs",
}
PROGRAMS = {
    "monitoring": ("prometheus", "promtool"),
    "privileged": ("strace", "nginx", "systemd-analyze"),
    "shells": ("zsh", "fish"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop", choices=LOOPS, default="asyncio", help="the event loop of the tests; the server's is uvloop"
    )
    parser.addoption("--compiled", action="store_true", help="run only if the data path is compiled")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--compiled") and not (found := compiled.look()).wholly:
        raise pytest.UsageError(f"{found.modules} of {found.of} modules of the data path are compiled")
    fd_limits.raise_limit(CALLERS)
    _heed_signals()
    programs.offer_curl()


def _heed_signals() -> None:
    """In the background or under nohup, shells ignore these; the programs under test would inherit that."""
    usual: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGQUIT: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    for number, handler in usual.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_asyncio_loop_factories(
    config: pytest.Config,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    loop = config.getoption("--loop")
    return {loop: LOOPS[loop]}


def is_left_out(group: str, config: pytest.Config) -> bool:
    if group in config.getoption("-m"):
        return False
    if group == "torture":
        return True
    if group == "debian":
        return not debian.is_offered()
    return not _has(group) and os.environ.get("CI") != "true"


def _has(group: str) -> bool:
    """Whether this machine has what the group needs."""
    if group == "browsers":
        return all(map(browsers.program, browsers.PROGRAMS))
    if group == "privileged" and (sys.platform != "linux" or os.geteuid() != 0):
        return False
    return all(map(programs.machines, PROGRAMS[group]))


@pytest.hookimpl(tryfirst=True)  # before -m looks for the marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    groups = [group for group in MARKED_GROUPS if is_left_out(group, config)]
    left_out = [item for item in items if any(item.get_closest_marker(group) for group in groups)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if order.is_uncounted(item, TESTS):
            item.add_marker("no_cover")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1 and config.getoption("-m") == "" and not config.pluginmanager.hasplugin("randomly"):
        items[:] = order.dealt(items, workers)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for group, reason in MARKED_GROUPS.items():
        if group != "torture" and is_left_out(group, config):
            terminalreporter.write_line(f"left out: the tests marked {group}; {reason}")


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command sets up the log of its whole process, which is here that of the tests after it too."""
    monkeypatch.setattr(logs, "_debug", False)
    root, levels = logging.getLogger(), {name: logging.getLogger(name).level for name in LOGGERS}
    handlers = root.handlers[:]
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(autouse=True)
def unhardened_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command called in this process must not change its umask, nor forbid debuggers."""
    monkeypatch.setattr(hardening, "keep_to_ourselves", lambda: None)
