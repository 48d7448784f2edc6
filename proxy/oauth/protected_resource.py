"""The authorization server of an MCP server, by its own metadata.

The revisions of MCP's specification, the newest first:

- 2025-06-18 and later: metadata of the protected resource (RFC 9728), at the well-known place of its URL,
  else where a 401 says (`resource_metadata`), else at that of its origin.
- 2025-03-26: no such metadata; the MCP server's origin is the issuer. Without metadata there, the endpoints
  are /authorize, /token and /register.

A server error ends the search: it does not mean that there are no metadata. Metadata of another resource are
refused (RFC 9728 section 3.3): otherwise one server could request the tokens of another.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from multidict import MultiMapping

from proxy.config.found import Found
from proxy.config.model import Credential
from proxy.config.values import SCOPE
from proxy.errors import NO_RESPONSE, TRY_LATER, AuthorizationServerError
from proxy.oauth import documents
from proxy.oauth.discovery import Discovery, is_safe
from proxy.oauth.documents import UnreadableDocument
from proxy.oauth.fetch import Fetcher, Reply
from proxy.observe.events import decision

_log = logging.getLogger("proxy.oauth")
_PLACE: Final = "/.well-known/oauth-protected-resource"
_LEGACY: Final = {
    "authorization_endpoint": "/authorize",
    "token_endpoint": "/token",
    "registration_endpoint": "/register",
}
_NO_METADATA: Final = frozenset(
    {"discovery", "discovery_not_found", "discovery_not_json", "discovery_redirect"}
)
# RFC 9110 section 11.6.1; a quoted backslash ends the search, as no URL or scope has one
_PARAMETER: Final = re.compile(
    r'(?:^|[\s,])(resource_metadata|scope)\s*=\s*(?:"([^"\\]*)"|([^\s",]+))', re.IGNORECASE
)


async def find(fetcher: Fetcher, discovery: Discovery, credential: Credential) -> Found:
    """The issuer or endpoints, resource and scopes; no registration. Raises AuthorizationServerError."""
    mcp = credential.mcp
    assert mcp is not None
    search = _Search(fetcher, credential, mcp)
    document = await search.document()
    if document is not None:
        found = _found(document, credential, mcp, search.scopes)
        if credential.issuer is not None:
            return found
        return replace(found, issuer=await _as_named(discovery, credential, found.issuer))
    if credential.issuer is not None:
        return Found(credential.issuer, mcp, search.scopes)
    return await _legacy(discovery, credential, mcp, search.scopes)


class _Search:
    """`scopes`: those that the server's challenge asks for (RFC 6750 section 3)."""

    def __init__(self, fetcher: Fetcher, credential: Credential, mcp: str) -> None:
        self._fetcher = fetcher
        self._credential = credential
        self._mcp = mcp
        self.scopes: tuple[str, ...] = ()

    async def document(self) -> Mapping[str, Any] | None:
        origin, _ = _parts(self._mcp)
        path = urlsplit(self._mcp).path.removeprefix("/") and urlsplit(self._mcp).path
        document = await self._read(f"{origin}{_PLACE}{path}")
        if document is None:
            challenge = challenged(await self._get(self._mcp))
            self.scopes = _scopes(challenge.get("scope", "").split())
            place = challenge.get("resource_metadata", "")
            if place and _parts(place)[0] == origin:  # another server's place would make us its messenger
                document = await self._read(place)
        if document is None and path:
            document = await self._read(f"{origin}{_PLACE}")
        return document

    async def _read(self, url: str) -> Mapping[str, Any] | None:
        reply = await self._get(url)
        if reply.status >= 500 or reply.status in TRY_LATER:
            raise AuthorizationServerError("transient", "mcp_error", status=reply.status)
        if reply.status != 200:
            return None
        try:
            members = documents.read(reply.headers, reply.body, ("resource",)).members
        except UnreadableDocument:
            return None  # a page that is there for any path
        return members if "resource" in members else None

    async def _get(self, url: str) -> Reply:
        decision(_log, "%s: the MCP server is asked for its metadata", self._credential.name)
        try:
            return await self._fetcher.fetch(
                self._credential, "GET", url, {"Accept": "application/json"}, None
            )
        except AuthorizationServerError as error:
            if error.error not in NO_RESPONSE:
                raise
            raise AuthorizationServerError(
                "transient", "mcp_unreachable", reached=error.reached, cause=error.cause
            ) from None


