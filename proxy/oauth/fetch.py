"""All requests to authorization servers, and the only module in oauth/ that uses aiohttp.

No redirect is followed (a 307 would post the refresh token somewhere else), no cookie stored, no netrc read,
no egress proxy used but the configured one, no response read past its size or time limit, and no connection
reused: extra bytes after a response would be read as the response to the next request, of another account
(RFC 9112 section 9.2), and a connection closed by the server at that moment would leave a refresh in doubt.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, Self

import aiohttp
import aiohttp.abc
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from proxy import failure_causes
from proxy.config.address import Egress
from proxy.config.model import AuthorizationServerTLS, Credential, Limits
from proxy.errors import AuthorizationServerError
from proxy.failure_causes import Cause, cause_of
from proxy.name_lookup import AddressInfo, resolver
from proxy.oauth.documents import MAX_SIZE
from proxy.observe.events import decision

# Firewalls in front of authorization servers refuse the names of HTTP libraries.
USER_AGENT: Final = f"token-proxy/{version('token-proxy')}"

# The code of a request without a response in logs and metrics, and whether it may have reached the server;
# the first match counts.
_FAILURES: Final[tuple[tuple[type[BaseException], str, bool], ...]] = (
    (aiohttp.ClientConnectorCertificateError, "tls", False),
    (aiohttp.ClientSSLError, "tls", False),
    (ssl.SSLError, "tls", True),
    (aiohttp.ClientProxyConnectionError, "egress_proxy", False),
    (aiohttp.ClientHttpProxyError, "egress_proxy", False),
    (aiohttp.ClientConnectorDNSError, "dns", False),
    (aiohttp.ClientConnectorError, "unreachable", False),
    (aiohttp.ConnectionTimeoutError, "connect_timeout", False),
    (TimeoutError, "timeout", True),
    (aiohttp.ClientError, "connection_lost", True),
    (OSError, "connection_lost", True),
    (ValueError, "connection_lost", True),  # raised by aiohttp for some malformed responses
)

FAILURES: Final = tuple(kind for kind, _, _ in _FAILURES)

_log = logging.getLogger("proxy.oauth")


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]  # case-insensitive
    body: bytes


class _Payload(aiohttp.BytesPayload):
    """A body that calls `before_send` before it is written."""

    def __init__(self, value: bytes, before_send: Callable[[], None] | None) -> None:
        super().__init__(value)
        self.stopped_by: Exception | None = None
        self._before_send = before_send

    async def write_with_length(
        self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None
    ) -> None:
        try:
            if self._before_send is not None:
                self._before_send()
        except Exception as error:
            self.stopped_by = error
            raise
        await super().write_with_length(writer, content_length)


class Resolver(AbstractResolver):
    """Look-ups as for upstreams, with a timeout for name servers that do not respond.

    A refresh is rare, and must not fail for an address that is some seconds old: each is looked up.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError."""
        try:
            async with asyncio.timeout(self._seconds()):
                found = await resolver.addresses(host, port, age=0.0)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "the name server does not respond") from None
        return [
            _resolved(host, info)
            for info in found
            if info[0] == family or (family == socket.AF_UNSPEC and info[0] in _IP)
        ]

    async def close(self) -> None: ...


_IP: Final = (socket.AF_INET, socket.AF_INET6)


def _resolved(host: str, info: AddressInfo) -> ResolveResult:
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    address, port = socket.getnameinfo(info[4], numeric)  # an IPv6 address with its scope
    return ResolveResult(
        hostname=host,
        host=address,
        port=int(port),
        family=info[0],
        proto=info[2],
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


class Fetcher:
    """One aiohttp session for all authorization servers. Use as an async context manager."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[AuthorizationServerTLS | None, ssl.SSLContext] = {}

    def use(self, limits: Limits, contexts: Mapping[AuthorizationServerTLS, ssl.SSLContext]) -> None:
        """Use other limits and TLS contexts from the next request on. The default context stays."""
        self._limits = limits
        default = self._contexts.get(None)
        self._contexts = dict(contexts.items())
        if default is not None:
            self._contexts[None] = default

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(
        self,
        credential: Credential,
        method: str,
        url: str | URL,
        headers: Mapping[str, str],
        body: str | None,
        before_send: Callable[[], None] | None = None,
    ) -> Reply:
        """Send one request and read its response. Raises AuthorizationServerError("transient", …).

        A `url` that is a text is normalized; `URL(…, encoded=True)` is sent as it is.
        `before_send` is called on an open connection, just before the body is written: what it raises is
        raised here, and nothing was sent.
        """
        payload = None if body is None else _Payload(body.encode(), before_send)
        began = time.perf_counter()
        try:
            return await self._exchange(credential, method, url, headers, payload)
        except FAILURES as error:
            name, reached, cause = failure_of(error)
            self._debug(credential, method, began, f"{name}: {cause.sentence}")
        if payload is not None and payload.stopped_by is not None:
            raise payload.stopped_by
        # raised outside `except`, without a cause: aiohttp's errors carry the request's header fields
        raise AuthorizationServerError("transient", name, reached=reached, cause=cause)

    @staticmethod
    def _debug(credential: Credential, method: str, began: float, end: str) -> None:
        """Without the URL, which may be of the server's metadata, and hold anything."""
        sentence = "%s: %s to the authorization server: %s, in %.1f ms"
        decision(_log, sentence, credential.name, method, end, 1000 * (time.perf_counter() - began))

    async def _exchange(
        self,
        credential: Credential,
        method: str,
        url: str | URL,
        headers: Mapping[str, str],
        payload: aiohttp.Payload | None,
    ) -> Reply:
        is_tls = str(url).startswith("https:")  # else on loopback
        began = time.perf_counter()
        async with self._open().request(
            method,
            url,
            data=payload,
            headers={"User-Agent": USER_AGENT, **headers, "Accept-Encoding": "identity"},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=self._limits.authorization_server_total,
                sock_connect=self._limits.authorization_server_connect,
            ),
            ssl=await self._context(credential) if is_tls else True,
            **(through(credential.proxy) if is_tls and credential.proxy else {}),
        ) as response:
            received = bytearray()
            async for chunk in response.content.iter_any():
                received += chunk
                if len(received) > MAX_SIZE:  # more would be read only to be refused
                    break
            self._debug(credential, method, began, f"status {response.status}")
            return Reply(response.status, response.headers, bytes(received))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                connector=aiohttp.TCPConnector(
                    limit=0,
                    force_close=True,
                    resolver=Resolver(lambda: self._limits.authorization_server_connect),
                    use_dns_cache=False,
                ),
            )
        return self._session

    async def _context(self, credential: Credential) -> ssl.SSLContext:
        tls = credential.tls
        context = self._contexts.get(tls)
        if context is not None:
            return context
        try:
            context = self._contexts[tls] = await asyncio.to_thread(tls_context, tls)  # reads the trust store
        except OSError:  # `run` has refused to start, or to reload, with such files
            raise AuthorizationServerError("transient", "tls_files", reached=False) from None
        return context


