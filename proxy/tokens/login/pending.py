"""Logins under way: sealed in the store, and found only by the parties that may end them.

A party is the browser in which the login goes on (by its cookie), or the command that waits for it (by a
secret of its own). A login is stored under its state and each of its parties together: a callback of anybody
else finds nothing, and so ends nothing, even with the right state. A ticket lets one browser begin the login
of a command. Everything here lasts TIME_TO_LOG_IN and can be taken once.

Only digests of states, tickets and secrets are names in the store, as names are not sealed.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Final

from proxy.errors import LoginFailed
from proxy.store.base import AccountId, Store

# Seconds for a login, and again for the decision. RFC 9700 recommends a short-lived state; a second factor
# takes some minutes.
TIME_TO_LOG_IN: Final = 600.0
TIME_TO_LOG_IN_SAID: Final = f"{TIME_TO_LOG_IN / 60:.0f} minutes"


class UnknownLogin(LoginFailed):
    """No login has this state and this party: nothing has changed."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What `finish` needs to know of a login that was begun."""

    credential: str
    account: str
    server: str  # with client_id and endpoints: the configuration for which it was begun
    client_id: str
    endpoints: dict[str, str]
    redirect_uri: str
    nonce: str
    verifier: str | None
    command: str  # the party that waits for the outcome; "": none does
    found: dict[str, Any] | None = None  # of saved/found.py: the server and client of this login
    dpop_key: str | None = None  # of the tokens; added later

    @property
    def key(self) -> AccountId:
        return AccountId(self.credential, self.account)


def new_secret() -> str:
    """Identifies a command; also a ticket. 256 random bits."""
    return secrets.token_urlsafe(32)


def party(secret: str) -> str:
    """The name of a browser or command, from the secret that only it has; "" for none."""
    return hashlib.sha256(secret.encode()).hexdigest() if secret else ""


async def keep(store: Store, state: str, login: Pending, parties: Collection[str]) -> None:
    """Store it for those who may end it. Raises StoreError."""
    name = secrets.token_urlsafe(16)
    await store.stash(f"pending:{name}", json.dumps(asdict(login)).encode(), TIME_TO_LOG_IN)
    for each in parties:
        await store.stash(f"login:{state} {each}", name.encode(), TIME_TO_LOG_IN)


async def take(store: Store, state: str, by: str) -> Pending | None:
    """Remove and return the login that the party `by` may end; of two calls only one gets it.

    Raises StoreError.
    """
    if not (state and by):
        return None
    name = await store.take(f"login:{state} {by}")
    kept = await store.take(f"pending:{name.decode()}") if name else None
    try:
        return Pending(**json.loads(kept)) if kept else None
    except TypeError:  # of a version with other fields, during an upgrade
        return None


async def keep_ticket(store: Store, ticket: str, key: AccountId, command: str, *, for_own_user: bool) -> None:
    """Let the bearer of `ticket` begin a login to `key` for the party `command`. Raises StoreError."""
    kind = "own-ticket" if for_own_user else "ticket"
    await store.stash(f"{kind}:{ticket} {key}", command.encode(), TIME_TO_LOG_IN)


async def take_ticket(store: Store, ticket: str, key: AccountId, *, by_own_user: bool) -> str | None:
    """The party for which the ticket was made; None for another account or user, or once it was taken.

    Raises StoreError.
    """
    for kind in ("ticket", "own-ticket") if by_own_user else ("ticket",):
        if ticket and (command := await store.take(f"{kind}:{ticket} {key}")):
            return command.decode()
    return None
