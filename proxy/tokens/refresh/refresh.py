"""One refresh, from the lease to the saved record.

    lease → read again (done if another was first) → note the intent → send → save → release → use

The intent is durable before anything is sent, and the new token is durable before any request uses it:
after a crash in between, the store has the old refresh token or the new one. An open intent means that an
earlier refresh may or may not have reached the server. The old token is then sent again at once, which
servers accept within a grace period (RFC 9700 section 4.14.2) - or a second later, if its sender may be alive
and have a response to save.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass, replace
from typing import Final

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, GenerationConflict, StoreError, UnreadableRecord
from proxy.oauth import grants
from proxy.oauth.endpoint import RefusedToken
from proxy.oauth.grants import Form, Grant
from proxy.oauth.token import Refusal, Token, differ
from proxy.observe.events import CRITICAL, ERROR, INFO, WARNING, Field, decision, event
from proxy.store.base import AccountId
from proxy.tokens import lifetime, log_warnings
from proxy.tokens.login.revoke import revoke
from proxy.tokens.refresh import backoff, lease, refusal
from proxy.tokens.refresh.context import RefreshContext
from proxy.tokens.refresh.introspection import with_lifetime
from proxy.tokens.refresh.lease import Lease, LeaseLost
from proxy.tokens.refresh.throttle import Turn
from proxy.tokens.saved import records, recovery, seeds
from proxy.tokens.stored_token import StoredToken

SAVE_AGAIN: Final = 0.1  # seconds, growing: no write is more urgent than a response that is not saved yet
SAVE_AGAIN_LAST: Final = 0.5  # seconds
TIME_TO_SAVE: Final = 1.0  # seconds; two tries to save. Plus lease.LIFETIME, less than lease.SHORTEST_GRACE

UNSAVED: Final = "the new token can't be saved, and is not used before it is"
LOST: Final = (
    "the new token could not be saved before the shutdown and is lost: the next start retries with the "
    "old refresh token; if the server no longer accepts that, a person must log in"
)

_log = logging.getLogger("proxy.tokens")


@dataclass(slots=True)
class Refresh:
    """One refresh of one account. `known`: this process's stored token at its start."""

    context: RefreshContext
    credential: Credential
    key: AccountId
    known: StoredToken
    turn: Turn
    attempts: int  # at most, while responses are lost
    tried: int = 0
    kept: StoredToken | None = None  # saved for its refresh token, although its access token was refused

    async def run(self) -> StoredToken:
        """Return a token newer than the known one, refreshed here or by another process.

        Raises AuthorizationServerError, StoreError.
        """
        context = self.context
        while True:
            try:
                async with lease.holding(
                    context.store, f"refresh:{self.key}", context.process, context.clock
                ) as mine:
                    return await self._refresh(await self._read(), mine)
            except GenerationConflict as conflict:  # a login or logout meanwhile: its record counts
                self._debug("the record was changed meanwhile and is read again: %s", conflict)
            except LeaseLost:
                self._event(WARNING, "lease_lost", "the process was suspended during the refresh: retrying")

    async def _read(self) -> StoredToken:
        return await records.read(
            self.context.store, self.context.clock, self.credential, self.key, self.known
        )

    async def _refresh(self, held: StoredToken, mine: Lease) -> StoredToken:
        if self._must_note_rejection(held):
            return await self._note_rejection(held)
        if self._is_done(held):
            self._debug("another process has refreshed it: generation %d", held.generation)
            return held
        form = self._form(held)
        if form is None:
            self._debug("nothing can be sent: its stored state is %s", held.state)
            return held
        if not self._grant.renews_itself:
            await self._let_sender_save(held, mine)
            await self._intend(held)
        try:
            token, held = await self._requested(form, held, mine)
        except RefusedToken as error:
            self.kept = await self._save_refused(held, error)
            raise
        except AuthorizationServerError as error:
            if not self._is_refused(held, error):
                raise
            return await self._refused(held, error)
        if held.token is not None and differ(held.token.principal, token.principal):
            return await self._set_aside(held, held.token, token)
        successor = records.successor(token, held.token, self.known.token) if held.token else token
        log_warnings.narrowed(self.key, self.credential, successor, held.token)
        new = StoredToken(held.generation + 1, "valid", successor, records.due_at(self.credential, successor))
        saved = await self._save(new, held)
        return await with_lifetime(self.context.store, self.context.servers, self.credential, self.key, saved)

    def _is_done(self, held: StoredToken) -> bool:
        """Whether another process was first: it saved a usable token, or a new refusal."""
        if held.generation <= self.known.generation or held.token is None:
            return False
        return self._is_usable(held) or held.token.refusal is not None

    def _form(self, held: StoredToken) -> Form | None:
        """The form to send; None if only a person can help."""
        token = held.token
        may_send = held.state == "valid" or (
            held.state == "login_required"
            and token is not None
            and refusal.may_heal(token.refusal, self.context.clock.wall())
        )
        refresh_token = token.refresh_token if token and may_send else None
        return self._grant.form(self.credential, refresh_token)

    @property
    def _grant(self) -> Grant:
        return grants.of(self.credential)

    async def _let_sender_save(self, held: StoredToken, mine: Lease) -> None:
        """Wait if another process has sent this token and may be about to save the response, as after an
        outage of the store. Raises GenerationConflict once it has saved, StoreError.

        Not if we saw its lease end: it has released the lease, or is cut off from the store.
        """
        me = self.context.process
        may_live = held.in_doubt_by != me and not lease.is_dead(held.in_doubt_by, me)
        if held.in_doubt:
            self._debug("an earlier refresh is in doubt; its sender may be alive: %s", may_live)
        if held.in_doubt and may_live and not mine.was_awaited:
            await asyncio.sleep(TIME_TO_SAVE)
            if (await self._read()).generation != held.generation:
                raise GenerationConflict(f"{self.key}: its sender has saved the response")

    async def _intend(self, held: StoredToken) -> None:
        """Note in the store that the refresh is in doubt until its result is saved. Raises StoreError.

        If this process dies, others find the intent by the index of due times: so it is written first.
        """
        store, now = self.context.store, self.context.clock.wall()
        await store.intend(self.key, held.generation, self._note(held))
        if held.due_at is None or held.due_at > now:
            await store.postpone(self.key, held.generation, now)

    async def _requested(self, form: Form, held: StoredToken, mine: Lease) -> tuple[Token, StoredToken]:
        """A token, and what it replaces. If the refresh token is refused, without it where the grant can."""
        try:
            return await self._send(form, held, mine), held
        except AuthorizationServerError as error:
            afresh = refusal.form_afresh(self.credential, form, error)
            if afresh is None or held.token is None:
                raise
        self._debug("the refresh token is refused, and not needed: a request without it follows")
        held = replace(held, token=replace(held.token, refresh_token=None))
        return await self._send(afresh, held, mine), held

    async def _send(self, form: Form, held: StoredToken, mine: Lease) -> Token:
        """Request a token; retries after a lost response. Raises LeaseLost if nothing was sent."""
        while True:
            self.tried += 1
            started = time.perf_counter()
            try:
                token = await self.context.clients.token(self.credential, form, mine.check, held.token)
            except AuthorizationServerError as error:
                self.turn.failed(error)
                is_refused = self._is_refused(held, error)
                outcome = self._outcome(held, error) if is_refused else error.outcome
                self._attempted(outcome, error.error, started)
                is_final = is_refused or error.outcome != "transient" or error.retry_after is not None
                is_final = is_final or isinstance(error, RefusedToken) or self.tried >= self.attempts
                if is_final or not self.turn.may_repeat(error):
                    raise
                sentence = f"the refresh got no token ({error.error}): retrying"
                self._event(INFO, "refresh_retry", sentence, error=error.error, attempt=self.tried)
                await asyncio.sleep(backoff.backoff(self.tried))
            else:
                self.turn.succeeded()
                self._attempted("success", "", started)
                self._debug("a token has arrived, and is saved before it is used")
                return token

    def _attempted(self, outcome: str, error: str, started: float) -> None:
        self.context.attempted(self.credential, outcome, error, time.perf_counter() - started)

    async def _save(self, new: StoredToken, old: StoredToken) -> StoredToken:
        """Save the new token durably. Raises GenerationConflict, UnreadableRecord.

        Retries while the store can't be written: a token must not be used unsaved.
        """
        failures = 0
        try:
            while True:
                try:
                    saved = await self._put(new, old)
                    break
                except (GenerationConflict, UnreadableRecord):
                    raise
                except StoreError as error:
                    failures += 1
                    if failures == 1:
                        self._event(ERROR, "token_unsaved", f"{UNSAVED}: {error}")
                    self.context.unsaved.add(self.key)
                    await asyncio.sleep(min(SAVE_AGAIN * failures, SAVE_AGAIN_LAST))
        except asyncio.CancelledError:
            if self.key in self.context.unsaved:
                self._event(CRITICAL, "token_lost", LOST)
            raise
        finally:
            self.context.unsaved.discard(self.key)
        if failures:
            self._event(INFO, "token_saved", "the new token is saved now", tries=failures + 1)
        return saved

    async def _put(self, new: StoredToken, old: StoredToken) -> StoredToken:
        """Replace `old` by `new`, also in a store that was emptied and filled again meanwhile."""
        expected = old.generation
        while True:
            try:
                return await records.put(self.context.store, self.key, new, expected=expected)
            except GenerationConflict:
                record = await self.context.store.get(self.key)
                if record is not None and record.state == "logged_out" and new.token is not None:
                    await revoke(self.context.servers, self.credential, self.key, new.token)
                new = replace(new, generation=recovery.above(record, new, old.token))
                expected = record.generation if record else 0

    async def _save_refused(self, held: StoredToken, refused: RefusedToken) -> StoredToken | None:
        """Save the refresh token of a response whose access token is refused: it may be the only valid one.

        The old access token is used until it expires. Raises GenerationConflict, UnreadableRecord.
        """
        if held.token is None:
            return None
        kept = records.with_refresh_token_of(refused.token, held.token)
        sentence = f"only the new refresh token is used ({refused.error})"
        self._event(WARNING, "access_token_refused", sentence, error=refused.error)
        return await self._save(StoredToken(held.generation + 1, "valid", kept, held.due_at), held)

    async def _refused(self, held: StoredToken, error: AuthorizationServerError) -> StoredToken:
        """Note the server's refusal to refresh the token in the store, for all processes.

        Raises GenerationConflict after a login or another refresh meanwhile. Nothing is deleted: the record
        keeps its tokens, and the access token is used until it expires.
        """
        if held.token is None or self._grant.renews_itself:
            raise AuthorizationServerError("misconfigured", error.error)
        known = self._known_refusal(held, error)
        token = replace(held.token, refusal=known, rejected=self._is_rejected(held))
        now, due_at = self.context.clock.wall(), None
        if known.decided_at is None:
            due_at = now if held.due_at is None else min(held.due_at, now)
        state = "valid" if known.decided_at is None else "login_required"
        refused = StoredToken(held.generation + 1, state, token, due_at)
        return await records.put(self.context.store, self.key, refused, expected=held.generation)

    def _is_refused(self, held: StoredToken, error: AuthorizationServerError) -> bool:
        if self._grant.renews_itself:  # there was no refresh token to refuse
            return error.outcome == "login_required"
        return refusal.is_refused(error, held.token)

    def _known_refusal(self, held: StoredToken, error: AuthorizationServerError) -> Refusal:
        return refusal.follow(
            held.token.refusal if held.token else None,
            error,
            now=self.context.clock.wall(),
            usable=self._is_usable(held) and not self._is_rejected(held),
            in_doubt=held.in_doubt or self.tried > 1,
        )

    def _outcome(self, held: StoredToken, error: AuthorizationServerError) -> str:
        """The outcome for metrics: "transient" for a refusal that is not final."""
        return "transient" if self._known_refusal(held, error).decided_at is None else "login_required"

    def _is_rejected(self, held: StoredToken) -> bool:
        """Whether an upstream has answered 401 to this access token, in this or another process."""
        token, known = held.token, self.known.token
        if token is None:
            return False
        is_ours = known is not None and known.rejected and known.access_token == token.access_token
        return token.rejected or is_ours

    async def _note_rejection(self, held: StoredToken) -> StoredToken:
        """Save that the access token was rejected. Raises StoreError."""
        assert held.token is not None
        noted = replace(
            held, generation=held.generation + 1, token=replace(held.token, rejected=True), in_doubt=False
        )
        return await records.put(self.context.store, self.key, noted, expected=held.generation)

    def _must_note_rejection(self, held: StoredToken) -> bool:
        """Whether this refresh only has to tell other processes that the access token was rejected."""
        token = held.token
        if held.state != "login_required" or token is None or token.refusal is None or token.rejected:
            return False
        return self._is_rejected(held)

    async def _set_aside(self, held: StoredToken, old: Token, new: Token) -> StoredToken:
        """A refresh returned another person's tokens, which OpenID Connect Core 1.0 section 12.2 forbids.

        The new access token is never used. The new refresh token, perhaps the only valid one, is saved, but
        sent only to revoke it; the old access token is used until it expires. The account still belongs to
        the first person, who must log in again; a login of the other person asks for a decision.
        """
        kept = records.with_refresh_token_of(new, old)
        self._event(ERROR, "other_person", "a refresh returned another person's tokens: they are not used")
        return await self._save(StoredToken(held.generation + 1, "login_required", kept, due_at=None), held)

    def _event(self, level: int, name: str, sentence: str, **fields: Field) -> None:
        event(_log, level, name, f"{self.key}: {sentence}", **self.key._asdict(), **fields)

    def _debug(self, sentence: str, *values: object) -> None:
        decision(_log, f"%s: {sentence}", self.key, *values, **self.key._asdict())

    def _is_usable(self, held: StoredToken) -> bool:
        clock = self.context.clock
        return (
            held.token is not None and clock.boot() < lifetime.window(held.token, held.due_at, clock).expired
        )

    def _note(self, held: StoredToken) -> bytes:
        sent = held.token.refresh_token if held.token else None
        note = {
            "sender": self.context.process,
            "generation": held.generation,
            "token": seeds.fingerprint(sent),
            "at": self.context.clock.wall(),
        }
        return json.dumps(note).encode()