def tls_context(tls: AuthorizationServerTLS | None) -> ssl.SSLContext:
    """The TLS settings towards an authorization server. Slow. Raises OSError."""
    context = ssl.create_default_context(cafile=tls.ca if tls else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 section 3.1.1
    context.hostname_checks_common_name = False  # RFC 9525 section 6.1
    if tls and tls.cert:
        context.load_cert_chain(tls.cert, tls.key, password="")  # else OpenSSL prompts on the terminal
    return context


def failure_of(error: BaseException) -> tuple[str, bool, Cause]:
    """Of one of FAILURES: its code, whether the request may have reached the server, and the cause."""
    name, reached = next(row[1:] for row in _FAILURES if isinstance(error, row[0]))
    return name, reached, _cause_of(error)


def _cause_of(error: BaseException) -> Cause:
    """aiohttp's errors wrap those that have the codes."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return cause_of(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return cause_of(error.os_error)
        case aiohttp.ConnectionTimeoutError():
            return failure_causes.CONNECT_TIMEOUT
        case aiohttp.ClientHttpProxyError():
            return failure_causes.PROXY_REFUSED
        case aiohttp.ServerDisconnectedError():
            return failure_causes.CLOSED
        case aiohttp.ClientPayloadError():
            return failure_causes.INCOMPLETE
        case OSError():
            return cause_of(error)
    return failure_causes.MALFORMED


def through(egress: Egress) -> dict[str, Any]:
    """aiohttp's options for the egress proxy; the fields are sent to it only."""
    ours = {"Proxy-Authorization": egress.authorization.reveal()} if egress.authorization else {}
    return {"proxy": f"http://{egress.address}", "proxy_headers": ours}
