"""What metrics show of an account and of its authorization server. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.oauth import clock_skew
from proxy.observe.token_metrics import TokenHealth
from proxy.tokens import lifetime
from proxy.tokens.account import Account


def clock_skews(credentials: Iterable[Credential], clock: Clock) -> Iterator[tuple[str, float]]:
    """For each credential, how far (seconds) its server's clock is ahead of ours, where that is known."""
    for credential in credentials:
        seconds = clock_skew.known(clock, credential)
        if seconds is not None:
            yield credential.name, round(seconds, 3) + 0.0


def client_secret_ends(
    credentials: Iterable[Credential], accounts: Iterable[Account]
) -> Iterator[tuple[str, float]]:
    """As configured, or the first end of the clients that were registered for the accounts' tokens."""
    ends = {each.name: each.client_secret_expires for each in credentials}
    for account in accounts:
        client, name = account.registration, account.key.credential
        if client is not None and client.expires_at is not None and name in ends:
            ends[name] = min(client.expires_at, ends[name] or client.expires_at)
    yield from ((name, end) for name, end in ends.items() if end is not None)


def of(account: Account) -> TokenHealth:
    """The health of an account, as exported."""
    token = account.held.token
    issued = token if token and token.access_token else None
    return TokenHealth(
        credential=account.key.credential,
        account=account.key.account,
        state=account.state(),
        issued_at=issued.issued_at if issued else None,
        expires_at=issued.expires_at if issued else None,
        refresh_due_at=account.held.due_at,
        refresh_expires_at=lifetime.refresh_ends_at(token, account.credential) if token else None,
        last_success_at=account.last_success_at,
        next_try_at=account.next_try_at,
        failures=account.failures,
        login_required=account.needs_person,
    )
