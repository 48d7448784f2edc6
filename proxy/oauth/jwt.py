"""Signs JWTs (RFC 7519, RFC 7515) with joserfc, which is imported only where something is signed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

from cachetools import LRUCache

from proxy.config.signing_keys import SigningKey
from proxy.secret import Secret

CACHED: Final = 256  # keys; reading one of RSA takes a millisecond, in which no request is served

_read: LRUCache[Secret, Any] = LRUCache(maxsize=CACHED)


def signed(
    claims: Mapping[str, Any], key: SigningKey, algorithm: str = "", header: Mapping[str, Any] | None = None
) -> str:
    """A compact JWS. `algorithm`: one of the key's, by default its first. `header`: more members of it."""
    return _encoded(claims, _private(key), algorithm or key.algorithms[0], header or {})


def signed_with_secret(claims: Mapping[str, Any], secret: Secret, algorithm: str) -> str:
    """A compact JWS with a MAC; `algorithm`: one of signing_keys.HMAC."""
    from joserfc.jwk import OctKey  # noqa: PLC0415 (large, and most configurations sign nothing)

    with _quietly():
        key = OctKey.import_key(secret.reveal().encode())
    return _encoded(claims, key, algorithm, {})


def _private(key: SigningKey) -> Any:
    from joserfc.jwk import JWKRegistry  # noqa: PLC0415 (as above)

    found = _read.get(key.secret)
    if found is None:
        pem = key.secret.reveal()
        found = _read[key.secret] = JWKRegistry.import_key(pem, key.kind)
    return found


def _encoded(claims: Mapping[str, Any], key: Any, algorithm: str, header: Mapping[str, Any]) -> str:
    from joserfc import jwt  # noqa: PLC0415 (as above)

    with _quietly():
        return jwt.encode({"alg": algorithm, **header}, dict(claims), key, algorithms=[algorithm])


def _quietly() -> warnings.catch_warnings:
    """joserfc warns of what the server has decided: a short secret, or EdDSA by its first name."""
    from joserfc.errors import SecurityWarning  # noqa: PLC0415 (as above)

    return warnings.catch_warnings(action="ignore", category=SecurityWarning)
