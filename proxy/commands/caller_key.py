"""`token-proxy caller-key`: a key for a caller. Nothing is written."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from proxy import caller_keys
from proxy.config.model import Config
from proxy.config.values import NAME
from proxy.errors import ProxyError
from proxy.store.open import existing_key
from proxy.store.seal import derive

Say = Callable[[str], object]

_TTL: Final = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class NotACaller(ProxyError):
    """The name is not valid, or no caller of the configuration has it."""


def read_ttl(text: str) -> int:
    """`90s`, `15m`, `8h` or `1d` in seconds. Raises ValueError."""
    parts = _TTL.fullmatch(text)
    seconds = int(parts[1]) * _SECONDS[parts[2]] if parts else 0
    if seconds < 1:
        raise ValueError("expected a number with s, m or h: 90s, 15m, 8h")
    if seconds > caller_keys.LONGEST:
        raise ValueError("too long: expected at most 24h, as a signed key can't be taken back by itself")
    return seconds


def print_key(name: str, say: Say, note: Say, *, explain: bool) -> int:
    """A new random key by `say`, its line of the configuration by `note`. Raises NotACaller.

    `explain`: also note where that line belongs, for people.
    """
    if not NAME.fullmatch(name):
        raise NotACaller("that is not a caller's name: expected at most 63 characters: a-z, 0-9, _ and -")
    key = caller_keys.new_key()
    say(key)
    if explain:
        note(f"The key is not stored anywhere. For the configuration, in [callers.{name}]:")
    note(f'key_sha256 = "{caller_keys.digest_of(key.encode()).hex()}"')
    return 0


def print_signed(config: Config, name: str, seconds: int, say: Say) -> int:
    """A key that is valid for `seconds`. Raises NotACaller, StoreError."""
    if name not in config.callers:
        known = ", ".join(sorted(config.callers)) or "none"
        raise NotACaller(f"the configuration has no caller {name!r}: its callers are {known}")
    say(sign_by_store(config, name, seconds))
    return 0


def sign_by_store(config: Config, name: str, seconds: int = caller_keys.LONGEST) -> str:
    """As `sign_for`, by the store's key, without opening the store. Raises NotACaller, StoreError."""
    key = existing_key(config.store.url.reveal(), config.server.state_dir, config.store.key)
    return sign_for(config, name, derive(key, caller_keys.PURPOSE), seconds)


def sign_for(config: Config, name: str, secret: bytes, seconds: int = caller_keys.LONGEST) -> str:
    """A signed key of a caller of the configuration. Raises NotACaller."""
    now, not_before = time.time(), config.callers[name].not_before
    if not_before is not None and now < not_before:
        raise NotACaller(f"not_before of caller {name!r} is in the future: no key made now would be accepted")
    return caller_keys.sign(secret, name, now, seconds)
