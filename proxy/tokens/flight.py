"""One refresh, from the lease to the saved record.

    lease → read again (someone was first? done) → note the intent → send → save → release → serve

The intent is durable before anything is sent, and the new token is durable before anyone is served with
it: whatever dies in between, the store holds the old refresh token or the new one. An intent found open
means that an earlier refresh may or may not have reached the server; the old token is sent again at once,
which servers answer within their grace (RFC 9700 section 4.14.2).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, GenerationConflict, StoreError, UnreadableRecord
from proxy.oauth import grants
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.grants import Form
from proxy.oauth.token import Token
from proxy.store.base import Key, Store
from proxy.tokens import lease, life, notices, records
from proxy.tokens.account import Held

_log = logging.getLogger("proxy.tokens")
Attempted = Callable[[Credential, str, str, float], None]  # credential, outcome, error, seconds


@dataclass(frozen=True, slots=True)
class Tower:
    """What every flight needs."""

    store: Store
    servers: AuthorizationServers
    clock: Clock
    process: str  # in the names of lease holders
    attempted: Attempted


@dataclass(frozen=True, slots=True)
class Flight:
    """One refresh of one account. `known` is what this process held when it began."""

    tower: Tower
    credential: Credential
    key: Key
    known: Held
    attempts: int  # while the server gives no clear answer

    async def fly(self) -> Held:
        """Get a token newer than the known one, by whoever is first.

        Raises AuthorizationServerError, StoreError.
        """
        async with lease.held(self.tower.store, f"refresh:{self.key}", self.tower.process):
            while True:
                try:
                    return await self._refresh(await self._read())
                except GenerationConflict:
                    continue  # somebody logged in or out meanwhile: what they wrote counts

    async def _read(self) -> Held:
        return await records.read(self.tower.store, self.tower.clock, self.credential, self.key, self.known)

    async def _refresh(self, held: Held) -> Held:
        if held.generation > self.known.generation and self._is_served(held):
            return held
        form = self._form(held)
        if form is None:
            return held
        if form["grant_type"] == "refresh_token":
            await self.tower.store.intend(self.key, held.generation, self._intent(held))
        try:
            token = await self._send(form)
        except AuthorizationServerError as error:
            if error.outcome != "login_required":
                raise
            return await self._give_up(held, error)
        heir = life.heir(token, held.token, self.known.token) if held.token else token
        notices.narrowed(self.key, self.credential, heir, held.token)
        new = Held(held.generation + 1, "valid", heir, records.due_at(self.credential, heir))
        saved = await self._save(new, expected=held.generation)
        return await records.dated(self.tower.store, self.tower.servers, self.credential, self.key, saved)

    def _form(self, held: Held) -> Form | None:
        """What to send; None where only a person can help."""
        if self.credential.grant == "client_credentials":
            return grants.client_credentials(self.credential.scopes)
        if held.state != "valid" or held.token is None or held.token.refresh_token is None:
            return None
        return grants.refresh_token(held.token.refresh_token)

    async def _send(self, form: Form) -> Token:
        """Ask for a token; a lost answer is asked for again."""
        attempt = 0
        while True:
            attempt += 1
            started = time.perf_counter()
            try:
                token = await self.tower.servers.token(self.credential, form)
            except AuthorizationServerError as error:
                seconds = time.perf_counter() - started
                self.tower.attempted(self.credential, error.outcome, error.error, seconds)
                is_final = error.outcome != "transient" or error.retry_after is not None
                if is_final or attempt >= self.attempts:
                    raise
                await asyncio.sleep(life.backoff(attempt))
            else:
                self.tower.attempted(self.credential, "success", "", time.perf_counter() - started)
                return token

    async def _save(self, held: Held, *, expected: int) -> Held:
        """Make the new token the account's own, durably. Raises GenerationConflict, UnreadableRecord.

        While the store can't be written, this tries again and again: nothing may be served unsaved.
        """
        failures = 0
        while True:
            try:
                return await records.put(self.tower.store, self.key, held, expected=expected)
            except (GenerationConflict, UnreadableRecord):
                raise
            except StoreError as error:
                failures += 1
                _log.error("the new token of %s is not used until it can be saved: %s", self.key, error)
                await asyncio.sleep(life.backoff(failures))

    async def _give_up(self, held: Held, error: AuthorizationServerError) -> Held:
        """The refresh token is refused for good. Say so in the store.

        Raises GenerationConflict if someone has logged in or refreshed meanwhile. Nothing is deleted: the
        record keeps its tokens, and the access token serves to its end.
        """
        if held.token is None or self.credential.grant == "client_credentials":
            raise AuthorizationServerError("misconfigured", error.error)
        refused = replace(
            held, generation=held.generation + 1, state="login_required", due_at=None, unsettled=False
        )
        await records.put(self.tower.store, self.key, refused, expected=held.generation)
        _log.warning("%s: the authorization server refuses its refresh token", self.key)
        return refused

    def _is_served(self, held: Held) -> bool:
        if held.token is None:
            return False
        return self.tower.clock.boot() < life.window(held.token, held.due_at, self.tower.clock).expired

    def _intent(self, held: Held) -> bytes:
        sent = held.token.refresh_token if held.token else None
        note = {
            "generation": held.generation,
            "token": records.fingerprint(sent),
            "at": self.tower.clock.wall(),
        }
        return json.dumps(note).encode()
