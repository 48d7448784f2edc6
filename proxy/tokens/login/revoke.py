"""Revoke tokens (RFC 7009), the refresh token first: most servers end the whole login with it."""

from __future__ import annotations

import logging
from typing import Final

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth.discovered import as_issued
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.token import Token, differ
from proxy.observe.events import WARNING, event
from proxy.store.base import AccountId, Store
from proxy.tokens.saved import codec

PAGE: Final = 100  # records decrypted in one go; requests wait some ms meanwhile

_log = logging.getLogger("proxy.tokens")


async def revoke(servers: AuthorizationServers, credential: Credential, key: AccountId, token: Token) -> None:
    """A failure is logged only: the tokens are forgotten in any case."""
    for secret, hint in ((token.refresh_token, "refresh_token"), (token.access_token, "access_token")):
        try:
            if secret is not None:
                await servers.revoke(as_issued(credential, token), secret, hint)
        except AuthorizationServerError as error:
            sentence = f"{key}: its {hint} could not be revoked ({error.error})"
            fields = {**key._asdict(), "error": error.error, "token": hint}
            event(_log, WARNING, "revocation_failed", sentence, **fields)


async def has_account(store: Store, token: Token) -> bool:
    """Whether any account has tokens of the same person, from the same server and client. Raises StoreError.

    It reads the whole store: some three seconds with 100 000 accounts.
    """
    after: AccountId | None = None
    while page := await store.page(after, PAGE):
        after = page[-1].key
        stored = [codec.decode(record.body) for record in page if record.state in {"valid", "login_required"}]
        if any(each.principal and _is_same_person(each, token) for each in stored):
            return True
    return False


def _is_same_person(one: Token, other: Token) -> bool:
    from_same = (one.server, one.client_id) == (other.server, other.client_id)
    return from_same and not differ(one.principal, other.principal)
