"""Discovery of an issuer's endpoints (RFC 8414, OpenID Connect Discovery 1.0).

Configured endpoints are never overridden. The document must name the issuer that we asked (RFC 8414 section
3.3). An endpoint must be https, except on loopback: an unsafe one fails only the requests that need it. A
copy is used for an hour, and after that until the server returns a valid document again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from cachetools import LRUCache

from proxy.clock import Clock
from proxy.config.address import Egress, is_loopback, read_url
from proxy.config.model import AuthorizationServerTLS, Credential
from proxy.errors import AuthorizationServerError
from proxy.oauth import documents
from proxy.oauth.binding import ENDPOINTS, by_hand
from proxy.oauth.documents import Document, UnreadableDocument
from proxy.oauth.fetch import Fetcher, Reply
from proxy.oauth.oddities import Oddities
from proxy.observe.events import decision

FRESH_FOR: Final = 3600.0  # seconds; endpoints change rarely, and no keys are read from it
# seconds after a failure, if an older copy or token endpoint can be used: a try may take long
RETRY_AFTER: Final = 60.0
CACHED: Final = 256  # documents; a configuration needs a few
_OAUTH: Final = "oauth-authorization-server"
_OPENID: Final = "openid-configuration"
_REGISTRATION: Final = "registration_endpoint"
_NOT_THERE: Final = frozenset({404, 405, 410})
# The error of a search that found no document is the first of these that occurred, the most specific first.
_TELLING: Final = (
    "issuer_mismatch",
    "discovery_redirect",
    "discovery_not_json",
    "connection_lost",
    "discovery",
    "discovery_not_found",
)

_NO_S256: Final = {"no_s256": "it does not offer PKCE with S256: a code that is stolen may be used"}

_log = logging.getLogger("proxy.oauth")
_TEMPLATE: Final = re.compile(r"\{[^{}]+\}")
_LOOPBACK: Final = re.compile(r"//(127\.0\.0\.1|\[::1\])(?=[:/]|$)")

_Cache = tuple[str, AuthorizationServerTLS | None, Egress | None]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints of an authorization server. None: it has none such, or it is unsafe."""

    issuer: str | None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    revocation_endpoint: str | None = None
    introspection_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    pushed_authorization_request_endpoint: str | None = None
    registration_endpoint: str | None = None  # RFC 7591
    requires_par: bool = False  # it refuses other authorization requests (RFC 9126 section 5)
    audience: str | None = None  # the token endpoint as other clients know it (see _aliased)
    iss_in_callback: bool = False  # RFC 9207: it always sends `iss`
    auth_methods: tuple[str, ...] | None = None  # at the token endpoint (RFC 8414 section 2); None: unknown
    auth_algorithms: tuple[str, ...] | None = None  # of JWTs that authenticate clients there; None: unknown
    dpop_algorithms: tuple[str, ...] | None = None  # of proofs (RFC 9449 section 5.1); None: unknown
    challenge_methods: tuple[str, ...] | None = None  # of PKCE (RFC 8414 section 2); None: unknown
    scopes: tuple[str, ...] = ()  # some of those that it knows
    unsafe: frozenset[str] = frozenset()  # names of its endpoints that must not be used

    def get(self, name: str) -> str | None:
        """The endpoint, None if it has none. Raises AuthorizationServerError if it is unsafe."""
        if name in self.unsafe:
            raise AuthorizationServerError("misconfigured", "unsafe_endpoint", hint=name)
        url: str | None = getattr(self, name)
        return url


@dataclass(slots=True)
class _Copy:
    document: Mapping[str, Any]
    good_until: float  # on the boot clock


@dataclass(frozen=True, slots=True)
class _Failure:
    error: AuthorizationServerError
    at: float  # on the boot clock


