"""Refused refreshes, and when a refusal is final, so that a person must log in. Pure.

Servers refuse in two ways, and sometimes once by mistake (a lagging replica, for example):

- They refuse the refresh token (`invalid_grant`): it is sent once more, 30 to 60 s later.
- They refuse the request otherwise (400, 401 or 403): the refusal is final after three over ten minutes. As
  that is less certain, retries go on hourly for a day, and a success makes the account valid again.

If the access token is not usable (expired, or rejected by an upstream), there is no time for retries: the
first refusal is final, as it is after a request in doubt: the server may have spent the refresh token.
"""

from __future__ import annotations

from typing import Final

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth import grants
from proxy.oauth.grants import Form
from proxy.oauth.token import Refusal, Token
from proxy.store.base import AccountId

AGAIN_AFTER: Final = 30.0  # seconds; enough for replicas to catch up
AGAIN_BEFORE: Final = 60.0  # seconds; the access token still has a fifth of its lifetime (refresh_at)
REFUSALS: Final = 3  # other than invalid_grant
REFUSED_FOR: Final = 600.0  # seconds from the first of them to the last
HOURLY: Final = 3600.0  # seconds
HEALS_FOR: Final = 86400.0  # seconds after it is final; then only a login helps
_SPREAD: Final = 0.1  # of a pause: spreads the retries of accounts that were refused together


def is_refused(error: AuthorizationServerError, token: Token | None) -> bool:
    """Whether `error` refuses the refresh of `token`, not the client.

    Without an earlier success of the client, its configuration is the likelier cause.
    """
    if error.outcome == "login_required":
        return True
    return error.refusal and token is not None and token.access_token is not None


def is_of_subject(error: AuthorizationServerError) -> bool:
    """Whether `error` refuses the subject of an exchange: RFC 8693 section 2.2.2 says invalid_request."""
    return error.outcome == "login_required" or (error.refusal and error.error != "invalid_target")


def form_afresh(credential: Credential, form: Form, error: AuthorizationServerError) -> Form | None:
    """The form of a request without the refresh token that `error` refuses; None if the grant needs one."""
    grant = grants.of(credential)
    is_about_it = "refresh_token" in form and (error.outcome == "login_required" or error.refusal)
    return grant.form(credential, None) if is_about_it and grant.renews_itself else None


def follow(
    before: Refusal | None,
    error: AuthorizationServerError,
    *,
    now: float,
    usable: bool,
    in_doubt: bool,
) -> Refusal:
    """The record of refusals after one more. `now`: Unix seconds; `usable`: the access token can be used."""
    is_dead = error.outcome == "login_required"
    if before is None or before.is_dead != is_dead:
        since, count = now, 1
    else:
        since, count = min(before.since, now), before.times + 1
    decided_at = before.decided_at if before else None
    if decided_at is None and (not usable or _is_enough(is_dead, count, now - since, in_doubt)):
        decided_at = now
    return Refusal(error.error, is_dead, since, now, count, decided_at)


def _is_enough(is_dead: bool, count: int, seconds: float, in_doubt: bool) -> bool:
    if is_dead:
        return in_doubt or (count > 1 and seconds >= AGAIN_AFTER)
    return count >= REFUSALS and seconds >= REFUSED_FOR


def may_heal(refusal: Refusal | None, now: float) -> bool:
    """Whether the refresh token is still sent although a person must log in. `now`: Unix seconds."""
    if refusal is None or refusal.decided_at is None or refusal.is_dead:
        return False
    return now < refusal.decided_at + HEALS_FOR


def next_try_in(refusal: Refusal, now: float, chance: float) -> float:
    """Seconds until the next try, if any. `now`: Unix seconds; `chance` in [0, 1)."""
    if refusal.decided_at is not None:
        pause, after = HOURLY, refusal.last
    elif refusal.is_dead:
        pause, after = AGAIN_AFTER + (AGAIN_BEFORE - AGAIN_AFTER) * chance, refusal.since
    else:
        pause = REFUSED_FOR / (REFUSALS - 1) * (1 + _SPREAD * chance)
        after = refusal.last
    return min(max(0.0, after + pause - now), pause)  # a wall clock that is set back does not extend it


class ClientRefusals:
    """Refusals other than invalid_grant, of all accounts of a client: two alike are the client's fault.

    Based on the refusals and times of issue (Unix seconds) in the accounts' tokens.
    """

    def __init__(self) -> None:
        self._succeeded_at = float("-inf")
        self._latest: dict[
            str, list[tuple[float, AccountId]]
        ] = {}  # by error: the last two accounts, each with its first refusal

    def note(self, key: AccountId, token: Token) -> None:
        if token.access_token is not None:
            self._succeeded_at = max(self._succeeded_at, token.issued_at)
        refusal = token.refusal
        if refusal is not None and not refusal.is_dead:
            others = [each for each in self._latest.get(refusal.error, []) if each[1] != key]
            self._latest[refusal.error] = sorted([*others, (refusal.since, key)])[-2:]

    def is_of_client(self, key: AccountId, refusal: Refusal) -> bool:
        """Whether another account is refused alike, and no account of the client has succeeded since."""
        if refusal.is_dead or refusal.since <= self._succeeded_at:
            return False
        others = (each for each in self._latest.get(refusal.error, []) if each[1] != key)
        return any(since > self._succeeded_at for since, _ in others)
