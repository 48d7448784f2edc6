"""Rules by name: which fields are cut, and which are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http import rules
from proxy.http.rules import MOST_NAMES, Rules


def test_a_field_is_read_by_its_own_name_only_and_its_twins_do_not_pass():
    judge = Rules(read=[b"x-y"], cut=[]).judge
    assert judge(b"X-Y") == (b"x-y", rules.READ)
    for twin in (b"X_Y", b"-x-y", b"x-y-", b"__X_y--"):
        assert judge(twin)[1] == rules.CUT


def test_a_field_for_keys_is_read_and_its_twins_pass():
    judge = Rules(cut=[b"authorization"], keys=[b"authorization", b"x-id"]).judge
    assert judge(b"X-Id")[1] == rules.KEY | rules.READ
    assert judge(b"X_Id")[1] == 0
    assert judge(b"Authorization")[1] == rules.CUT | rules.READ | rules.SECRET
    assert judge(b"_Authorization")[1] == rules.CUT | rules.SECRET


@pytest.mark.parametrize(
    "name",
    [b"Authorization", b"Cookie", b"X-Api-Key", b"X-AUTH-TOKEN", b"x-session", b"X_Secret", b"My-Password"],
)
def test_a_field_that_may_hold_a_credential_is_marked(name):
    assert Rules(cut=[]).judge(name)[1] == rules.SECRET


CUT = [  # name of the field, whether the pattern for x-forwarded-for and te cuts it
    (b"X-Forwarded-For", True),
    (b"x_forwarded-for", True),
    (b"_X_FORWARDED_FOR_", True),
    (b"TE", True),
    (b"te_", True),
    (b"Tea", False),
    (b"Ate", False),
    (b"X-Forwarded-Fo", False),
    (b"X-Forwarded-Fork", False),
]


@pytest.mark.parametrize(("name", "cut"), CUT)
def test_a_line_is_cut_by_its_full_name_or_a_twin(name, cut):
    judge = Rules(cut=[b"x-forwarded-for", b"te"])
    block = b"\r\nA: te:\r\n%b: 1\r\nB: 2" % name
    assert judge.cut(block) == (b"\r\nA: te:\r\nB: 2" if cut else block)


def test_a_prefix_cuts_all_names_that_begin_with_it():
    judge = Rules(cut=[b"host"], cut_prefix=b"x-forwarded-")
    block = b"\r\nX-Forwarded-Anything: 1\r\nX_Forwarded_B: 2\r\nX-Forward: 3"
    assert judge.cut(block) == b"\r\nX-Forward: 3"


@given(st.lists(st.tuples(st.sampled_from([b"A", b"te", b"TE", b"x-b"]), st.binary(max_size=6)), max_size=8))
def test_fields_that_are_not_cut_stay_byte_for_byte(lines):
    lines = [(name, value.replace(b"\r", b"").replace(b"\n", b"")) for name, value in lines]
    block = b"".join(b"\r\n%b: %b" % line for line in lines)
    kept = b"".join(b"\r\n%b: %b" % line for line in lines if line[0].lower() != b"te")
    assert Rules(cut=[b"te"]).cut(block) == kept


def test_names_that_were_cut_before_change_nothing():
    """More of them than are remembered, and some too long for it."""
    judge = Rules(cut=[b"te"])
    for number in range(3 * MOST_NAMES):
        name = b"x" * (number % 100) + b"%d" % number
        block = b"\r\nTE: 1\r\n%b: 2\r\n_te: 3" % name
        assert judge.cut(block) == b"\r\n%b: 2" % name
        assert judge.cut(block) == b"\r\n%b: 2" % name