class Discovery:
    def __init__(self, fetcher: Fetcher, clock: Clock, oddities: Oddities) -> None:
        self._fetcher = fetcher
        self._clock = clock
        self._oddities = oddities
        # keyed by the settings of the connection, too: a response is trusted only under those it came with
        self._copies: LRUCache[_Cache, _Copy] = LRUCache(maxsize=CACHED)
        self._failures: LRUCache[_Cache, _Failure] = LRUCache(maxsize=CACHED)

    def forget(self, changed: Collection[AuthorizationServerTLS]) -> None:
        """Forget what was fetched under these settings."""
        for key in [key for key in self._copies if key[1] in changed]:
            del self._copies[key]

    async def endpoints(self, credential: Credential, *, is_urgent: bool = True) -> Endpoints:
        """Configured or discovered endpoints. Raises AuthorizationServerError.

        `is_urgent`: try although the last try failed less than RETRY_AFTER seconds ago.
        """
        given: dict[str, Any] = {**by_hand(credential)}
        if credential.issuer is None:
            return Endpoints(None, **given, audience=credential.token_endpoint)
        plain = await self._document(credential, credential.issuer, is_urgent)
        document = _aliased(plain) if credential.tls and credential.tls.cert else plain
        named = {name for name in (*ENDPOINTS, _REGISTRATION) if document.get(name) is not None}
        unsafe = frozenset(name for name in named - given.keys() if not is_safe(document[name]))
        return Endpoints(
            credential.issuer,
            **{**{name: document[name] for name in named - unsafe}, **given},
            audience=credential.token_endpoint or _safe(plain.get("token_endpoint")),
            requires_par=plain.get("require_pushed_authorization_requests") is True,
            iss_in_callback=document.get("authorization_response_iss_parameter_supported") is True,
            auth_methods=_words(document.get("token_endpoint_auth_methods_supported")),
            auth_algorithms=_words(document.get("token_endpoint_auth_signing_alg_values_supported")),
            dpop_algorithms=_words(document.get("dpop_signing_alg_values_supported")),
            challenge_methods=_words(document.get("code_challenge_methods_supported")),
            scopes=_words(document.get("scopes_supported")) or (),
            unsafe=unsafe,
        )

    async def _document(self, credential: Credential, issuer: str, is_urgent: bool) -> Mapping[str, Any]:
        key = (issuer, credential.tls, credential.proxy)
        copy, now = self._copies.get(key), self._clock.boot()
        if copy is not None and now < copy.good_until:
            decision(_log, "%s: the metadata in memory are used", credential.name)
            return copy.document
        failure = self._failures.get(key)
        if failure is not None and not is_urgent and now < failure.at + RETRY_AFTER:
            decision(
                _log, "%s: discovery failed lately (%s): not tried", credential.name, failure.error.error
            )
            raise failure.error
        try:
            found = await self._fetch(credential, issuer)
        except AuthorizationServerError as error:
            self._failures[key] = _Failure(error, self._clock.boot())
            if copy is None:
                raise
            decision(_log, "%s: discovery failed (%s): older metadata are used", credential.name, error.error)
            copy.good_until = self._clock.boot() + RETRY_AFTER
            return copy.document
        self._failures.pop(key, None)
        self._copies[key] = _Copy(found.members, self._clock.boot() + FRESH_FOR)
        codes = sorted(found.oddities) + (["no_s256"] if _denies_s256(found.members) else [])
        self._oddities.log(credential.name, "discovery document", codes, {**documents.ODDITIES, **_NO_S256})
        return found.members

    async def _fetch(self, credential: Credential, issuer: str) -> Document:
        """The first document that names `issuer`. Stops at once if the server can't be reached."""
        failures: dict[str, AuthorizationServerError] = {}
        for url in well_known(issuer):
            decision(_log, "%s: metadata are fetched from %s", credential.name, url)
            try:
                reply = await self._fetcher.fetch(
                    credential, "GET", url, {"Accept": "application/json"}, None
                )
                return read_metadata(reply, issuer)
            except AuthorizationServerError as error:  # the next document may be the good one
                if error.error not in _TELLING:
                    raise
                failures[error.error] = error
        raise next(failures[code] for code in _TELLING if code in failures)


def well_known(issuer: str) -> Iterator[str]:
    """The URLs where servers publish their metadata, the specified ones first.

    RFC 8414 section 3.1 inserts before the path, OpenID Connect Discovery 1.0 section 4 appends; servers do
    either with either name. Without a path both are the same.
    """
    parts = urlsplit(issuer.rstrip("/"))
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path
    places = [
        f"{origin}/.well-known/{_OAUTH}{path}",
        f"{origin}{path}/.well-known/{_OPENID}",
        f"{origin}{path}/.well-known/{_OAUTH}",
        f"{origin}/.well-known/{_OPENID}{path}",
    ]
    yield from dict.fromkeys(places)


def read_metadata(reply: Reply, issuer: str) -> Document:
    """Read a metadata document that names `issuer`. Raises AuthorizationServerError."""
    if reply.status in _NOT_THERE:
        raise AuthorizationServerError("transient", "discovery_not_found")
    if 300 <= reply.status < 400:
        raise AuthorizationServerError("transient", "discovery_redirect")
    if reply.status != 200:
        raise AuthorizationServerError("transient", "discovery")
    try:
        document = documents.read(reply.headers, reply.body, ("issuer",))
    except UnreadableDocument:
        raise AuthorizationServerError("transient", "discovery_not_json") from None
    found = document.members.get("issuer")
    if found != issuer or "issuer" in document.repeated:
        raise AuthorizationServerError("misconfigured", "issuer_mismatch", hint=_difference(found, issuer))
    return document


def _denies_s256(members: Mapping[str, Any]) -> bool:
    """Whether the metadata list methods of PKCE, and S256 is none of them: a stolen code may be used."""
    methods = _words(members.get("code_challenge_methods_supported"))
    return methods is not None and "S256" not in methods


def _difference(found: object, issuer: str) -> str:
    """How an issuer differs from ours, as a code: the server's text is never shown."""
    if not isinstance(found, str):
        return ""
    if found.rstrip("/") == issuer.rstrip("/"):
        return "slash"
    if _TEMPLATE.search(found):
        return "template"
    one, other = (_LOOPBACK.sub("//localhost", each, count=1) for each in (found, issuer))
    return "loopback" if one == other else ""


def is_safe(url: object) -> bool:
    """https anywhere, http on loopback only (RFC 6749 sections 3.1 and 3.2): a browser may open it."""
    if not isinstance(url, str):
        return False
    try:
        parts = read_url(url)
    except ValueError:
        return False
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _safe(url: object) -> str | None:
    return url if isinstance(url, str) and is_safe(url) else None


def _aliased(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata for a client that has a certificate (RFC 8705 section 5)."""
    aliases = documents.members_of(document.get("mtls_endpoint_aliases"))
    return {**document, **{name: aliases[name] for name in ENDPOINTS if aliases.get(name) is not None}}


def _words(value: object) -> tuple[str, ...] | None:
    """A list of strings; some servers send one string. None if it is neither."""
    if isinstance(value, str):
        return (value,)
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else None
