"""When a token is fresh, stale or expired, how long it lasts, and when to try again. Pure.

issued ──────────── fresh ─────────── due ── stale ── expired ── expiry
                                       │       │         └ no longer attached
                                       │       └ attached, while one refresh runs behind
                                       └ a share of its life, a little earlier by chance (jitter)

Which clock says how old a token is:

1. A token of this boot: the boot clock, which does not jump and counts the time asleep.
2. One of another boot, or of another host with the same store, where its server has told the time both to who
   got it and to us: the server's clock, carried on by our boot clock. It is compared with itself, so that
   neither a wrong clock of ours or theirs matters, nor one of the server's that is wrong but steady.
3. Else our wall clock, by which a token is the older of two ages: as if our clock were set like the one that
   it was issued by (a reboot), and as if ours were right and the other corrected by what the server said
   (a clock that was set right; another host). One refresh too early at worst, and then rule 2 holds.

An absurd Date of the server can't do more harm than that: rule 1 never looks at it, rule 2 has it on both
sides, and rule 3 takes our own clock's word against it (MAX_SKEW).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.oauth.token import Token

TokenState = Literal["valid", "stale", "expired", "login_required", "misconfigured", "absent"]
STATES: Final[tuple[TokenState, ...]] = get_args(TokenState)

ASSUMED_LIFETIME: Final = 3600.0  # seconds; where nothing says one, refresh as if (most say an hour)
JITTER: Final = 0.1  # of the time until due: accounts that began together must not stay together
WINDOW_SLACK: Final = 0.1  # of refresh_window: the server's count began later than ours, by the way there
EARLIEST: Final = 0.1  # of its life: a server that wants its tokens refreshed sooner is mistaken
EXPIRY_MARGIN: Final = 5.0  # seconds; the way to the upstream, and clocks that differ a little
EXPIRY_MARGIN_SHARE: Final = 0.05  # of its life, for short tokens
MAX_SKEW: Final = 26 * 3600.0  # seconds; the most that a mistaken time zone explains (-12 h for +14 h)
LEARNED_AT_LEAST: Final = 60.0  # seconds; a token refused sooner was not refused for its age
LEARNED: Final = 3  # ages kept; one odd 401 is outvoted when it is forgotten
FORGOTTEN_AFTER: Final = 20  # tokens that were not refused: then a longer life is tried
KEEP_ALIVE_AT: Final = 0.8  # of an idle refresh token's life: a fifth of it for servers that are down
NEAR: Final = 1 / 8  # of a refresh token's life, before its end; later than it is kept alive
NEAR_AT_MOST: Final = 7 * 86400.0  # seconds; a holiday
TELLS_APART: Final = 60.0  # seconds between two answers; what less took off may be a rounding

UNKNOWN_AGE: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Window:
    """Until when a token is good, on the boot clock, and since when it is there."""

    due: float
    expired: float
    begun: float = float("inf")  # infinity: nobody can say


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

    `refresh_in` is the server's wish (Microsoft's), `window` the last seconds in which alone it refreshes.
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
    """Seconds from issue in which the server would refuse to refresh it, whatever the reason."""
    if credential.refresh_window is None or token.lifetime is None:
        return 0.0
    return max(0.0, token.lifetime - credential.refresh_window)


def expired_after(lifetime: float | None) -> float:
    """Seconds from issue until it is no longer attached; a token of unknown life is, until a 401."""
    if lifetime is None:
        return float("inf")
    return lifetime - min(EXPIRY_MARGIN, EXPIRY_MARGIN_SHARE * lifetime)


def begun(token: Token, clock: Clock) -> float:
    """When the token was issued, on our boot clock; UNKNOWN_AGE where it seems to come from the future.

    It only seems so where our wall clock is wrong. If the server tells the time, one refresh will bring what
    judges it; if not, it gets one more life at most, or two hosts would take its successors for old in turn.
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

    `known` is what `begun` said of this token before: the earlier counts, so that no clock that is set back
    makes an old token young again.
    """
    if token.access_token is None:
        return Window(due=float("-inf"), expired=float("-inf"))
    issued = min(begun(token, clock), known)
    if issued == UNKNOWN_AGE:
        if due_at is not None:
            return Window(due=float("-inf"), expired=float("-inf"))
        issued = clock.boot()  # nothing could refresh it: it may as well be tried
    due = float("inf") if due_at is None else issued + (due_at - token.issued_at)
    expired = issued + expired_after(token.lifetime)
    return Window(due=min(due, expired), expired=expired, begun=issued)


def learned_from_401(token: Token, age: float) -> Token:
    """What a 401 to a token of this age (seconds) tells of how long such tokens live, if nothing else does.

    Who is refused in its first minute was refused for something else, and so perhaps was the one before.
    """
    if token.lifetime is not None:
        return token
    if age < LEARNED_AT_LEAST:
        return replace(token, observed_lifetimes=token.observed_lifetimes[:-1])
    return replace(token, observed_lifetimes=(*token.observed_lifetimes, age)[-LEARNED:], since_last_401=0)


def successor(new: Token, old: Token, refused: Token | None = None) -> Token:
    """What a refresh gave, with what it takes over from the token before. Both are of one account.

    An answer without a refresh token leaves the old one in force (RFC 6749 section 6), one without a scope
    the old scope. `refused` is the old one as `learned_from_401` left it in this process.
    """
    if refused is not None and refused.access_token == old.access_token:
        old = refused
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
    """When the refresh token will be dead if nothing is done (Unix seconds); None: nothing says."""
    if token.refresh_token is None:
        return None
    ends = (_idle_end(token, credential), _hard_end(token, credential))
    return min((end for end in ends if end is not None), default=None)


def keep_alive_at(token: Token, credential: Credential) -> float | None:
    """Unix seconds by which an account that nobody uses must be refreshed, or its refresh token dies of it.

    None: nothing is known, it is switched off, or a refresh would put nothing off.
    """
    idle_end = _idle_end(token, credential)
    if not credential.keep_alive or token.refresh_token is None or idle_end is None:
        return None
    at = token.issued_at + KEEP_ALIVE_AT * (idle_end - token.issued_at)
    hard_end = _hard_end(token, credential)
    return at if hard_end is None or at < hard_end else None


def near_end_at(token: Token, credential: Credential) -> float | None:
    """From when on (Unix seconds) a person should know that the refresh token ends; None: never."""
    end = refresh_ends_at(token, credential)
    if end is None:
        return None
    begins = token.issued_at if end == _idle_end(token, credential) else token.login_at or token.issued_at
    return end - min(NEAR_AT_MOST, NEAR * max(0.0, end - begins))


def _idle_end(token: Token, credential: Credential) -> float | None:
    """The end that a refresh puts off. Until a second answer tells, the server's word is taken for such."""
    if token.refresh_expires_at is not None:
        return None if token.refresh_renews is False else token.refresh_expires_at
    idle = credential.refresh_token_idle
    return None if idle is None else token.issued_at + idle


def _hard_end(token: Token, credential: Credential) -> float | None:
    """The end that only a login puts off."""
    said = token.refresh_expires_at if token.refresh_renews is False else None
    lifetime = credential.refresh_token_lifetime
    if lifetime is None or token.login_at is None:
        return said
    return min(said or float("inf"), token.login_at + lifetime)


def _renews(new: Token, old: Token) -> bool | None:
    """Whether the refresh put the refresh token's end off: what is left of its life is as much as before."""
    if new.refresh_expires_at is None or old.refresh_expires_at is None:
        return None
    lost = (old.refresh_expires_at - old.issued_at) - (new.refresh_expires_at - new.issued_at)
    if lost > TELLS_APART / 2:
        return False
    return True if new.issued_at - old.issued_at > TELLS_APART else old.refresh_renews
