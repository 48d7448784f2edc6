"""A process that may have few open files, before many accounts with connections of their own."""

from __future__ import annotations

import pytest

from tests.black_box.accounts import ACCOUNT, ACCOUNT_OF_ROUTE, CREDENTIAL, with_accounts
from tests.black_box.conftest import until
from tests.black_box.crowds import PATIENCE, Certificates, ask, crowd, open_files, route, upstream
from tests.fakes.crowd import raise_file_limit

FILES = 256  # that the process may have open
ACCOUNTS = 400  # more than it may have connections
CALLERS = 60  # with a connection upstream each: half of the files, without those of idle ones
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


def test_idle_connections_give_way_to_callers_too(command, there):
    """Many callers come while idle connections hold nearly all files: all can be under way at once."""
    assert ask(command.port, 1, prefix="a", **IN_TURN)["statuses"] == {"200": ACCOUNTS}
    there.change(holds=True)
    with crowd(command.port, CALLERS, requests=2, prefix="c", account=ACCOUNT, accounts=CALLERS) as callers:
        until(lambda: there.seen["in_flight"] == CALLERS, "all are under way at once", PATIENCE)
        there.change(holds=False)
        seen = callers.result()
    assert seen["statuses"] == {"200": CALLERS * 2}
    assert not seen["faults"]
    assert not there.seen["repeated"]
