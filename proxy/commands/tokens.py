"""`token-proxy token` and `token-proxy logout`"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final

from proxy.commands.token_formats import FORMATS, CannotPrint, Printed
from proxy.config.model import Config
from proxy.config.values import ACCOUNT_NAME
from proxy.errors import ProxyError
from proxy.observe.audit import audited
from proxy.secret import Secret
from proxy.services import Services, open_services
from proxy.store.base import AccountId
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment
from proxy.tokens.handed_out import described, note

Say = Callable[[str], object]
NO_GIT: Final[Mapping[str, str]] = MappingProxyType({})


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


async def print_token(
    config: Config,
    credential: str,
    account: str,
    say: Say,
    form: str = "plain",
    git: Mapping[str, str] = NO_GIT,
) -> int:
    """`form`: of FORMATS. `git`: what git says.

    Raises TokenError, StoreError, UnknownAccount, CannotPrint.
    """
    key = key_of(config, credential, account)
    if config.credentials[credential].dpop:
        raise CannotPrint(
            f"a token of credentials.{credential} is bound to a key (dpop), and of no use without it: send "
            "the requests through token-proxy"
        )
    async with audited_services(config) as services:
        wanted = services.tokens.account(*key)
        served = await _served(services, wanted)
        document = described(wanted, served, services.clock)
        text = FORMATS[form](Printed(wanted.credential, served, document, git, os.environ))
        note(wanted, "the command token")
    say(text)
    return 0


async def _served(services: Services, wanted: Account) -> Attachment:
    """Raises TokenError."""
    served = await services.tokens.get(wanted)
    if wanted.flight is not None:  # a refresh is running, with which some servers invalidate the old token
        await asyncio.wait((wanted.flight,), timeout=services.config.limits.token_wait)
        served = services.tokens.ready(wanted) or served
    return served


async def git_refused(config: Config, credential: str, account: str, git: Mapping[str, str]) -> int:
    """A server has refused the password that git names, as an upstream does by a 401.

    Raises TokenError, StoreError, UnknownAccount.
    """
    key = key_of(config, credential, account)
    async with open_services(config) as services:
        wanted = await services.tokens.look_at(key)
        held = wanted.attachment
        if held is not None and held.access_token == Secret(git.get("password", "")):
            better = services.tokens.reject(wanted, held)
            if better is not None:
                await better
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
