"""The health of every account, as /api/status, /readyz, the page and the `status` command show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from proxy.config.model import Config
from proxy.store.base import Key
from proxy.tokens.account import Account
from proxy.tokens.manager import TokenManager

PAGE: Final = 500  # accounts in one answer of /api/status
SERVING: Final = frozenset({"valid", "stale"})
REASONS: Final = {  # why the state is what it is, for a person; by the state
    "valid": "",
    "stale": "a refresh is due",
    "expired": "the access token has expired",
    "login_required": "the authorization server refuses the refresh token: log in again",
    "misconfigured": "the authorization server refuses this client: check the configuration",
    "absent": "nobody has logged in yet",
}


class Health:
    """Reads the tokens; `draining` is set when the process is about to stop."""

    def __init__(self, config: Config, tokens: TokenManager) -> None:
        self._config = config
        self._tokens = tokens
        self.draining = False

    def accounts(self) -> list[Account]:
        """All accounts known here, and those that a route names, in the order of their names."""
        return sorted(self._tokens.accounts(), key=lambda account: account.key)

    def not_ready(self) -> list[dict[str, str]]:
        """What keeps /readyz from saying yes."""
        required = {account.key: account for account in self._required()}
        return [
            {"credential": key.credential, "account": key.account, "state": account.state()}
            for key, account in sorted(required.items())
            if not _can_serve(account)
        ]

    def _required(self) -> Iterable[Account]:
        for route in self._config.routes:
            if isinstance(route.account, str) and self._config.required(route.credential):
                yield self._tokens.account(route.credential, route.account)
        for name in self._config.credentials:
            if self._config.credentials[name].required:
                yield self._tokens.account(name, "default")

    def status(self, now: float, after: Key | None = None) -> dict[str, Any]:
        """The document of /api/status (version 1). Times in Unix seconds."""
        accounts = self.accounts()
        rest = [account for account in accounts if after is None or account.key > after]
        shown, more = rest[:PAGE], rest[PAGE:]
        counts: dict[str, Counter[str]] = {name: Counter() for name in self._config.credentials}
        for account in accounts:
            counts[account.key.credential][account.state()] += 1
        return {
            "version": 1,
            "now": now,
            "ready": not self.draining and not self.not_ready(),
            "tokens": [self._entry(account) for account in shown],
            "counts": {name: dict(counter) for name, counter in counts.items()},
            "next": str(shown[-1].key) if more else None,
        }

    def _entry(self, account: Account) -> dict[str, Any]:
        held, last, state = account.held, account.last_refresh, account.state()
        token = held.token if held.token and held.token.access_token else None
        refreshing = held.token is not None and held.token.refresh_token is not None
        needs_login = (
            state in {"login_required", "absent"} and account.credential.grant == "authorization_code"
        )
        return {
            "credential": account.key.credential,
            "account": account.key.account,
            "state": state,
            "generation": held.generation or None,
            "issued_at": token.issued_at if token else None,
            "expires_at": token.expires_at if token else None,
            "refresh_due_at": held.due_at,
            "refresh_expires_at": held.token.refresh_expires_at if refreshing and held.token else None,
            "last_refresh": {"at": last.at, "outcome": last.outcome, "error": last.error or None}
            if last
            else None,
            "failures": account.failures,
            "reason": _reason(account, state),
            "login_url": f"{self._config.public_url}/login/{account.key}" if needs_login else None,
            "routes": [
                route.name for route in self._config.routes if _uses(route.account, route.credential, account)
            ],
        }


def _can_serve(account: Account) -> bool:
    if account.state() in SERVING:
        return True
    return account.credential.grant == "client_credentials" and account.can_refresh and account.failures == 0


def _uses(wanted: object, credential: str, account: Account) -> bool:
    return credential == account.key.credential and (
        not isinstance(wanted, str) or wanted == account.key.account
    )


def _reason(account: Account, state: str) -> str | None:
    if state in {"stale", "expired"} and account.failure is not None:
        return f"the last refresh failed: {account.failure.error}"
    if state == "absent" and account.credential.grant != "authorization_code":
        return "not asked for yet"
    return REASONS[state] or None
