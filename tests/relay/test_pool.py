"""A pool of connections: who gets which, when one is opened, kept or closed, and who is refused why."""

import pytest

from proxy.relay import dial_bound, problems, upstream_causes
from proxy.relay.dial_bound import BUSY, PACE
from proxy.relay.pool import ALIVE, GRACE, SURPLUS, UNDECIDED

from .pool_stage import LAST, OK, REFUSES, ROUTE, staged

SLOW = upstream_causes.refusal(problems.CONNECT_TIMEOUT, upstream_causes.HANDSHAKE_TIMEOUT, ROUTE)


@pytest.fixture
def made():
    with staged() as made:
        yield made


def ask(made, *names, **how):
    return [made.stage.ask(made.pool, name, **how) for name in names]


def asked(made):
    return [end.asked for end in made.stage.ends]


# -- the queue


def test_the_first_connection_serves_the_first_who_waits(made):
    first, second = ask(made, "a", "b")
    made.stage.dials[1].succeed()
    assert asked(made) == [["a"]]
    made.stage.answer(made.stage.ends[0])
    assert first.answered
    assert asked(made) == [["a", "b"]]
    made.stage.answer(made.stage.ends[0])
    assert second.answered
    made.stage.dials[0].succeed()  # nobody waits for it any more: it is kept
    assert (made.pool.idle, made.pool.active, made.pool.queued) == (2, 0, 0)


def test_no_more_connections_are_opened_at_once_than_the_limit_says():
    with staged(dials=3) as made:
        callers = ask(made, *"abcdefgh")
        assert len(made.stage.dials) == 3
        made.stage.dials[0].succeed()
        assert len(made.stage.dials) == 3  # another one has begun
        for _ in range(4):
            made.stage.answer(made.stage.ends[0])
        assert [caller.name for caller in callers if caller.answered] == ["a", "b", "c", "d"]
        assert asked(made) == [["a", "b", "c", "d", "e"]]
        for dial in list(made.stage.dials):
            dial.succeed()
        assert asked(made) == [["a", "b", "c", "d", "e"], ["f"], ["g"], ["h"]]
        assert made.pool.queued == 0
        for dial in list(made.stage.dials):  # they had begun while somebody waited
            dial.succeed()


def test_a_dial_goes_on_when_the_caller_that_caused_it_leaves(made):
    first, second = ask(made, "a", "b")
    made.stage.run(lambda: first.leave(made.pool))
    assert len(made.stage.dials) == 2
    made.stage.dials[0].succeed()
    assert asked(made) == [["b"]]
    made.stage.run(lambda: second.leave(made.pool))  # it has been sent: its connection is closed
    made.stage.dials[0].succeed()
    assert (made.pool.idle, made.pool.active) == (1, 0)


def test_a_connection_that_ends_with_its_response_is_not_passed_on_to_what_is_sent_once(made):
    _, post = ask(made, "a", "post", once=True)
    made.stage.dials[0].succeed()
    end = made.stage.ends[0]
    end.say(OK)
    end.end()
    made.stage.turn()
    assert post.outcome is None
    made.stage.dials[0].succeed()
    assert made.stage.ends[1].asked == ["post"]


def test_a_request_that_is_sent_again_gets_a_new_connection_only(made):
    ask(made, "a")
    made.stage.dials[0].succeed()
    made.stage.answer(made.stage.ends[0])
    (again,) = ask(made, "again", only_new=True)
    assert made.pool.idle == 1
    ask(made, "b", "c")
    made.stage.answer(made.stage.ends[0])
    assert asked(made) == [["a", "b", "c"]]
    made.stage.dials[0].succeed()
    assert again.outcome is not None
    assert asked(made) == [["a", "b", "c"], ["again"]]
    made.stage.dials[0].succeed()  # that of "c"


def test_who_waits_first_is_served_first_by_a_new_connection_whatever_it_waits_for(made):
    for name, only_new in (("a", False), ("b", True), ("c", False)):
        ask(made, name, only_new=only_new)
        made.stage.age(0.01)
    for _ in range(3):
        made.stage.dials[0].succeed()
    assert asked(made) == [["a"], ["b"], ["c"]]


