"""The table of grants: what each sends to the token endpoint, and what it asks of the configuration.

A new grant adds its rows to ROWS (CONTRIBUTING.md, "A new grant"); what it does beyond its form has a file of
tests of its own.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

import proxy
from proxy.config import credential as configured
from proxy.config.grants import REQUIREMENTS
from proxy.config.model import Credential
from proxy.oauth.grants import GRANTS, Renewal
from proxy.oauth.grants.authorization_code import login_command, redemption_form
from proxy.oauth.grants.base import Form
from proxy.secret import Secret

CALLBACK = "http://127.0.0.1:8081/callback"
REFRESH: Form = {"grant_type": "refresh_token", "refresh_token": "R"}


@dataclass(frozen=True)
class Row:
    """A grant, what its credential has beside client and server, and the forms that follow.

    `first`: without a refresh token; None if it can send nothing then. `next`: with the refresh token R.
    """

    grant: str
    first: Form | None
    next: Form | None
    keys: dict[str, Any] = field(default_factory=dict)


ROWS = [
    Row("authorization_code", None, REFRESH, {"scopes": ["api"]}),
    Row("refresh_token", None, REFRESH, {"scopes": ["api"], "refresh_token": Secret("seed")}),
    Row(
        "client_credentials",
        {"grant_type": "client_credentials", "scope": "api mail"},
        {"grant_type": "client_credentials", "scope": "api mail"},
        {"scopes": ["api", "mail"], "client_secret": Secret("s3cret")},
    ),
    Row(
        "client_credentials",
        {"grant_type": "client_credentials"},
        {"grant_type": "client_credentials"},
        {"client_auth": "none"},
    ),
    Row("device_code", None, REFRESH, {"scopes": ["api"]}),
    Row("static", None, None, {"value": Secret("v")}),
]
REDEMPTIONS = [
    (
        redemption_form("C", CALLBACK, "V"),
        {"grant_type": "authorization_code", "code": "C", "redirect_uri": CALLBACK, "code_verifier": "V"},
    ),
    (
        redemption_form("C", CALLBACK, None),
        {"grant_type": "authorization_code", "code": "C", "redirect_uri": CALLBACK},
    ),
]


def credential_of(row: Row) -> Credential:
    server = {"issuer": "https://login.example", "client_id": "web", "name": "crm"}
    if REQUIREMENTS[row.grant].client == "none":
        server = {}
    return Credential.model_validate({**server, "grant": row.grant, **row.keys})


@pytest.mark.parametrize("row", ROWS, ids=[row.grant for row in ROWS])
def test_the_form_of_a_grant(row):
    credential, grant = credential_of(row), GRANTS[row.grant]
    assert grant.form(credential, None) == row.first
    assert grant.form(credential, Secret("R")) == row.next
    assert grant.grant_type == (row.first or row.next or {"grant_type": ""})["grant_type"]
    assert (row.next is None) == grant.is_fixed


def test_each_grant_has_a_row():
    assert {row.grant for row in ROWS} == set(GRANTS)


@pytest.mark.parametrize(("form", "expected"), REDEMPTIONS)
def test_the_form_of_a_code(form, expected):
    assert form == expected


def test_every_grant_of_the_configuration_has_an_object_and_requirements():
    names = set(get_args(configured.Grant))
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