def challenged(reply: Reply) -> dict[str, str]:
    """The parameters of a 401 or 403's challenges that we read, by name in lower case."""
    if reply.status not in {401, 403}:
        return {}
    fields = reply.headers
    values = fields.getall("WWW-Authenticate", []) if isinstance(fields, MultiMapping) else []
    found: dict[str, str] = {}
    for value in values:
        for name, quoted, bare in _PARAMETER.findall(value):
            found.setdefault(name.lower(), quoted or bare)
    return found


def covers(resource: object, url: str) -> bool:
    """Whether `resource` is the MCP server itself, or above it at the same origin: "https://host" of /mcp."""
    if not isinstance(resource, str) or not is_safe(resource):
        return False
    (origin, path), (ours, ours_path) = _parts(resource), _parts(url)
    return origin == ours and f"{ours_path}/".startswith(f"{path}/") and "?" not in resource


def _parts(url: str) -> tuple[str, str]:
    """The origin, and the path without a slash at the end; ("", "") for no safe URL."""
    if not is_safe(url):
        return "", ""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port not in {None, 443 if parts.scheme == "https" else 80} else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}", parts.path.rstrip("/")


def _found(document: Mapping[str, Any], credential: Credential, mcp: str, scopes: tuple[str, ...]) -> Found:
    """Raises AuthorizationServerError for metadata of another resource, or of no safe server."""
    resource, servers = document["resource"], document.get("authorization_servers")
    if not covers(resource, mcp):
        raise AuthorizationServerError("misconfigured", "resource_mismatch")
    supported = document.get("scopes_supported")
    if not scopes and isinstance(supported, list):
        scopes = _scopes(supported)
    if credential.issuer is not None:
        return Found(credential.issuer, resource, scopes)
    first = servers[0] if isinstance(servers, list) and servers else None
    if first is None:
        raise AuthorizationServerError("misconfigured", "mcp_no_authorization")
    if not is_safe(first) or "?" in first:
        raise AuthorizationServerError("misconfigured", "mcp_unsafe_issuer")
    return Found(first, resource, scopes)


def _scopes(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(each for each in values if isinstance(each, str) and SCOPE.fullmatch(each))


async def _legacy(discovery: Discovery, credential: Credential, mcp: str, scopes: tuple[str, ...]) -> Found:
    origin, _ = _parts(mcp)
    try:
        return Found(await _as_named(discovery, credential, origin), mcp, scopes)
    except AuthorizationServerError as error:
        if error.error not in _NO_METADATA:
            raise
    decision(_log, "%s: neither the MCP server nor its origin has metadata", credential.name)
    return Found("", mcp, scopes, tuple((name, origin + path) for name, path in _LEGACY.items()))


async def _as_named(discovery: Discovery, credential: Credential, issuer: str) -> str:
    """The issuer as its own metadata name it. Raises AuthorizationServerError.

    With and without a slash at the end an origin is the same URL: RFC 9728 metadata may have the other form.
    """
    try:
        await discovery.endpoints(credential.model_copy(update={"issuer": issuer}))
    except AuthorizationServerError as error:
        if error.hint != "slash" or issuer.rstrip("/").count("/") > len("//"):
            raise
        issuer = issuer.removesuffix("/") if issuer.endswith("/") else f"{issuer}/"
        await discovery.endpoints(credential.model_copy(update={"issuer": issuer}))
    return issuer
