"""Whether a request may be relayed at all: the refusals of the contract, in its order.

A proxy on loopback is within reach of every web page in the person's browser. Two rules keep pages out:
the Host must be one of ours (a page's name made to point at 127.0.0.1 is not), and nothing that a browser
marks as coming from a page passes (Fetch Metadata, Origin).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from proxy.relay import answer, headers
from proxy.relay.answer import AboutUs, Refusal
from proxy.relay.message import RequestHead

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
MOST_DIGITS: Final = 9  # of Max-Forwards
REMEMBERED: Final = 1024  # values of Host; a caller that varies the port must not fill the memory
REFUSED_METHODS: Final = frozenset(
    {b"TRACE", b"CONNECT"}
)  # RFC 9110 section 9.3.8: TRACE would echo the token
FOREIGN_SITES: Final = frozenset({b"cross-site", b"same-site"})
PAGE_MODES: Final = frozenset({b"no-cors", b"navigate"})  # not "cors": Node's fetch sends it without any page
_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::[0-9]*)?", re.IGNORECASE)


class Hosts:
    """The names by which this proxy may be called, on either listener. Ports are not compared."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = LOOPBACK_NAMES | {name.strip("[]").lower() for name in names}
        self._known: dict[str, str] = {}  # values that were allowed by name: most callers send one

    def read(self, value: str, local_address: str) -> str | None:
        """The host in a Host field's value (lower case, no port, no brackets); None if it isn't allowed."""
        known = self._known.get(value)
        if known is not None:
            return known
        parts = _AUTHORITY.fullmatch(value)
        if parts is None:
            return None
        host = parts[1].strip("[]").lower()
        if host in self._names:
            if len(self._known) < REMEMBERED:
                self._known[value] = host
            return host
        return host if local_address and _same_address(host, local_address) else None


def _same_address(host: str, local_address: str) -> bool:
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(local_address.partition("%")[0])
    except ValueError:
        return False  # a name, or a unix socket


def check_not_from_page(request: RequestHead, authority: str | None) -> None:
    """`authority` is the one that the request names: a page of that origin would be our own."""
    index = request.fields.index
    own = {f"{scheme}://{authority}".encode("latin-1") for scheme in ("http", "https")}
    from_page = (
        any(origin not in own for origin in index.get(b"origin", ()))
        or any(value.lower() in FOREIGN_SITES for value in index.get(b"sec-fetch-site", ()))
        or any(value.lower() in PAGE_MODES for value in index.get(b"sec-fetch-mode", ()))
    )
    if from_page:
        raise Refusal(
            answer.BROWSER_REFUSED, "this request comes from a web page; only programs may call here"
        )


def check_no_loop(request: RequestHead, via: bytes) -> None:
    """RFC 9110 section 7.6.3. `via` is our own name there."""
    if any(via in value for value in request.fields.index.get(b"via", ())):
        raise Refusal(answer.LOOP, "the route's upstream leads back to this proxy: check its URL")


def check_hops(request: RequestHead) -> None:
    """RFC 9110 section 7.6.2: Max-Forwards is for OPTIONS and TRACE. Raises AboutUs, Refusal."""
    values = request.fields.index.get(b"max-forwards")
    if request.method != b"OPTIONS" or values is None:
        return
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > MOST_DIGITS:
        raise Refusal(answer.BAD_REQUEST, "Max-Forwards must be one number")
    hops = int(values[0])
    if hops == 0:
        raise AboutUs
    request.passing = headers.with_max_forwards(request.passing, hops - 1)


def check_asterisk(request: RequestHead) -> None:
    """RFC 9112 section 3.2.4: the server as a whole, and only for OPTIONS. Raises AboutUs, Refusal."""
    if request.method == b"OPTIONS":
        raise AboutUs
    raise Refusal(answer.BAD_REQUEST, "the target * is for OPTIONS only")


def check_expectation(request: RequestHead) -> None:
    if any(value.lower() != b"100-continue" for value in request.fields.index.get(b"expect", ())):
        raise Refusal(answer.EXPECTATION_FAILED, "the only expectation there is is 100-continue")


def check_upgrade(request: RequestHead, *, permitted: bool) -> None:
    """Bytes behind a request for WebSocket are its own, so that no body can be told from them."""
    if permitted and request.wants_websocket and request.body is not None:
        raise Refusal(answer.BAD_REQUEST, "a request for WebSocket has no body")
