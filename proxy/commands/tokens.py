"""`token-proxy token` and `token-proxy logout`"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from proxy.config.model import Config
from proxy.config.values import ACCOUNT_NAME
from proxy.errors import ProxyError
from proxy.observe.audit import audited
from proxy.services import Services, open_services
from proxy.store.base import AccountId

Say = Callable[[str], object]


class UnknownAccount(ProxyError):
    """The command names an unknown credential or an invalid account."""


class NothingKept(ProxyError):
    """The store is in memory, so that the command has no lasting effect."""


def key_of(config: Config, credential: str, account: str) -> AccountId:
    """Raises UnknownAccount."""
    if credential not in config.credentials:
        known = ", ".join(sorted(config.credentials)) or "none"
        raise UnknownAccount(
            f"the configuration has no credential {credential!r}: its credentials are {known}"
        )
    if not ACCOUNT_NAME.fullmatch(account):
        raise UnknownAccount(
            "that is not an account name: use letters, digits and . _ @ + -, beginning with a letter or digit"
        )
    return AccountId(credential, account)


def check_kept(config: Config) -> None:
    """Raises NothingKept."""
    if config.store.is_memory:
        raise NothingKept(
            f"the store is memory:, which no other process shares: use the page {config.public_url}/"
        )


@asynccontextmanager
async def audited_services(config: Config) -> AsyncIterator[Services]:
    """As `open_services`; logins and logouts are in the audit log. Raises StoreError, ProxyError."""
    with audited(config.log):
        async with open_services(config) as services:
            yield services


async def print_token(config: Config, credential: str, account: str, say: Say) -> int:
    """Raises TokenError, StoreError, UnknownAccount."""
    key = key_of(config, credential, account)
    async with open_services(config) as services:
        wanted = services.tokens.account(*key)
        served = await services.tokens.get(wanted)
        if (
            wanted.flight is not None
        ):  # a refresh is running, with which some servers invalidate the old token
            await asyncio.wait((wanted.flight,), timeout=config.limits.token_wait)
            served = services.tokens.ready(wanted) or served
    say(served.access_token.reveal())
    return 0


async def log_out(config: Config, credential: str, account: str, say: Say, warn: Say) -> int:
    """Raises StoreError, UnknownAccount, NothingKept."""
    key = key_of(config, credential, account)
    check_kept(config)
    async with audited_services(config) as services:
        remains = await services.logins.log_out(key)
    say(f"logged out of {key}")
    if remains:
        warn(f"token-proxy: {remains}")
    return 0
