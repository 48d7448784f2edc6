from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.faults import NAMED, Fault
from proxy.demo.script import PASS, Order, Rule, Script, parse_order, parse_orders

RIGHT = [  # notation; times, first second, duration
    ("outage", (None, 0, math.inf)),
    ("outage:1", (1, 0, math.inf)),
    ("outage:999999", (999_999, 0, math.inf)),
    ("outage@30", (None, 30, math.inf)),
    ("outage@30-90", (None, 30, 60)),
    ("outage@0-1", (None, 0, 1)),
    ("outage:2@30-90", (2, 30, 60)),
]
WRONG = [  # and a part of the message
    ("", "NAME"),
    ("outrage", "outrage"),
    ("Outage", "NAME"),
    ("outage:0", "outage:0"),
    ("outage:-1", "outage:-1"),
    ("outage:1:2", "outage:1:2"),
    ("outage@", "outage@"),
    ("outage@1.5", "outage@1.5"),
    ("outage@9-3", "ends before it starts"),
    ("outage@9-9", "ends before it starts"),
    ("outage@9:1", "outage@9:1"),
    ("outage html", "NAME"),
    ("outage:٣", "NAME"),
]


@pytest.mark.parametrize(("text", "expected"), RIGHT)
def test_an_order_is_parsed(text: str, expected: tuple[int | None, float, float]) -> None:
    assert parse_order(text) == Order(NAMED["outage"], *expected)


@pytest.mark.parametrize(("text", "named"), WRONG)
def test_an_invalid_order_is_refused_with_a_reason(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_order(text)


def test_several_orders_are_separated_by_commas() -> None:
    assert [order.fault.name for order in parse_orders("html:1, slow,outage@30")] == [
        "html",
        "slow",
        "outage",
    ]
    with pytest.raises(ValueError, match="NAME"):
        parse_orders("html:1,")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("html", "html: 200 with an HTML page"),
        ("html:1", "html: 200 with an HTML page (once)"),
        ("html:2@30-90", "html: 200 with an HTML page (2 times from second 30 until second 90)"),
    ],
)
def test_the_description_of_an_order(text: str, told: str) -> None:
    assert str(parse_order(text)) == told


@given(st.text(alphabet="outage:@-0123456789html, "))
def test_parsing_raises_nothing_but_value_error(text: str) -> None:
    try:
        parse_orders(text)
    except ValueError as error:
        assert "invalid literal" not in str(error)  # noqa: PT017 (most texts are wrong, some are not)


FAULTS = [Fault(name=name) for name in "abc"]


def ask(script: Script, now: float = 0.0, **asked: Any) -> str:
    request: Any = {"client_id": "web", "subject": "alice", "grant_type": "refresh_token", **asked}
    return script.next(**request, now=now).name


def test_rules_apply_in_order_and_are_removed_when_used_up() -> None:
    script = Script()
    script.add(Rule(fault=FAULTS[0], times=2))
    script.add(Rule(fault=FAULTS[1]))
    assert [ask(script) for _ in range(4)] == ["a", "a", "b", ""]
    assert len(script) == 0


def test_an_unlimited_rule_applies_until_it_is_cleared() -> None:
    script = Script()
    script.add(Rule(fault=FAULTS[0], times=None))
    assert {ask(script) for _ in range(100)} == {"a"}
    script.clear()
    assert ask(script) == ""


def test_a_filtered_rule_lets_other_requests_pass() -> None:
    script = Script()
    script.add(Rule(fault=FAULTS[0], subject="bob"))
    script.add(Rule(fault=FAULTS[1], client_id="cli"))
    script.add(Rule(fault=FAULTS[2], grant_type="client_credentials"))
    assert ask(script) == ""
    assert ask(script, client_id="cli") == "b"
    assert ask(script, grant_type="client_credentials", subject="web") == "c"
    assert ask(script, subject="bob", client_id="cli") == "a"
    assert len(script) == 0


def test_a_timed_rule_applies_only_then() -> None:
    script = Script()
    script.add(Rule(fault=FAULTS[0], times=None, starts_at=10, ends_at=20))
    assert [ask(script, now) for now in (9.9, 10, 19.9, 20)] == ["", "a", "a", ""]
    assert list(script) == []
    script.add(Rule(fault=FAULTS[1], subject="bob"))
    script.add(Rule(fault=FAULTS[0], ends_at=20))
    assert ask(script, 20) == ""


rules = st.builds(
    Rule,
    fault=st.sampled_from(FAULTS),
    times=st.none() | st.integers(1, 3),
    subject=st.sampled_from([None, "alice", "bob"]),
    starts_at=st.integers(0, 5),
    ends_at=st.integers(3, 9),
)


@given(st.lists(rules, max_size=5), st.lists(st.tuples(st.sampled_from(["alice", "bob"]), st.integers(0, 2))))
def test_the_first_matching_rule_applies_at_most_its_times(
    given_rules: list[Rule], requests: list[tuple[str, int]]
) -> None:
    script = Script()
    left = [rule.times for rule in given_rules]
    for rule in given_rules:
        script.add(rule)
    now = 0
    for subject, seconds in requests:
        now += seconds
        fits = [
            number
            for number, rule in enumerate(given_rules)
            if rule.subject in (None, subject) and rule.starts_at <= now < rule.ends_at and left[number] != 0
        ]
        expected = given_rules[fits[0]].fault if fits else PASS
        if fits and (times := left[fits[0]]) is not None:
            left[fits[0]] = times - 1
        assert ask(script, now, subject=subject) == expected.name