# -- failures


def test_an_upstream_that_refuses_is_told_at_once_to_all_who_wait():
    with staged(dials=2) as made:
        callers = ask(made, *"abcde")
        made.stage.dials[0].fail()
        assert [caller.outcome for caller in callers] == [None] * 5
        made.stage.dials[0].fail()
        assert [caller.outcome for caller in callers] == [REFUSES] * 5
        assert not made.stage.dials


def test_one_failure_among_successes_fails_nobody():
    with staged(dials=3) as made:
        callers = ask(made, *"abcd")
        made.stage.dials[0].fail()
        assert len(made.stage.dials) == 2  # none is started before the others have told more
        made.stage.dials[0].succeed()
        assert [caller.outcome is None for caller in callers] == [False, True, True, True]
        assert len(made.stage.dials) == 3
        for _ in range(3):
            made.stage.dials[0].succeed()
        assert asked(made) == [["a"], ["b"], ["c"], ["d"]]


@pytest.fixture
def few_at_first(monkeypatch):
    monkeypatch.setattr(dial_bound, "AT_FIRST", 2)
    with staged(dials=5) as made:
        yield made


def paces(made, *times):
    """How many dials are under way after each pause of so many PACEs."""
    counts = []
    for each in times:
        made.stage.loop.now += each * PACE
        made.stage.turn()
        counts.append(len(made.stage.dials))
    return counts


def test_at_an_upstream_that_has_accepted_a_connection_more_dials_are_started_step_by_step(few_at_first):
    made = few_at_first
    ask(made, *"abcdefghij")
    assert paces(made, 1, 1, 1) == [2, 2, 2]  # it has accepted none
    made.stage.dials[0].succeed()
    assert paces(made, 0, 0.5, 0.5, 0.5, 0.5) == [2, 2, 4, 4, 5]
    assert paces(made, 1, 1, 1) == [5, 5, 5]  # the limit


def test_in_a_busy_process_no_more_dials_are_started(few_at_first):
    made = few_at_first
    ask(made, *"abcdefghij")
    made.stage.dials[0].succeed()
    late = 1 + 1.5 * BUSY / PACE
    assert paces(made, late, late, late) == [2, 2, 2]
    assert paces(made, 1) == [4]


@pytest.mark.parametrize("then", ["a failure", "a timeout", "all are served"])
def test_dials_are_few_again_after(few_at_first, then):
    made = few_at_first
    ask(made, *"abcdefghijklm")
    made.stage.dials[0].succeed()
    assert paces(made, 1, 1) == [4, 5]
    if then == "all are served":
        for _ in range(12):
            made.stage.dials[0].succeed()
        assert not made.stage.dials
        ask(made, *"opqrst", only_new=True)
        assert len(made.stage.dials) == 2
        return
    made.stage.dials[0].fail(SLOW if then == "a timeout" else REFUSES)
    for _ in range(3):
        made.stage.dials[0].succeed()
    assert len(made.stage.dials) == 2
    assert paces(made, 1) == [4]


def test_a_pool_that_is_closed_starts_nothing_more(few_at_first):
    made = few_at_first
    ask(made, *"abcdefghij")
    made.stage.dials[0].succeed()
    made.stage.run(made.pool.close)
    assert paces(made, 1, 1) == [0, 0]


def test_a_caller_in_the_midst_of_an_outage_waits_for_the_others_dials_only():
    with staged(dials=8) as made:
        early = ask(made, *"ab")
        made.stage.dials[0].fail()
        late = ask(made, "c")
        assert len(made.stage.dials) == 1
        made.stage.dials[0].fail()
        assert [caller.outcome for caller in early + late] == [REFUSES] * 3
        (next_one,) = ask(made, "d")
        made.stage.dials[0].fail()
        assert next_one.outcome is REFUSES


