"""The exceptions that several packages share, by the party that can fix the cause.

    ProxyError
    ├── ConfigError             operator: the configuration file (every fault, with its position)
    ├── StoreError              operator: disk, key, database server, another program
    │   ├── GenerationConflict  nobody: another process wrote first; read again
    │   └── UnreadableRecord    operator: a record that this key does not open; never overwritten
    ├── AuthorizationServerError  a failed request to an authorization server, with its class
    ├── TokenError              no token for this request
    │   ├── LoginRequired       a person must log in
    │   ├── TokenUnavailable    authorization server: temporary; it is retried
    │   ├── Misconfigured       operator: the authorization server refuses this client
    │   └── SubjectRefused      the caller: its own token is not exchanged for another
    ├── LoginFailed             a login without tokens (the message is for the person)
    └── Refusal                 a response of our own instead of the upstream's (relay/problems.py)

A message is one sentence that includes the remedy. It contains no secret, and no text that an upstream or
an authorization server sent.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from proxy.failure_causes import Cause
    from proxy.tokens.diagnosis import Diagnosis


class ProxyError(Exception):
    """Base of this program's exceptions."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """A fault in the configuration at a position (line and column count from 1), or in a variable."""

    line: int  # 0: none, as it is of no file
    column: int
    message: str
    source: str = ""  # the text of that line
    variable: str = ""  # of the environment, in place of a position

    def render(self, filename: str) -> str:
        if self.variable:
            return f"environment: {self.variable}: {self.message}"
        place = f":{self.line}:{self.column}" if self.line else ""
        where = f"{filename}{place}: {self.message}"
        if not self.source.strip():
            return where
        below = "".join(map(_blank, self.source[: self.column - 1]))  # as wide as the line above
        return f"{where}\n{self.line:5d} | {self.source}\n      | {below}^"


def _blank(character: str) -> str:
    """As wide as the character, on a terminal."""
    if character == "\t":
        return character
    if unicodedata.combining(character):
        return ""
    return "  " if unicodedata.east_asian_width(character) in {"F", "W"} else " "


class ConfigError(ProxyError):
    """The configuration can't be used. `faults` has all its faults, in the order of the file.

    `filename`: of the file; "environment" where there is none.
    """

    def __init__(self, filename: str, faults: list[Fault]) -> None:
        self.filename = filename
        self.faults = sorted(faults)
        super().__init__("\n".join(fault.render(filename) for fault in self.faults))


class StoreError(ProxyError):
    """The store can't be read or written now."""


class GenerationConflict(StoreError):
    """A put expected another generation than the stored one: another write was first."""


class UnreadableRecord(StoreError):
    """A record was sealed with another key, or is damaged. It is left unchanged."""


Outcome = Literal["transient", "misconfigured", "login_required"]
About = Literal["server", "client", "account"]

NO_RESPONSE: Final = frozenset(  # the names in oauth/fetch.py of calls that brought no response
    {
        "tls",
        "egress_proxy",
        "dns",
        "unreachable",
        "connect_timeout",
        "timeout",
        "connection_lost",
    }
)
TRY_LATER: Final = frozenset({408, 425, 429})  # RFC 9110 15.5.9, RFC 8470 5.2, RFC 6585 4
CLIENT_ERRORS: Final = frozenset(  # RFC 6749 section 5.2: of the client, whatever refresh token it sends
    {
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "incorrect_client_credentials",  # GitHub's invalid_client
    }
)


class AuthorizationServerError(ProxyError):
    """A request to an authorization server did not give tokens.

    `outcome`: "transient" (the same request may succeed later; whether the server acted is unknown),
    "misconfigured" (it refuses this client or this request) or "login_required" (it refuses this refresh
    token or code). `error`: a code of an RFC or of a fixed list, usable as a metric label. `retry_after`:
    seconds, if the server requested a pause. `reached`: False if the request was certainly not sent.
    `status`: the response's; None if there was none, or if its body decided. `refusal`: the server understood
    the request and refused it in words of its own (400, 401 or 403, no Retry-After, no HTML, not an error of
    the client); if that persists, the refresh token is dead. `hint`: more, by code. With invalid_client the
    key that may be the reason: "basic_encoding" or "client_auth". With issuer_mismatch the difference of the
    two issuers: "slash" (at the end), "loopback" (localhost and 127.0.0.1) or "template" (a name in braces,
    as Entra's). With unsafe_endpoint the endpoint's name. Else "". `cause`: why the connection failed; None
    if it did not.
    """

    def __init__(
        self,
        outcome: Outcome,
        error: str,
        *,
        retry_after: float | None = None,
        reached: bool = True,
        status: int | None = None,
        refusal: bool = False,
        hint: str = "",
        cause: Cause | None = None,
    ) -> None:
        super().__init__(f"the authorization server's response: {error}")
        self.outcome: Outcome = outcome
        self.error = error
        self.retry_after = retry_after
        self.reached = reached
        self.status = status
        self.refusal = refusal
        self.hint = hint
        self.cause = cause

    @property
    def cause_sentence(self) -> str:
        """Why the connection failed; empty if it did not."""
        return self.cause.sentence if self.cause else ""

    @property
    def about(self) -> About:
        """What the error is true of.

        "server": no response, 5xx, 429, a Retry-After. Everything else proves that the server is up, and
        concerns the client ("client": CLIENT_ERRORS) or one account.
        """
        if self.retry_after is not None or self.error in NO_RESPONSE or self._is_outage:
            return "server"
        return "client" if self.error in CLIENT_ERRORS else "account"

    @property
    def is_lost(self) -> bool:
        """Whether the server may have acted on the request and its response is lost."""
        return self.reached and self.error in NO_RESPONSE

    @property
    def _is_outage(self) -> bool:
        return self.status is not None and (self.status >= 500 or self.status in TRY_LATER)


class TokenError(ProxyError):
    """There is no token for this account now.

    `retry_after` is in seconds. `diagnosis` says why; None where the store failed before anything was known.
    """

    def __init__(
        self, message: str, *, retry_after: int | None = None, diagnosis: Diagnosis | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.diagnosis = diagnosis


class LoginRequired(TokenError):
    """A person must log in."""


class TokenUnavailable(TokenError):
    """No new token now, due to a temporary failure of the authorization server."""


class Misconfigured(TokenError):
    """The authorization server refuses this client or its request: the configuration must change."""


class SubjectRefused(TokenError):
    """The authorization server does not exchange the caller's own token: it is the caller who must act."""


class LoginFailed(ProxyError):
    """A login ended without tokens. `error`: a code of a fixed list, for the log."""

    def __init__(self, message: str, error: str = "other") -> None:
        super().__init__(message)
        self.error = error
