"""The decision which reports are due: as a state machine, against rules that are stated another way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.notify.decide import AT_ONCE, CALM, PAUSE, Condition, Reported, Seen, due_in, messages, reported

NEEDS, WORKS = Condition.NEEDS, Condition.WORKS
SILENT = st.sampled_from([Condition.EXPECTED, Condition.NEITHER])
JUMP = 40 * 86400.0


class Account(RuleBasedStateMachine):
    """An account whose reports are sent as soon as they are due, by whichever replica.

    Between the rules time stands still: what is due is sent at once, as the notifier does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_800_000_000.0
        self.seen = Seen(Condition.EXPECTED, None)
        self.last: Reported | None = None
        self.sent: list[tuple[float, bool]] = []  # time, and whether it needs a person

    def report(self) -> None:
        while due_in(self.seen, self.last, self.now) == 0.0:
            self.last = reported(self.seen, self.last, self.now)
            self.sent.append((self.now, self.last.needs))

    @rule()
    def dies(self) -> None:
        self.seen = Seen(NEEDS, self.seen.tokens)
        self.report()

    @rule()
    def gets_tokens(self) -> None:
        self.seen = Seen(WORKS, (self.seen.tokens or 0.0) + 1.0)
        self.report()

    @rule(condition=SILENT)
    def is_silent(self, condition: Condition) -> None:
        self.seen = Seen(condition, self.seen.tokens)
        self.report()

    @rule(seconds=st.floats(0.5, 2 * CALM))
    def time_passes(self, seconds: float) -> None:
        """In steps to when a report is due, as the notifier waits."""
        until = self.now + seconds
        while (wait := due_in(self.seen, self.last, self.now)) is not None and self.now + wait <= until:
            self.now += wait
            self.report()
        self.now = until
        self.report()

    @rule()
    def restarts(self) -> None:
        """All that is known is what is stored."""
        sent = len(self.sent)
        self.report()
        assert len(self.sent) == sent

    @invariant()
    def it_flaps_at_most_once_in_ten_minutes(self) -> None:
        for (before, _), (at, needs), (after, _) in zip(
            self.sent, self.sent[1:], self.sent[2:], strict=False
        ):
            if needs:
                assert at - before >= PAUSE
            if at - before < CALM and needs:  # it flaps
                assert after - at >= PAUSE

    @invariant()
    def an_account_that_works_was_reported_to_need_a_person(self) -> None:
        for (_, before), (_, needs) in zip([(0.0, False), *self.sent], self.sent, strict=False):
            assert needs or before

    @invariant()
    def what_lasts_is_reported_in_ten_minutes(self) -> None:
        if self.seen.condition not in {NEEDS, WORKS}:
            return
        needs = self.seen.condition is NEEDS
        known = self.last is not None and self.last.needs
        wait = due_in(self.seen, self.last, self.now)
        assert wait is None or 0.0 < wait <= PAUSE  # what was due has been sent
        if needs != known:
            assert wait is not None


TestAccount = Account.TestCase
TestAccount.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_an_account_that_needs_a_person_is_reported_once_and_once_when_it_works() -> None:
    needs, works = Seen(NEEDS, 1.0), Seen(WORKS, 2.0)
    assert due_in(works, None, 0.0) is None
    assert due_in(needs, None, 0.0) == 0.0
    first = reported(needs, None, 0.0)
    assert due_in(needs, first, JUMP) is None
    assert due_in(works, first, 5.0) == 0.0  # at once, as it is not known to flap
    assert due_in(works, reported(works, first, 5.0), JUMP) is None


def test_new_tokens_that_have_died_unnoticed_are_reported() -> None:
    first = reported(Seen(NEEDS, 1.0), None, 0.0)
    assert due_in(Seen(NEEDS, 2.0), first, PAUSE) == 0.0
    assert due_in(Seen(NEEDS, 2.0), first, PAUSE - 1) == 1.0
    assert due_in(Seen(NEEDS, None), first, PAUSE) is None  # none that could have been new


@given(st.sampled_from([NEEDS, WORKS]), st.booleans(), st.booleans(), st.floats(-JUMP, JUMP))
def test_no_jump_of_the_clock_delays_a_report_by_more_than_twice_the_pause(
    condition: Condition, needs: bool, flaps: bool, jump: float
) -> None:
    last = Reported(needs, 1.0, 1_800_000_000.0, flaps)
    wait = due_in(Seen(condition, 2.0), last, last.at + jump)
    assert wait is None or 0.0 <= wait <= 2 * PAUSE


@given(st.lists(st.integers(), max_size=30), st.lists(st.integers(), max_size=30), st.integers(0, AT_ONCE))
def test_all_are_in_one_message_and_there_are_few(needing: list[int], working: list[int], room: int) -> None:
    found = messages(needing, working, room)
    assert [each for group in found for each in group] == [*needing, *working]
    assert len(found) <= max(room, 2)
    assert all(found)
    if len(needing) + len(working) > room:
        assert len(found) == (needing != []) + (working != [])
