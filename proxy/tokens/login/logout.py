"""A logout: the tokens are forgotten, then revoked (RFC 7009)."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from proxy.config.model import Config
from proxy.errors import AuthorizationServerError, LoginFailed
from proxy.oauth.endpoint import AuthorizationServers
from proxy.observe.events import INFO, event
from proxy.store.base import AccountId
from proxy.tokens.login.revoke import revoke
from proxy.tokens.manager import TokenManager

NOT_REVOKED: Final = (
    "the tokens are forgotten here, but not revoked: {why}. The authorization server accepts them until they "
    "expire; end the login there too, if somebody else may have them"
)

_log = logging.getLogger("proxy.logins")


async def log_out(config: Config, servers: AuthorizationServers, tokens: TokenManager, key: AccountId) -> str:
    """As Logins.log_out."""
    if not config.is_stored(key.credential):
        raise LoginFailed(
            f"the token of {key} is in the configuration, so that there is none to forget: change or "
            f"remove credentials.{key.credential}.value"
        )
    token = await tokens.forget(key)
    event(_log, INFO, "logout", f"logged out of {key}", **key._asdict())
    if token is None:  # perhaps as no login succeeds
        await _give_up_client(config, tokens, key)
        return ""
    failed = await revoke(servers, config.credentials[key.credential], key, token)
    return NOT_REVOKED.format(why=failed) if failed else ""


async def _give_up_client(config: Config, tokens: TokenManager, key: AccountId) -> None:
    with suppress(AuthorizationServerError):  # its server may be away, and a logout needs none
        credential = config.credentials[key.credential]
        await tokens.clients.give_up(credential, config.redirect_uri(credential))
