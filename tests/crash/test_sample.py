"""A sample of calls leaves no kind of call out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.crash.sample import kind, sample
from tests.crash.tracing import Call, Traced

TEXTS = [
    '19</state/tokens.db-wal>, ""..., 24, 0) = 24',
    '19</state/tokens.db>, ""..., 24, 0) = 24',
    'AT_FDCWD</work>, "/state", O_RDONLY) = 21</state>',
    "AF_INET, SOCK_STREAM, IPPROTO_TCP) = 21<TCP:[4197650]>",
    '21<TCP:[4197650]>, {sa_family=AF_INET, sin_port=htons(45303), sin_addr=inet_addr("127.0.0.1")}, 16) = 0',
    '21<TCP:[127.0.0.1:41810->127.0.0.1:45303]>, ""..., 357) = 357',
    '21<TCP:[127.0.0.1:41812->127.0.0.1:6379]>, ""..., 357) = 357',
]
CALLS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["read", "write"]), st.sampled_from(TEXTS)))


def traced(rows):
    return [Traced(Call(thread, name, nth), text) for nth, (thread, name, text) in enumerate(rows)]


def test_a_kind_is_a_thread_a_name_and_a_destination():
    assert [kind(Traced(Call(0, "x", 1), text))[2] for text in TEXTS] == [
        "/state/tokens.db-wal",
        "/state/tokens.db",
        "/state",
        "",
        "45303",
        "45303",
        "6379",
    ]


@given(CALLS, st.integers(2, 6))
def test_each_sample_has_each_kind_and_all_together_the_first_and_last_of_it(rows, of):
    calls = traced(rows)
    samples = [sample(calls, number, of) for number in range(of)]
    for found in samples:
        assert sorted(map(kind, found)) == sorted(set(map(kind, calls)))
        assert [one for one in calls if one in found] == found
    together = [one for found in samples for one in found]
    for every in (calls, calls[::-1]):
        for one in {kind(each): each for each in every}.values():
            assert one in together
