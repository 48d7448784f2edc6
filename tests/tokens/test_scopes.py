"""Which of the configured scopes count as granted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.tokens.scopes import missing_scopes
from tests.fakes.clock import FakeClock
from tests.tokens.made import credential, token

SCOPES = [  # asked for, granted, missing
    (["api"], "api", ()),
    (["api"], "", ()),  # RFC 6749 section 5.1: as asked for
    (["api", "mail"], "mail api", ()),
    (["api"], "api mail", ()),
    (["api", "mail"], "api", ("mail",)),
    (["api", "mail", "files"], "api", ("mail", "files")),
    (["Api"], "api", ("Api",)),
    (["api", "mail"], "api,mail", ()),  # GitHub, Slack
    (["api", "offline_access"], "api", ()),
    (["api", "refresh_token"], "api", ()),
    (["email", "openid"], "openid https://www.googleapis.com/auth/userinfo.email", ()),
    (["https://mail.google.com/"], "https://mail.google.com/", ()),
    (["https://graph.microsoft.com/Mail.Read"], "Mail.Read User.Read", ()),
    (["https://graph.microsoft.com/.default"], "Mail.Read", ()),
]


@pytest.mark.parametrize(("asked", "granted", "missing"), SCOPES)
def test_a_scope_is_missing(asked, granted, missing):
    made = token(FakeClock(), scope=granted)
    assert missing_scopes(credential(scopes=asked), made) == missing


def test_offline_access_is_missing_where_there_is_no_refresh_token():
    made = replace(token(FakeClock(), scope="api"), refresh_token=None)
    assert missing_scopes(credential(scopes=("api", "offline_access")), made) == ("offline_access",)
