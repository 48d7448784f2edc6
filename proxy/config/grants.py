"""What each grant asks of the configuration, by its name.

What a grant does is in oauth/grants/, which is above this package; tests/oauth/test_grants.py holds the two
tables together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

REDIRECT_ENDPOINT: Final = "authorization_endpoint"

Presence = Literal["required", "optional", "none"]  # "none": its keys are faults


@dataclass(frozen=True, slots=True)
class Requirements:
    login_endpoint: str = ""  # the endpoint at which a login of a person begins; "": there are no logins
    has_seed: bool = False  # the file gives the first refresh token
    has_refresh_tokens: bool = True  # else settings of their lifetime mean nothing
    needs_secret: bool = False  # or an explicit client_auth = "none": a missing secret is a mistake
    has_accounts: bool = False  # else only the account "default"
    client: Presence = "required"  # an OAuth client: client_id
    server: Presence = "required"  # an authorization server: issuer or token_endpoint
    keys: frozenset[str] = frozenset()  # that other grants do not have
    warning: str = ""  # about its use, at each start
    described: bool = False  # its requests are described in the file: see step_checks.py
    registers_for: tuple[str, ...] = ()  # grant_types of a registered client (RFC 7591); (): none can be
    is_fixed: bool = False  # the configuration gives the token itself: nothing is requested of anyone

    @property
    def logs_in(self) -> bool:
        """Whether a person logs in."""
        return bool(self.login_endpoint)

    @property
    def redirects(self) -> bool:
        """Whether its logins end at our redirect URI."""
        return self.login_endpoint == REDIRECT_ENDPOINT


REQUIREMENTS: Final[Mapping[str, Requirements]] = {
    "authorization_code": Requirements(
        login_endpoint=REDIRECT_ENDPOINT,
        has_accounts=True,
        registers_for=("authorization_code", "refresh_token"),
    ),
    "refresh_token": Requirements(has_seed=True),
    "client_credentials": Requirements(
        has_refresh_tokens=False, needs_secret=True, registers_for=("client_credentials",)
    ),
    "request": Requirements(has_refresh_tokens=False, client="none", server="none", described=True),
    "device_code": Requirements(login_endpoint="device_authorization_endpoint", has_accounts=True),
    "jwt_bearer": Requirements(
        has_refresh_tokens=False, client="optional", keys=frozenset({"key", "claims", "assertion"})
    ),
    "password": Requirements(
        keys=frozenset({"username", "password"}),
        warning="this program must know a person's password, and OAuth 2.1 has no such grant - expected only "
        "where the server has no other",
    ),
    "token_exchange": Requirements(
        has_refresh_tokens=False,
        keys=frozenset({"subject_token", "subject_token_type", "requested_token_type", "audience"}),
    ),
    "static": Requirements(has_refresh_tokens=False, client="none", server="none", is_fixed=True),
}


def requirements_of(grant: object) -> Requirements | None:
    """None for a value that is no grant's name: it has a fault of its own."""
    return REQUIREMENTS.get(grant) if isinstance(grant, str) else None
