"""The form that each grant sends to the token endpoint, and its properties."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

import proxy
from proxy.config import credential
from proxy.config.grants import REQUIREMENTS
from proxy.oauth.grants import GRANTS, Renewal
from proxy.oauth.grants.authorization_code import login_command, redemption_form
from proxy.secret import Secret

CALLBACK = "http://127.0.0.1:8081/callback"
REFRESH = {"grant_type": "refresh_token", "refresh_token": "R"}
FORMS = [
    (
        redemption_form("C", CALLBACK, "V"),
        {"grant_type": "authorization_code", "code": "C", "redirect_uri": CALLBACK, "code_verifier": "V"},
    ),
    (
        redemption_form("C", CALLBACK, None),
        {"grant_type": "authorization_code", "code": "C", "redirect_uri": CALLBACK},
    ),
    (GRANTS["authorization_code"].form(("api",), Secret("R")), REFRESH),
    (GRANTS["authorization_code"].form(("api",), None), None),
    (GRANTS["refresh_token"].form(("api",), Secret("R")), REFRESH),
    (GRANTS["refresh_token"].form(("api",), None), None),
    (
        GRANTS["client_credentials"].form(("api", "mail"), Secret("R")),
        {"grant_type": "client_credentials", "scope": "api mail"},
    ),
    (GRANTS["client_credentials"].form((), None), {"grant_type": "client_credentials"}),
]


@pytest.mark.parametrize(("form", "expected"), FORMS)
def test_a_form(form, expected):
    assert form == expected


@pytest.mark.parametrize("grant", GRANTS.values(), ids=list(GRANTS))
def test_the_grant_type_is_the_one_in_the_form(grant):
    form = grant.form((), Secret("R"))
    assert (form or {}).get("grant_type", "") == grant.grant_type
    assert (form is None) == grant.is_fixed


def test_every_grant_of_the_configuration_has_an_object_and_requirements():
    names = set(get_args(credential.Grant))
    assert names == set(GRANTS) == set(REQUIREMENTS)
    assert all(grant.name == name for name, grant in GRANTS.items())


@pytest.mark.parametrize("name", GRANTS)
def test_what_the_configuration_asks_for_is_what_the_grant_needs(name):
    grant, asks = GRANTS[name], REQUIREMENTS[name]
    assert asks.logs_in == asks.has_accounts == grant.needs_person
    assert asks.has_seed == (grant.renewal is Renewal.CONFIGURATION)
    assert asks.is_fixed == grant.is_fixed
    assert asks.has_refresh_tokens == (not grant.renews_itself and not grant.is_fixed)


@pytest.mark.parametrize("name", GRANTS)
def test_a_grant_that_can_end_has_a_remedy(name):
    grant = GRANTS[name]
    assert bool(grant.remedy("crm", "alice")) == (not grant.renews_itself)
    assert ("token-proxy login" in grant.remedy("crm", "alice")) == grant.needs_person


def test_the_login_command_names_the_account_where_it_is_not_the_default():
    assert login_command("crm", "default") == "token-proxy login crm"
    assert login_command("crm", "alice") == "token-proxy login crm --account alice"


def _compares_a_grant(node: ast.AST) -> bool:
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    names = {each.value for side in sides for each in ast.walk(side) if isinstance(each, ast.Constant)}
    is_grant = any(
        isinstance(each, ast.Attribute | ast.Name)
        and getattr(each, "attr", getattr(each, "id", "")) == "grant"
        for side in sides
        for each in ast.walk(side)
    )
    is_identity = all(isinstance(each, ast.Is | ast.IsNot) for each in node.ops)  # "is not None"
    return (is_grant and not is_identity) or bool(
        names & {"authorization_code", "client_credentials", "static"}
    )


def test_no_module_compares_a_grants_name():
    folder = Path(proxy.__file__).parent
    modules = {path: ast.parse(path.read_text()) for path in folder.rglob("*.py") if "demo" not in path.parts}
    found = {
        f"{path.relative_to(folder)}:{node.lineno}"
        for path, tree in modules.items()
        for node in ast.walk(tree)
        if _compares_a_grant(node)
    }
    assert {place.partition(":")[0] for place in found} == {
        "oauth/binding.py"
    }  # a token's grant, with no name


def test_the_scheme_of_the_authorization_field_is_written_once():
    folder = Path(proxy.__file__).parent
    found = {
        str(path.relative_to(folder))
        for path in folder.rglob("*.py")
        if "demo" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in {"Bearer", "Bearer ", b"Bearer", b"Bearer "}
    }
    assert found == {"tokens/attachment.py"}
