"""Where an issuer's endpoints are (RFC 8414, OpenID Connect Discovery 1.0).

What the configuration gives by hand is never overridden. The document must name the issuer that we asked
(RFC 8414 section 3.3), and its endpoints must be https, on loopback excepted. A copy serves for an hour,
and then for as long as the server has no better one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from authlib.oauth2.rfc8414 import get_well_known_url
from cachetools import LRUCache

from proxy.clock import Clock
from proxy.config.address import Egress, is_loopback, read_url
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth.fetch import Fetcher, Reply

FRESH_FOR: Final = 3600.0  # seconds; endpoints move rarely, keys are not read from here
ASK_AGAIN: Final = 60.0  # seconds after a failure, when there is an old copy: each try may take its time
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "revocation_endpoint")
_OPTIONAL: Final = "introspection_endpoint"  # a bad one is passed over: nothing hangs on it


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where to talk to an authorization server."""

    issuer: str | None
    authorization_endpoint: str | None
    token_endpoint: str | None
    revocation_endpoint: str | None
    introspection_endpoint: str | None
    iss_in_callback: bool = False  # RFC 9207: it always names itself there


@dataclass(slots=True)
class _Copy:
    document: dict[str, Any]
    good_until: float  # on the boot clock


class Discovery:
    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        self._fetcher = fetcher
        self._clock = clock
        # by whom we trust and what leads there, too: an answer says nothing to who trusts or asks another
        self._copies: LRUCache[tuple[str, Path | None, Egress | None], _Copy] = LRUCache(maxsize=256)

    async def endpoints(self, credential: Credential) -> Endpoints:
        """By hand, or discovered. Raises AuthorizationServerError."""
        by_hand = {name: getattr(credential, name) for name in (*_ENDPOINTS, _OPTIONAL)}
        if credential.issuer is None:
            return Endpoints(None, **by_hand)
        document = await self._document(credential, credential.issuer)
        found = {name: by_hand[name] or _endpoint(document, name) for name in _ENDPOINTS}
        offered = document.get(_OPTIONAL)
        found[_OPTIONAL] = by_hand[_OPTIONAL] or (offered if _is_safe(offered) else None)
        says_iss = document.get("authorization_response_iss_parameter_supported") is True
        return Endpoints(credential.issuer, **found, iss_in_callback=says_iss)

    async def _document(self, credential: Credential, issuer: str) -> dict[str, Any]:
        key = (issuer, credential.tls.ca if credential.tls else None, credential.proxy)
        copy = self._copies.get(key)
        if copy is not None and self._clock.boot() < copy.good_until:
            return copy.document
        try:
            document = await self._fetch(credential, issuer)
        except AuthorizationServerError:
            if copy is None:
                raise
            copy.good_until = self._clock.boot() + ASK_AGAIN
            return copy.document
        self._copies[key] = _Copy(document, self._clock.boot() + FRESH_FOR)
        return document

    async def _fetch(self, credential: Credential, issuer: str) -> dict[str, Any]:
        failure = AuthorizationServerError("transient", "discovery")
        for url in _well_known(issuer):
            reply = await self._fetcher.fetch(credential, "GET", url, {"Accept": "application/json"}, None)
            try:
                return read_metadata(reply, issuer)
            except AuthorizationServerError as error:  # the other document may be the good one
                if failure.outcome == "transient":  # a document that is not there says less than a wrong one
                    failure = error
        raise failure


def _well_known(issuer: str) -> tuple[str, str]:
    """RFC 8414 section 3.1 inserts before the path, OpenID appends; servers do either."""
    base = issuer.rstrip("/")
    inserted: str = get_well_known_url(base, external=True)
    return inserted, f"{base}/.well-known/openid-configuration"


def read_metadata(reply: Reply, issuer: str) -> dict[str, Any]:
    """The document, if it is one and speaks for `issuer`. Raises AuthorizationServerError."""
    if reply.status != 200:
        raise AuthorizationServerError("transient", "discovery")
    try:
        document = json.loads(reply.body.decode())
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise AuthorizationServerError("transient", "not_json")
    if document.get("issuer") != issuer:
        raise AuthorizationServerError("misconfigured", "issuer_mismatch")
    return document


def _endpoint(document: dict[str, Any], name: str) -> str | None:
    url = document.get(name)
    if url is None:
        return None
    if not _is_safe(url):
        raise AuthorizationServerError("misconfigured", "unsafe_endpoint")
    return str(url)


def _is_safe(url: object) -> bool:
    """https anywhere, http on loopback only (RFC 6749 sections 3.1 and 3.2): a browser may be sent there."""
    if not isinstance(url, str):
        return False
    try:
        parts = read_url(url)
    except ValueError:
        return False
    return parts.scheme == "https" or is_loopback(parts.hostname or "")
