"""`token-proxy token` and `token-proxy logout`"""

from __future__ import annotations

from collections.abc import Callable

from proxy.config.model import Config
from proxy.config.values import ACCOUNT_NAME
from proxy.errors import ProxyError
from proxy.state import open_state
from proxy.store.base import Key

Say = Callable[[str], object]


class UnknownAccount(ProxyError):
    """The command names a credential or account that can't be."""


def key_of(config: Config, credential: str, account: str) -> Key:
    """Raises UnknownAccount."""
    if credential not in config.credentials:
        known = ", ".join(sorted(config.credentials)) or "none"
        raise UnknownAccount(f"the configuration has no credential {credential!r}; it has: {known}")
    if not ACCOUNT_NAME.fullmatch(account):
        raise UnknownAccount(
            "an account's name is letters, digits and . _ @ + - (and begins with a letter or digit)"
        )
    return Key(credential, account)


async def print_token(config: Config, credential: str, account: str, say: Say) -> int:
    """Raises TokenError, StoreError, UnknownAccount."""
    key = key_of(config, credential, account)
    async with open_state(config) as state:
        served = await state.tokens.get(state.tokens.account(*key))
    say(served.authorization.decode("ascii").removeprefix("Bearer "))
    return 0


async def log_out(config: Config, credential: str, account: str, say: Say) -> int:
    """Raises StoreError, UnknownAccount."""
    key = key_of(config, credential, account)
    async with open_state(config) as state:
        await state.logins.log_out(key)
    say(f"logged out of {key}")
    return 0
