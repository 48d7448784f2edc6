"""What is known about an account, for its diagnosis (tokens/diagnosis). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.clock import Clock
from proxy.errors import AuthorizationServerError, SubjectRefused
from proxy.tokens.diagnosis import Diagnosis, Facts, Reason, explain_failure, offline_access
from proxy.tokens.diagnosis.reasons import CLIENT_ENDED
from proxy.tokens.last_attempts import Refused
from proxy.tokens.scopes import missing_scopes

if TYPE_CHECKING:
    from proxy.tokens.account import Account

UNAUTHORIZED_FOR: Final = 3600.0  # seconds after the last such 401; nothing tells that the cause is gone


def facts_of(account: Account, clock: Clock) -> Facts:
    token, now, refusal = account.held.token, clock.wall(), account.refusal
    wait = account.waits_until - clock.boot()
    return Facts(
        credential=account.key.credential,
        account=account.key.account,
        grant=account.grant,
        state=account.state(),
        reason=_reason(account, clock),
        usable=account.is_usable,
        now=now,
        hint=account.failure.hint if account.failure else "",
        cause=account.failure.cause if account.failure else None,
        can_refresh=account.can_refresh,
        failures=account.failures,
        failing_since=account.failing_since,
        refused=Refused(refusal.error, refusal.since, refusal.times) if refusal else None,
        failed_login=account.failed_login,
        unauthorized=account.unauthorized,
        next_try_at=now + wait if account.can_refresh and wait > 0 else None,
        ends_at=token.expires_at if token else None,
        client_ends_at=account.registration.expires_at if account.registration else None,
        scopes=account.credential.scopes,
        missing_scopes=missing_scopes(account.credential, token) if token else (),
        offline=offline_access.advice(account.credential),
    )


def explained(account: Account, error: AuthorizationServerError) -> str:
    """Why a token request of the account has failed, and the next step for a person, if there is one."""
    credential = account.credential
    return explain_failure(error, credential.name, account.grant, credential.scopes, otherwise="")


def subject_refused(credential: str, failure: AuthorizationServerError) -> SubjectRefused:
    """The error of a request whose own token is not exchanged."""
    return SubjectRefused(
        f"{credential}: the authorization server does not exchange the caller's own token ({failure.error}): "
        "expected one that it accepts, and that has not expired"
    )


def _reason(account: Account, clock: Clock) -> str:
    """A code of diagnosis.Reason, or the last failure's."""
    if account.unreadable:
        return Reason.UNREADABLE
    if account.is_for_callers:
        return Reason.FOR_CALLERS
    if account.grant.is_fixed:
        return Reason.VALUE_LOST if account.is_value_lost else _of_token(account, clock)
    if not account.grant.renews_itself and (
        account.held.state == "login_required" or not account.can_refresh
    ):
        return _why_no_refresh(account)
    if account.failure is not None:
        return account.failure.error
    if not account.is_usable and account.throttle.waits_until(account.candidate) > clock.boot():
        return Reason.HELD_BACK
    return _of_token(account, clock)


def _of_token(account: Account, clock: Clock) -> str:
    """Of an account without a failure."""
    token = account.held.token
    if token is None or token.access_token is None:
        return Reason.NOT_ASKED
    if _is_unauthorized(account, clock):
        return Reason.UNAUTHORIZED
    if missing_scopes(account.credential, token):
        return Reason.SCOPES_NOT_GRANTED
    client = account.registration
    if client is not None and client.due_at is not None and clock.wall() >= client.due_at:
        return Reason.CLIENT_ENDS
    return Reason.NONE


def _is_unauthorized(account: Account, clock: Clock) -> bool:
    """Whether an upstream has lately refused a token that was new. Only a change made by a person ends it."""
    last = account.unauthorized
    return last is not None and account.is_usable and clock.wall() - last.at < UNAUTHORIZED_FOR


def _why_no_refresh(account: Account) -> Reason:
    if account.held.state == "login_required":
        if account.is_misconfigured:
            return Reason.REFUSED_ALIKE
        if account.refusal is not None and account.refusal.error in CLIENT_ENDED:
            return CLIENT_ENDED[account.refusal.error]
        is_dead = account.refusal is None or account.refusal.is_dead
        return Reason.REFUSED if is_dead else Reason.REFUSED_OTHERWISE
    if account.held.token is not None:
        return Reason.NO_REFRESH_TOKEN
    if account.held.state == "logged_out":
        return Reason.LOGGED_OUT
    if account.held.generation:
        return Reason.OTHER_CLIENT
    return Reason.NOT_READ if account.behind else Reason.NO_LOGIN


def needs_attention(account: Account, diagnosis: Diagnosis | None = None) -> bool:
    """Whether it does not serve, or a person must act: a login, the configuration, the store's key.

    Cheap for a healthy account. `diagnosis`: its own, if it is at hand.
    """
    if account.is_usable and account.held.state == "valid":
        return account.state() == "misconfigured"
    diagnosis = diagnosis or account.diagnosis()
    return diagnosis.needs_person or not diagnosis.serves or account.state() == "misconfigured"
