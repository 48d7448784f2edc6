"""A token or a connection for a request that found none ready. Both functions raise Refusal on failure."""

from __future__ import annotations

from proxy.errors import TokenError
from proxy.relay import problems
from proxy.relay.context import RelayContext
from proxy.relay.dial import dial
from proxy.relay.problems import Refusal
from proxy.relay.runtime import RouteRuntime
from proxy.relay.upstream import Upstream
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment


async def token(context: RelayContext, account: Account) -> Attachment:
    """The account's token; all requests that wait for it share one refresh. Raises Refusal (503)."""
    attachment = context.tokens.ready(account)
    if attachment is not None:
        return attachment
    if context.lasting.waiting >= context.limits.waiting:
        raise Refusal(problems.OVERLOADED, "too many requests are waiting for a token", retry_after=1)
    context.lasting.waiting += 1
    try:
        return await context.tokens.get(account)
    except TokenError as error:
        raise problems.of_token_error(error, *account.key, context.login_url(account)) from error
    finally:
        context.lasting.waiting -= 1


async def connection(context: RelayContext, runtime: RouteRuntime, account: Account) -> Upstream:
    """A new connection for this account's requests only. Raises Refusal (502, 503, 504)."""
    if not context.descriptors.hold_another_upstream():
        raise Refusal(problems.OVERLOADED, "this proxy has too many open files", retry_after=1)
    wire = await dial(runtime.route, runtime.tls, context.limits.connect, runtime.sessions)
    return Upstream(wire, runtime.pool(account), context.head_limits)
