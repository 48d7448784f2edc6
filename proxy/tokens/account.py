"""One account's token in memory: what a request reads, and what is known about its health.

Plain data and time: no I/O. Its refreshes are started by refresh/single_flight.py,
sent and saved by refresh/refresh.py.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace
from typing import Final

from proxy.clock import Clock
from proxy.config.found import Registration
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, Outcome, TokenError
from proxy.oauth import grants
from proxy.oauth.binding import given, is_bound, is_same_client
from proxy.oauth.token import Refusal, Token
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens import lifetime
from proxy.tokens.account_facts import facts_of, subject_refused
from proxy.tokens.attachment import Attachment
from proxy.tokens.diagnosis import Diagnosis, diagnose
from proxy.tokens.last_attempts import FailedLogin, LastRefresh, Unauthorized
from proxy.tokens.lifetime import TokenState
from proxy.tokens.proofs import ProvingAttachment
from proxy.tokens.refresh import backoff, refusal
from proxy.tokens.refresh.breaker import Candidate
from proxy.tokens.refresh.throttle import ServerThrottle
from proxy.tokens.stored_token import NOTHING, StoredToken, access_token_of, response_of

NEVER: Final = float("-inf")


class Account:
    """The state of one account in this process. Most requests only call TokenManager.ready()."""

    def __init__(
        self,
        key: AccountId,
        credential: Credential,
        clock: Clock,
        throttle: ServerThrottle,
        subject: Secret | None = None,
    ) -> None:
        """`subject`: the caller's own token that is exchanged for this account's; None for all others."""
        self.key = key
        self.name = key.account  # read for each request
        self.credential = credential
        self.grant = grants.of(credential)
        self.throttle = throttle
        self.held = NOTHING
        self.subject = subject
        self.kept_until = NEVER  # boot clock; of a subject: see exchanged.py
        # not read yet, or the last read failed: the store may have something newer, but for subjects
        self.behind = subject is None
        self.unreadable = False  # the store has a record that its key does not decrypt
        self.in_doubt = False  # a refresh must be retried soon, whatever the token's age
        self.attachment: Attachment | None = None
        self.fresh_until = NEVER  # boot clock: from then on a refresh is due
        self.usable_until = NEVER  # boot clock: from then on the token is not attached
        self.hold_until = NEVER  # boot clock: no refresh before, after a failure or a refusal
        self.closed_until = NEVER  # boot clock: nor before this, the server would refuse it (refresh_window)
        self.used_at = NEVER  # boot clock: the last request
        self.noted_at = NEVER  # boot clock: the last use that is noted in the store
        self.rejected_at = NEVER  # boot clock: the last refresh started by a 401
        self.unauthorized_at: float | None = None  # Unix seconds; the last 401 to its current token
        self.failures = 0
        self.failing_since: float | None = None  # Unix seconds; the first of these failures
        self.failure: AuthorizationServerError | None = None
        self.reminded_of = NEVER  # Unix seconds; the refresh token's end that has been logged
        self.login_told = -1  # the generation for which login_required has been logged
        self.standing: tuple[TokenState, bool] | None = None  # at the last look at what changes by time alone
        self.last_refresh: LastRefresh | None = None
        self.last_success_at: float | None = None
        self.failed_login: FailedLogin | None = None  # the last login, if it failed at this process
        self.unauthorized: Unauthorized | None = None  # the last 401 of an upstream to a new token
        self.flight: asyncio.Task[None] | None = None
        self.is_value_lost = False  # grant static: what the configuration refers to can't be read now
        self._clock = clock
        self._begun = float("inf")  # boot clock; when the token was issued; infinity: unknown
        self._take_value()

    def keeps(self, credential: Credential) -> bool:
        """Whether it is the same account under this credential of another configuration."""
        token = self.held.token
        is_ours = token is None or is_bound(token, credential)
        return is_ours and is_same_client(self.credential, credential)

    def use(self, credential: Credential) -> None:
        """Use a credential for which it `keeps`. A back-off stays, unless the change may be its remedy."""
        before, self.credential = self.credential, credential
        if before == credential:
            return
        self.unauthorized = None
        if before.attach != credential.attach:
            self._attach(self.held.token)
        if self.grant.is_fixed:
            self._take_value()
            return
        self.forgive()
        self.behind = True  # the record may have a token of this credential, or must get its new seed
        self.look_at_the_clock()

    def _attach(self, token: Token | None) -> None:
        places, access_token = self.credential.attach, token.access_token if token else None
        if token is None or access_token is None:
            self.attachment = None
        elif token.dpop_key is None:
            self.attachment = Attachment(access_token, places, upstreams=token.upstreams)
        else:
            key, server = token.dpop_key, token.server
            self.attachment = ProvingAttachment(
                access_token, places, key, server, self._clock, token.upstreams
            )

    def _take_value(self) -> None:
        """Grant static: the configuration's value is the token. It is never stored."""
        value = self.credential.value
        if value is None or value == access_token_of(self.held):
            return
        self.apply(StoredToken(self.held.generation + 1, "valid", given(self.credential, self._clock), None))

    def forgive(self) -> None:
        """Try again now, if the server has refused the client: the credential has been changed since."""
        if self.failure is not None and self.failure.outcome == "misconfigured":
            self.hold_until = NEVER

    def apply(self, held: StoredToken) -> None:
        """Apply a stored record; older generations are ignored."""
        self.behind = self.unreadable = False
        if held.generation < self.held.generation:
            return
        if access_token_of(held) != access_token_of(self.held):
            self._attach(held.token)
        elif self.is_rejected and held.token is not None:
            held = replace(held, token=replace(held.token, rejected=True))
        attached = self.attachment
        if attached is not None and held.token and attached.upstreams != dict(held.token.upstreams):
            self._attach(held.token)
        if response_of(held) != response_of(self.held):
            self._begun = float("inf")
        is_new = held.generation != self.held.generation
        if is_new:
            self.failures, self.failure, self.hold_until, self.in_doubt = 0, None, NEVER, False
            self.failing_since = None
        self.in_doubt = self.in_doubt or held.in_doubt
        self.held = held
        self.look_at_the_clock()
        if is_new and held.token is not None:
            self.throttle.refusals.note(self.key, held.token)
            self._apply_refusal()

    def _apply_refusal(self) -> None:
        """Hold refreshes back as the record's refusal requires; never past the access token's end."""
        refused = self.refusal
        if refused is None:
            return
        self.failures, self.failing_since = refused.times, refused.since
        outcome: Outcome = "transient" if refused.decided_at is None else "login_required"
        self.failure = AuthorizationServerError(outcome, refused.error)
        if refused.decided_at is None and not self.is_usable:
            return  # no time to wait
        now = self._clock.boot()
        chance = random.random()  # noqa: S311 (spreads load, hides nothing)
        self.hold_until = now + refusal.next_try_in(refused, self._clock.wall(), chance)
        if refused.decided_at is None:
            self.hold_until = min(self.hold_until, self.usable_until)

    def look_at_the_clock(self) -> None:
        """Compute the token's window again: the age of a token of another boot may be known better."""
        self.fresh_until = self.usable_until = self.closed_until = NEVER
        token = self.held.token
        if token is None:
            return
        if self.credential.dpop != (token.dpop_key is not None):
            return  # the configuration asks for another kind of token than this one
        if token.rejected and token.refusal is not None:
            return  # the upstream rejects it, and the server refuses to replace it
        window = lifetime.window(token, self.held.due_at, self._clock, known=self._begun)
        self.fresh_until, self.usable_until, self._begun = window.due, window.expired, window.begun
        if math.isfinite(window.begun):
            self.closed_until = window.begun + lifetime.closed_for(token, self.credential)

    @property
    def token_age(self) -> float:
        """Seconds since the current token was issued; infinity or less than 0 if that is not known."""
        return self._clock.boot() - self._begun

    def learn_from_401(self) -> None:
        """Learn the lifetime of such tokens from the age of the current one, after a 401 to it."""
        if self.held.token is not None:
            age = self._clock.boot() - self._begun
            self.held = replace(self.held, token=lifetime.learned_from_401(self.held.token, age))

    def reject(self) -> bool:
        """Note a 401 to the current token. Returns whether that must be written to the store.

        The token stays in use until its refresh has a result: the upstream may be wrong. If its refresh
        was refused already, it is no longer usable, and there is no reason to wait.
        """
        token = self.held.token
        if token is None or token.rejected:
            return False
        self.held = replace(self.held, token=replace(token, rejected=True))
        if token.refusal is None:
            return False
        self.look_at_the_clock()
        if token.refusal.decided_at is None:
            self.hold_until = NEVER
            return False
        return True

    def failed(self, error: AuthorizationServerError, attempts: int = 1) -> None:
        """Note a failure and hold the next refresh back (backoff.pause_after)."""
        self.failures += attempts
        if self.failing_since is None:
            self.failing_since = self._clock.wall()
        self.failure = error
        self.in_doubt = True
        pause = backoff.pause_after(error, self.failures)
        if error.error == "invalid_grant":
            pause = max(pause, self.grant.pause_when_refused)
        self.hold_until = self._clock.boot() + pause

    def state(self) -> TokenState:
        if self.unreadable or self.is_value_lost or self.is_misconfigured:
            return "misconfigured"
        if self.held.state == "login_required":
            return "login_required"
        if self.held.token is None:
            return "absent"
        if not self.is_usable:
            return "expired"
        return "valid" if self._clock.boot() < self.fresh_until else "stale"

    @property
    def is_usable(self) -> bool:
        """Whether an access token can be attached now, whatever the state."""
        return self._clock.boot() < self.usable_until

    @property
    def refusal(self) -> Refusal | None:
        """The refusal of the last refresh; None if it was not refused."""
        return self.held.token.refusal if self.held.token else None

    @property
    def registration(self) -> Registration | None:
        """The client that was registered for its tokens; None if it is configured."""
        found = self.held.token.found if self.held.token else None
        return found.registration if found else None

    @property
    def is_rejected(self) -> bool:
        """Whether an upstream has answered 401 to the current access token."""
        return self.held.token is not None and self.held.token.rejected

    @property
    def needs_login(self) -> bool:
        """Whether new tokens are certain only after a login (or a new refresh_token in the configuration)."""
        if self.grant.renews_itself or self.grant.is_fixed:
            return False
        token = self.held.token
        return self.held.state != "valid" or token is None or token.refresh_token is None

    @property
    def can_refresh(self) -> bool:
        """Whether a request to the token endpoint could help, without a person."""
        if self.is_for_callers or self.grant.is_fixed:
            return False
        if not self.needs_login:
            return True
        return self.held.state == "login_required" and refusal.may_heal(self.refusal, self._clock.wall())

    @property
    def may_start(self) -> bool:
        """Whether a refresh could help and is not held back. Registers its interest with the throttle."""
        is_time = self._clock.boot() >= max(self.hold_until, self.closed_until)
        return self.can_refresh and is_time and self.throttle.admits(self.candidate)

    @property
    def candidate(self) -> Candidate:
        """The account as its throttle sees it."""
        return Candidate(self.failures, self.fresh_until, self.key)

    @property
    def must_retry(self) -> bool:
        """Whether a refresh must be retried, whatever the token's age."""
        return self.in_doubt or (self.refusal is not None and self.can_refresh)

    @property
    def waits_until(self) -> float:
        """No refresh before this (boot clock), by the account's pause, refresh_window and the throttle."""
        return max(self.hold_until, self.closed_until, self.throttle.waits_until(self.candidate))

    @property
    def next_try_at(self) -> float | None:
        """When (Unix seconds) a refresh that is held back after a failure is tried; None: none is."""
        wait = max(self.hold_until, self.throttle.waits_until(self.candidate)) - self._clock.boot()
        return self._clock.wall() + wait if wait > 0 and self.can_refresh else None

    @property
    def is_misconfigured(self) -> bool:
        """Whether its server refuses the client: by an error code, or as two accounts are refused alike."""
        if self.failure is not None and self.failure.outcome == "misconfigured":
            return True
        refused = self.refusal
        if self.held.state != "login_required" or refused is None:
            return False
        return self.throttle.refusals.is_of_client(self.key, refused)

    @property
    def is_for_callers(self) -> bool:
        """Whether it has no token, as each caller's own is exchanged, which has an account of its own."""
        return self.subject is None and bool(self.credential.subject_field)

    def why_not(self) -> TokenError:
        """The error of a request that gets no token now."""
        if self.subject is not None and self.failure is not None and refusal.is_of_subject(self.failure):
            return subject_refused(self.key.credential, self.failure)
        wait = self.waits_until - self._clock.boot()
        return self.diagnosis().error(retry_after=max(1, math.ceil(wait)) if wait > 0 else 1)

    @property
    def needs_person(self) -> bool:
        """As `diagnosis().needs_person`, but cheap for a healthy account."""
        renews = self.held.state == "valid" and self.can_refresh
        if renews or self.grant.renews_itself or self.grant.is_fixed:
            return False
        return self.diagnosis().needs_person

    def diagnosis(self) -> Diagnosis:
        """The diagnosis of this account, for every interface that reports it."""
        return diagnose(facts_of(self, self._clock))
