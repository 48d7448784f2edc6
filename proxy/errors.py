"""Everything that can go wrong, by whose fault it is.

    ProxyError
    ├── ConfigError             the operator: the configuration file (every fault, with its place)
    ├── StoreError              this machine: disk, key, another program
    │   ├── GenerationConflict  nobody: someone else wrote first, read again
    │   └── UnreadableRecord    a record that this key does not open; it is never overwritten
    ├── AuthorizationServerError  what a request to an authorization server came to, by class
    ├── TokenError              no token for this request
    │   ├── LoginRequired       a person must log in
    │   ├── TokenUnavailable    the authorization server, for now; we are trying again
    │   └── Misconfigured       the operator: the authorization server refuses this client
    ├── LoginFailed             a login that did not end in tokens (its sentence is for the person)
    └── Refusal                 our own answer instead of an upstream's: status, ending, sentence
        (relay/problems.py lists them all)

A message is one sentence for the person who reads it, and says what to do next. None ever holds a
secret, nor text that an upstream or an authorization server sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from proxy.tokens.diagnosis import Diagnosis


class ProxyError(Exception):
    """Base of all errors that this program raises on purpose."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong in the configuration, and where (line and column count from 1)."""

    line: int
    column: int
    message: str
    source: str = ""  # the text of that line

    def render(self, filename: str) -> str:
        where = f"{filename}:{self.line}:{self.column}: {self.message}"
        if not self.source.strip():
            return where
        below = re.sub(r"[^\t]", " ", self.source[: self.column - 1])  # as far in as the line above it
        return f"{where}\n{self.line:5d} | {self.source}\n      | {below}^"


class ConfigError(ProxyError):
    """The configuration can't be used. `faults` holds all that is wrong, in the order of the file."""

    def __init__(self, filename: str, faults: list[Fault]) -> None:
        self.filename = filename
        self.faults = sorted(faults)
        super().__init__("\n".join(fault.render(filename) for fault in self.faults))


class StoreError(ProxyError):
    """The store can't be read or written now."""


class GenerationConflict(StoreError):
    """A put expected another generation than the store holds: whoever was first has won."""


class UnreadableRecord(StoreError):
    """A record was sealed with another key, or is damaged. It is reported and left as it is."""


Outcome = Literal["transient", "misconfigured", "login_required"]


class AuthorizationServerError(ProxyError):
    """A request to an authorization server did not give tokens.

    `outcome` says what follows: "transient" (the same request may succeed later; it is unknown whether the
    server acted), "misconfigured" (it refuses this client or this request), "login_required" (it refuses
    this refresh token or code, for good). `error` is an RFC code or one of a fixed list, fit for a metric
    label. `retry_after` is in seconds, where the server asked for a pause. `reached` is False where it is
    sure that the request did not get there: what is true of the way to the server is true for all accounts.
    `hint` says more by code. With invalid_client it is the key that may be the reason: "basic_encoding" or
    "client_auth". With issuer_mismatch it is in what the two issuers differ: "slash" (at the end), "loopback"
    (localhost and 127.0.0.1), or "template" (a name in braces, as Entra's). Else it is "".
    """

    def __init__(
        self,
        outcome: Outcome,
        error: str,
        *,
        retry_after: float | None = None,
        reached: bool = True,
        hint: str = "",
    ) -> None:
        super().__init__(f"the authorization server's response: {error}")
        self.outcome: Outcome = outcome
        self.error = error
        self.retry_after = retry_after
        self.reached = reached
        self.hint = hint


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
    """Only a person can help: log in, or give the configuration a new refresh token."""


class TokenUnavailable(TokenError):
    """The authorization server or the store gives no token for now."""


class Misconfigured(TokenError):
    """The authorization server refuses this client or its request, or is not the configured one."""


class LoginFailed(ProxyError):
    """A login ended without tokens."""
