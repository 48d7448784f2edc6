"""A login to an account that has another person's tokens: stored, sealed, until somebody decides.

Like a login under way, it lasts TIME_TO_LOG_IN and can be decided once, only in the browser that was asked:
it is stored under the ticket and that browser together, so that another one finds nothing.
Without a decision it expires in the store, and its tokens are not revoked: no process handles its end.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field

from proxy.oauth.token import Principal, Token
from proxy.store.base import AccountId, Store
from proxy.tokens.login.pending import TIME_TO_LOG_IN
from proxy.tokens.saved import codec


@dataclass(frozen=True, slots=True)
class Takeover:
    """The account belongs to `owner` and is unchanged; `token` is another person's."""

    key: AccountId
    owner: Principal = field(repr=False)
    token: Token
    browser: str  # the party that is asked
    command: str  # the party that waits for the outcome; "": none does
    ticket: str = field(default_factory=lambda: secrets.token_urlsafe(32))  # the key for `take`


async def stash(store: Store, undecided: Takeover) -> None:
    """Store it until it is taken. Raises StoreError."""
    document = {
        "key": undecided.key,
        "owner": undecided.owner,
        "token": codec.encode(undecided.token).decode(),
        "command": undecided.command,
    }
    name = f"undecided:{undecided.ticket} {undecided.browser}"
    await store.stash(name, json.dumps(document).encode(), TIME_TO_LOG_IN)


async def take(store: Store, ticket: str, browser: str) -> Takeover | None:
    """Remove and return it; None if the party `browser` was not asked this. Raises StoreError."""
    kept = await store.take(f"undecided:{ticket} {browser}") if ticket and browser else None
    if kept is None:
        return None
    document = json.loads(kept)
    return Takeover(
        AccountId(*document["key"]),
        Principal(*document["owner"]),
        codec.decode(document["token"].encode()),
        browser,
        document["command"],
        ticket,
    )
