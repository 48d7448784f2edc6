"""/api/status (version 1): the description of an account. Pure."""

from __future__ import annotations

from typing import Literal, TypedDict

from proxy.config.model import Config
from proxy.oauth import grants
from proxy.tokens import lifetime
from proxy.tokens.account import Account
from proxy.tokens.account_facts import needs_attention
from proxy.tokens.diagnosis import Diagnosis, Reason, Verdict
from proxy.tokens.lifetime import TokenState

Action = Literal["login", "refresh", "logout"]


class LastRefresh(TypedDict):
    """The last request for a new token by this process."""

    at: float | None  # Unix seconds
    outcome: str | None  # success, transient, misconfigured or login_required
    error: str | None  # the code of the failure


class Entry(TypedDict):
    """One account. Times are Unix seconds."""

    credential: str  # its name in the configuration
    account: str  # its name
    grant: str  # the name of the grant
    owner: str | None  # the person whose tokens these are, as its server names them, if it does
    state: TokenState  # valid, stale, expired, login_required, misconfigured or absent
    generation: int  # 0: no token was ever stored
    issued_at: float | None  # of the access token
    expires_at: float | None  # of the access token
    refresh_due_at: float | None  # when it is refreshed ahead of its expiry
    refresh_expires_at: float | None  # of the refresh token, unless it is used or replaced before
    last_refresh: LastRefresh  # as below
    failures: int  # since the last success
    failing_since: float | None  # the first of them
    next_try_at: float | None  # of a token request that is held back after a failure
    last_unauthorized_at: float | None  # the last 401 of an upstream to its current token
    reason: str | None  # what is wrong, as a sentence; null if nothing is
    remedy: str | None  # the next step: a command, a key of the configuration, or that there is nothing to do
    needs_person: bool  # exactly where `login_required` of the metrics is 1
    serves: bool  # whether requests are served, as far as is known
    needs_attention: bool  # it does not serve, or needs a person or another configuration
    actions: list[Action]  # that are possible, and would help
    login_url: str | None  # if a login is required
    routes: list[str]  # the names of the routes that use it


class Status(TypedDict):
    """The document. Accounts that need attention come first."""

    version: int  # of this document: 1
    now: float  # Unix seconds
    ready: bool  # as /readyz
    tokens: list[Entry]  # the accounts of this page, as below
    counts: dict[str, dict[str, int]]  # of all accounts: credential -> state -> number
    attention: int  # accounts that need attention, of all
    joinable: list[str]  # credentials whose requests name the account, to which people log in; as configured
    next: str | None  # for `?after=`


def entry(account: Account, config: Config) -> Entry:
    held, token, last = account.held, account.held.token, account.last_refresh
    diagnosis = account.diagnosis()
    login_url = f"{config.public_url}/login/{account.key}"
    shown = token if token is not None and token.access_token is not None else None
    return {
        "credential": account.key.credential,
        "account": account.key.account,
        "grant": account.grant.name,
        "owner": token.principal.shown if token and token.principal else None,
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
        "failing_since": account.failing_since,
        "next_try_at": account.next_try_at,
        "last_unauthorized_at": account.unauthorized_at,
        "reason": diagnosis.sentence or None,
        "remedy": diagnosis.remedy or None,
        "needs_person": diagnosis.needs_person,
        "serves": diagnosis.serves,
        "needs_attention": needs_attention(account, diagnosis),
        "actions": _actions(account, diagnosis),
        "login_url": login_url if diagnosis.needs_person and diagnosis.can_log_in else None,
        "routes": [route.name for route in config.routes if _uses(route.account, route.credential, account)],
    }


def joinable(config: Config) -> list[str]:
    """The credentials to which people log in under account names of their own."""
    named = {route.credential for route in config.routes if not isinstance(route.account, str)}
    return [
        name for name, each in config.credentials.items() if name in named and grants.of(each).needs_person
    ]


def can_serve(account: Account) -> bool:
    """For /readyz: a usable token, or a grant without logins of which no failure is known yet."""
    if account.is_usable:
        return True
    return account.grant.renews_itself and account.diagnosis().verdict is Verdict.UNTRIED


def _actions(account: Account, diagnosis: Diagnosis) -> list[Action]:
    actions: list[Action] = []
    if diagnosis.can_log_in:
        actions.append("login")
    if diagnosis.can_retry and diagnosis.reason != Reason.NOT_ASKED:
        actions.append("refresh")
    has_tokens = account.held.token is not None and not account.grant.renews_itself
    if account.unreadable or (has_tokens and not account.grant.is_fixed):
        actions.append("logout")
    return actions


def _uses(wanted: object, credential: str, account: Account) -> bool:
    fits = wanted == account.key.account if isinstance(wanted, str) else True
    return fits and credential == account.key.credential
