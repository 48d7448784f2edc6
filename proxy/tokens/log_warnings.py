"""Warnings that are logged once per token: missing scopes, an end that is near, a login that is due."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

from proxy.config.model import Credential
from proxy.oauth.token import Token
from proxy.observe.events import ERROR, WARNING, event
from proxy.store.base import AccountId
from proxy.tokens import lifetime
from proxy.tokens.account import Account
from proxy.tokens.diagnosis import Reason
from proxy.tokens.scopes import missing_scopes

_log = logging.getLogger("proxy.tokens")
NO_NEWS: Final = (Reason.NO_LOGIN, Reason.LOGGED_OUT)  # nothing has ended: no login yet, or a wanted logout


def narrowed(key: AccountId, credential: Credential, token: Token, before: Token | None) -> None:
    """Warn about scopes that `token` lacks, unless `before` lacked the same."""
    missing = missing_scopes(credential, token)
    if missing and (before is None or missing != missing_scopes(credential, before)):
        sentence = f"{key}: the server did not grant the scopes {', '.join(missing)}"
        event(_log, WARNING, "scopes_not_granted", sentence, **key._asdict())


def remind(account: Account, now: float, login_url: str) -> None:
    """Warn, once, that a refresh token ends soon. `now` is in Unix seconds."""
    token, credential = account.held.token, account.credential
    if token is None or account.held.state != "valid" or account.grant.renews_itself:
        return
    near, end = lifetime.near_end_at(token, credential), lifetime.refresh_ends_at(token, credential)
    if near is None or end is None or now < near or abs(end - account.reminded_of) < lifetime.TELLS_APART:
        return
    account.reminded_of = end
    remedy = account.grant.remedy(*account.key)
    when = datetime.fromtimestamp(end, UTC).isoformat(" ", "minutes")
    is_over = now >= end
    event(
        _log,
        WARNING,
        "refresh_token_ends",
        f"{account.key}: its refresh token {'has ended' if is_over else 'ends'} at {when}: {remedy}"
        + ("" if is_over else " before then"),
        **account.key._asdict(),
        login_url=login_url if account.grant.needs_person else None,
        ends_at=end,
    )


def login_required(account: Account, login_url: str) -> None:
    """Log, once, that an account's tokens have ended and a person must act.

    Cheap if that is false or already logged: it is called for each account every REPORT_EVERY seconds.
    """
    if account.login_told == account.held.generation or not account.needs_person:
        return
    account.login_told = account.held.generation
    diagnosis = account.diagnosis()
    if diagnosis.reason in NO_NEWS:
        return
    refused = account.refusal
    event(
        _log,
        ERROR,
        "login_required",
        f"a person must act for {account.key}: {diagnosis.text}",
        **account.key._asdict(),
        login_url=login_url if diagnosis.can_log_in else None,
        reason=diagnosis.reason,
        error=refused.error if refused else None,
    )
