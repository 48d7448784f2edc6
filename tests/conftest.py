"""For all tests: room for both ends of hundreds of connections in this one process."""

from proxy import descriptors

CALLERS = 2000


def pytest_configure():
    descriptors.raise_limit(CALLERS)
