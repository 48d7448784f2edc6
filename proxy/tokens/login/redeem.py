"""The exchange of a code for tokens (RFC 6749 section 4.1.3)."""

from __future__ import annotations

import logging

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, StoreError
from proxy.oauth.endpoint import AuthorizationServers, RefusedToken, UnprovenToken
from proxy.oauth.grants.base import Form
from proxy.oauth.token import Token
from proxy.observe.events import ERROR, event
from proxy.store.base import AccountId, Store
from proxy.tokens.login import failures
from proxy.tokens.manager import AnotherPerson, TokenManager

_log = logging.getLogger("proxy.logins")


async def redeem(
    servers: AuthorizationServers,
    store: Store,
    tokens: TokenManager,
    credential: Credential,
    key: AccountId,
    form: Form,
    nonce: str,
) -> Token:
    """Send the code once; the tokens are not stored yet. Raises LoginFailed, StoreError."""
    try:
        return await servers.token_of_person(credential, form, nonce=nonce)
    except RefusedToken as error:
        await _save_refused(store, tokens, key, error)
        raise failures.of_response(credential, error) from error
    except UnprovenToken as error:
        raise failures.of_id_token(error) from error
    except AuthorizationServerError as error:
        meant = await tokens.clients.refused(credential, error)
        raise failures.of_response(credential, meant) from error


async def _save_refused(store: Store, tokens: TokenManager, key: AccountId, refused: RefusedToken) -> None:
    """Store the refresh token of a login whose access token can't be attached, for a configuration that
    accepts such tokens. Skipped if the account has working tokens: those are worth more.
    """
    try:
        record = await store.get(key)
        if record is None or record.state != "valid":
            await tokens.adopt(key, refused.token)
    except (AnotherPerson, StoreError) as error:
        sentence = f"{key}: the refresh token of a refused login is lost: {error}"
        event(_log, ERROR, "token_lost", sentence, **key._asdict())
