"""In which order many workers run the tests, and which of them coverage counts."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

# Seconds that they take, most of which they wait: begun at the end, they would let all others wait for one.
# With what they share they stay together. A file that is missing here costs time, nothing else.
LONG: Final = {
    "tests/browsers/test_pages.py": 185,
    "tests/browsers/test_accessibility.py": 70,
    "tests/browsers/test_journeys.py": 70,
    "tests/e2e/newcomers": 105,
    "tests/jepsen/test_runs.py": 100,
    "tests/deploy/test_image.py": 80,
    "tests/crash": 120,
    "tests/black_box/test_tokens.py": 120,
    "tests/commands/test_bad_disk.py": 100,
    "tests/tokens/test_outage.py": 70,
    "tests/e2e/test_monitoring.py": 63,
    "tests/commands/test_troubled.py": 51,
    "tests/test_hatch_build.py": 60,
    "tests/commands/test_clocks.py": 41,
    "tests/tokens/login/test_life.py": 40,
    "tests/relay/test_chaos.py": 75,
    "tests/e2e/test_accounts.py": 35,
    "tests/tokens/test_model.py": 34,
    "tests/relay/test_pool_machine.py": 30,
    "tests/relay/test_queue.py": 40,
    "tests/black_box/test_crowds.py": 40,
    "tests/docs/test_operations.py": 40,
    "tests/e2e/test_tokens.py": 30,
    "tests/e2e/test_soak.py": 25,
    "tests/e2e/test_canary.py": 16,
}

# Coverage more than doubles the time of our own code. It does not see what runs the command in a process of
# its own, and learns nothing from the thousands of messages of a table, a property or a simulation.
ELSEWHERE: Final = ("e2e", "deploy", "docs", "browsers", "crash", "jepsen", "fuzz", "commands", "black_box")
UNCOUNTED: Final = (
    *(f"{folder}/*" for folder in ELSEWHERE),
    *(
        "*/test_conformance_*.py",
        "*/test_chaos.py",
        "*/test_outage.py",
        "*/test_queue.py",
        "test_hatch_build.py",
    ),
)


def is_uncounted(item: pytest.Item, tests: Path) -> bool:
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        return True
    path = item.path.relative_to(tests).as_posix()
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in UNCOUNTED)


def dealt(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """An order in which each of the equal parts that xdist deals out begins with its share of LONG."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(next(filter(item.nodeid.startswith, LONG), ""), []).append(item)
    rest = groups.pop("", [])
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    seconds = [0] * workers
    for name in sorted(groups, key=lambda name: -LONG[name]):
        least = seconds.index(min(seconds))
        shares[least] += groups[name]
        seconds[least] += LONG[name]
    order: list[pytest.Item] = []
    for number, share in enumerate(shares):
        part = (len(items) - len(order)) // (workers - number)  # as xdist's worksteal divides
        missing = max(0, part - len(share))
        order += [*share, *rest[:missing]]
        del rest[:missing]
    return order
