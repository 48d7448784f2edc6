"""A refresh that the authorization server refuses: when that means that a person must log in. Pure.

Servers say it in two ways, and both are sometimes said once by mistake (a replica that lags, say):

- They name the refresh token (`invalid_grant`): it is sent once more, 30 to 60 s later.
- They refuse the request in other words (400, 401 or 403): three times over ten minutes. As less is certain
  then, it is sent hourly for a day even after that, and a success heals the account.

There is no time for that when the access token is not usable: when it has expired, or an upstream has refused
it. Then the first refusal is final, as it is where an earlier request is in doubt (the server may have spent
the refresh token, and has forgotten it).
"""

from __future__ import annotations

from typing import Final

from proxy.errors import AuthorizationServerError
from proxy.oauth.token import Refusal, Token
from proxy.store.base import AccountId

AGAIN_AFTER: Final = 30.0  # seconds; replicas have caught up by then
AGAIN_BEFORE: Final = 60.0  # seconds; the access token still has a fifth of its life (refresh_at)
REFUSALS: Final = 3  # in other words
REFUSED_FOR: Final = 600.0  # seconds from the first of them to the last
HOURLY: Final = 3600.0  # seconds
HEALS_FOR: Final = 86400.0  # seconds from the decision; after that only a login helps
_SPREAD: Final = 0.1  # of a pause: accounts that were refused together are not tried together


def is_refused(error: AuthorizationServerError, token: Token | None) -> bool:
    """Whether `error` is the server's refusal to refresh `token`, and not of its client.

    Only a client that has succeeded before can tell: of one that never did, its configuration is wrong.
    """
    if error.outcome == "login_required":
        return True
    return error.refusal and token is not None and token.access_token is not None


def follow(
    before: Refusal | None,
    error: AuthorizationServerError,
    *,
    now: float,
    usable: bool,
    in_doubt: bool,
) -> Refusal:
    """What is known after one more refusal. `now` is in Unix seconds; `usable`: the access token still is."""
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
    """Whether the refresh token is still sent though a person must log in. `now` is in Unix seconds."""
    if refusal is None or refusal.decided_at is None or refusal.is_dead:
        return False
    return now < refusal.decided_at + HEALS_FOR


def next_try_in(refusal: Refusal, now: float, chance: float) -> float:
    """Seconds until the next try, if there is one. `now` is in Unix seconds, `chance` in [0, 1)."""
    if refusal.decided_at is not None:
        pause, after = HOURLY, refusal.last
    elif refusal.is_dead:
        pause, after = AGAIN_AFTER + (AGAIN_BEFORE - AGAIN_AFTER) * chance, refusal.since
    else:
        pause = REFUSED_FOR / (REFUSALS - 1) * (1 + _SPREAD * chance)
        after = refusal.last
    return min(max(0.0, after + pause - now), pause)  # a wall clock that was set back makes it no longer


class ClientRefusals:
    """Which accounts of one client are refused in other words: two alike, and it is the client's fault.

    From what the accounts' tokens say: their refusals, and when they were issued (Unix seconds).
    """

    def __init__(self) -> None:
        self._succeeded_at = float("-inf")
        self._latest: dict[str, list[tuple[float, AccountId]]] = {}  # by error: the last two, and since when

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
