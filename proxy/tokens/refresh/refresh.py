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
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.grants import Form
from proxy.oauth.token import Token, differ
from proxy.store.base import AccountId, Store
from proxy.tokens import lifetime, log_warnings
from proxy.tokens.account import StoredToken
from proxy.tokens.login.revoke import revoke
from proxy.tokens.refresh import backoff, lease
from proxy.tokens.refresh.lease import Lease, LeaseLost
from proxy.tokens.refresh.throttle import ServerThrottle
from proxy.tokens.saved import records

SAVE_AGAIN: Final = 0.1  # seconds, growing: no write is more urgent than an answer that waits to be saved
SAVE_AGAIN_LAST: Final = 0.5  # seconds
TIME_TO_SAVE: Final = 1.0  # seconds; two tries of who waits to save. With a lease still below a grace of 5 s

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
    throttle: ServerThrottle
    attempts: int  # at most, while the server gives no clear answer
    tried: int = 0

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
                _log.warning("%s: this process stood still while it refreshed: it begins again", self.key)

    async def _read(self) -> StoredToken:
        return await records.read(
            self.context.store, self.context.clock, self.credential, self.key, self.known
        )

    async def _refresh(self, held: StoredToken, mine: Lease) -> StoredToken:
        if held.generation > self.known.generation and self._is_served(held):
            return held
        form = self._form(held)
        if form is None:
            return held
        if not grants.of(self.credential).renews_itself:
            await self._let_sender_save(held)
            await self._intend(held)
        try:
            token = await self._send(form, mine)
        except AuthorizationServerError as error:
            if error.outcome != "login_required":
                raise
            return await self._give_up(held, error)
        if held.token is not None and differ(held.token.principal, token.principal):
            return await self._set_aside(held, held.token, token)
        successor = records.successor(token, held.token, self.known.token) if held.token else token
        log_warnings.narrowed(self.key, self.credential, successor, held.token)
        new = StoredToken(held.generation + 1, "valid", successor, records.due_at(self.credential, successor))
        saved = await self._save(new, held)
        return await records.dated(self.context.store, self.context.servers, self.credential, self.key, saved)

    def _form(self, held: StoredToken) -> Form | None:
        """What to send; None where only a person can help."""
        refresh_token = held.token.refresh_token if held.token and held.state == "valid" else None
        return grants.of(self.credential).form(self.credential.scopes, refresh_token)

    async def _let_sender_save(self, held: StoredToken) -> None:
        """Another process has sent this token, and may live and have the answer: the store was away, say,
        and both of us see it again now. Raises GenerationConflict once it has saved, StoreError.
        """
        me = self.context.process
        if held.in_doubt and held.in_doubt_by != me and not lease.is_dead(held.in_doubt_by, me):
            await asyncio.sleep(TIME_TO_SAVE)
            if (await self._read()).generation != held.generation:
                raise GenerationConflict(f"{self.key}: its sender has saved the answer")

    async def _intend(self, held: StoredToken) -> None:
        """From here on the refresh is in doubt, until something is saved. Raises StoreError."""
        store, now = self.context.store, self.context.clock.wall()
        if held.due_at is None or held.due_at > now:  # who comes after us must find it by the index
            await store.postpone(self.key, held.generation, now)
        await store.intend(self.key, held.generation, self._note(held))

    async def _send(self, form: Form, mine: Lease) -> Token:
        """Ask for a token; a lost answer is asked for again. Raises LeaseLost: then nothing was sent."""
        while True:
            self.tried += 1
            started = time.perf_counter()
            try:
                token = await self.context.servers.token(self.credential, form, before_send=mine.check)
            except AuthorizationServerError as error:
                seconds = time.perf_counter() - started
                self.context.attempted(self.credential, error.outcome, error.error, seconds)
                if error.outcome == "login_required":
                    raise
                self.throttle.failed(self.key, error)
                is_final = error.outcome != "transient" or error.retry_after is not None
                if is_final or self.tried >= self.attempts or not self.throttle.may_repeat(error):
                    raise
                await asyncio.sleep(backoff.backoff(self.tried))
            else:
                self.context.attempted(self.credential, "success", "", time.perf_counter() - started)
                return token

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
                new = replace(new, generation=records.above(record, new, old.token))
                expected = record.generation if record else 0

    async def _give_up(self, held: StoredToken, error: AuthorizationServerError) -> StoredToken:
        """The refresh token is refused for good. Say so in the store.

        Raises GenerationConflict if someone has logged in or refreshed meanwhile. Nothing is deleted: the
        record keeps its tokens, and the access token serves to its end.
        """
        if held.token is None or grants.of(self.credential).renews_itself:
            raise AuthorizationServerError("misconfigured", error.error)
        refused = replace(
            held, generation=held.generation + 1, state="login_required", due_at=None, in_doubt=False
        )
        await records.put(self.context.store, self.key, refused, expected=held.generation)
        return refused

    async def _set_aside(self, held: StoredToken, old: Token, new: Token) -> StoredToken:
        """A refresh brought somebody else's tokens (OpenID Connect Core 1.0 section 12.2 forbids it).

        Their access token is never served. Their refresh token is kept, for it may be the only one left,
        and never sent but to revoke it; the old access token serves to its end. The account stays the
        first person's: they log in again, or the other one does and is asked.
        """
        successor = records.successor(new, old)
        kept = replace(
            old,
            refresh_token=successor.refresh_token,
            refresh_expires_at=successor.refresh_expires_at,
            ancestors=successor.ancestors,
        )
        _log.error("a refresh of %s brought the tokens of another person: they are not used", self.key)
        return await self._save(StoredToken(held.generation + 1, "login_required", kept, due_at=None), held)

    def _is_served(self, held: StoredToken) -> bool:
        if held.token is None:
            return False
        return (
            self.context.clock.boot() < lifetime.window(held.token, held.due_at, self.context.clock).expired
        )

    def _note(self, held: StoredToken) -> bytes:
        sent = held.token.refresh_token if held.token else None
        note = {
            "sender": self.context.process,
            "generation": held.generation,
            "token": records.fingerprint(sent),
            "at": self.context.clock.wall(),
        }
        return json.dumps(note).encode()
