"""`token-proxy run`"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

from proxy import fd_limits, signals, startup
from proxy.admin import launch
from proxy.adopted import Adopted
from proxy.config.load import Loaded
from proxy.errors import StoreError
from proxy.hooks import Hooks
from proxy.observe.supervision import Supervision
from proxy.process import Process
from proxy.reload import Reloader
from proxy.systemd import NOBODY, Supervisor

# New objects between two runs of the garbage collector. Requests leave no cycles, so that the default of 700
# would only waste time.
COLLECT_EVERY: Final = 10_000
Say = Callable[[str], object]


async def run_server(
    loaded: Loaded, say: Say | None = None, supervisor: Supervisor = NOBODY, watched: Path | None = None
) -> int:
    """`say`: prints to the terminal, if there is one. `watched`: see Reloader.running.

    Raises StoreError, CannotListen, ConfigError.
    """
    config = loaded.config
    fd_limits.raise_limit(config.limits.connections)
    stop, reload_wanted, hooks = asyncio.Event(), asyncio.Event(), Hooks()
    signals.stop_on_signals(stop)
    signals.reload_on_hangup(reload_wanted, stop, hooks)
    async with AsyncExitStack() as stack:
        supervision = Supervision(supervisor.notifier)
        stack.push_async_callback(supervision.close)  # after the drain
        running = await stack.enter_async_context(
            startup.running(loaded, hooks=hooks, stop=stop, adopted=Adopted(supervisor.sockets))
        )
        hooks.reloading.append(supervision.reloading)
        hooks.reloaded.append(supervision.reloaded)
        hooks.settled.append(supervision.settled)
        hooks.draining.append(lambda: supervision.draining(running.time_to_stop))
        supervision.start(lambda: running.services)
        if say is not None:
            await _say_start(running, say)
        gc.collect()
        gc.freeze()  # permanent objects: scanning them takes 28 ms, during which all requests wait
        gc.set_threshold(COLLECT_EVERY)
        async with Reloader(running, reload_wanted).running(watched):
            await stop.wait()
    return 0


async def _say_start(running: Process, say: Say) -> None:
    from proxy.commands.start_summary import start_summary  # noqa: PLC0415 (on terminals only)

    say(start_summary(running.summary(), sys.stderr))
    with suppress(StoreError):  # it is in the log
        link = await launch.make(running.services.config, running.services.store)
        say(f"Status page, signed in (once, within {launch.VALID_SAID}): {link}")
