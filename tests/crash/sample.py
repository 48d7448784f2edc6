"""The calls of a traced refresh at which a short run kills the process."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from tests.crash.tracing import Traced

# The destination of a call, as strace shows it: the path of a file, or a port.
_REACHED: Final = re.compile(r"->[\d.]+:(\d+)\]|htons\((\d+)\)|\d+<(/[^>]*)>|\"(/[^\"]*)\"")


def kind(one: Traced) -> tuple[int, str, str]:
    """A call's thread, name and destination; empty for a socket that is not connected yet."""
    reached = _REACHED.search(one.text)
    return one.call.thread, one.call.name, next(filter(None, reached.groups())) if reached else ""


def sample(calls: Sequence[Traced], number: int, of: int) -> list[Traced]:
    """One call of each kind: its first in sample 0, its last in sample `of - 1`, and evenly in between."""
    kinds = defaultdict(list)
    for one in calls:
        kinds[kind(one)].append(one)
    chosen = {found[number * (len(found) - 1) // (of - 1)].call for found in kinds.values()}
    return [one for one in calls if one.call in chosen]
