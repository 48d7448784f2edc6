"""The refresh token of the configuration: where the tokens of grant `refresh_token` begin.

A seed is adopted when its hash differs from that of the last one; from then on the store counts, also after
a logout.
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
from proxy.tokens.account import StoredToken


def sown(
    record: Record | None, token: Token | None, credential: Credential, clock: Clock
) -> StoredToken | None:
    """What the configured seed begins, if it is another than the last one; else None.

    `token` is that of `record`.
    """
    seed = credential.refresh_token
    if not _has_seed(credential) or seed is None:
        return None
    if record and token and token.seed == fingerprint(seed):
        # tried with another client id, perhaps misspelt, and never used up: starting over loses nothing
        is_unused = record.state != "logged_out" and token.refresh_token == seed
        if not is_unused or is_bound(token, credential):
            return None
    generation = record.generation + 1 if record else 1
    return StoredToken(generation, "valid", _token(credential, clock, seed), due_at=clock.wall())


def blank(credential: Credential, clock: Clock) -> Token:
    """The token of a tombstone: none, and which seed was logged out."""
    seed = credential.refresh_token if _has_seed(credential) else None
    return replace(_token(credential, clock, seed), refresh_token=None)


def _has_seed(credential: Credential) -> bool:
    return grants.of(credential).renewal is Renewal.CONFIGURATION


def fingerprint(secret: Secret | None) -> str:
    """A hash that tells two secrets apart and gives neither away."""
    return "" if secret is None else hashlib.sha256(secret.reveal().encode()).hexdigest()


def _token(credential: Credential, clock: Clock, seed: Secret | None) -> Token:
    """A token set that no response gave."""
    return Token(
        access_token=None,
        refresh_token=seed,
        server=server_of(credential),
        client_id=credential.client_id,
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=0.0,
        login_at=clock.wall(),
        seed=fingerprint(seed),
        grant=credential.grant,
        endpoints=tuple(by_hand(credential).items()),
    )
