"""The lifetime of a token by introspection (RFC 7662), if its response did not state it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, StoreError
from proxy.oauth.discovered import as_issued
from proxy.oauth.endpoint import AuthorizationServers
from proxy.observe.events import INFO, event
from proxy.store.base import AccountId, Store
from proxy.tokens.saved import records
from proxy.tokens.stored_token import StoredToken

INTROSPECTION_WAIT: Final = 3.0  # seconds; requests wait for it, but do not need its result

_log = logging.getLogger("proxy.tokens")


async def with_lifetime(
    store: Store, servers: AuthorizationServers, credential: Credential, key: AccountId, saved: StoredToken
) -> StoredToken:
    """Add the lifetime to a token just saved, and save it again; unchanged if the lifetime is unknown.

    Introspection follows the save: nothing may delay saving a new refresh token.
    """
    token = saved.token
    if token is None or token.access_token is None or token.lifetime is not None:
        return saved
    try:
        async with asyncio.timeout(INTROSPECTION_WAIT):
            issuing = as_issued(credential, token)
            lifetime = await servers.introspected_lifetime(issuing, token.access_token)
        if lifetime is None:
            return saved
        token = replace(token, lifetime=lifetime)
        known = StoredToken(saved.generation + 1, saved.state, token, records.due_at(credential, token))
        return await records.put(store, key, known, expected=saved.generation)
    except (AuthorizationServerError, StoreError, TimeoutError) as error:
        sentence = f"{key}: the lifetime of its token is unknown: introspection failed ({error})"
        event(_log, INFO, "introspection_failed", sentence, **key._asdict())
        return saved
