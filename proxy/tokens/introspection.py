"""Asks the server how long a token lives (RFC 7662), where nothing else has told it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, StoreError
from proxy.oauth.endpoint import AuthorizationServers
from proxy.store.base import AccountId, Store
from proxy.tokens.account import StoredToken
from proxy.tokens.saved import records

INTROSPECTION_WAIT: Final = 3.0  # seconds; requests wait for it, and can do without what it tells

_log = logging.getLogger("proxy.tokens")


async def dated(
    store: Store, servers: AuthorizationServers, credential: Credential, key: AccountId, new: StoredToken
) -> StoredToken:
    """Ask how long a token lives that was just saved, where nothing has told it, and save that too.

    Only now: a new refresh token waits for nothing before it is saved. Whatever goes wrong changes nothing.
    """
    token = new.token
    if token is None or token.access_token is None or token.lifetime is not None:
        return new
    try:
        async with asyncio.timeout(INTROSPECTION_WAIT):
            lifetime = await servers.introspected_lifetime(credential, token.access_token)
        if lifetime is None:
            return new
        token = replace(token, lifetime=lifetime)
        known = StoredToken(new.generation + 1, new.state, token, records.due_at(credential, token))
        return await records.put(store, key, known, expected=new.generation)
    except (AuthorizationServerError, StoreError, TimeoutError) as error:
        _log.info("how long the token of %s lives is not known: introspection failed (%s)", key, error)
        return new
