"""Proofs of possession of a key (RFC 9449). Pure, except for random values.

Each account has a key of its own, which its record in the store holds: a JWK with the algorithm in `alg`. A
server may ask for a nonce of its own in the proofs; the last one of each server is remembered.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from cachetools import LRUCache

from proxy.config.signing_keys import SigningKey, read_signing_key
from proxy.oauth import documents, jwt
from proxy.oauth.documents import UnreadableDocument
from proxy.secret import Secret

SCHEME: Final = "DPoP"  # of Authorization (RFC 9449 section 7.1)
NONCE_FIELD: Final = "DPoP-Nonce"
USE_NONCE: Final = "use_dpop_nonce"
BACKDATED: Final = 2.0  # seconds: clocks differ, and no server accepts a proof of its future
SERVERS: Final = 4096  # whose last nonce is remembered
_NONCE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,1024}")  # RFC 9449 section 8.1; a proof fits a field
_GENERATED: Final[Mapping[str, tuple[str, str | int]]] = {  # by preference: small and fast first
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "PS256": ("RSA", 2048),
    "RS256": ("RSA", 2048),
}


def new_key(offered: Collection[str] | None) -> Secret:
    """A private JWK. `offered`: dpop_signing_alg_values_supported, None if unknown."""
    from joserfc.jwk import JWKRegistry  # noqa: PLC0415 (large, and most configurations sign nothing)

    names = [each for each in _GENERATED if offered is not None and each in offered]
    algorithm = names[0] if names else "ES256"
    kind, size = _GENERATED[algorithm]
    key = JWKRegistry.generate_key(kind, size)
    return Secret(json.dumps({**key.as_dict(private=True), "alg": algorithm}))


class Prover:
    """The key of an account, ready to sign."""

    __slots__ = ("_header", "_key", "thumbprint")

    def __init__(self, key: Secret) -> None:
        """`key`: of `new_key`."""
        from joserfc.jwk import JWKRegistry  # noqa: PLC0415 (as above)

        self._key: SigningKey = read_signing_key(key.reveal())
        jwk = JWKRegistry.import_key(self._key.secret.reveal(), self._key.kind)
        self._header: Mapping[str, Any] = {"typ": "dpop+jwt", "jwk": jwk.as_dict(private=False)}
        self.thumbprint: str = jwk.thumbprint()  # RFC 7638: the parameter dpop_jkt

    def proof(self, method: str, url: str, now: float, *, nonce: str = "", access_token: str = "") -> str:
        """A proof for one request (RFC 9449 section 4.2), without the query of `url`. `now`: Unix seconds."""
        claims: dict[str, str | int] = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": url.partition("?")[0].partition("#")[0],
            "iat": int(now - BACKDATED),
        }
        if nonce:
            claims["nonce"] = nonce
        if access_token:
            digest = hashlib.sha256(access_token.encode()).digest()
            claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
        return jwt.signed(claims, self._key, header=self._header)


class Nonces:
    """The last nonce of each server, by its origin."""

    def __init__(self) -> None:
        self._known: LRUCache[str, str] = LRUCache(maxsize=SERVERS)

    def of(self, origin: str) -> str:
        """The empty string if it has sent none."""
        return self._known.get(origin, "")

    def learn(self, origin: str, nonce: str) -> bool:
        """Remember a nonce, "" for none; whether it is one."""
        if not _NONCE.fullmatch(nonce):
            return False
        self._known[origin] = nonce
        return True


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def asks_for_nonce(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a token endpoint refuses a request for the lack of its nonce (RFC 9449 section 8)."""
    if status not in {400, 401}:
        return False
    try:
        return documents.read(headers, body, ("error",)).members.get("error") == USE_NONCE
    except UnreadableDocument:
        return False
