"""A process that may have few open files, before many accounts with connections of their own."""

from __future__ import annotations

import pytest

from tests.black_box.accounts import ACCOUNT, ACCOUNT_OF_ROUTE, CREDENTIAL, with_accounts
from tests.black_box.crowds import Certificates, ask, crowd, open_files, route, upstream
from tests.fakes.crowd import raise_file_limit

FILES = 256  # that the process may have open
ACCOUNTS = 400  # more than it may have connections
IN_TURN = {"account": ACCOUNT, "accounts": ACCOUNTS, "requests": ACCOUNTS, "account_turns": True}
BUSY = {"account": ACCOUNT, "accounts": 3}  # the first three of them


@pytest.fixture(autouse=True)
def _room_for_callers() -> None:
    raise_file_limit()


@pytest.fixture
def certificates(tmp_path) -> Certificates:
    return Certificates.made_in(tmp_path)


@pytest.fixture
def there(command, certificates):
    """The upstream of a proxy that has been started."""
    with upstream(certificates.both) as made:
        up = route(made.port, ca=certificates.ca, credential=CREDENTIAL, more=ACCOUNT_OF_ROUTE)
        with_accounts(command, ACCOUNTS, "connections = 100\n", up)
        command.files = FILES
        command.start()
        yield made


def test_idle_connections_of_other_accounts_give_way(command, there):
    """Hundreds of accounts, one after the other, each leave a connection; all of them are served."""
    seen = ask(command.port, 1, prefix="a", **IN_TURN)
    assert seen["statuses"] == {"200": ACCOUNTS}
    assert not seen["faults"]
    assert there.seen["opened"] == ACCOUNTS
    assert not there.seen["repeated"]
    assert open_files(command.pid) < FILES


def test_connections_in_use_do_not_give_way(command, there):
    """Callers of busy accounts keep theirs while other accounts come and go."""
    with crowd(command.port, 20, seconds=6, prefix="busy", **BUSY) as busy:
        busy.wait_until_sent()
        others = ask(command.port, 1, prefix="b", **IN_TURN)
        still = busy.result()
    for each in (others, still):
        assert set(each["statuses"]) == {"200"}
        assert not each["faults"]
    assert not there.seen["repeated"]


def test_a_burst_of_many_accounts_at_once_is_served(command, there):
    """Nearly all files are those of callers and of idle connections of other accounts."""
    assert ask(command.port, 1, prefix="a", **IN_TURN)["statuses"] == {"200": ACCOUNTS}
    at_once = {"account": ACCOUNT, "accounts": 60, "account_from": 100}
    for number in range(3):
        seen = ask(command.port, 60, requests=3, prefix=f"c{number}-", **at_once)
        assert seen["statuses"] == {"200": 180}
        assert not seen["faults"]
    assert not there.seen["repeated"]
