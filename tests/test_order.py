"""order.py: each test is run once, and what it names exists."""

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import order

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Item:
    nodeid: str


FILES = st.sampled_from([*order.LONG, "tests/http/test_a.py", "tests/relay/test_b.py", "tests/test_c.py"])


@given(st.lists(FILES, max_size=40), st.integers(1, 8))
def test_each_test_is_dealt_once_and_long_ones_stay_together(files, workers):
    items = [Item(f"{file}::test_{number}") for number, file in enumerate(files)]
    dealt = order.dealt(items, workers)
    assert Counter(dealt) == Counter(items)
    groups = [next(filter(item.nodeid.startswith, order.LONG), "") for item in dealt]
    runs = Counter(name for name, _ in itertools.groupby(groups))
    assert all(count == 1 for name, count in runs.items() if name)


def test_each_part_begins_with_its_share_of_the_long_ones():
    long = [Item(f"{name}::test") for name in order.LONG]
    short = [Item(f"tests/http/test_a.py::test_{number}") for number in range(200 - len(long))]
    dealt = order.dealt([*short, *long], 4)
    parts = [dealt[start : start + 50] for start in range(0, 200, 50)]
    shares = [sum(order.LONG.get(item.nodeid.removesuffix("::test"), 0) for item in part) for part in parts]
    assert max(shares) < 1.3 * min(shares)
    assert all(part[0] in long for part in parts)


@pytest.mark.parametrize("name", order.LONG)
def test_what_is_long_exists(name):
    assert (TESTS.parent / name).exists()


@pytest.mark.parametrize("pattern", order.UNCOUNTED)
def test_what_is_not_counted_exists(pattern):
    assert list(TESTS.glob(pattern))
