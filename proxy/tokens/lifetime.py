"""When a token is fresh, stale or expired, and when its refresh token ends. Pure.

issued ──────────── fresh ─────────── due ── stale ── expired ── expiry
                                       │       │         └ no longer attached
                                       │       └ attached, while a refresh runs in the background
                                       └ a share of its lifetime, minus a random part (jitter)

The clock that determines a token's age:

1. A token of this boot: the boot clock, which does not jump and includes suspended time.
2. A token of another boot, or of another host with the same store, if its server has stated the time both
   with the token and to us: the server's clock, carried on by our boot clock. It is compared with itself, so
   that a wrong clock of either host does not matter, nor a constant error of the server's.
3. Else our wall clock. The token's age is the larger of two: one assumes that our clock agrees with the one
   that it was issued by (a reboot), the other that ours is right and the other is corrected by the server's
   time (a corrected clock; another host). At worst one refresh is too early, and then rule 2 applies.

An absurd Date of the server can't do more harm than that: rule 1 does not use it, rule 2 has it on both
sides, and rule 3 limits it (MAX_SKEW).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.oauth.token import Token

TokenState = Literal["valid", "stale", "expired", "login_required", "misconfigured", "absent"]
STATES: Final[tuple[TokenState, ...]] = get_args(TokenState)

ASSUMED_LIFETIME: Final = 3600.0  # seconds; for tokens without a stated lifetime (most servers state an hour)
JITTER: Final = 0.1  # of the time until due: spreads accounts that started together
WINDOW_SLACK: Final = 0.1  # of refresh_window: the server's count starts later than ours, by the delay
EARLIEST: Final = 0.1  # of its lifetime: a refresh_in below that is a server's mistake
EXPIRY_MARGIN: Final = 5.0  # seconds; the time to reach the upstream, and small clock differences
EXPIRY_MARGIN_SHARE: Final = 0.05  # of its lifetime, for short ones
MAX_SKEW: Final = 26 * 3600.0  # seconds; the largest error by a wrong time zone (-12 h for +14 h)
LEARNED_AT_LEAST: Final = 60.0  # seconds; a 401 to a younger token is not due to its age
LEARNED: Final = 3  # ages stored; the effect of one odd 401 ends when it is dropped
FORGOTTEN_AFTER: Final = 20  # tokens without a 401: then a longer lifetime is tried
KEEP_ALIVE_AT: Final = 0.8  # of a refresh token's idle lifetime: leaves a fifth of it for outages
NEAR: Final = 1 / 8  # of a refresh token's lifetime, before its end; later than KEEP_ALIVE_AT
NEAR_AT_MOST: Final = 7 * 86400.0  # seconds; a holiday
TELLS_APART: Final = 60.0  # seconds between two responses; a smaller difference may be rounding

UNKNOWN_AGE: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Window:
    """The times of a token on the boot clock: refresh due, expired, issued."""

    due: float
    expired: float
    begun: float = float("inf")  # infinity: unknown


# -- the access token


def due_after(
    lifetime: float | None,
    refresh_at: float,
    chance: float,
    *,
    refresh_in: float | None = None,
    window: float | None = None,
) -> float:
    """Seconds from issue to the refresh ahead of time. `chance` is uniform in [0, 1).

    `refresh_in` is stated by the server (Microsoft). It refreshes only in the last `window` seconds.
    """
    whole = lifetime or ASSUMED_LIFETIME
    if window is not None:
        return max(0.0, whole - window * (1 - WINDOW_SLACK - JITTER * chance))
    share = whole * refresh_at
    if refresh_in is not None:
        share = min(share, max(refresh_in, EARLIEST * whole))
    return share * (1 - JITTER * chance)


def due_at(token: Token, credential: Credential, chance: float) -> float:
    """When to refresh ahead of time (Unix seconds)."""
    lifetime = token.lifetime or min(token.observed_lifetimes, default=ASSUMED_LIFETIME)
    return token.issued_at + due_after(
        lifetime,
        credential.refresh_at,
        chance,
        refresh_in=token.refresh_in,
        window=credential.refresh_window,
    )


def closed_for(token: Token, credential: Credential) -> float:
    """Seconds from issue in which the server would refuse a refresh (refresh_window)."""
    if credential.refresh_window is None or token.lifetime is None:
        return 0.0
    return max(0.0, token.lifetime - credential.refresh_window)


def expired_after(lifetime: float | None) -> float:
    """Seconds from issue until it is no longer attached; infinity for an unknown lifetime: until a 401."""
    if lifetime is None:
        return float("inf")
    return lifetime - min(EXPIRY_MARGIN, EXPIRY_MARGIN_SHARE * lifetime)


def begun(token: Token, clock: Clock) -> float:
    """When the token was issued, on our boot clock; UNKNOWN_AGE if that seems to be in the future.

    That happens only if our wall clock is wrong. For a server that states the time, rule 2 applies after one
    refresh. For others, the age is 0: it is used for one lifetime too long at most, but two hosts with
    different clocks don't refresh each other's tokens in turn.
    """
    now = clock.boot()
    if token.boot_id == clock.boot_id:
        return token.issued_boot
    heard = clock.heard.get(token.server)
    if token.skew is not None and heard is not None:
        return now - max(0.0, heard + now - token.issued_by_server)
    age = clock.wall() - token.issued_at
    if token.skew is not None:
        if abs(token.skew) <= MAX_SKEW:
            age = max(age, age - token.skew)
        if age < -EXPIRY_MARGIN:
            return UNKNOWN_AGE
    return now - max(0.0, age)


def window(token: Token, due_at: float | None, clock: Clock, *, known: float = float("inf")) -> Window:
    """The token's window now. `due_at` (Unix seconds) is the due time that was saved with it.

    `known` is the earlier result of `begun` for this token: the minimum counts, so that a clock that is set
    back does not make an old token young again.
    """
    if token.access_token is None:
        return Window(due=float("-inf"), expired=float("-inf"))
    issued = min(begun(token, clock), known)
    if issued == UNKNOWN_AGE:
        if due_at is not None:
            return Window(due=float("-inf"), expired=float("-inf"))
        issued = clock.boot()  # it can't be refreshed: so it is tried
    due = float("inf") if due_at is None else issued + (due_at - token.issued_at)
    expired = issued + expired_after(token.lifetime)
    return Window(due=min(due, expired), expired=expired, begun=issued)


def learned_from_401(token: Token, age: float) -> Token:
    """The token with what a 401 at this age (seconds) says about its lifetime, if nothing else does.

    A 401 in the first minute has another cause, and perhaps so had the one before it.
    """
    if token.lifetime is not None:
        return token
    if age < LEARNED_AT_LEAST:
        return replace(token, observed_lifetimes=token.observed_lifetimes[:-1])
    return replace(token, observed_lifetimes=(*token.observed_lifetimes, age)[-LEARNED:], since_last_401=0)


def successor(new: Token, old: Token, refused: Token | None = None) -> Token:
    """The token of a refresh, completed with what it inherits from `old`, of the same account.

    A response without a refresh token leaves the old one valid (RFC 6749 section 6), one without a scope the
    old scope. `refused` is `old` with what `learned_from_401` added in this process.
    """
    if refused is not None and refused.access_token == old.access_token:
        old = replace(refused, refresh_token=old.refresh_token)
    is_same = new.refresh_token in {None, old.refresh_token}
    end = new.refresh_expires_at or (old.refresh_expires_at if is_same else None)
    observed_lifetimes, since_last_401 = old.observed_lifetimes, old.since_last_401 + 1
    if since_last_401 > FORGOTTEN_AFTER:
        observed_lifetimes, since_last_401 = tuple(sorted(observed_lifetimes)[1:]), 0
    return replace(
        new,
        refresh_token=new.refresh_token or old.refresh_token,
        refresh_expires_at=end,
        refresh_renews=_renews(replace(new, refresh_expires_at=end), old),
        login_at=old.login_at,
        observed_lifetimes=observed_lifetimes,
        since_last_401=since_last_401 if observed_lifetimes else 0,
        scope=new.scope or old.scope,
        seed=old.seed,
    )


# -- the refresh token


def refresh_ends_at(token: Token, credential: Credential) -> float | None:
    """When the refresh token ends unless something is done (Unix seconds); None: unknown."""
    if token.refresh_token is None:
        return None
    ends = (_idle_end(token, credential), _hard_end(token, credential))
    return min((end for end in ends if end is not None), default=None)


def keep_alive_at(token: Token, credential: Credential) -> float | None:
    """When an unused account must be refreshed (Unix seconds), or its refresh token ends by idleness.

    None: no idle lifetime is known, `keep_alive` is off, or a refresh would not extend it.
    """
    idle_end = _idle_end(token, credential)
    if not credential.keep_alive or token.refresh_token is None or idle_end is None:
        return None
    at = token.issued_at + KEEP_ALIVE_AT * (idle_end - token.issued_at)
    hard_end = _hard_end(token, credential)
    return at if hard_end is None or at < hard_end else None


def near_end_at(token: Token, credential: Credential) -> float | None:
    """When to warn that the refresh token ends (Unix seconds); None: never."""
    end = refresh_ends_at(token, credential)
    if end is None:
        return None
    begins = token.issued_at if end == _idle_end(token, credential) else token.login_at or token.issued_at
    return end - min(NEAR_AT_MOST, NEAR * max(0.0, end - begins))


def _idle_end(token: Token, credential: Credential) -> float | None:
    """The end that a refresh extends. A stated end counts as such until a second response shows otherwise."""
    if token.refresh_expires_at is not None:
        return None if token.refresh_renews is False else token.refresh_expires_at
    idle = credential.refresh_token_idle
    return None if idle is None else token.issued_at + idle


def _hard_end(token: Token, credential: Credential) -> float | None:
    """The end that only a login extends."""
    stated = token.refresh_expires_at if token.refresh_renews is False else None
    lifetime = credential.refresh_token_lifetime
    if lifetime is None or token.login_at is None:
        return stated
    return min(stated or float("inf"), token.login_at + lifetime)


def _renews(new: Token, old: Token) -> bool | None:
    """Whether the refresh extended the refresh token: as much of its lifetime is left as before."""
    if new.refresh_expires_at is None or old.refresh_expires_at is None:
        return None
    lost = (old.refresh_expires_at - old.issued_at) - (new.refresh_expires_at - new.issued_at)
    if lost > TELLS_APART / 2:
        return False
    return True if new.issued_at - old.issued_at > TELLS_APART else old.refresh_renews
