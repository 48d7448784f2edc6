"""The pool of connections, as far as it needs no server."""

import asyncio

from proxy.store.postgres import link as module
from proxy.store.postgres.link import Pool, Server


class Idle:
    """A connection whose end takes a turn of the loop."""

    def __init__(self, used_at):
        self.used_at = used_at
        self.closing = asyncio.Event()

    async def close(self):
        self.closing.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_while_an_old_connection_ends_others_may_take_the_rest():
    pool = Pool(Server("", "", "a test"))
    now = asyncio.get_running_loop().time()
    old, new = Idle(now - module.IDLE - 1), Idle(now)
    pool._idle.append(old)
    keeping = asyncio.create_task(pool._keep(new))
    await old.closing.wait()
    pool._idle.clear()  # as `_take` of a call that comes just then
    await keeping
    assert pool._idle == []
