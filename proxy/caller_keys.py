"""The keys by which callers are recognised: random ones, and signed ones that expire. Pure.

    tpk_RANDOM                  32 random bytes; the configuration holds the key or its SHA-256
    tpk_s1.NAME.EXP.MAC         signed for the caller NAME; EXP: Unix time in whole seconds

MAC is base64url of the time of issue (7 bytes, milliseconds) and the HMAC-SHA-256 of all of that under a key
derived from the store's: so each process with this store knows whether a key was made before `not_before`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
import secrets
from typing import Final, NamedTuple

PREFIX: Final = b"tpk_"
SIGNED: Final = b"tpk_s1."
PURPOSE: Final = "caller-key"  # of the key that is derived from the store's
LONGEST: Final = 24 * 3600  # seconds that a signed key may be valid
SKEW: Final = 300  # seconds by which the clocks of its maker and of this process may differ
_ISSUED_BYTES: Final = 7  # with the HMAC a multiple of three: base64 has no spare bits, so one spelling only
_PARTS: Final = re.compile(rb"(tpk_s1\.([a-z0-9][a-z0-9_-]{0,62})\.([1-9][0-9]{0,11}))\.([A-Za-z0-9_-]{52})")


def new_key() -> str:
    return PREFIX.decode() + secrets.token_urlsafe(32)


def digest_of(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class SignedKey(NamedTuple):
    """What a signed key states; times in Unix seconds."""

    name: str
    issued: float
    expires: float


def sign(secret: bytes, name: str, now: float, seconds: float) -> str:
    """A key of the caller `name` that is valid for `seconds`, at most LONGEST, from `now` (Unix time) on."""
    stated = b"%b%b.%d" % (SIGNED, name.encode("ascii"), math.ceil(now + seconds))
    issued = int(now * 1000).to_bytes(_ISSUED_BYTES, "big")
    mac = issued + _mac(secret, stated, issued)
    return (stated + b"." + base64.urlsafe_b64encode(mac)).decode("ascii")


def read_signed(secret: bytes, key: bytes, now: float) -> SignedKey | None:
    """None unless `sign` made this key with this secret, and it has not expired. `now`: Unix time."""
    parts = _PARTS.fullmatch(key)
    if parts is None:
        return None
    stated, name, expires = parts[1], parts[2], int(parts[3])
    mac = base64.urlsafe_b64decode(parts[4])
    issued = mac[:_ISSUED_BYTES]
    if not hmac.compare_digest(mac[_ISSUED_BYTES:], _mac(secret, stated, issued)):
        return None
    if not now < expires <= now + LONGEST + SKEW:
        return None
    return SignedKey(name.decode("ascii"), int.from_bytes(issued, "big") / 1000, float(expires))


def _mac(secret: bytes, stated: bytes, issued: bytes) -> bytes:
    return hmac.digest(secret, stated + b"." + issued, "sha256")