def test_a_dial_that_hangs_does_not_keep_a_failure_from_being_told(made):
    callers = ask(made, *"ab")
    made.stage.dials[0].fail()  # the other one hangs
    made.stage.age(UNDECIDED + 0.5, made.pool)
    assert [caller.outcome for caller in callers] == [None, None]
    made.stage.dials[1].fail()  # a second opinion
    assert [caller.outcome for caller in callers] == [REFUSES] * 2
    made.stage.dials[0].fail()


def test_while_connections_are_given_back_who_can_use_them_goes_on_waiting(made):
    """Some upstreams limit their connections, and refuse the next one."""
    ask(made, "a")
    made.stage.dials[0].succeed()
    made.stage.answer(made.stage.ends[0])
    ask(made, "b")
    (waits, again) = *ask(made, "c"), *ask(made, "again", only_new=True)
    for dial in list(made.stage.dials):
        dial.fail()
    assert (waits.outcome, again.outcome) == (None, REFUSES)
    made.stage.answer(made.stage.ends[0])
    assert asked(made) == [["a", "b", "c"]]


def test_connections_in_use_that_are_not_given_back_are_no_hope(made):
    ask(made, "a")
    made.stage.dials[0].succeed()
    made.stage.answer(made.stage.ends[0])
    ask(made, "stream")
    made.stage.age(ALIVE + 0.1)
    (waits,) = ask(made, "b")
    made.stage.dials[0].fail()
    assert waits.outcome is REFUSES


def test_who_still_hopes_is_told_once_the_last_connection_in_use_has_ended(made):
    ask(made, "a")
    made.stage.dials[0].succeed()
    made.stage.answer(made.stage.ends[0])
    ask(made, "b")
    (waits,) = ask(made, "c")
    made.stage.dials[0].fail()
    assert waits.outcome is None
    made.stage.ends[0].end()
    made.stage.turn()
    made.stage.dials[0].fail()
    assert waits.outcome is REFUSES


def test_an_unexpected_exception_refuses_and_strands_nobody(made, caplog):
    callers = ask(made, *"ab")
    for dial in list(made.stage.dials):
        dial.fail(RuntimeError("odd"))
    assert [caller.outcome.case for caller in callers] == [problems.INTERNAL_ERROR] * 2
    assert "unexpectedly" in caplog.text


# -- the deadline


def test_a_dial_tells_why_it_is_too_slow_before_a_sweep_refuses_for_it():
    with staged(connect=5.0) as made:
        made.stage.dials_time_out = False
        (caller,) = ask(made, "a")
        made.stage.loop.now += 5.0 + GRACE / 2
        made.stage.run(lambda: made.pool.look(made.stage.loop.now))
        assert caller.outcome is None
        made.stage.dials[0].fail(SLOW)
        assert caller.outcome.cause is upstream_causes.HANDSHAKE_TIMEOUT


def test_a_black_hole_refuses_everybody_in_time_with_the_cause_of_the_dials():
    with staged(dials=2, connect=5.0) as made:
        callers = ask(made, *"abcdefgh")
        made.stage.age(4.9, made.pool)
        late = ask(made, "late")
        assert not any(caller.outcome for caller in callers)
        made.stage.dials[0].fail(SLOW)
        assert not any(caller.outcome for caller in callers), "each has its own limit"
        made.stage.age(0.6, made.pool)
        assert {caller.outcome.case for caller in callers} == {problems.CONNECT_TIMEOUT}
        assert late[0].outcome is None
        made.stage.dials[0].succeed()
        made.stage.turn()
        assert late[0].outcome is not None


def test_who_waits_too_long_behind_others_is_refused_as_if_its_own_dial_were_too_slow():
    with staged(dials=1) as made:
        callers = ask(made, *"abc")
        made.stage.age(3, made.pool)
        made.stage.dials[0].succeed()
        made.stage.age(2.5, made.pool)
        assert callers[0].outcome is not None
        assert [caller.outcome.case for caller in callers[1:]] == [problems.CONNECT_TIMEOUT] * 2
        assert callers[1].outcome.cause.code == "connect_timeout"
        made.stage.dials[0].succeed()


