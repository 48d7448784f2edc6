"""GET /.token-proxy/token/CREDENTIAL[/ACCOUNT] on a data listener: a caller fetches a token itself.

Only for callers that list the credential in `tokens`. Nothing below this path is ever relayed, except on the
listener that a route has to itself: everything there is the route's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from proxy.clock import Clock
from proxy.config import route
from proxy.config.values import ACCOUNT_NAME
from proxy.errors import ProxyError
from proxy.http.message import RequestHead
from proxy.relay import problems
from proxy.relay.callers import Caller
from proxy.relay.problems import Refusal
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment
from proxy.tokens.handed_out import described

RESERVED: Final = route.RESERVED.rstrip("/").encode("ascii")
_TOKEN: Final = RESERVED + b"/token/"
_DOT: Final = 0x2E
_DEFAULT: Final = "default"
_BORDERS: Final = (b"", b"/", b"?")
_METHODS: Final = frozenset({b"GET", b"HEAD"})
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"
)


class TokenAsked(ProxyError):
    """A request for a token itself, not for an upstream. `caller`: None where callers are not identified."""

    def __init__(self, caller: Caller | None) -> None:
        super().__init__("a request for a token")
        self.caller = caller


@dataclass(frozen=True, slots=True)
class Wanted:
    credential: str
    account: str


def is_reserved(path: bytes) -> bool:
    """Whether the path and query are below RESERVED. Called for each request: most differ in one byte."""
    if len(path) < 2 or path[1] != _DOT:
        return False
    return path.startswith(RESERVED) and path[len(RESERVED) : len(RESERVED) + 1] in _BORDERS


def wanted(request: RequestHead, caller: Caller | None) -> Wanted:
    """What is asked for, if this caller may have it. Raises Refusal."""
    place = request.path.partition(b"?")[0]
    credential, slash, account = place.removeprefix(_TOKEN).decode("latin-1").partition("/")
    if caller is None or not place.startswith(_TOKEN) or not credential:
        raise Refusal(problems.NO_ROUTE, "nothing is here: see `tokens` of [callers.NAME]")
    if request.method not in _METHODS:
        raise Refusal(problems.METHOD_REFUSED, "a token is fetched with GET")
    if not caller.may_fetch(credential):
        detail = "this caller may not fetch this token: see `tokens` of the caller"
        raise Refusal(problems.CALLER_DENIED, detail)
    if slash and not ACCOUNT_NAME.fullmatch(account):
        raise Refusal(problems.ACCOUNT_INVALID, "the path must end with the name of an account, or before it")
    account = account or _DEFAULT
    if account not in {_DEFAULT, caller.account} and not caller.may_name(account):
        raise Refusal(
            problems.CALLER_DENIED, "this caller may not use this account: see `accounts` of the caller"
        )
    return Wanted(credential, account)


def response(account: Account, attachment: Attachment, clock: Clock) -> tuple[bytes, bytes]:
    """The head, without its last line, and the body."""
    body = json.dumps(described(account, attachment, clock)).encode("ascii") + b"\n"
    return _HEAD % len(body), body
