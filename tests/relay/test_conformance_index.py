"""Each requirement of the relay is covered: by rows of the tables, by tests of other files, or by both."""

import ast
from functools import cache
from pathlib import Path

import pytest

from .conformance_answers import ANSWERS
from .conformance_refusals import REFUSED
from .conformance_requests import PASSING

TESTS = Path(__file__).parent.parent
REQUIREMENTS = [f"A{number}" for number in range(1, 30)]
IN_TABLES = {row.number for row in (*PASSING, *REFUSED, *ANSWERS)}
SHOWN = {  # the tests of requirements that no row can cover
    "A1": [
        "relay/test_conformance_answers.py::test_bytes_on_an_idle_connection_reach_no_caller",
        "relay/test_conformance_answers.py::test_bytes_after_a_response_reach_no_caller",
        "relay/test_bad_upstreams.py::test_a_surplus_response_harms_one_request_at_most",
        "relay/test_upstream.py::test_two_accounts_never_share_a_connection",
    ],
    "A2": [
        "relay/test_upstream.py::test_a_cut_tls_connection_is_not_a_clean_end",
        "relay/test_bad_upstreams.py::test_a_response_that_ends_below_tls_never_looks_complete",
        "relay/test_bad_upstreams.py::test_a_slow_upstream_times_out",
    ],
    "A3": ["http/test_headers.py::test_no_caller_can_remove_or_duplicate_our_fields"],
    "A5": ["http/test_target.py::test_no_target_leaves_its_prefix"],
    "A7": [
        "http/test_body.py::test_we_never_accept_a_body_that_llhttp_reads_differently",
        "http/test_message.py::test_fields_are_separated_just_as_in_llhttp",
    ],
    "A8": ["commands/test_run.py::test_without_the_compiled_parser_it_does_not_start"],
    "A9": [
        "relay/test_conformance_repeats.py::test_a_failed_request_is_sent_again_only_if_that_is_safe",
        "relay/test_bad_upstreams.py::test_an_interrupted_upload_gets_a_response_and_is_not_sent_again",
    ],
    "A10": [
        "relay/test_conformance_repeats.py::test_a_request_that_was_rejected_is_sent_again_once_with_another_token",
        "relay/test_conformance_repeats.py::test_a_401_that_stays_costs_one_refresh_and_makes_no_loop",
        "relay/test_unauthorized.py::test_a_long_body_gets_its_401_and_the_token_is_refreshed_behind",
    ],
    "A11": ["relay/test_options.py::test_a_question_about_the_proxy_is_answered_by_it"],
    "A12": [
        "relay/test_conformance_unchanged.py::test_a_decompression_bomb_passes_unchanged_both_ways",
        "relay/test_conformance_unchanged.py::test_no_cookie_is_stored",
        "relay/test_conformance_unchanged.py::test_no_redirect_is_followed",
        "relay/test_conformance_unchanged.py::test_the_environment_changes_nothing",
    ],
    "A13": [
        "e2e/test_memory.py::test_a_hundred_stalled_downloads_take_less_than_a_megabyte_each",
        "e2e/test_memory.py::test_a_hundred_uploads_that_nobody_reads_take_less_than_a_megabyte_each",
        "e2e/test_bodies.py::test_an_upload_of_200_mb_to_a_slow_upstream_arrives_whole_and_costs_no_memory",
        "relay/test_exchange.py::test_a_slow_caller_pauses_the_upstream_instead_of_filling_memory",
        "relay/test_exchange.py::test_an_upload_is_read_no_faster_than_the_upstream_takes_it",
    ],
    "A14": [
        "relay/test_websocket.py::test_messages_come_back_whole",
        "relay/test_websocket.py::test_an_upgrade_with_a_body_is_refused",
        "relay/test_websocket.py::test_any_other_upgrade_is_ignored",
        "relay/test_websocket.py::test_frames_sent_before_the_response_are_not_read_as_a_request",
    ],
    "A17": [
        "relay/test_conformance_early.py::test_a_caller_that_expects_100_is_not_delayed",
        "relay/test_conformance_early.py::test_a_caller_that_is_refused_first_need_not_send_its_body",
    ],
    "A18": [
        "relay/test_conformance_early.py::test_a_refused_upload_of_a_gigabyte_stops_at_once",
        "relay/test_exchange.py::test_an_early_response_leaves_nothing_behind_for_the_next_one",
    ],
    "A19": ["relay/test_conformance_requests.py::test_a_half_closed_caller_still_gets_its_response"],
    "A20": [
        "relay/test_chaos.py::test_callers_that_vanish_leave_nothing_behind",
        "relay/test_streams.py::test_a_silent_upstream_sees_the_caller_leave",
        "tokens/test_serving.py::test_callers_that_hang_up_do_not_cancel_the_refresh",
    ],
    "A21": [
        "relay/test_conformance_answers.py::test_a_large_head_may_come_byte_by_byte_both_ways",
        "relay/test_limits.py::test_a_head_may_be_as_large_as_the_limit_and_no_larger",
        "relay/test_limits.py::test_an_upstreams_head_has_the_same_limits",
    ],
    "A22": [
        "relay/test_limits.py::test_callers_that_drip_their_headers_are_closed_without_harm_to_others",
        "relay/test_limits.py::test_a_limit_that_is_reached_has_its_response",
        "relay/test_refusals.py::test_too_many_connections_are_turned_away",
    ],
    "A24": ["relay/test_refusals.py::test_a_request_that_returns_to_the_proxy_is_a_loop"],
    "A26": [
        "relay/test_streams.py::test_an_event_reaches_the_caller_before_the_next_one_is_sent",
        "relay/test_streams.py::test_the_head_reaches_the_caller_before_the_first_event",
    ],
    "A28": [
        "relay/test_conformance_tls.py::test_an_upstream_with_a_bad_certificate_gets_nothing",
        "relay/test_conformance_tls.py::test_the_configured_server_name_is_the_only_one_accepted",
        "relay/test_conformance_tls.py::test_tls_older_than_1_2_is_not_accepted",
        "relay/test_conformance_tls.py::test_a_server_that_requests_a_certificate_gets_the_routes_own",
    ],
}


@cache
def names_in(file):
    """The names of a file's tests."""
    return {
        node.name
        for node in ast.parse((TESTS / file).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("number", REQUIREMENTS)
def test_each_requirement_has_rows_or_names_in_its_own(number):
    assert number in IN_TABLES or SHOWN.get(number)
    for place in SHOWN.get(number, []):
        file, _, name = place.partition("::")
        assert name in names_in(file), place


def test_no_row_is_of_an_unknown_requirement():
    assert set(REQUIREMENTS) >= IN_TABLES | set(SHOWN)


@pytest.mark.parametrize("table", [PASSING, REFUSED, ANSWERS], ids=["passing", "refused", "answers"])
def test_no_two_rows_of_a_table_are_called_alike(table):
    names = [str(row) for row in table]
    assert sorted(names) == sorted(set(names))
