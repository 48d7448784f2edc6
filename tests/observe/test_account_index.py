"""The index of accounts, against the plain way: sort, filter and count all of them."""

from collections import Counter
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.observe import account_index
from proxy.observe.account_index import AccountIndex, Line, is_indexable, key_of, name_of, stored_line
from proxy.observe.query import ATTENTION, Cursor, Query
from proxy.store.base import ON_DEMAND, UNREADABLE, AccountId, Outline
from proxy.tokens.lifetime import STATES

CREDENTIALS = ("a", "a-b", "a_b", "b")
KEYS = st.builds(
    AccountId,
    st.sampled_from(CREDENTIALS),
    st.text(alphabet="aAbB@.-", min_size=1, max_size=3).map("x".__add__),
)
NAMES = KEYS.map(name_of)
TIMES = st.sampled_from([1.0, 2.0, 3.0, inf])
LINES = st.builds(Line, st.sampled_from(STATES), st.booleans(), TIMES)
TEXTS = st.one_of(st.just(""), st.text(alphabet="aAbBx@./-", min_size=1, max_size=3))
QUERIES = st.builds(
    Query,
    text=TEXTS,
    state=st.sampled_from(["", ATTENTION, *STATES]),
    credential=st.sampled_from(["", *CREDENTIALS, "nothing"]),
    limit=st.integers(1, 4),
)


def fits(name, line, query):
    key = key_of(name)
    return (
        query.text.lower() in str(key).lower()
        and query.credential in {"", key.credential}
        and (query.state in {"", line.state} or (query.state == ATTENTION and line.attention))
    )


def plainly(lines, query):
    """All names that fit, in the order of the listing."""
    return sorted(
        (name for name, line in lines.items() if fits(name, line, query)),
        key=lambda name: (not lines[name].attention, key_of(name)),
    )


def paged(index, query, between=lambda: None):
    """The names of all pages, one after the other."""
    pages = []
    while True:
        names, after = index.page(query)
        assert len(names) <= query.limit
        pages.append(names)
        if after is None:
            return [name for names in pages for name in names]
        assert len(names) == query.limit, "only the last page is short"
        query = replace(query, after=after)
        between()


@given(st.dictionaries(NAMES, LINES), QUERIES, st.sampled_from([0, 2, 1000]))
@settings(max_examples=300)
def test_the_pages_of_a_query_are_all_accounts_that_fit_in_order(lines, query, few):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(account_index, "_FEW", few)  # a search that finds more is another one
        patch.setattr(account_index, "_VERY_FEW", few // 2)
        assert paged(AccountIndex(lines), query) == plainly(lines, query)


@given(st.dictionaries(NAMES, LINES, min_size=1), QUERIES, st.data())
@settings(max_examples=300)
def test_paging_never_loses_or_repeats_an_account_that_did_not_change(lines, query, data):
    index, changed = AccountIndex(lines), set()

    def change():
        name = data.draw(NAMES)
        changed.add(name)
        index.set(name, data.draw(st.none() | LINES))

    seen = Counter(paged(index, query, change))
    for name in set(plainly(lines, query)) - changed:
        assert seen[name] == 1, f"{name!r} was shown {seen[name]} times"


class Changing(RuleBasedStateMachine):
    """The index and a dictionary, changed alike."""

    def __init__(self):
        super().__init__()
        self.lines = {}
        self.index = AccountIndex({})
        self.now = 0.0

    @rule(name=NAMES, line=st.none() | LINES)
    def set(self, name, line):
        self.index.set(name, line)
        self.lines.pop(name, None)
        if line is not None:
            self.lines[name] = line

    @rule(now=st.sampled_from([0.5, 1.0, 2.5, 3.0]))
    def time_passes(self, now):
        due = {name for name, line in self.lines.items() if line.until <= now}
        assert Counter(name for name, _ in self.index.due(now)) == Counter(due)
        for name in due:
            self.set(name, self.lines[name]._replace(state="expired", until=inf))

    @invariant()
    def agrees(self):
        assert len(self.index) == len(self.lines)
        assert self.index.attention == sum(line.attention for line in self.lines.values())
        counts = Counter((key_of(name).credential, line.state) for name, line in self.lines.items())
        shown = {
            (name, state): n for name, states in self.index.counts.items() for state, n in states.items()
        }
        assert shown == counts
        for query in (Query(limit=3), Query(limit=3, text="a")):
            assert paged(self.index, query) == plainly(self.lines, query)


TestChanging = Changing.TestCase
TestChanging.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_the_queue_stays_as_small_as_the_index():
    index = AccountIndex({})
    for number in range(10_000):
        index.set(name_of(AccountId("crm", str(number % 10))), Line("valid", False, float(number)))
    assert len(index._queue) <= 100


def test_a_page_looks_at_as_many_names_whatever_the_number_of_accounts():
    class Counting(list):
        looked = 0

        def __getitem__(self, place):
            Counting.looked += 1
            return super().__getitem__(place)

    looked = {}
    for number in (20, 20_000):
        names = [name_of(AccountId("crm", f"user{each:05}")) for each in range(number)]
        index = AccountIndex({name: Line("valid", each % 10 == 0) for each, name in enumerate(names)})
        index._groups = {group: Counting(names) for group, names in index._groups.items()}
        for query in (
            Query(limit=10),
            Query(limit=10, state="valid"),
            Query(limit=10, credential="crm"),
            Query(limit=10, after=Cursor(True, *key_of(names[number // 2]))),
        ):
            Counting.looked = 0
            assert 9 <= len(index.page(query)[0]) <= 10
            looked.setdefault(number, []).append(Counting.looked)
    assert max(looked[20_000]) <= max(looked[20]) + 40, "bisection, and the names of the page"


def test_names_that_no_account_can_have_are_not_indexed():
    assert is_indexable(AccountId("crm", "Ann+1@example.com"))
    for odd in ("a\nb", "a\0b", "ä", "\udcff"):
        assert not is_indexable(AccountId("crm", odd))


# -- accounts that are only in the store

NOW, APART = 1000.0, 900.0  # Unix seconds; the boot clock says 100


def line(state="valid", due_at=None, expires_at=None, *, renews_itself=False):
    outline = Outline(AccountId("crm", "ann"), state, due_at, expires_at)
    return stored_line(outline, renews_itself=renews_itself, now=NOW, clocks_apart=APART)[:3]


def test_the_line_of_a_record_follows_its_times():
    assert line(due_at=1050.0, expires_at=1060.0) == ("valid", False, 150.0)
    assert line(due_at=999.0, expires_at=1060.0) == ("stale", False, 160.0)
    assert line(due_at=900.0, expires_at=1000.0) == ("expired", False, inf), "the next request refreshes it"
    assert line(due_at=ON_DEMAND, expires_at=999.0) == ("expired", False, inf), "so it is if long unused"
    assert line(expires_at=1060.0) == ("valid", False, 160.0)
    assert line(expires_at=999.0) == ("expired", True, inf), "there is no refresh token"
    assert line(expires_at=999.0, renews_itself=True) == ("expired", False, inf)
    assert line() == ("valid", False, inf)


def test_the_line_of_a_record_without_usable_tokens_needs_attention():
    assert line("login_required", expires_at=2000.0) == ("login_required", True, inf)
    assert line("logged_out") == ("absent", True, inf)
    assert line("logged_out", renews_itself=True) == ("absent", False, inf)
    for odd in (UNREADABLE, "no such state"):
        assert line(odd, renews_itself=True) == ("misconfigured", True, inf)
