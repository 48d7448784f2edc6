"""What the status page shows, from the document of /api/status. Pure; templates only lay it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from proxy.observe.query import ATTENTION, BadQueryError, Query
from proxy.observe.status import Entry, Status
from proxy.tokens.lifetime import STATES

LIMIT: Final = 100  # accounts on a page
_WORDS: Final = {"absent": "no tokens yet", "stale": "refresh due"}


def read_query(fields: Mapping[str, str]) -> Query:
    """Everything, if a parameter has a value that it can't have: an old link shows something."""
    try:
        return Query.of(fields, LIMIT)
    except BadQueryError:
        return Query(limit=LIMIT)


def query_string(query: Query) -> str:
    """As `read_query` reads it."""
    fields = {
        "q": query.text,
        "state": query.state,
        "credential": query.credential,
        "after": str(query.after or ""),
        "limit": "" if query.limit == LIMIT else str(query.limit),
    }
    return urlencode({name: value for name, value in fields.items() if value})


def link(path: str, query: Query) -> str:
    found = query_string(query)
    return f"{path}?{found}" if found else path


class Chip(NamedTuple):
    """The number of accounts in a state, and the link that shows them."""

    number: int
    word: str
    url: str
    is_current: bool


class Refresh(NamedTuple):
    """A time in the life of an account's tokens, with the words around it."""

    before: str
    at: float
    behind: str


@dataclass(frozen=True, slots=True)
class Footer:
    """What the server says about itself."""

    public_url: str
    version: str
    config: str  # the file, or that there is none


