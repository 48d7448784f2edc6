"""The checker finds the faults of bad histories, and none in good ones: both written by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.jepsen import checker
from tests.jepsen.scenario import Scenario

BAD: dict[
    Callable[..., Any], list[Callable[[Scenario], None]]
] = {}  # rule -> the scenarios that break it, and no other


def breaks(rule):
    def registered(scenario):
        BAD.setdefault(rule, []).append(scenario)
        return scenario

    return registered


def a_day(scenario):
    """Two processes, a login, two refreshes, and requests by both."""
    scenario.logs_in(1, "a", "1.1")
    scenario.attaches(2, "a", "1.1")
    scenario.attaches(2.5, "b", "1.1")
    scenario.refreshes(9, "b", "1.1", "1.2", 2)
    scenario.attaches(9.5, "a", "1.1")  # it does not know the new one yet
    scenario.attaches(10.5, "a", "1.2")
    scenario.refreshes(17, "a", "1.2", "1.3", 3)
    scenario.attaches(18, "b", "1.3")
    return scenario


# -- good


def test_an_ordinary_day_is_well():
    scenario = a_day(Scenario())
    scenario.ends(20, "1.3")
    assert scenario.breaks() == set()


def test_a_process_that_was_stopped_could_not_know_of_the_new_token():
    scenario = Scenario(life=60)
    scenario.logs_in(1, "a", "1.1")
    scenario.stops("b", 5, 30)
    scenario.refreshes(10, "a", "1.1", "1.2", 2)
    scenario.attaches(30.5, "b", "1.1")
    scenario.ends(32, "1.2")
    assert scenario.breaks() == set()


def test_a_process_without_the_store_could_not_know_of_the_new_token():
    scenario = Scenario(life=60)
    scenario.logs_in(1, "a", "1.1")
    scenario.refreshes(10, "a", "1.1", "1.2", 2)
    scenario.takes_the_store_away(10.5, 30)
    scenario.attaches(30.5, "b", "1.1")
    scenario.ends(32, "1.2")
    assert scenario.breaks() == set()


def test_a_family_is_lost_without_fault_when_its_holder_is_stopped_until_the_grace_is_over():
    scenario = Scenario(grace=3)
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(9, "a", "1.1")
    scenario.gives(9.01, "1.2")
    scenario.stops("a", 9.02, 16)
    scenario.sends(14, "b", "1.1")
    scenario.sees_reuse(14, "1.1")
    scenario.saves(14.1, "b", "1.1", 2, state="login_required")
    scenario.ends(20, "1.1", "login_required")
    assert scenario.breaks() == set()


def test_a_family_is_lost_without_fault_when_the_next_holder_of_the_lease_is_stopped_too():
    scenario = Scenario(grace=3)
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(9, "a", "1.1")
    scenario.stops("a", 9.01, 12.8)  # then its request has timed out
    scenario.gives(12.8, "1.2")
    scenario.note(12.2, "b", "leased", account="ann")
    scenario.stops("b", 12.21, 20)
    scenario.sends(17, "a", "1.1")
    scenario.sees_reuse(17, "1.1")
    scenario.saves(17.1, "a", "1.1", 2, state="login_required")
    scenario.ends(22, "1.1", "login_required")
    assert scenario.breaks() == set()


def test_what_was_put_back_into_an_emptied_store_is_not_gone():
    scenario = a_day(Scenario())
    scenario.empties_the_store(18.5)
    scenario.saves(19, "b", "1.3", 4, expected=0)
    scenario.ends(22, "1.3")
    assert scenario.breaks() == set()


def test_a_put_that_never_came_back_may_have_been_saved():
    scenario = a_day(Scenario())
    scenario.sends(20, "a", "1.3")
    scenario.gives(20.1, "1.4")
    scenario.saves(20.2, "a", "1.4", 4, outcome="")
    scenario.kills(20.3, "a")
    scenario.attaches(21, "b", "1.4")
    scenario.refreshes(22, "b", "1.4", "1.5", 5)
    scenario.ends(23, "1.5")
    assert scenario.breaks() == set()


def test_the_successor_of_a_dead_holder_sends_at_once():
    scenario = Scenario()
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(5, "a", "1.1")
    scenario.kills(5.1, "a")
    scenario.refreshes(5.3, "b", "1.1", "1.2", 2)
    scenario.ends(8, "1.2")
    assert scenario.breaks() == set()


def test_a_lost_family_serves_its_access_token_to_its_end():
    scenario = Scenario(grace=0, life=20)
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(2, "a", "1.1")
    scenario.gives(2.01, "1.2")
    scenario.stops("a", 2.02, 8)
    scenario.sees_reuse(6, "1.1")
    scenario.saves(6.1, "b", "1.1", 2, state="login_required")
    scenario.attaches(15, "b", "1.1")
    scenario.ends(20, "1.1", "login_required")
    assert scenario.breaks() == set()


def test_a_logout_is_seen_by_others_a_moment_later():
    scenario = a_day(Scenario())
    scenario.logs_out(19, "a", "1.3", 4)
    scenario.attaches(19.5, "b", "1.3")
    scenario.ends(22, "", "logged_out")
    assert scenario.breaks() == set()


# -- bad: attached


@breaks(checker.only_saved_tokens_are_attached)
def a_token_is_served_before_it_is_saved(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(9, "a", "1.1")
    scenario.gives(9.01, "1.2")
    scenario.attaches(9.02, "a", "1.2")
    scenario.saves(9.03, "a", "1.2", 2)
    scenario.ends(12, "1.2")


@breaks(checker.only_saved_tokens_are_attached)
def a_token_is_served_though_another_had_been_first(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(8, "b", "1.1")
    scenario.gives(8, "1.2")
    scenario.logs_in(8.5, "a", "2.1", 2)
    scenario.saves(9, "b", "1.2", 2, outcome="conflict")
    scenario.attaches(9.5, "b", "1.2")
    scenario.ends(12, "2.1")


@breaks(checker.replaced_tokens_are_not_attached)
def a_token_is_attached_long_after_its_successor_was_saved(scenario):
    scenario.life = 60
    scenario.logs_in(1, "a", "1.1")
    scenario.refreshes(9, "a", "1.1", "1.2", 2)
    scenario.attaches(12, "b", "1.1")
    scenario.ends(13, "1.2")


@breaks(checker.replaced_tokens_are_not_attached)
def a_pause_that_came_later_excuses_nothing(scenario):
    a_token_is_attached_long_after_its_successor_was_saved(scenario)
    scenario.stops("b", 12.5, 20)
    scenario.stops("b", 3, 5)


@breaks(checker.attached_tokens_are_valid)
def a_token_is_attached_after_its_end(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.attaches(12, "a", "1.1")
    scenario.ends(13, "1.1")


@breaks(checker.attached_tokens_are_valid)
def a_stop_of_the_store_does_not_keep_a_token_alive(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.takes_the_store_away(9, 20)
    scenario.attaches(12, "a", "1.1")
    scenario.ends(23, "1.1")


@breaks(checker.attached_tokens_are_valid)
def a_token_is_attached_after_it_was_revoked_by_a_logout(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.note(2, "a", "logging-out", account="ann")
    scenario.note(2, "server", "revoked", account="ann", family=1, reason="client")
    scenario.attaches(5, "b", "1.1")
    scenario.saves(5.5, "a", "", 2, state="logged_out")
    scenario.ends(6, "", "logged_out")


@breaks(checker.attached_tokens_are_valid)
def a_token_is_attached_that_the_server_never_gave(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.saves(2, "a", "1.7", 2)
    scenario.attaches(3, "a", "1.7")
    scenario.saves(3.1, "a", "1.1", 3)
    scenario.ends(4, "1.1")


# -- bad: stored


@breaks(checker.generations_only_grow)
def two_puts_follow_the_same_one(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.gives(2, "1.2")
    scenario.saves(2.1, "a", "1.2", 2)
    scenario.saves(2.2, "b", "1.2", 2)
    scenario.ends(4, "1.2")


@breaks(checker.generations_only_grow)
def a_put_follows_what_nobody_wrote(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.refreshes(9, "a", "1.1", "1.2", 7)
    scenario.ends(12, "1.2")


@breaks(checker.nothing_newer_is_overwritten)
def a_late_writer_overwrites_the_newest(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.gives(2, "1.2")
    scenario.saves(2.1, "a", "1.2", 2)
    scenario.gives(3, "1.3")
    scenario.saves(3.1, "a", "1.3", 3)
    scenario.saves(3.2, "b", "1.2", 4)
    scenario.saves(3.3, "a", "1.3", 5)
    scenario.ends(5, "1.3")


@breaks(checker.final_records_are_usable)
def what_is_left_is_used_up(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(2, "a", "1.1")
    scenario.gives(2.1, "1.2")
    scenario.ends(5, "1.1")


@breaks(checker.final_records_are_usable)
def what_is_left_is_revoked(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.note(2, "server", "revoked", account="ann", family=1, reason="client")
    scenario.ends(5, "1.1")


@breaks(checker.final_records_are_usable)
def a_login_is_demanded_for_nothing(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.saves(2, "a", "1.1", 2, state="login_required")
    scenario.ends(5, "1.1", "login_required")


@breaks(checker.final_records_are_usable)
def a_logout_that_nobody_asked_for(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.saves(2, "a", "", 2, state="logged_out")
    scenario.ends(5, "", "logged_out")


@breaks(checker.everything_settles)
def what_is_stored_as_good_is_never_served(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.ends(5, "1.1", served=False)


@breaks(checker.everything_settles)
def the_run_breaks_off(scenario):
    a_day(scenario)


# -- bad: an emptied store


@breaks(checker.nothing_is_missing_after_a_flush)
def nobody_puts_back_what_was_held(scenario):
    a_day(scenario)
    scenario.empties_the_store(18.5)
    scenario.ends(22, "", "absent")


@breaks(checker.nothing_is_missing_after_a_flush)
def an_older_token_is_put_back(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.refreshes(2, "a", "1.1", "1.2", 2)
    scenario.empties_the_store(2.5)
    scenario.saves(3, "b", "1.1", 2, expected=0)
    scenario.saves(3.5, "b", "", 3, state="login_required")
    scenario.ends(6, "", "login_required")


# -- bad: families


@breaks(checker.no_family_is_lost_without_an_excuse)
def a_spent_token_is_sent_again(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.refreshes(2, "a", "1.1", "1.2", 2)
    scenario.sends(6, "b", "1.1")
    scenario.sees_reuse(6, "1.1")
    scenario.saves(6.1, "b", "1.2", 3, state="login_required")
    scenario.ends(9, "1.2", "login_required")


@breaks(checker.no_family_is_lost_without_an_excuse)
def a_holder_that_was_killed_is_no_excuse(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(2, "a", "1.1")
    scenario.gives(2, "1.2")
    scenario.kills(2.1, "a")
    _lose_it(scenario)


@breaks(checker.no_family_is_lost_without_an_excuse)
def a_short_stop_is_no_excuse(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(2, "a", "1.1")
    scenario.gives(2, "1.2")
    scenario.stops("a", 2.1, 3.5)
    scenario.note(3.6, "a", "released", account="ann")
    _lose_it(scenario)


@breaks(checker.no_family_is_lost_without_an_excuse)
def a_stop_before_the_sending_is_no_excuse(scenario):
    scenario.stops("a", 0.1, 5)
    scenario.logs_in(0.05, "a", "1.1")
    scenario.sends(5.1, "a", "1.1")
    scenario.gives(5.2, "1.2")
    scenario.note(6.2, "a", "answered", refresh="r1.1", outcome="transient timeout")
    _lose_it(scenario, 9)


@breaks(checker.no_family_is_lost_without_an_excuse)
def a_stop_after_the_saving_is_no_excuse(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.refreshes(2, "a", "1.1", "1.2", 2)
    scenario.stops("a", 2.1, 8)
    scenario.sends(7, "b", "1.1")
    scenario.sees_reuse(7, "1.1")
    scenario.saves(7.1, "b", "1.2", 3, state="login_required")
    scenario.ends(9, "1.2", "login_required")


@breaks(checker.no_family_is_lost_without_an_excuse)
def a_stop_that_was_over_before_the_token_was_spent_is_no_excuse(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(2, "a", "1.1")
    scenario.stops("a", 2.1, 5.5)
    scenario.gives(5.5, "1.2")
    scenario.note(5.6, "a", "answered", refresh="r1.1", outcome="transient timeout")
    _lose_it(scenario, 10)


@breaks(checker.no_family_is_lost_without_an_excuse)
def a_store_that_was_away_is_no_excuse(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(2, "a", "1.1")
    scenario.gives(2, "1.2")
    scenario.takes_the_store_away(2.1, 6)
    _lose_it(scenario)


def _lose_it(scenario, at=7.0):
    scenario.sends(at, "b", "1.1")
    scenario.sees_reuse(at, "1.1")
    scenario.saves(at + 0.1, "b", "1.1", 2, state="login_required")
    scenario.ends(at + 3, "1.1", "login_required")


# -- bad: calls


@breaks(checker.calls_are_bounded)
def a_storm(scenario):
    scenario.logs_in(1, "a", "1.1")
    for number in range(30):
        scenario.sends(2 + number / 10, "a", "1.1")
    scenario.ends(6, "1.1")


@breaks(checker.one_process_sends_at_a_time)
def two_send_at_once(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.sends(5, "a", "1.1")
    scenario.sends(5.2, "b", "1.1")
    scenario.gives(5.3, "1.2")
    scenario.saves(5.4, "a", "1.2", 2)
    scenario.ends(8, "1.2")


@breaks(checker.refused_tokens_are_not_sent_again)
def a_refused_token_is_sent_again(scenario):
    scenario.logs_in(1, "a", "1.1")
    scenario.note(1.5, "server", "revoked", account="ann", family=1, reason="reuse")
    scenario.saves(2, "a", "1.1", 2, state="login_required")
    scenario.sends(5, "b", "1.1")
    scenario.ends(6, "1.1", "login_required")


SCENARIOS = [(rule, scenario) for rule, scenarios in BAD.items() for scenario in scenarios]


@pytest.mark.parametrize(
    ("rule", "scenario"), SCENARIOS, ids=[scenario.__name__ for _, scenario in SCENARIOS]
)
def test_the_checker_finds_that(rule, scenario):
    history = Scenario()
    scenario(history)
    assert history.breaks() == {rule.__name__}


def test_each_rule_is_broken_by_a_scenario():
    assert set(BAD) == set(checker.RULES)


def test_a_report_has_the_fault_and_the_events_before_it():
    scenario = Scenario()
    a_spent_token_is_sent_again(scenario)
    report = checker.check(scenario.history())
    assert "refresh token r1.1 came again 4.0 s after it was spent" in report.text
    assert "families lost 1 (0 excused)" in report.text
    assert "b        sending      refresh=r1.1" in report.text
