"""Thousands of callers in eight processes find a token expired: it is refreshed once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from proxy import fd_limits
from proxy.demo import faults
from proxy.tokens.refresh import lease
from tests.crash.forkserver import Child, serving
from tests.crash.herd import Caller, herd, responses
from tests.crash.setup import UNHURRIED, set_up

pytestmark = pytest.mark.e2e

PROCESSES = 8
CALLERS = 1000  # of each process
ROUNDS = 3 * int(os.environ.get("TIMES", "1"))  # each with an account of its own
# Seconds that the token endpoint takes, by round: in one of them the lease must be renewed.
ANSWERED_AFTER = (0.02, lease.LIFETIME + 0.5, 0, 0.3, 0, 0.02, 1, 0, 0.3, 0)
SECONDS = 300 + 15 * ROUNDS  # a busy machine is no failure


@pytest.mark.timeout(SECONDS)
async def test_a_herd_in_eight_processes_causes_one_refresh(tmp_path, store_url):
    fd_limits.raise_limit(PROCESSES * CALLERS + 500)  # this process has both ends
    accounts = [f"herd-{number}" for number in range(ROUNDS)]
    async with set_up(tmp_path, store_url, grace=0) as setup, AsyncExitStack() as stack:
        configs = [setup.configure(f"process-{number}", UNHURRIED) for number in range(PROCESSES)]
        await setup.plant(configs[0], accounts, expired=True)
        log = tmp_path / "log"
        processes = [await stack.enter_async_context(serving(config, log)) for config in configs]
        ports = [config.server.listen[0].port for config in configs]
        callers = await stack.enter_async_context(herd(ports, CALLERS))
        for number, account in enumerate(accounts):
            setup.server.script(faults.delay(ANSWERED_AFTER[number % len(ANSWERED_AFTER)]))
            told = await told_at_once(account, callers, processes)
            assert told == {"200 ok": PROCESSES * CALLERS}
            assert list(setup.api.tokens.values()) == [PROCESSES * CALLERS]  # one token, for all
            assert len(setup.server.token_requests) == number + 1
            setup.api.hang_up()
        assert setup.server.families_revoked == 0
        assert not log.read_text()  # warnings, and worse


async def told_at_once(account: str, callers: Sequence[Caller], processes: Sequence[Child]) -> Counter[str]:
    """Send all requests while the processes are stopped, then resume these."""
    for process in processes:
        process.signal(signal.SIGSTOP)
    asked = [caller.ask(account) for caller in callers]
    for process in processes:
        process.signal(signal.SIGCONT)
    return await responses(asked)
