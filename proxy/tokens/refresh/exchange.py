"""The exchange of one caller's own token (RFC 8693). Nothing of it is stored.

It stands in the place of refresh.py for the accounts of subjects. The new token never outlives the subject.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Final

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth import expires_in
from proxy.oauth.grants.token_exchange import form_for
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens.refresh import backoff
from proxy.tokens.refresh.context import RefreshContext
from proxy.tokens.refresh.throttle import Turn
from proxy.tokens.saved import records
from proxy.tokens.stored_token import StoredToken

UNKNOWN_LIFETIME: Final = 300.0  # seconds, where neither token states its end


@dataclass(slots=True)
class SubjectExchange:
    context: RefreshContext
    credential: Credential
    key: AccountId
    known: StoredToken
    turn: Turn
    attempts: int  # at most, while responses are lost
    subject: Secret
    tried: int = 0
    kept: StoredToken | None = None  # as of Refresh: nothing is kept here

    async def run(self) -> StoredToken:
        """The new token. Raises AuthorizationServerError."""
        end, now = expires_in.end_of_jwt(self.subject.reveal()), self.context.clock.wall()
        if end is not None and end <= now:
            raise AuthorizationServerError("login_required", "expired_token", reached=False)
        token = await self._requested()
        left = None if end is None else end - token.issued_at
        token = replace(token, refresh_token=None, lifetime=_lifetime(token, left))
        due_at = records.due_at(self.credential, token)
        return StoredToken(self.known.generation + 1, "valid", token, due_at)

    async def _requested(self) -> Token:
        """Retried after a lost response: an exchange spends nothing."""
        context = self.context
        while True:
            self.tried += 1
            started = time.perf_counter()
            try:
                token = await context.servers.token(self.credential, form_for(self.credential, self.subject))
            except AuthorizationServerError as error:
                self.turn.failed(error)
                context.attempted(self.credential, error.outcome, error.error, time.perf_counter() - started)
                is_final = error.outcome != "transient" or error.retry_after is not None
                if is_final or self.tried >= self.attempts or not self.turn.may_repeat(error):
                    raise
                await asyncio.sleep(backoff.backoff(self.tried))
            else:
                self.turn.succeeded()
                context.attempted(self.credential, "success", "", time.perf_counter() - started)
                return token


def _lifetime(token: Token, subject_left: float | None) -> float:
    """Seconds: until the first of the two tokens ends."""
    stated = [each for each in (token.lifetime, subject_left) if each is not None]
    return min(stated, default=UNKNOWN_LIFETIME)