@dataclass(frozen=True, slots=True)
class Page:
    """The status page of one query, for every browser alike: nothing here belongs to a visitor."""

    status: Status
    query: Query
    footer: Footer
    shows_owners: bool = True  # to known visitors only

    @property
    def now(self) -> float:
        return self.status["now"]

    @property
    def public_url(self) -> str:
        return self.footer.public_url

    @property
    def version(self) -> str:
        return self.footer.version

    @property
    def config(self) -> str:
        return self.footer.config

    @property
    def states(self) -> Counter[str]:
        states: Counter[str] = Counter()
        for counted in self.status["counts"].values():
            states.update(counted)
        return states

    @property
    def total(self) -> int:
        return self.states.total()

    @property
    def attention(self) -> int:
        return self.status["attention"]

    @property
    def is_empty(self) -> bool:
        """There is nothing to show, whatever the query."""
        return not self.status["counts"]

    @property
    def headline(self) -> str:
        needing, total = self.attention, self.total
        if self.is_empty:
            return "No credentials yet"
        if not total:
            return "No accounts yet"
        if not needing:
            return "The account works" if total == 1 else f"All {total} accounts work"
        return f"{needing} of {total} account{_s(total)} need{'s' if needing == 1 else ''} attention"

    @property
    def title(self) -> str:
        return f"({self.attention}) Accounts" if self.attention else "Accounts"

    @property
    def chips(self) -> list[Chip]:
        """The states that occur, and the one that is shown; ATTENTION where not all accounts are shown."""
        counts, current = self.states, self.query.state
        is_part = self.is_filtered or self.query.after or self.status["next"]
        offers_attention = current == ATTENTION or (self.attention and is_part)
        chips = [self._chip(self.attention, ATTENTION, "need attention")] if offers_attention else []
        shown = [state for state in STATES if counts[state] or state == current]
        return chips + [self._chip(counts[state], state, word(state)) for state in shown]

    def _chip(self, count: int, state: str, said: str) -> Chip:
        query = replace(self.query, state=state, after=None)
        return Chip(count, said, link("/", query), state == self.query.state)

    @property
    def is_filtered(self) -> bool:
        return bool(self.query.text or self.query.state or self.query.credential)

    @property
    def filter(self) -> str:
        """What is not shown; empty without a filter."""
        query = self.query
        if not self.is_filtered:
            return ""
        parts = [
            f"whose name has “{query.text}”" if query.text else "",
            f"of {query.credential}" if query.credential else "",
            "that need attention" if query.state == ATTENTION else "",
            f"in the state “{word(query.state)}”" if query.state in STATES else "",
        ]
        found = "Only accounts" if self.status["tokens"] else "No accounts"
        return f"{found} {', '.join(part for part in parts if part)}."

    @property
    def failing(self) -> list[Entry]:
        return [entry for entry in self.status["tokens"] if entry["needs_attention"]]

    @property
    def working(self) -> list[Entry]:
        return [entry for entry in self.status["tokens"] if not entry["needs_attention"]]

    @property
    def joinable(self) -> list[tuple[str, int]]:
        """The credentials whose requests name the account, each with the number of its accounts."""
        if self.query.after or self.query.state or self.query.text:
            return []
        counts = self.status["counts"]
        return [
            (name, sum(counts.get(name, {}).values()))
            for name in self.status["joinable"]
            if self.query.credential in {"", name}
        ]

    @property
    def here(self) -> str:
        """The query of this page."""
        return query_string(self.query)

    @property
    def url(self) -> str:
        return link("/", self.query)

    @property
    def json_url(self) -> str:
        return link("/api/status", self.query)

    @property
    def first_url(self) -> str:
        return link("/", replace(self.query, after=None)) if self.query.after else ""

    @property
    def next_url(self) -> str:
        following = self.status["next"]
        if not following:
            return ""
        fields = {**dict(parse_qsl(self.here)), "after": following}
        return link("/", read_query(fields))

    @property
    def as_of(self) -> str:
        return f"{datetime.fromtimestamp(self.now, UTC):%H:%M:%S} UTC"

    # -- of a row

    @staticmethod
    def word(state: str) -> str:
        return word(state)

    def who(self, entry: Entry) -> str:
        """Whose tokens these are, else how they are obtained."""
        if entry["owner"] and self.shows_owners:
            return entry["owner"]
        if entry["state"] == "absent" and "login" in entry["actions"]:
            return "nobody yet"
        return entry["grant"].replace("_", " ")

    @staticmethod
    def sentences(entry: Entry) -> list[str]:
        """What is the matter, and the next step."""
        return [as_sentence(each) for each in (entry["reason"], entry["remedy"]) if each]

    def share_left(self, entry: Entry) -> str:
        """The share (percent) of the access token's life that is left; empty if it has none, or no end."""
        issued, ends = entry["issued_at"], entry["expires_at"]
        if issued is None or ends is None or not issued < ends or ends <= self.now:
            return ""
        return f"{max(0.0, min(1.0, (ends - self.now) / (ends - issued))):.1%}".removesuffix("%")

    @staticmethod
    def refreshes(entry: Entry) -> Iterator[Refresh]:
        """The next refresh, the last one, and the end of the refresh token."""
        if entry["next_try_at"] is not None:
            yield Refresh("next try ", entry["next_try_at"], "")
        elif entry["refresh_due_at"] is not None:
            yield Refresh("", entry["refresh_due_at"], "")
        last = entry["last_refresh"]
        if last["at"] is not None:
            failed = last["outcome"] != "success"
            yield Refresh(
                "failed " if failed else "last ", last["at"], f" ({last['error']})" if failed else ""
            )
        if entry["refresh_expires_at"] is not None:
            yield Refresh("refresh token ends ", entry["refresh_expires_at"], "")

    @staticmethod
    def connect(entry: Entry) -> str:
        return "Connect" if entry["state"] == "absent" else "Reconnect"

    @staticmethod
    def refresh(entry: Entry) -> str:
        return "Refresh" if entry["state"] in {"valid", "stale"} and not entry["failures"] else "Try now"


def word(state: str) -> str:
    """A state in the words of the pages."""
    return _WORDS.get(state, state.replace("_", " "))


def as_sentence(text: str) -> str:
    """An error message (lower case, no full stop) as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def _s(count: int) -> str:
    return "" if count == 1 else "s"
