"""An index of all accounts, by name, state and need of attention. Pure: no I/O, no clock.

It holds some 400 bytes for an account, not its tokens. A page costs the same whatever the number of accounts:
the names of each state are sorted, and the numbers of accounts in each state are kept, not counted. Only the
search for a part of a name reads all names, joined into one text: a fifth of a millisecond for 20 000. If
many have it, the names of each state are searched one by one, until the page is full.

States that change with time alone are in a queue: `due` takes those whose time has come.

A name is "credential NUL account": so names sort as AccountIds do, and one text holds many of them.
"""

from __future__ import annotations

import heapq
import re
from array import array
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate, islice
from math import inf
from typing import Final, NamedTuple

from proxy.observe.query import ATTENTION, Cursor, Query
from proxy.store.base import AccountId, Outline
from proxy.tokens.lifetime import TokenState

_STATES: Final[Mapping[str, TokenState]] = {"login_required": "login_required", "logged_out": "absent"}
_NUL: Final = "\0"
_AFTER_NUL: Final = "\1"
_FEW: Final = 1000  # matches of a search that are sorted for a page: half a millisecond
_VERY_FEW: Final = 50  # matches that are looked up before all are counted, for which the text is read again
_STALE_ENTRIES: Final = 4  # times as many entries in the queue as accounts: then it is made anew


class Line(NamedTuple):
    """What the index knows of an account."""

    state: TokenState
    attention: bool
    until: float = inf  # boot clock; when that may change by time alone
    due_at: float | None = None  # Unix seconds; as in its record, to know what it changes to then
    expires_at: float | None = None

    @property
    def is_of_record(self) -> bool:
        """Whether it was made of a record with tokens and these times, not of an account in memory."""
        return self.due_at is not None or self.expires_at is not None

    @property
    def group(self) -> tuple[bool, TokenState]:
        return self.attention, self.state


def stored_line(outline: Outline, *, renews_itself: bool, now: float, clocks_apart: float) -> Line:
    """The line of an account that is only in the store.

    `renews_itself`: its grant needs no person. `now`: Unix seconds; `clocks_apart`: minus the boot clock.
    """
    _, state, due_at, expires_at = outline
    if state != "valid":
        shown = _STATES.get(state, "misconfigured")
        return Line(shown, shown == "misconfigured" or not renews_itself)
    if expires_at is not None and expires_at <= now:
        needs_login = due_at is None and not renews_itself
        return Line("expired", needs_login, inf, due_at, expires_at)
    is_due = due_at is not None and due_at <= now
    times = (time for time in (None if is_due else due_at, expires_at) if time is not None)
    until = min(times, default=inf) - clocks_apart
    return Line("stale" if is_due else "valid", False, until, due_at, expires_at)


def name_of(key: AccountId) -> str:
    return _NUL.join(key)


def key_of(name: str) -> AccountId:
    credential, _, account = name.partition(_NUL)
    return AccountId(credential, account)


def is_indexable(key: AccountId) -> bool:
    """Whether it can be the name of an account; a damaged store may hold anything."""
    return key.account.isascii() and key.account.isprintable()


