"""What is forgotten is revoked (RFC 7009), the refresh token first: with it goes all that came of a login."""

from __future__ import annotations

import logging

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.token import Token
from proxy.store.base import AccountId

_log = logging.getLogger("proxy.tokens")


async def revoke(servers: AuthorizationServers, credential: Credential, key: AccountId, token: Token) -> None:
    """What the server says to it changes nothing here: the tokens are forgotten all the same."""
    for secret, hint in ((token.refresh_token, "refresh_token"), (token.access_token, "access_token")):
        try:
            if secret is not None:
                await servers.revoke(credential, secret, hint)
        except AuthorizationServerError as error:
            _log.warning("%s: its %s could not be revoked (%s)", key, hint, error.error)
