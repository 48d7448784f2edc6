"""Tokens that callers' own tokens are exchanged for (RFC 8693): in memory only, one account for each subject.

An account here is one in every other respect: one exchange at a time, back-off, the throttle of its client.
It is found by its own subject only: no caller gets another caller's token. It is forgotten when its token
ends, and a token ends with its subject.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from typing import Final

from cachetools import TLRUCache

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens.account import Account
from proxy.tokens.refresh.throttle import ServerThrottle

MOST: Final = 10_000  # subjects at a time; each takes some KiB
# Seconds that a subject without a token is remembered: so one that is refused is not asked about each time.
WITHOUT_TOKEN: Final = 60.0


class Exchanged:
    """The accounts of subjects, by the hash of subject, credential, scopes and audience."""

    def __init__(self, clock: Clock, most: int = MOST) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)  # names tell nobody whether a guessed token is one of them
        self._accounts: TLRUCache[str, Account] = TLRUCache(most, ttu=self._kept_until, timer=clock.boot)

    def __len__(self) -> int:
        return len(self._accounts)

    def account(self, credential: Credential, throttle: ServerThrottle, subject: Secret) -> Account:
        """The account of this subject; a new one has no token yet."""
        name = self._name(credential, subject)
        account = self._accounts.get(name)
        if account is None or account.credential != credential:
            key = AccountId(credential.name, name)
            account = Account(key, credential, self._clock, throttle, subject)
            self._keep(name, account)
        elif account.usable_until > account.kept_until:  # it has a newer token
            self._keep(name, account)
        return account

    def _name(self, credential: Credential, subject: Secret) -> str:
        parts = (
            credential.name,
            *(
                credential.subject_token_type,
                credential.requested_token_type or "",
                credential.audience or "",
            ),
            " ".join(credential.scopes),
            subject.reveal(),
        )
        # a length before each: no two lists of parts are the same bytes
        document = b"".join(b"%d:%b" % (len(part), part) for part in (each.encode() for each in parts))
        return hmac.new(self._secret, document, hashlib.sha256).hexdigest()[:32]

    def _keep(self, name: str, account: Account) -> None:
        account.kept_until = max(account.usable_until, self._clock.boot() + WITHOUT_TOKEN)
        self._accounts[name] = account

    def _kept_until(self, _name: str, account: Account, _now: float) -> float:
        return account.kept_until if math.isfinite(account.kept_until) else self._clock.boot() + WITHOUT_TOKEN