class AccountIndex:
    def __init__(self, lines: Mapping[str, Line]) -> None:
        self._lines: dict[str, Line] = dict(lines)
        self._groups: dict[tuple[bool, TokenState], list[str]] = {}
        self._names = sorted(lines)
        self._text: _Text | None = None  # of the names; None: they have changed
        self._queue: list[tuple[float, str]] = []  # a heap; an entry that its line does not confirm is void
        self.counts: dict[str, Counter[str]] = {}  # by credential and state
        self.attention = 0  # accounts that need it
        for name, line in self._lines.items():
            self._groups.setdefault(line.group, []).append(name)
            self._count(name, line, 1)
        for group in self._groups.values():
            group.sort()
        self._make_queue()

    def __len__(self) -> int:
        return len(self._lines)

    def get(self, name: str) -> Line | None:
        return self._lines.get(name)

    def set(self, name: str, line: Line | None) -> None:
        """None: there is no such account."""
        before = self._lines.get(name)
        if before == line:
            return
        if before is not None:
            self._remove(name, before)
        if (before is None) is not (line is None):
            self._rename(name, is_new=before is None)
        if line is not None:
            self._lines[name] = line
            insort(self._groups.setdefault(line.group, []), name)
            self._count(name, line, 1)
            if line.until < inf:
                heapq.heappush(self._queue, (line.until, name))
        if len(self._queue) > _STALE_ENTRIES * len(self._lines):
            self._make_queue()

    def due(self, now: float) -> Iterator[tuple[str, Line]]:
        """Take the accounts whose state may have changed by `now` (boot clock). Each must be set again."""
        while self._queue and self._queue[0][0] <= now:
            until, name = entry = heapq.heappop(self._queue)
            while self._queue and self._queue[0] == entry:
                heapq.heappop(self._queue)
            line = self._lines.get(name)
            if line is not None and line.until == until:
                yield name, line

    def page(self, query: Query) -> tuple[list[str], Cursor | None]:
        """At most `query.limit` names, and the cursor for more; None if there are none."""
        matches = self._matches(query) if query.text else None
        found = list(islice(self._found(query) if matches is None else matches, query.limit + 1))
        if len(found) <= query.limit:
            return [name for _, name in found], None
        is_rest, last = found[query.limit - 1]
        return [name for _, name in found[:-1]], Cursor(is_rest, *key_of(last))

    def _found(self, query: Query) -> Iterator[tuple[bool, str]]:
        """Those that need attention first, each part by name."""
        for is_rest in (False, True):
            if is_rest and query.state == ATTENTION:
                return
            if query.after is not None and query.after.is_rest > is_rest:
                continue
            after = query.after if query.after is not None and query.after.is_rest == is_rest else None
            parts = [
                _matching(names, query, after)
                for (attention, state), names in self._groups.items()
                if attention is not is_rest and query.state in {"", ATTENTION, state}
            ]
            for name in heapq.merge(*parts):
                yield is_rest, name

    def _matches(self, query: Query) -> list[tuple[bool, str]] | None:
        """Those of `_found`, if the text is part of few names; else None."""
        if self._text is None:
            self._text = _Text(self._names)
        part = _part(query.text)
        containing = (self._names[place] for place in self._text.places_of(part))
        names = list(islice(containing, _VERY_FEW))
        if len(names) == _VERY_FEW:
            if self._text.joined.count(part) > _FEW:
                return None
            names += containing
        after = None if query.after is None else (query.after.is_rest, name_of(AccountId(*query.after[1:])))
        found = ((not self._lines[name].attention, name) for name in names if self._fits(name, query))
        return sorted(each for each in found if after is None or each > after)

    def _fits(self, name: str, query: Query) -> bool:
        line = self._lines[name]
        is_state = query.state in {"", line.state} or (query.state == ATTENTION and line.attention)
        return is_state and (not query.credential or name.startswith(query.credential + _NUL))

    def _rename(self, name: str, *, is_new: bool) -> None:
        self._text = None
        if is_new:
            insort(self._names, name)
        else:
            del self._names[bisect_left(self._names, name)]

    def _remove(self, name: str, line: Line) -> None:
        del self._lines[name]
        group = self._groups[line.group]
        del group[bisect_left(group, name)]
        self._count(name, line, -1)

    def _count(self, name: str, line: Line, by: int) -> None:
        states = self.counts.setdefault(name.partition(_NUL)[0], Counter())
        states[line.state] += by
        if not states[line.state]:
            del states[line.state]
        self.attention += by if line.attention else 0

    def _make_queue(self) -> None:
        self._queue = [(line.until, name) for name, line in self._lines.items() if line.until < inf]
        heapq.heapify(self._queue)


def _matching(names: list[str], query: Query, after: Cursor | None) -> Iterator[str]:
    """The names of a group on the pages of a query, in order."""
    first, end = 0, len(names)
    if query.credential:
        first = bisect_left(names, query.credential + _NUL)
        end = bisect_left(names, query.credential + _AFTER_NUL)
    if after is not None:
        first = max(first, bisect_right(names, name_of(AccountId(after.credential, after.account))))
    if query.text:
        part = _part(query.text)
        return (name for place in range(first, end) if part in (name := names[place]).lower())
    return (names[place] for place in range(first, end))


def _part(text: str) -> str:
    """What names in lower case contain, if a search finds them."""
    return text.lower().replace("/", _NUL)


class _Text:
    """Names joined in lower case, to be searched at once."""

    def __init__(self, names: list[str]) -> None:
        self.joined = "\n".join(names).lower()
        self._starts = array("L", accumulate((len(name) + 1 for name in names), initial=0))

    def places_of(self, part: str) -> Iterator[int]:
        """The places of the names of which `part` is a part, in order."""
        for found in re.finditer(f"{re.escape(part)}[^\n]*", self.joined):
            yield bisect_right(self._starts, found.start()) - 1
