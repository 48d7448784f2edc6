"""One refresh, from the lease to the saved record.

    lease → read again (someone was first? done) → note the intent → send → save → release → serve

The intent is durable before anything is sent, and the new token is durable before anyone is served with
it: whatever dies in between, the store holds the old refresh token or the new one. An intent found open
means that an earlier refresh may or may not have reached the server; the old token is sent again at once,
which servers answer within their grace (RFC 9700 section 4.14.2) - or a second later, where its sender may
live and have an answer to save.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, GenerationConflict, StoreError, UnreadableRecord
from proxy.oauth import grants
from proxy.oauth.endpoint import AuthorizationServers, RefusedToken
from proxy.oauth.grants import Form, Grant
from proxy.oauth.token import Refusal, Token, differ
from proxy.store.base import AccountId, Store
from proxy.tokens import lifetime, log_warnings
from proxy.tokens.account import StoredToken
from proxy.tokens.login.revoke import revoke
from proxy.tokens.refresh import backoff, lease, refusal
from proxy.tokens.refresh.introspection import with_lifetime
from proxy.tokens.refresh.lease import Lease, LeaseLost
from proxy.tokens.refresh.throttle import Turn
from proxy.tokens.saved import records, recovery, seeds

SAVE_AGAIN: Final = 0.1  # seconds, growing: no write is more urgent than an answer that waits to be saved
SAVE_AGAIN_LAST: Final = 0.5  # seconds
TIME_TO_SAVE: Final = 1.0  # seconds; two tries to save. With lease.LIFETIME it is below lease.SHORTEST_GRACE

LOST: Final = (
    "the new token of %s could not be saved before the end and is lost: the next start asks again with the "
    "old one, which works where the server still takes it, else a person must log in"
)

_log = logging.getLogger("proxy.tokens")
Attempted = Callable[[Credential, str, str, float], None]  # credential, outcome, error, seconds


@dataclass(frozen=True, slots=True)
class RefreshContext:
    """What every flight needs."""

    store: Store
    servers: AuthorizationServers
    clock: Clock
    process: str  # in the names of lease holders
    attempted: Attempted
    unsaved: set[AccountId] = field(default_factory=set)  # accounts whose new token can't be saved now


@dataclass(slots=True)
class Refresh:
    """One refresh of one account. `known` is what this process held when it began."""

    context: RefreshContext
    credential: Credential
    key: AccountId
    known: StoredToken
    turn: Turn
    attempts: int  # at most, while the server gives no clear answer
    tried: int = 0
    kept: StoredToken | None = None  # saved for its refresh token, although the response was refused

    async def run(self) -> StoredToken:
        """Get a token newer than the known one, by whoever is first.

        Raises AuthorizationServerError, StoreError.
        """
        context = self.context
        while True:
            try:
                async with lease.held(
                    context.store, f"refresh:{self.key}", context.process, context.clock
                ) as mine:
                    return await self._refresh(await self._read(), mine)
            except GenerationConflict:
                continue  # somebody logged in or out meanwhile: what they wrote counts
            except LeaseLost:
                _log.warning("%s: the process was suspended during the refresh: it is begun again", self.key)

    async def _read(self) -> StoredToken:
        return await records.read(
            self.context.store, self.context.clock, self.credential, self.key, self.known
        )

    async def _refresh(self, held: StoredToken, mine: Lease) -> StoredToken:
        if self._must_note_rejection(held):
            return await self._note_rejection(held)
        if self._is_done(held):
            return held
        form = self._form(held)
        if form is None:
            return held
        if not self._grant.renews_itself:
            await self._let_sender_save(held, mine)
            await self._intend(held)
        try:
            token = await self._send(form, held, mine)
        except RefusedToken as error:
            self.kept = await self._keep(held, error)
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
        """Whether another process was first: it has a token that serves, or was refused just now."""
        if held.generation <= self.known.generation or held.token is None:
            return False
        return self._is_usable(held) or held.token.refusal is not None

    def _form(self, held: StoredToken) -> Form | None:
        """What to send; None where only a person can help."""
        token = held.token
        may_send = held.state == "valid" or (
            held.state == "login_required"
            and token is not None
            and refusal.may_heal(token.refusal, self.context.clock.wall())
        )
        refresh_token = token.refresh_token if token and may_send else None
        return self._grant.form(self.credential.scopes, refresh_token)

    @property
    def _grant(self) -> Grant:
        return grants.of(self.credential)

    async def _let_sender_save(self, held: StoredToken, mine: Lease) -> None:
        """Another process has sent this token, and may live and have the response: the store was away, say,
        and both of us see it again now. Raises GenerationConflict once it has saved, StoreError.

        A process whose lease we have seen end has given it back, or is cut off: it has nothing to save here.
        """
        me = self.context.process
        may_live = held.in_doubt_by != me and not lease.is_dead(held.in_doubt_by, me)
        if held.in_doubt and may_live and not mine.was_awaited:
            await asyncio.sleep(TIME_TO_SAVE)
            if (await self._read()).generation != held.generation:
                raise GenerationConflict(f"{self.key}: its sender has saved the answer")

    async def _intend(self, held: StoredToken) -> None:
        """From here on the refresh is in doubt, until something is saved. Raises StoreError.

        If this process dies, others find the intent by the index of due times: so the intent comes first.
        """
        store, now = self.context.store, self.context.clock.wall()
        await store.intend(self.key, held.generation, self._note(held))
        if held.due_at is None or held.due_at > now:
            await store.postpone(self.key, held.generation, now)

    async def _send(self, form: Form, held: StoredToken, mine: Lease) -> Token:
        """Ask for a token; a lost response is asked for again. Raises LeaseLost: then nothing was sent."""
        while True:
            self.tried += 1
            started = time.perf_counter()
            try:
                token = await self.context.servers.token(
                    self.credential, form, before_send=mine.check, before=held.token
                )
            except AuthorizationServerError as error:
                self.turn.failed(error)
                is_refused = self._is_refused(held, error)
                outcome = self._outcome(held, error) if is_refused else error.outcome
                self._attempted(outcome, error.error, started)
                is_final = is_refused or error.outcome != "transient" or error.retry_after is not None
                if (
                    isinstance(error, RefusedToken)
                    or is_final
                    or self.tried >= self.attempts
                    or not self.turn.may_repeat(error)
                ):
                    raise
                _log.info("%s: the refresh brought no token (%s): sent again", self.key, error.error)
                await asyncio.sleep(backoff.backoff(self.tried))
            else:
                self.turn.succeeded()
                self._attempted("success", "", started)
                return token

    def _attempted(self, outcome: str, error: str, started: float) -> None:
        self.context.attempted(self.credential, outcome, error, time.perf_counter() - started)

    async def _save(self, new: StoredToken, old: StoredToken) -> StoredToken:
        """Make the new token the account's own, durably. Raises GenerationConflict, UnreadableRecord.

        While the store can't be written, this tries again and again: nothing may be served unsaved.
        """
        try:
            failures = 0
            while True:
                try:
                    return await self._put(new, old)
                except (GenerationConflict, UnreadableRecord):
                    raise
                except StoreError as error:
                    failures += 1
                    if failures == 1:
                        _log.error(
                            "the new token of %s is not used until it can be saved: %s", self.key, error
                        )
                    self.context.unsaved.add(self.key)
                    await asyncio.sleep(min(SAVE_AGAIN * failures, SAVE_AGAIN_LAST))
        except asyncio.CancelledError:
            if self.key in self.context.unsaved:
                _log.critical(LOST, self.key)
            raise
        finally:
            self.context.unsaved.discard(self.key)

    async def _put(self, new: StoredToken, old: StoredToken) -> StoredToken:
        """Put `new` in the place of `old`, or of what an emptied store was filled with meanwhile."""
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

    async def _keep(self, held: StoredToken, refused: RefusedToken) -> StoredToken | None:
        """The response can't be used but for its refresh token, which is the only one left: save that.

        The access token before serves to its end. Raises GenerationConflict, UnreadableRecord.
        """
        if held.token is None:
            return None
        kept = records.keeping(refused.token, held.token)
        _log.warning("%s: the new token is not used (%s), its refresh token is kept", self.key, refused.error)
        return await self._save(StoredToken(held.generation + 1, "valid", kept, held.due_at), held)

    async def _refused(self, held: StoredToken, error: AuthorizationServerError) -> StoredToken:
        """The server refuses to refresh the token: say so in the store, for all processes.

        Raises GenerationConflict if someone has logged in or refreshed meanwhile. Nothing is deleted: the
        record keeps its tokens, and the access token serves to its end.
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
        if self._grant.renews_itself:  # nothing was to be refreshed
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
        """For the metrics: a refusal that is not final is one more try."""
        return "transient" if self._known_refusal(held, error).decided_at is None else "login_required"

    def _is_rejected(self, held: StoredToken) -> bool:
        """Whether an upstream has refused this access token: in another process, or in this one."""
        token, known = held.token, self.known.token
        if token is None:
            return False
        is_ours = known is not None and known.rejected and known.access_token == token.access_token
        return token.rejected or is_ours

    async def _note_rejection(self, held: StoredToken) -> StoredToken:
        """Raises StoreError."""
        assert held.token is not None
        noted = replace(
            held, generation=held.generation + 1, token=replace(held.token, rejected=True), in_doubt=False
        )
        return await records.put(self.context.store, self.key, noted, expected=held.generation)

    def _must_note_rejection(self, held: StoredToken) -> bool:
        """Whether this flight is only to tell other processes that the access token is of no use."""
        token = held.token
        if held.state != "login_required" or token is None or token.refusal is None or token.rejected:
            return False
        return self._is_rejected(held)

    async def _set_aside(self, held: StoredToken, old: Token, new: Token) -> StoredToken:
        """A refresh brought somebody else's tokens (OpenID Connect Core 1.0 section 12.2 forbids it).

        Their access token is never served. Their refresh token is kept, for it may be the only one left,
        and never sent but to revoke it; the old access token serves to its end. The account stays the
        first person's: they log in again, or the other one does and is asked.
        """
        kept = records.keeping(new, old)
        _log.error("a refresh of %s brought the tokens of another person: they are not used", self.key)
        return await self._save(StoredToken(held.generation + 1, "login_required", kept, due_at=None), held)

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
