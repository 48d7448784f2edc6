"""A route made ready: the accounts whose connections are kept."""

from proxy.relay.runtime import POOLS

BY_HEADER = """
[[routes]]
path = "/who"
upstream = "http://127.0.0.1:1"
credential = "cred"
account = { header = "Who" }
"""


async def test_the_connections_of_a_busy_account_stay_and_those_of_an_idle_one_go(make_proxy):
    async with make_proxy("http://127.0.0.1:1", route=BY_HEADER, grant="authorization_code") as proxy:
        runtime = next(each for each in proxy.relay.runtimes if each.fixed is None)
        pool = runtime.pool(proxy.tokens.account("cred", "hot"))
        idle = runtime.pool(proxy.tokens.account("cred", "idle"))
        for number in range(POOLS + 500):
            runtime.pool(proxy.tokens.account("cred", f"another{number}"))
            if number % 500 == 0:
                assert runtime.pool(proxy.tokens.account("cred", "hot")) is pool
                runtime.look(0.0)  # as the sweep does
        assert runtime.pool(proxy.tokens.account("cred", "hot")) is pool
        assert runtime.pool(proxy.tokens.account("cred", "idle")) is not idle
        assert len(runtime._each_pool()) == POOLS
