"""A token for a request that found none ready."""

from __future__ import annotations

from proxy.errors import TokenError
from proxy.relay import problems
from proxy.relay.context import RelayContext
from proxy.relay.problems import Refusal
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment


async def token(context: RelayContext, account: Account) -> Attachment:
    """The account's token; all requests that wait for it share one refresh. Raises Refusal (503)."""
    attachment = context.tokens.ready(account)
    if attachment is not None:
        return attachment
    if context.lasting.waiting >= context.limits.waiting:
        raise Refusal(problems.OVERLOADED, problems.TOO_MANY_WAIT, retry_after=1)
    context.lasting.waiting += 1
    try:
        return await context.tokens.get(account)
    except TokenError as error:
        raise problems.of_token_error(error, *account.key, context.login_url(account)) from error
    finally:
        context.lasting.waiting -= 1
