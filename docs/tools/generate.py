"""Write what the pages of docs/ take from the code: `make reference`.

A page marks each place, and this fills it:

    <!-- generated: commands -->
    …
    <!-- end -->

tests/docs/test_generated.py fails while a page is not as this would write it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from docs.tools import commands, configuration, events, messages, metrics, other_names, responses, status
from proxy.cli import main
from proxy.config.load import schema

DOCS: Final = Path(__file__).parents[1]
REPOSITORY: Final = DOCS.parent
_PLACE: Final = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z, ]+) -->\n).*?(?P<end>^<!-- end -->$)", re.DOTALL | re.MULTILINE
)


def _metrics(group: str) -> str:
    return metrics.page(group, metrics.exported())


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "commands": lambda: commands.page(main),
    "configuration": lambda: configuration.page(schema()),
    "events": events.page,
    "other names": other_names.page,
    "reasons of the store": messages.of_the_store,
    "reasons of requests": messages.of_requests,
    "reasons of logins": messages.of_logins,
    "status": lambda: status.page(REPOSITORY / "proxy" / "observe" / "status.py"),
    "responses": responses.page,
    **{f"metrics, {group}": partial(_metrics, group) for group in metrics.GROUPS},
}


class UnknownPart(Exception):
    """A page has a place for which there is no part."""


def filled(page: str) -> str:
    """The text of a page with its places filled. Raises UnknownPart."""
    return _PLACE.sub(_part, page)


def _part(found: re.Match[str]) -> str:
    if found["name"] not in PARTS:
        raise UnknownPart(found["name"])
    return f"{found['begin']}\n{PARTS[found['name']]().strip()}\n\n{found['end']}"


def pages() -> Iterator[Path]:
    """Those with a place."""
    yield from (path for path in sorted(DOCS.rglob("*.md")) if _PLACE.search(path.read_text()))


def places() -> Iterator[str]:
    """The names of all places."""
    for path in pages():
        yield from (found["name"] for found in _PLACE.finditer(path.read_text()))


def write() -> list[Path]:
    """Write the pages; those that were changed."""
    changed = []
    for path in pages():
        before = path.read_text()
        after = filled(before)
        if after != before:
            path.write_text(after)
            changed.append(path)
    return changed


if __name__ == "__main__":
    sys.stdout.writelines(f"written: {path.relative_to(REPOSITORY)}\n" for path in write())
