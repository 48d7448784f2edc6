"""The line that a service manager shows: what it says, and of which accounts."""

import asyncio
import re
import socket
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import startup
from proxy.config.load import load
from proxy.demo.wiring import embedded, free_ports, log_in
from proxy.observe import supervision
from proxy.observe.supervision import Summary, Supervision, line, summarize
from proxy.services import open_services
from proxy.store.base import AccountId
from proxy.systemd import Notifier

DYNAMIC = """
[[routes]]
path = "/dynamic"
upstream = "http://127.0.0.1:9"
credential = "{credential}"
account = {{ header = "Token-Proxy-Account" }}
"""


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (Summary(3, 4, 41 * 60.0), "3 of 4 credentials can serve, next refresh in 41 min"),
        (Summary(4, 4), "4 of 4 credentials can serve"),
        (Summary(1, 1, 0.0), "1 of 1 credentials can serve, next refresh in less than a minute"),
        (Summary(1, 1, 59.9), "1 of 1 credentials can serve, next refresh in less than a minute"),
        (Summary(1, 1, 60.0), "1 of 1 credentials can serve, next refresh in 1 min"),
        (Summary(1, 1, 119.9), "1 of 1 credentials can serve, next refresh in 1 min"),
        (Summary(1, 1, 7199.0), "1 of 1 credentials can serve, next refresh in 119 min"),
        (Summary(1, 1, 7200.0), "1 of 1 credentials can serve, next refresh in 2 h"),
        (Summary(1, 1, 172_799.0), "1 of 1 credentials can serve, next refresh in 47 h"),
        (Summary(1, 1, 172_800.0), "1 of 1 credentials can serve, next refresh in 2 d"),
        (Summary(0, 1, None, ["crm/default"]), "0 of 1 credentials can serve; needs a login: crm/default"),
        (
            Summary(3, 4, 60.0, ["a/x", "b/y", "c/z", "d/1", "d/2"]),
            "3 of 4 credentials can serve, next refresh in 1 min; needs a login: a/x, b/y, c/z and 2 more",
        ),
    ],
)
def test_the_line(summary, text):
    assert line(summary) == text


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.none() | st.floats(0, 1e12),
    st.lists(st.from_regex(r"[a-z0-9_-]{1,63}/[A-Za-z0-9._@+-]{1,128}", fullmatch=True), max_size=8),
)
def test_it_is_one_line_of_a_length_that_can_be_read(serving, credentials, seconds, logins):
    text = line(Summary(serving, credentials, seconds, logins))
    assert text.startswith(f"{serving} of {credentials} credentials can serve")
    assert text.isprintable()
    assert len(text) < 800
    assert (", next refresh in " in text) == (seconds is not None)
    assert ("; needs a login: " in text) == bool(logins)


@given(st.floats(60, 1e9), st.floats(0, 1e9))
def test_a_later_refresh_is_never_shown_as_a_sooner_one(seconds, more):
    def shown(seconds):
        number, unit = re.search(r"in (\d+) (min|h|d)$", line(Summary(1, 1, seconds))).groups()
        return int(number) * {"min": 60, "h": 3600, "d": 86400}[unit]

    assert shown(seconds) <= seconds
    assert shown(seconds) <= shown(seconds + more)


# -- which accounts


@pytest.fixture
async def config():
    async with embedded(*free_ports(0, 0)) as (_, made):
        yield made


async def test_a_credential_serves_with_a_token_or_if_it_needs_none_yet(config):
    async with startup.serving(config) as services:
        assert await summarize(services) == Summary(1, 2, None, ["person/default"])
        await log_in(services)
        await services.tokens.get(services.tokens.account("machine", "default"))
        whole = await summarize(services)
        assert (whole.serving, whole.credentials, whole.logins) == (2, 2, [])
        assert 0 < whole.next_refresh_in < 60, "tokens of the demo live a minute"


async def test_of_a_credential_without_fixed_accounts_one_that_serves_is_enough(config):
    text = config.path.read_text()
    config.path.write_text(text[: text.index("[[routes]]")] + DYNAMIC.format(credential="person"))
    config = load(config.path).config
    async with startup.serving(config) as services:
        before = await summarize(services)
        assert before.serving == 0
        await log_in(services)
        assert AccountId("person", "default") in {each.key for each in services.tokens.accounts()}
        assert (await summarize(services)).serving == 1


async def test_a_time_that_has_passed_is_no_next_refresh(config):
    async with startup.serving(config) as services:
        await log_in(services)
        account = services.tokens.account("person", "default")
        assert supervision._next_refresh(account, time.time()) == account.held.due_at
        assert supervision._next_refresh(account, account.held.due_at + 1) is None


async def test_without_a_manager_there_is_nothing_to_do(config):
    async with open_services(config) as services:
        before = asyncio.all_tasks()
        watched = Supervision(Notifier())
        watched.start(lambda: services)
        assert asyncio.all_tasks() == before
        await watched.close()


async def test_a_loop_that_is_blocked_gives_no_sign_of_life(config, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        notifier = Notifier(str(tmp_path / "notify"), ping_every=0.01)
        watched = Supervision(notifier)

        def pings():
            count = 0
            with suppress(BlockingIOError):
                while True:
                    count += manager.recv(1000) == b"WATCHDOG=1"
            return count

        async with open_services(config) as services:
            watched.start(lambda: services)
            async with asyncio.timeout(60):
                while not pings():
                    await asyncio.sleep(0.01)
            time.sleep(0.5)  # noqa: ASYNC251 (the loop is blocked)
            assert pings() == 0
            async with asyncio.timeout(60):
                while not pings():
                    await asyncio.sleep(0.01)
            await watched.close()
        notifier.close()


async def test_a_reload_is_told_from_its_beginning_to_its_end(config, tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "LOOK_EVERY", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)

        async def until(message):
            async with asyncio.timeout(60):
                while True:
                    told = await asyncio.get_running_loop().sock_recv(manager, 1000)
                    if told.decode().startswith(message):
                        return told.decode()

        notifier = Notifier(str(tmp_path / "notify"))
        watched = Supervision(notifier)
        async with open_services(config) as services:
            watched.start(lambda: services)
            await until("READY=1")
            watched.reloading()
            await until("RELOADING=1\nMONOTONIC_USEC=")
            watched.settled()
            await until("READY=1")
            assert (await until("STATUS=")).endswith("; the last reload failed: see the log")
            watched.reloading()
            watched.reloaded()
            watched.settled()
            await until("READY=1")
            assert "reload" not in await until("STATUS=")
            await watched.close()
        notifier.close()
