"""The last refresh and the last login of an account, as status and diagnosis show them. Plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LastRefresh:
    at: float  # Unix seconds
    outcome: str
    error: str


@dataclass(frozen=True, slots=True)
class FailedLogin:
    at: float  # Unix seconds
    error: str
