"""Revoke tokens (RFC 7009), the refresh token first: most servers end the whole login with it."""

from __future__ import annotations

import logging
from typing import Final

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, StoreError
from proxy.oauth import grants
from proxy.oauth.discovered import as_issued
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.token import Token, differ
from proxy.observe.events import WARNING, event
from proxy.store.base import AccountId, Store
from proxy.tokens.diagnosis import explain_failure
from proxy.tokens.saved import codec

PAGE: Final = 100  # records decrypted in one go; requests wait some ms meanwhile

_log = logging.getLogger("proxy.tokens")


async def revoke(servers: AuthorizationServers, credential: Credential, key: AccountId, token: Token) -> str:
    """A failure is logged, and returned as a sentence; "" for none. The tokens are forgotten in any case."""
    issuing, failed = as_issued(credential, token), ""
    for secret, hint in ((token.refresh_token, "refresh_token"), (token.access_token, "access_token")):
        if secret is None:
            continue
        try:
            if not await servers.revoke(issuing, secret, hint):
                raise AuthorizationServerError("misconfigured", "no_revocation_endpoint")
        except AuthorizationServerError as error:
            why = explain_failure(
                error, credential.name, grants.of(credential), credential.scopes, otherwise=""
            )
            failed = failed or why
            fields = {"error": error.error, "cause": error.cause_sentence, "token": hint}
            sentence = f"{key}: its {hint} was not revoked: {why}"
            event(_log, WARNING, "revocation_failed", sentence, **key._asdict(), **fields)
    return failed


async def discard(
    store: Store, servers: AuthorizationServers, credential: Credential, key: AccountId, token: Token
) -> None:
    """Revoke tokens that no account will use, unless that could invalidate the tokens of an account.

    Some servers (Google) revoke all tokens of the same person together.
    """
    try:
        has_others = await has_account(store, token)
    except StoreError:
        has_others = True  # possibly
    if not has_others:
        await revoke(servers, credential, key, token)


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
