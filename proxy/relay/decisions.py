"""What is decided about a request, in log lines at level debug: names, numbers and our own words, no secrets.

Each request has a number, as the lines of several are mixed. At other levels it is 0, and nothing is logged.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from proxy.http.body import NONE
from proxy.http.message import RequestHead, ResponseHead
from proxy.observe.events import DEBUG, event
from proxy.relay.callers import Caller, CallerTable
from proxy.relay.interfaces import Downstream
from proxy.relay.problems import Refusal
from proxy.tokens.account import Account

if TYPE_CHECKING:
    from proxy.relay.runtime import RouteRuntime

_log = logging.getLogger("proxy.relay")
_numbers = itertools.count(1)


def are_logged() -> bool:
    return _log.isEnabledFor(DEBUG)


def admitted(
    request: RequestHead,
    runtime: RouteRuntime,
    account: Account,
    caller: Caller | None,
    table: CallerTable | None,
    downstream: Downstream,
) -> int:
    """Returns the number of the request."""
    number = next(_numbers)
    method, route = request.method.decode("ascii"), runtime.route.name
    who = "any caller"
    if caller is not None and table is not None:
        who = f"caller {caller.name} (known by {table.how_known(caller, request, downstream)})"
    say(number, "admitted", "%s on route %s for %s, account %s", method, route, who, account.key)
    return number


def refused(number: int, refusal: Refusal) -> None:
    """`number`: 0 for a request that was not admitted; it gets one of its own."""
    if not number and not are_logged():
        return
    case = refusal.case
    say(number or next(_numbers), "refused", "%d %s: %s", case.status, case.ending, refusal.detail)


def responded(number: int, head: ResponseHead) -> None:
    body = "no body" if head.framing == NONE else "chunked" if head.chunked else "with a body"
    after = "stays open" if head.keep_alive else "ends with it"
    say(number, "response", "the upstream responds %d, %s; its connection %s", head.status, body, after)


def not_kept(*, nothing_behind: bool, sent_whole: bool) -> None:
    """A connection to an upstream ends with its response."""
    if not nothing_behind:
        why = "bytes follow the response"
    elif not sent_whole:
        why = "the response came before the end of the request"
    else:
        why = "the upstream ends it"
    event(_log, DEBUG, "decision", "an upstream connection is not kept: %s", why, step="not_kept")


def say(number: int, step: str, sentence: str, *values: object) -> None:
    """`step`: a fixed word, for filters."""
    if number:
        event(_log, DEBUG, "decision", f"request %d: {sentence}", number, *values, number=number, step=step)
