"""What each grant sends to the token endpoint."""

from __future__ import annotations

import pytest

from proxy.oauth import grants
from proxy.secret import Secret

CALLBACK = "http://127.0.0.1:8081/callback"
FORMS = [
    (
        grants.authorization_code("C", CALLBACK, "V"),
        {"grant_type": "authorization_code", "code": "C", "redirect_uri": CALLBACK, "code_verifier": "V"},
    ),
    (
        grants.authorization_code("C", CALLBACK, None),
        {"grant_type": "authorization_code", "code": "C", "redirect_uri": CALLBACK},
    ),
    (grants.refresh_token(Secret("R")), {"grant_type": "refresh_token", "refresh_token": "R"}),
    (grants.client_credentials(("api", "mail")), {"grant_type": "client_credentials", "scope": "api mail"}),
    (grants.client_credentials(()), {"grant_type": "client_credentials"}),
]


@pytest.mark.parametrize(("form", "expected"), FORMS)
def test_a_form(form, expected):
    assert form == expected
