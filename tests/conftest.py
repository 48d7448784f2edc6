"""For all tests: room for both ends of hundreds of connections in this one process, and a log as it was."""

import logging

import pytest

from proxy import fd_limits

CALLERS = 2000
LOGGERS = ("root", "proxy", "proxy.logins", "authlib", "aiohttp", "asyncio")  # whose levels logs.py sets


def pytest_configure():
    fd_limits.raise_limit(CALLERS)


@pytest.fixture(autouse=True)
def logging_as_before():
    """A command sets up the log of its whole process, which is here that of the tests after it too."""
    root, levels = logging.getLogger(), {name: logging.getLogger(name).level for name in LOGGERS}
    handlers = root.handlers[:]
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
