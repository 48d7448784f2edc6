"""The output of `token-proxy status`: where it is from, a row for each account, and how to mend some."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TextIO

from proxy.admin.pages import relative
from proxy.commands.states import advice, mending, state_cell
from proxy.commands.terminal import Cell, Group, Row, Sheet, line, link
from proxy.oauth.grants.authorization_code import login_command
from proxy.observe.query import ATTENTION
from proxy.observe.status import Entry, Status

COLUMNS: Final = {  # the header in a table, and the label in a line of its own
    "CREDENTIAL": "credential",
    "ACCOUNT": "account",
    "STATE": "state",
    "EXPIRES": "access token expires",
    "REFRESH TOKEN": "refresh token expires",
    "NEXT TRY": "next refresh",
    "OWNER": "owner",
    "ROUTES": "routes",
}
HEADING: Final = 3  # the cells that tell rows apart
NOTHING: Final = "–"  # noqa: RUF001 (an en dash for an empty cell)


@dataclass(frozen=True, slots=True)
class Selection:
    """The accounts to show: the parameters of /api/status; "" for all."""

    state: str = ""
    credential: str = ""
    text: str = ""

    def fields(self, limit: int) -> dict[str, str]:
        given = {"state": self.state, "credential": self.credential, "q": self.text}
        return {**{name: value for name, value in given.items() if value}, "limit": str(limit)}

    def of(self, status: Status) -> int | None:
        """The number of selected accounts; None if that is not known."""
        if self.text or (self.state == ATTENTION and self.credential):
            return None
        if self.state == ATTENTION:
            return status["attention"]
        counts = status["counts"]
        selected = [counts.get(self.credential, {})] if self.credential else counts.values()
        return sum(each.get(self.state, 0) if self.state else sum(each.values()) for each in selected)


@dataclass(frozen=True, slots=True)
class Shown:
    """A page of the status, and the server that it is from, if one runs."""

    status: Status
    server: str | None  # its URL
    started_at: float | None  # Unix seconds


def sheet(shown: Shown, selection: Selection, stream: TextIO, more: str = "") -> Group:
    """`more`: for the first line."""
    status = shown.status
    first = line(*_source(shown), f", {more}" if more else "")
    if not status["counts"]:
        return Group(first, "the configuration has no credentials yet")
    entries, empty = status["tokens"], _without_accounts(status, selection)
    rows = [
        *(_row(entry, status["now"], stream) for entry in entries),
        *(_empty_row(each, stream) for each in empty),
    ]
    if not rows:
        return Group(first, "no account fits")
    table = Sheet(COLUMNS, rows, heading=HEADING, omit_empty=stream.isatty())
    notes = [line(*each) for each in _notes(entries)]
    notes += [
        line((name, "bold"), f": {_JOIN.format(command=login_command(name, 'NAME'))}") for name in empty
    ]
    ending = [line(each) for each in _ending(status, selection)]
    gap = [line("")] if notes or ending else []
    return Group(first, line(""), table, *gap, *notes, *ending)


def _notes(entries: Iterable[Entry]) -> Iterator[Iterable[Cell]]:
    """A line for each account that needs attention; one for all others of which the same is to be said."""
    others: dict[str, list[Entry]] = {}
    for entry in entries:
        text = advice(entry)
        if text and entry["needs_attention"]:
            yield mending(entry)
        elif text:
            others.setdefault(text, []).append(entry)
    for text, alike in others.items():
        first, more = f"{alike[0]['credential']}/{alike[0]['account']}", len(alike) - 1
        yield (first, "bold"), f" and {more} more" if more else "", f": {text}"


_JOIN: Final = "no accounts yet; run `{command}`"


def signature(shown: Shown) -> Hashable:
    """Differs if the status has changed otherwise than by time."""
    tokens = shown.status["tokens"]
    entries = [(*map(each.get, _CHANGING), *each["routes"]) for each in tokens]
    return tuple(entries), shown.server, str(shown.status["counts"])


_CHANGING: Final = ("credential", "account", "owner", "state", "generation", "serves", "reason", "remedy")


def _source(shown: Shown) -> Iterator[Cell]:
    if shown.server is None:
        yield "no server runs here: this is what the store holds"
        return
    yield "from the server at "
    yield link(shown.server)
    if shown.started_at is not None:
        yield f", up {_since(shown.started_at, shown.status['now'])}"


def _since(started_at: float, now: float) -> str:
    return relative(min(started_at, now - 1), now).removesuffix(" ago")


def _row(entry: Entry, now: float, stream: TextIO) -> Row:
    next_try = entry["next_try_at"] or entry["refresh_due_at"]
    is_due = next_try is not None and next_try <= now
    return (
        entry["credential"],
        entry["account"],
        state_cell(entry["state"], stream),
        relative(entry["expires_at"], now),
        relative(entry["refresh_expires_at"], now),
        "due" if is_due else relative(next_try, now),
        entry["owner"] or NOTHING,
        ", ".join(entry["routes"]) or NOTHING,
    )


def _without_accounts(status: Status, selection: Selection) -> list[str]:
    """Credentials to which people log in under names of their own, and nobody has yet."""
    if selection.text or selection.state:
        return []
    empty = [name for name in status["joinable"] if not sum(status["counts"].get(name, {}).values())]
    return [name for name in empty if selection.credential in {"", name}]


def _empty_row(credential: str, stream: TextIO) -> Row:
    return (credential, "-", state_cell("absent", stream), *[NOTHING] * (len(COLUMNS) - HEADING))


def needs_attention_at_end(status: Status) -> bool:
    """Whether accounts that need attention may be on the next page: they come first."""
    return bool(status["tokens"]) and status["tokens"][-1]["needs_attention"]


def _ending(status: Status, selection: Selection) -> Iterator[str]:
    """How to see the accounts that are not on this page."""
    if status["next"] is None:
        return
    total = selection.of(status)
    number = "more" if total is None else f"{max(1, total - len(status['tokens'])):,} more".replace(",", " ")
    if selection.state or not needs_attention_at_end(status):
        yield f"… and {number}: token-proxy status -q SEARCH"
    else:
        yield f"… and {number}: token-proxy status --state {ATTENTION}"
