"""`token-proxy login` without a name: the only account that has a login, or a list of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Final

from proxy.commands.states import state_cell
from proxy.commands.status import look
from proxy.commands.status_table import NOTHING, Selection
from proxy.commands.terminal import Row, Sheet, rendered
from proxy.config.model import Config
from proxy.errors import ProxyError
from proxy.oauth import grants
from proxy.oauth.grants.authorization_code import login_command
from proxy.observe.status import Status
from proxy.store.base import AccountId

COLUMNS: Final = {each: each.lower() for each in ("CREDENTIAL", "ACCOUNT", "STATE", "COMMAND")}
LISTED: Final = 20  # accounts
ANYBODY: Final = "NAME"  # stands for the name of an account in a command
Say = Callable[[str], object]


class NoLogin(ProxyError):
    """No credential has a login."""


async def choose(config: Config, account: str | None, say: Say) -> AccountId | None:
    """The account to log in to, if there is one only; None: they have been listed.

    `account`: the one of the only credential. Raises NoLogin, StoreError.
    """
    names = [name for name, each in config.credentials.items() if grants.of(each).needs_person]
    if not names:
        raise NoLogin("no credential of the configuration has a login: their grants need none")
    if account is not None and len(names) == 1:
        return AccountId(names[0], account)
    status = (await look(config, Selection())).status
    accounts = [*_accounts(status, names)]
    if len(accounts) == 1 and account is None and accounts[0][0].account != ANYBODY:
        return accounts[0][0]
    rows = [_row(key, state) for key, state in accounts[:LISTED]]
    say(rendered(Sheet(COLUMNS, rows, heading=2), sys.stdout))
    if len(accounts) > LISTED or status["next"] is not None:
        say("… and more: token-proxy status")
    return None


def _accounts(status: Status, names: list[str]) -> Iterator[tuple[AccountId, str]]:
    for entry in status["tokens"]:
        if entry["credential"] in names:
            yield AccountId(entry["credential"], entry["account"]), entry["state"]
    for name in status["joinable"]:
        yield AccountId(name, ANYBODY), ""


def _row(key: AccountId, state: str) -> Row:
    cell = state_cell(state, sys.stdout) if state else "a new account"
    account = NOTHING if key.account == ANYBODY else key.account
    return (key.credential, account, cell, login_command(*key))
