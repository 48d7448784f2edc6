"""/api/status (version 1): what is said of an account. Pure."""

from __future__ import annotations

from typing import Final, TypedDict

from proxy.config.model import Config
from proxy.tokens import lifetime, log_warnings
from proxy.tokens.account import Account
from proxy.tokens.lifetime import TokenState

REASONS: Final[dict[TokenState, str]] = {  # why an account is not simply valid
    "stale": "a refresh is due",
    "expired": "the access token has expired",
    "login_required": "the authorization server refuses the refresh token: log in again",
    "misconfigured": "the authorization server refuses this client: check the configuration",
    "absent": "nobody has logged in yet",
}
NO_REFRESH_TOKEN: Final = "the access token has expired, and there is no refresh token: log in again"  # noqa: S105 (a sentence)
LOGGED_OUT: Final = "logged out"
OTHER_CLIENT: Final = "what is stored is from another server or client than the configuration names now"
NOT_ASKED: Final = "not asked for yet"
NOT_GRANTED: Final = "the server did not grant the scopes"
UNREADABLE: Final = (
    "its record can't be read: put the store's key back; if it is there, `token-proxy logout` sets the "
    "record aside, and a login brings new tokens"
)


class LastRefresh(TypedDict):
    at: float | None
    outcome: str | None
    error: str | None


class Entry(TypedDict):
    """One account. Times are Unix seconds."""

    credential: str
    account: str
    state: TokenState
    generation: int  # 0: nothing was ever stored
    issued_at: float | None
    expires_at: float | None
    refresh_due_at: float | None
    refresh_expires_at: float | None
    last_refresh: LastRefresh
    failures: int
    reason: str | None
    login_url: str | None
    routes: list[str]


class Status(TypedDict):
    """The document."""

    version: int
    now: float
    ready: bool
    tokens: list[Entry]
    counts: dict[str, dict[str, int]]
    next: str | None  # for `?after=`


def entry(account: Account, config: Config) -> Entry:
    held, token, last = account.held, account.held.token, account.last_refresh
    shown = token if token is not None and token.access_token is not None else None
    return {
        "credential": account.key.credential,
        "account": account.key.account,
        "state": account.state(),
        "generation": held.generation,
        "issued_at": shown.issued_at if shown else None,
        "expires_at": shown.expires_at if shown else None,
        "refresh_due_at": held.due_at,
        "refresh_expires_at": lifetime.refresh_ends_at(token, account.credential) if token else None,
        "last_refresh": {
            "at": last.at if last else None,
            "outcome": last.outcome if last else None,
            "error": (last.error or None) if last else None,
        },
        "failures": account.failures,
        "reason": _reason(account),
        "login_url": f"{config.public_url}/login/{account.key}" if _wants_login(account) else None,
        "routes": [route.name for route in config.routes if _uses(route.account, route.credential, account)],
    }


def can_serve(account: Account) -> bool:
    """For /readyz: a good token, or a server that was not yet asked for one and needs nobody for it."""
    untried = account.failures == 0 and not account.unreadable
    return account.is_usable or (account.credential.grant == "client_credentials" and untried)


def _wants_login(account: Account) -> bool:
    if account.credential.grant != "authorization_code" or account.unreadable:
        return False
    return account.held.state == "login_required" or not (account.can_refresh or account.is_usable)


def _reason(account: Account) -> str | None:
    state, held, failure = account.state(), account.held, account.failure
    if account.unreadable:
        return UNREADABLE
    if failure is not None and state in {"stale", "expired", "misconfigured"}:
        return f"{REASONS[state]} (the last refresh failed: {failure.error})"
    if state == "expired" and not account.can_refresh:
        return NO_REFRESH_TOKEN
    if (
        state == "valid"
        and held.token
        and (missing := log_warnings.missing_scopes(account.credential, held.token))
    ):
        return f"{NOT_GRANTED}: {', '.join(missing)}"
    if state != "absent":
        return REASONS.get(state)
    if account.can_refresh:
        return NOT_ASKED
    if held.state == "logged_out":
        return LOGGED_OUT
    return OTHER_CLIENT if held.generation else REASONS[state]


def _uses(wanted: object, credential: str, account: Account) -> bool:
    fits = wanted == account.key.account if isinstance(wanted, str) else True
    return fits and credential == account.key.credential
