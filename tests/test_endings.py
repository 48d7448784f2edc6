"""The table of endings: those of the contract, each with a cause and cures that can be followed."""

import json
import re
import tomllib

import pytest

from proxy.cli import main
from proxy.config.schema import schema
from proxy.endings import ENDINGS, help_url
from proxy.relay import problems
from proxy.relay.problems import Refusal

CONTRACT = {  # the endings of the data listener, with their statuses
    "bad-request": (400,),
    "header-too-large": (431,),
    "method-refused": (405, 501),
    "host-refused": (421,),
    "browser-refused": (403,),
    "loop": (508,),
    "no-route": (404,),
    "caller-unknown": (401,),
    "caller-denied": (403,),
    "policy-denied": (403,),
    "account-invalid": (400,),
    "login-required": (503,),
    "token-unavailable": (503,),
    "credential-misconfigured": (503,),
    "overloaded": (503,),
    "upstream-unreachable": (502,),
    "upstream-tls": (502,),
    "upstream-protocol": (502,),
    "upstream-timeout": (504,),
    "caller-timeout": (408,),
    "expectation-failed": (417,),
    "token-echoed": (502,),
    "internal-error": (500,),
}
NOT_BUILT = {"token-echoed"}  # the echo guard
CODE = re.compile(r"`([^`]+)`")
CASES = [case for case in vars(problems).values() if isinstance(case, problems.Case)]
each_ending = pytest.mark.parametrize("name", ENDINGS)


def keys_of(node):
    """All keys of the configuration."""
    if isinstance(node, dict):
        yield from node.get("properties", {})
        for each in node.values():
            yield from keys_of(each)
    elif isinstance(node, list):
        for each in node:
            yield from keys_of(each)


KEYS = {*keys_of(schema())}
NO_KEYS = {"detail", "login_url", "localhost", "curl", "offline_access", "upstream_failed"}


def test_the_table_has_the_endings_of_the_contract_and_their_statuses():
    table = {name: ending.statuses for name, ending in ENDINGS.items()}
    assert table == {name: statuses for name, statuses in CONTRACT.items() if name not in NOT_BUILT}


def test_each_case_of_the_data_listener_has_its_ending_and_each_ending_a_case():
    assert {case.ending for case in CASES} == set(ENDINGS)
    for name, ending in ENDINGS.items():
        assert {case.status for case in CASES if case.ending == name} == set(ending.statuses)
        assert {case.title for case in CASES if case.ending == name} == {ending.title}


@each_ending
def test_a_row_is_complete_and_in_plain_text(name):
    ending = ENDINGS[name]
    assert ending.name == name
    assert re.fullmatch(r"[A-Z][^.`<>&]+", ending.title)
    assert ending.cures
    for text in (ending.cause, *ending.cures):
        assert re.fullmatch(r"[A-Z`]\S*(?: \S+)*[.]", text), text
        assert text.count("`") % 2 == 0
        assert text.isascii()


@each_ending
def test_what_a_cure_names_exists(name):
    for text in (ENDINGS[name].cause, *ENDINGS[name].cures):
        for code in CODE.findall(text):
            check_code(code)


def check_code(code):
    if code.startswith("token-proxy "):
        command, *words = code.split()[1:]
        main.commands[command].make_context(command, words)
    elif re.fullmatch(r"[a-z_]+ = .*", code):
        (key,) = tomllib.loads(re.sub(r"= (\{ \w+ = )([A-Z]+) \}", r'= \1"\2" }', code))
        assert key in KEYS
    elif re.fullmatch(r"\[[a-z]+\]", code):
        assert code[1:-1] in KEYS
    elif re.fullmatch(r"[a-z]+(_[a-z]+)*", code) and code not in NO_KEYS:
        assert code in KEYS


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.status}-{case.ending}")
def test_a_problem_document_links_to_the_page_of_its_ending(case):
    document = json.loads(Refusal(case, "why").body("https://proxy.example"))
    assert document == {
        "type": f"urn:token-proxy:problem:{case.ending}",
        "title": ENDINGS[case.ending].title,
        "status": case.status,
        "detail": "why",
        "documentation": help_url("https://proxy.example", case.ending),
    }
    assert document["documentation"] == f"https://proxy.example/help/{case.ending}"
