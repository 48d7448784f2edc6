"""The last attempts of an account, as status and diagnosis show them. Plain data; times are Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LastRefresh:
    at: float
    outcome: str
    error: str


@dataclass(frozen=True, slots=True)
class FailedLogin:
    """`sentence`: why, and what to do next, as the person was told; `error`: its code."""

    at: float
    error: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Refusals to refresh a token that have ended it."""

    code: str
    since: float
    times: int


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """A 401 of an upstream to a token that was new."""

    at: float
    route: str
