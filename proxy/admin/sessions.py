"""The visitors of the admin listener, and their sessions.

A visitor is known by one of these grounds:

PROXY        a proxy that `admin_trusts` names has authenticated the person
CERTIFICATE  a client certificate of `admin_tls.client_ca`
KEY          Authorization: Bearer, with `admin_key`; a program, as no browser sends this by itself
SESSION      a cookie, from a launch link (`token-proxy open`) or from the form for `admin_key`
PEER         a process of our own user or of root, on loopback or a unix socket

Sessions and CSRF tokens are HMACs under a key derived from the store's: replicas share them, and they survive
a restart. Each is bound to the browser's cookie and to the person, if the ground names one: two people who
use the same browser, one after the other, can't use each other's forms and logins.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal
from urllib.parse import urlsplit

from aiohttp import web

from proxy.admin import peers
from proxy.admin.attempts import Attempts
from proxy.admin.peer_group import LOOPBACK, group_of
from proxy.clock import Clock
from proxy.config.admin import UNIX
from proxy.config.model import Config
from proxy.hosts import is_localhost
from proxy.http.cookies import BROWSER_COOKIE, SESSION_COOKIE
from proxy.secret import Secret

SESSION_TIME: Final = 12 * 3600.0  # seconds: a working day; then the cookie of a lost laptop is worthless
LONGEST_NAME: Final = 256  # characters of a person's name in the field of a proxy
_BROWSER: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 random bytes
_SESSION: Final = re.compile(r"(?P<kind>[kl])(?P<expires>[0-9]{1,12})\.(?P<mac>[0-9a-f]{64})")
_ONE_HOST: Final = "__Host-"  # the prefix of cookies that only this host, over https, can have set
# Fields by which a proxy in front shows itself: its user is not the person behind it.
_FORWARDED: Final = ("forwarded", "via", "x-real-ip")

Kind = Literal["k", "l"]  # how a session was obtained: by the admin key, or by a launch link


class Ground(Enum):
    PROXY = "a proxy in front"
    CERTIFICATE = "a client certificate"
    KEY = "the admin key"
    SESSION = "a session"
    PEER = "our own user"


@dataclass(frozen=True, slots=True)
class Visitor:
    ground: Ground
    person: str = ""  # distinguishes people; empty where the ground names nobody


@dataclass(frozen=True, slots=True)
class WaysIn:
    """How a browser can get a session."""

    takes_key: bool
    sentences: tuple[str, ...]


class Sessions:
    def __init__(self, config: Config, key: bytes, clock: Clock) -> None:
        """`key`: derived from the store's key."""
        self._config = config
        self._key = key
        self._clock = clock
        self._attempts = Attempts(clock.boot)
        self.is_secure = config.public_url.startswith("https:")
        prefix = _ONE_HOST if self.is_secure else ""
        self.browser_cookie = prefix + BROWSER_COOKIE
        self.session_cookie = prefix + SESSION_COOKIE

    def visitor(self, request: web.Request) -> Visitor | None:
        """The sender of a request; None: unknown. Raises HTTPTooManyRequests for a peer that guesses keys."""
        known = self._named(request) or self._with_session(request) or self._of_own_user(request)
        given = bearer_of(request)
        if given and self._config.server.admin_key is not None:
            # A known visitor may send a token that is meant for another server.
            is_admin = self.has_key(given) if known else self.try_key(request, given)
            if is_admin:
                return Visitor(Ground.KEY)
        return known

    def browser_of(self, request: web.Request) -> str:
        """Identifies this browser, and the person if the ground names one; empty without a cookie of ours."""
        cookie = request.cookies.get(self.browser_cookie, "")
        return self._bound(request, cookie) if _BROWSER.fullmatch(cookie) else ""

    def new_browser(self, request: web.Request) -> str:
        return self._bound(request, secrets.token_urlsafe(32))

    def set_browser(self, response: web.Response, browser: str) -> None:
        self._set(response, self.browser_cookie, browser.partition(" ")[0])

    def begin(self, response: web.Response, browser: str, kind: Kind) -> None:
        """Give this browser a session. It gets both cookies, as the session is bound to the browser's."""
        expires = int(self._clock.wall() + SESSION_TIME)
        value = f"{kind}{expires}.{self._session_mac(kind, expires, browser)}"
        self.set_browser(response, browser)
        self._set(response, self.session_cookie, value, int(SESSION_TIME))

    def end(self, response: web.Response) -> None:
        response.del_cookie(
            self.session_cookie, path="/", secure=self.is_secure, httponly=True, samesite="Lax"
        )

    def csrf_token(self, browser: str, salt: str = "") -> str:
        """Salted, so that each page has another one, and what is read of one page is not in the next."""
        salt = salt or secrets.token_hex(16)
        return salt + self._mac("csrf", salt, browser)[:32]

    def try_key(self, request: web.Request, given: str) -> bool:
        """Compare a key of an unknown visitor. Raises HTTPTooManyRequests."""
        peer = _peer_name(request)
        wait = self._attempts.wait(peer)
        if wait > 0:
            raise web.HTTPTooManyRequests(headers={"Retry-After": str(int(wait) + 1)})
        if self.has_key(given):
            return True
        self._attempts.failed(peer)
        return False

    def has_key(self, given: str) -> bool:
        return given.isascii() and self._config.server.admin_key == Secret(given)  # in constant time

    def is_trusted(self, request: web.Request) -> bool:
        """Whether the peer is the proxy in front that `admin_trusts` names."""
        trusts = self._config.server.admin_trusts
        if trusts is None or request.transport is None:
            return False
        address = peers.address_of(request.transport)
        if address is None:
            return UNIX in trusts.peers
        return any(peer != UNIX and address in peer for peer in trusts.peers)

    def ways_in(self) -> WaysIn:
        server = self._config.server
        sentences = [
            "Run `token-proxy open` where the server runs, as its user: it opens a link that works once."
        ]
        if self._config.store.is_memory:  # which no command shares
            sentences = ["Start `token-proxy run` in a terminal: it prints a link that works once."]
        if server.admin_tls is not None and server.admin_tls.client_ca is not None:
            sentences.append("Use a browser that has a client certificate for this page.")
        if server.admin_trusts is not None:
            sentences.append(f"Use {self._config.public_url}/, where the proxy in front asks for your name.")
        return WaysIn(server.admin_key is not None, tuple(sentences))

    def _named(self, request: web.Request) -> Visitor | None:
        """The grounds that name a person."""
        trusts = self._config.server.admin_trusts
        if trusts is not None and self.is_trusted(request):
            values = request.headers.getall(trusts.header, [])
            name = values[0].strip() if len(values) == 1 else ""
            if 0 < len(name) <= LONGEST_NAME and name.isprintable():
                return Visitor(Ground.PROXY, f"proxy:{name}")
        tls = self._config.server.admin_tls
        shown = request.transport.get_extra_info("ssl_object") if request.transport else None
        if tls is not None and tls.client_ca is not None and shown is not None:
            certificate = shown.getpeercert(binary_form=True)  # the handshake has verified it
            if certificate:
                return Visitor(Ground.CERTIFICATE, f"certificate:{hashlib.sha256(certificate).hexdigest()}")
        return None

    def _with_session(self, request: web.Request) -> Visitor | None:
        browser = self.browser_of(request)
        found = _SESSION.fullmatch(request.cookies.get(self.session_cookie, ""))
        if not browser or found is None or int(found["expires"]) <= self._clock.wall():
            return None
        expected = self._session_mac(found["kind"], int(found["expires"]), browser)
        return Visitor(Ground.SESSION) if hmac.compare_digest(expected, found["mac"]) else None

    def _of_own_user(self, request: web.Request) -> Visitor | None:
        """Not behind a proxy: it may run as our user, or as root, and serve anyone."""
        is_direct = (
            self._config.server.admin.is_local
            and is_localhost(self._config.public_host)
            and is_localhost(_host_of(request))
            and not self.is_trusted(request)
            and not any(_shows_a_proxy(name.lower()) for name in request.headers)
        )
        return Visitor(Ground.PEER) if is_direct and peers.is_own(peers.uid_of(request.transport)) else None

    def _bound(self, request: web.Request, cookie: str) -> str:
        named = self._named(request)
        return f"{cookie} {named.person}" if named else cookie

    def _session_mac(self, kind: str, expires: int, browser: str) -> str:
        """With another admin key, the sessions of the old one end."""
        admin_key = self._config.server.admin_key if kind == "k" else None
        return self._mac("session", kind, str(expires), browser, admin_key.reveal() if admin_key else "")

    def _mac(self, *parts: str) -> str:
        """No part holds a NUL."""
        return hmac.new(self._key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()

    def _set(self, response: web.Response, name: str, value: str, seconds: int | None = None) -> None:
        response.set_cookie(
            name, value, httponly=True, samesite="Lax", secure=self.is_secure, path="/", max_age=seconds
        )


SESSIONS: Final = web.AppKey("sessions", Sessions)


def bearer_of(request: web.Request) -> str:
    """The token of `Authorization: Bearer` (RFC 6750 section 2.1); empty if there is none."""
    values = request.headers.getall("Authorization", [])
    scheme, _, token = (values[0] if len(values) == 1 else "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _shows_a_proxy(name: str) -> bool:
    return name in _FORWARDED or name.startswith("x-forwarded")


def _host_of(request: web.Request) -> str:
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return ""


def _peer_name(request: web.Request) -> str:
    """For the limit of guesses."""
    sock = request.transport.get_extra_info("socket") if request.transport else None
    return LOOPBACK if sock is None else group_of(sock)
