"""What a request needs and does not find ready: a token, a connection. Both end in a Refusal if not in it."""

from __future__ import annotations

from proxy.errors import TokenError
from proxy.relay import answer
from proxy.relay.answer import Refusal
from proxy.relay.context import RelayContext
from proxy.relay.dial import dial
from proxy.relay.lane import Lane
from proxy.relay.upstream import Upstream
from proxy.tokens.account import Account, Served


async def token(context: RelayContext, account: Account) -> Served:
    """The account's token, waited for with all others who want it. Raises Refusal (503)."""
    served = context.tokens.ready(account)
    if served is not None:
        return served
    if context.waiting >= context.limits.waiting:
        raise Refusal(answer.OVERLOADED, "too many requests wait for a token", retry_after=1)
    context.waiting += 1
    try:
        return await context.tokens.get(account)
    except TokenError as error:
        raise answer.of_token_error(error, *account.key, context.login_url(account)) from error
    finally:
        context.waiting -= 1


async def connection(context: RelayContext, lane: Lane, account: Account) -> Upstream:
    """A new connection on which only this account's requests go. Raises Refusal (502, 503, 504)."""
    if not context.descriptors.hold_another_upstream():
        raise Refusal(answer.OVERLOADED, "this proxy has too many open files", retry_after=1)
    wire = await dial(lane.route, lane.tls, context.limits.connect)
    return Upstream(wire, lane.pool(account), context.head_limits)