# -- idle connections


def busy(made, names):
    """All of them at once, each on a connection of its own; then all become idle."""
    ask(made, *names)
    for _ in names:
        made.stage.dials[0].succeed()
    for end in made.stage.ends[-len(names) :]:
        made.stage.answer(end)


def test_as_many_connections_stay_as_were_in_use_at_once_lately():
    with staged(pool=2) as made:
        busy(made, "abcde")
        assert made.pool.idle == 5
        made.stage.age(SURPLUS - 0.5, made.pool)
        assert made.pool.idle == 5
        ask(made, "fg")
        made.stage.answer(made.stage.ends[4])
        made.stage.age(1.5, made.pool)
        assert [end.is_closed for end in made.stage.ends] == [True, True, True, False, False]
        made.stage.age(52, made.pool)
        assert [end.is_closed for end in made.stage.ends] == [True, True, True, True, False]
        made.stage.age(10, made.pool)
        assert made.pool.idle == 0


def test_the_oldest_idle_connection_of_any_pool_gives_way_when_files_run_short(made):
    another = made.stage.pool()
    first = made.stage.ask(another, "x")
    made.stage.dials[0].succeed()
    made.stage.answer(made.stage.ends[0])
    made.stage.age(1)
    busy(made, "ab")
    made.stage.files.most = 3
    ask(made, "c", "d", "e")
    assert [end.is_closed for end in made.stage.ends] == [True, False, False]
    assert (another.idle, made.pool.active) == (0, 2)
    made.stage.dials[0].succeed()
    assert made.stage.ends[3].asked == ["e"]
    assert first.answered
    made.stage.run(another.close)


def test_if_no_idle_connection_is_left_to_give_way_the_caller_is_refused(made):
    made.stage.files.most = 0
    (caller,) = ask(made, "a")
    assert caller.outcome.case is problems.OVERLOADED


def test_a_connection_that_nobody_has_used_counts_as_reused(made):
    """The upstream may have closed it while it was idle: a request on it may be sent again."""
    (caller,) = ask(made, "a")
    made.stage.run(lambda: caller.leave(made.pool))
    made.stage.dials[0].succeed()
    (another,) = ask(made, "b")
    assert another.upstream.reused


def test_a_dead_idle_connection_leaves_the_pool(made):
    busy(made, "abc")
    made.stage.ends[1].end()
    made.stage.turn()
    assert (made.pool.idle, made.pool.active) == (2, 0)
    (caller,) = ask(made, "d", once=True)
    assert made.stage.ends[2].asked == ["c", "d"]
    assert caller.upstream is not None


# -- the end


def test_a_retired_pool_serves_who_waits_and_keeps_nothing(made):
    ask(made, "a", "b")
    made.stage.dials[0].succeed()
    made.stage.run(made.pool.retire)
    made.stage.answer(made.stage.ends[0])
    assert asked(made) == [["a", "b"]]
    made.stage.answer(made.stage.ends[0])
    assert made.stage.ends[0].is_closed
    made.stage.dials[0].succeed()
    assert made.stage.ends[1].is_closed
    assert made.pool.is_empty


def test_a_closed_pool_refuses_who_waits_and_who_comes_later(made):
    callers = ask(made, "a", "b")
    made.stage.dials[0].succeed()
    made.stage.run(made.pool.close)
    assert callers[1].outcome.case is problems.OVERLOADED
    assert made.stage.ends[0].is_closed
    assert not made.stage.dials
    (late,) = ask(made, "c")
    assert late.outcome.case is problems.OVERLOADED


def test_a_connection_that_the_upstream_ends_is_not_kept(made):
    ask(made, "a")
    made.stage.dials[0].succeed()
    made.stage.answer(made.stage.ends[0], LAST)
    assert made.stage.ends[0].is_closed
    assert made.pool.is_empty
