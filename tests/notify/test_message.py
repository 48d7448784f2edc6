"""The text and the fields of a notification."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from proxy.notify.message import LONGEST, Message, needs_person, of_several, works_again
from proxy.oauth import grants
from proxy.store.base import AccountId
from proxy.tokens.diagnosis import Diagnosis, Facts, diagnose
from tests.tokens.made import credential

ANN = AccountId("crm", "ann@example.com")
URL = "https://tokens.example"


@pytest.fixture
def diagnosis() -> Diagnosis:
    grant = grants.of(credential())
    facts = Facts("crm", "ann@example.com", grant, "login_required", "refused", usable=False, now=0.0)
    return diagnose(facts)


def test_one_for_an_account_that_needs_a_person(diagnosis: Diagnosis) -> None:
    assert json.loads(needs_person(ANN, diagnosis, URL).to_json()) == {
        "text": "crm/ann@example.com needs a person: the authorization server refuses the refresh token; "
        "run `token-proxy login crm --account ann@example.com` - "
        "https://tokens.example/login/crm/ann@example.com",
        "credential": "crm",
        "account": "ann@example.com",
        "state": "login_required",
        "login_url": "https://tokens.example/login/crm/ann@example.com",
        "more": 0,
    }


def test_nobody_is_sent_to_a_page_that_does_not_help(diagnosis: Diagnosis) -> None:
    made = needs_person(ANN, replace(diagnosis, can_log_in=False), URL)
    assert made.login_url is None
    assert "/login/" not in made.text


def test_one_for_an_account_that_works_again() -> None:
    made = works_again(ANN, "valid", URL)
    assert made == Message(
        "crm/ann@example.com works again - https://tokens.example/", *ANN, "valid", login_url=None
    )


def test_one_for_several(diagnosis: Diagnosis) -> None:
    page = f"{URL}/?state=attention"
    made = of_several(needs_person(ANN, diagnosis, URL), 412, URL)
    text = f"crm/ann@example.com and 412 more need a person - {page}"
    assert made == Message(text, *ANN, "login_required", page, 412)
    made = of_several(works_again(ANN, "valid", URL), 1, URL)
    assert made == Message(f"crm/ann@example.com and 1 more work again - {URL}/", *ANN, "valid", None, 1)


def test_a_long_one_is_cut_and_is_one_line_of_ascii(diagnosis: Diagnosis) -> None:
    made = needs_person(ANN, replace(diagnosis, sentence="é\n\x1b" * LONGEST), URL)
    body = made.to_json()
    assert len(made.text) < LONGEST + 200
    assert body.isascii()
    assert body.count(b"\n") == 1
    assert len(body) < 16384  # macOS's pipes take no more at once
    assert made.text.endswith(f" - {URL}/login/crm/ann@example.com")
