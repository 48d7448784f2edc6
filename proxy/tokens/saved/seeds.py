"""The seed: the configured refresh token, with which the grant `refresh_token` starts.

A seed is adopted if its hash differs from that of the last one; from then on only the store counts, even
after a logout.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.oauth import grants
from proxy.oauth.binding import by_hand, is_bound, server_of
from proxy.oauth.grants import Renewal
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.store.base import Record
from proxy.tokens.stored_token import StoredToken


def sown(
    record: Record | None, token: Token | None, credential: Credential, clock: Clock
) -> StoredToken | None:
    """The first token of the configured seed, if it differs from the last seed; else None.

    `token` is that of `record`.
    """
    seed = credential.refresh_token
    if not _has_seed(credential) or seed is None:
        return None
    if record and token and token.seed == fingerprint(seed):
        # adopted for another client id, perhaps misspelt, and still unspent: adopting it again loses nothing
        is_unused = record.state != "logged_out" and token.refresh_token == seed
        if not is_unused or is_bound(token, credential):
            return None
    generation = record.generation + 1 if record else 1
    return StoredToken(generation, "valid", _token(credential, clock, seed), due_at=clock.wall())


def blank(credential: Credential, clock: Clock) -> Token:
    """The token of a tombstone: no secrets, but the hash of the seed that was logged out."""
    seed = credential.refresh_token if _has_seed(credential) else None
    return replace(_token(credential, clock, seed), refresh_token=None)


def _has_seed(credential: Credential) -> bool:
    return grants.of(credential).renewal is Renewal.CONFIGURATION


def fingerprint(secret: Secret | None) -> str:
    """A hash to compare secrets without storing them."""
    return "" if secret is None else hashlib.sha256(secret.reveal().encode()).hexdigest()


def _token(credential: Credential, clock: Clock, seed: Secret | None) -> Token:
    """A token set without a response."""
    return Token(
        access_token=None,
        refresh_token=seed,
        server=server_of(credential),
        client_id=credential.principal,
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=0.0,
        login_at=clock.wall(),
        seed=fingerprint(seed),
        grant=credential.grant,
        endpoints=tuple(by_hand(credential).items()),
    )
