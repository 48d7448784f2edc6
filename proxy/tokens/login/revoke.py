"""Forgotten tokens are revoked (RFC 7009), the refresh token first: all that came of a login ends with it."""

from __future__ import annotations

import logging
from typing import Final

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.token import Token, differ
from proxy.store.base import AccountId, Store
from proxy.tokens.saved import codec

PAGE: Final = 100  # records opened at once, where all are looked at; requests wait some ms meanwhile

_log = logging.getLogger("proxy.tokens")


async def revoke(servers: AuthorizationServers, credential: Credential, key: AccountId, token: Token) -> None:
    """What the server says to it changes nothing here: the tokens are forgotten all the same."""
    for secret, hint in ((token.refresh_token, "refresh_token"), (token.access_token, "access_token")):
        try:
            if secret is not None:
                await servers.revoke(credential, secret, hint)
        except AuthorizationServerError as error:
            _log.warning("%s: its %s could not be revoked (%s)", key, hint, error.error)


async def has_account(store: Store, token: Token) -> bool:
    """Whether any account has tokens of the same person, from the same server and client. Raises StoreError.

    It walks through the store: some three seconds where there are 100 000 accounts.
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
