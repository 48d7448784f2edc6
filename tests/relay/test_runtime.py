"""A route made ready: whose connections are kept."""

import pytest

from proxy.relay import runtime as module

BY_HEADER = """
[[routes]]
path = "/who"
upstream = "http://127.0.0.1:1"
credential = "cred"
account = { header = "Who" }
"""


@pytest.fixture
def places(monkeypatch):
    if not hasattr(module, "__file__") or not module.__file__.endswith(".py"):
        pytest.skip("the compiled module has its number of places built in")
    monkeypatch.setattr(module, "POOLS", 8)


async def test_the_connections_of_a_busy_account_stay_and_those_of_an_idle_one_go(make_proxy, places):
    async with make_proxy("http://127.0.0.1:1", route=BY_HEADER, grant="authorization_code") as proxy:
        runtime = next(each for each in proxy.relay.runtimes if each.fixed is None)
        hot = runtime.pool(proxy.tokens.account("cred", "hot"))
        for number in range(50):
            runtime.pool(proxy.tokens.account("cred", f"idle{number}"))
            assert runtime.pool(proxy.tokens.account("cred", "hot")) is hot
            runtime.close_idle(0.0)  # as the sweep does
        assert hot._size > 0  # not retired
        assert len(runtime._each_pool()) == 8
