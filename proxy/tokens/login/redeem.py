"""The token request of a login (RFC 6749 section 4.1.3), and what its failure means."""

from __future__ import annotations

import logging
from collections.abc import Callable

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, LoginFailed, StoreError
from proxy.oauth.endpoint import AuthorizationServers, RefusedToken, UnprovenToken
from proxy.oauth.grants.base import Form
from proxy.oauth.token import Token
from proxy.observe.events import ERROR, event
from proxy.secret import Secret
from proxy.store.base import AccountId, Store
from proxy.tokens.adoption import AnotherPerson
from proxy.tokens.login import failures
from proxy.tokens.manager import TokenManager

_log = logging.getLogger("proxy.logins")


async def redeem(
    servers: AuthorizationServers,
    store: Store,
    tokens: TokenManager,
    credential: Credential,
    key: AccountId,
    form: Form,
    nonce: str,
    dpop_key: Secret | None,
) -> Token:
    """Send the code once; the tokens are not stored yet. Raises LoginFailed, StoreError."""
    try:
        return await servers.token_of_person(credential, form, nonce=nonce, dpop_key=dpop_key)
    except AuthorizationServerError as error:
        raise await failure_of(error, store, tokens, credential, key) from error


async def failure_of(
    error: AuthorizationServerError,
    store: Store,
    tokens: TokenManager,
    credential: Credential,
    key: AccountId,
    explain: Callable[[Credential, AuthorizationServerError], LoginFailed] = failures.of_response,
) -> LoginFailed:
    """The failure of the login. A refresh token that came with an unusable access token is saved."""
    if isinstance(error, UnprovenToken):
        return failures.of_id_token(error)
    if isinstance(error, RefusedToken):
        await _save_refused(store, tokens, key, error)
    return explain(credential, await tokens.clients.refused(credential, error))


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
