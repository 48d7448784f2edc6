"""Where an issuer's endpoints are (RFC 8414, OpenID Connect Discovery 1.0).

What the configuration gives by hand is never overridden. The document must name the issuer that we asked
(RFC 8414 section 3.3), and its endpoints must be https, on loopback excepted. A copy serves for an hour,
and for as long as the server can't be asked again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from authlib.oauth2.rfc8414 import get_well_known_url
from cachetools import LRUCache

from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth.fetch import Fetcher, Reply

FRESH_FOR: Final = 3600.0  # seconds; endpoints move rarely, keys are not read from here
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "revocation_endpoint")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where to talk to an authorization server."""

    issuer: str | None
    authorization_endpoint: str | None
    token_endpoint: str | None
    revocation_endpoint: str | None
    iss_in_callback: bool = False  # RFC 9207: it always names itself there


class Discovery:
    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._documents: LRUCache[str, tuple[float, dict[str, Any]]] = LRUCache(maxsize=256)

    async def endpoints(self, credential: Credential) -> Endpoints:
        """By hand, or discovered. Raises AuthorizationServerError."""
        by_hand = {name: getattr(credential, name) for name in _ENDPOINTS}
        if credential.issuer is None:
            return Endpoints(None, **by_hand)
        document = await self._document(credential, credential.issuer)
        found = {name: by_hand[name] or _endpoint(document, name) for name in _ENDPOINTS}
        says_iss = document.get("authorization_response_iss_parameter_supported") is True
        return Endpoints(credential.issuer, **found, iss_in_callback=says_iss)

    async def _document(self, credential: Credential, issuer: str) -> dict[str, Any]:
        fetched_at, document = self._documents.get(issuer, (0.0, None))
        if document is not None and time.monotonic() - fetched_at < FRESH_FOR:
            return document
        try:
            fresh = await self._fetch(credential, issuer)
        except AuthorizationServerError:
            if document is None:
                raise
            return document
        self._documents[issuer] = (time.monotonic(), fresh)
        return fresh

    async def _fetch(self, credential: Credential, issuer: str) -> dict[str, Any]:
        for url in _well_known(issuer):
            reply = await self._fetcher.fetch(credential, "GET", url, {"Accept": "application/json"}, None)
            if reply.status == 200:
                return read_metadata(reply, issuer)
        raise AuthorizationServerError("transient", "discovery")


def _well_known(issuer: str) -> tuple[str, str]:
    """RFC 8414 section 3.1 inserts before the path, OpenID appends; servers do either."""
    inserted: str = get_well_known_url(issuer, external=True)
    return inserted, issuer.rstrip("/") + "/.well-known/openid-configuration"


def read_metadata(reply: Reply, issuer: str) -> dict[str, Any]:
    """The document, if it speaks for `issuer`. Raises AuthorizationServerError("misconfigured", …) if not."""
    try:
        document = json.loads(reply.body.decode())
    except (ValueError, RecursionError) as error:
        raise AuthorizationServerError("transient", "not_json") from error
    if not isinstance(document, dict):
        raise AuthorizationServerError("transient", "not_json")
    if document.get("issuer") != issuer:
        raise AuthorizationServerError("misconfigured", "issuer_mismatch")
    return document


def _endpoint(document: dict[str, Any], name: str) -> str | None:
    url = document.get(name)
    if url is None:
        return None
    if not isinstance(url, str) or not _is_safe(url):
        raise AuthorizationServerError("misconfigured", "unsafe_endpoint")
    return url


def _is_safe(url: str) -> bool:
    """https anywhere, http on loopback only (RFC 6749 sections 3.1 and 3.2; RFC 8252 for loopback)."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))
