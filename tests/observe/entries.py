"""Accounts as /api/status shows them, for tests of what reads that."""

from __future__ import annotations

from typing import Any

NOW = 1_764_300_000.0


def entry(**changed: Any) -> dict[str, Any]:
    """A healthy account of a person, an hour's token of which has a minute behind it."""
    return {
        "credential": "crm",
        "account": "default",
        "grant": "authorization_code",
        "owner": None,
        "state": "valid",
        "generation": 1,
        "issued_at": NOW - 60,
        "expires_at": NOW + 3540,
        "refresh_due_at": NOW + 2820,
        "refresh_expires_at": NOW + 3 * 86400,
        "last_refresh": {"at": None, "outcome": None, "error": None},
        "failures": 0,
        "failing_since": None,
        "next_try_at": None,
        "last_unauthorized_at": None,
        "reason": None,
        "remedy": None,
        "needs_person": False,
        "serves": True,
        "needs_attention": False,
        "actions": [],
        "login_url": None,
        "routes": ["crm"],
        **changed,
    }
