"""The 401 rule: one refresh, one replay, and never more."""

import asyncio
import logging
import time

import pytest

from proxy.demo.faults import Fault, status
from proxy.tokens.last_attempts import Unauthorized

NO = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno"


def tokens_sent(upstream):
    lines = b"\r\n".join(upstream.received).split(b"\r\n")
    return [
        line.removeprefix(b"Authorization: Bearer ") for line in lines if line.startswith(b"Authorization")
    ]


BODIES = {
    "no body": ([], b""),
    "a short body": ([b"Content-Length: 5"], b"hello"),
    "a chunked body": ([b"Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_rejected_token_is_refreshed_and_the_request_sent_again(proxy, upstream, kit, name):
    lines, body = BODIES[name]
    await proxy.adopt("rejected")
    upstream.script = [NO]
    answer = await proxy.ask(kit.request(b"POST", b"/up", *lines, b"Connection: close", body=body))
    assert answer.startswith(b"HTTP/1.1 200 ")
    first, second = tokens_sent(upstream)
    assert first == b"rejected"
    assert second != b"rejected"
    assert all(received.endswith(body) for received in upstream.received)
    assert len(proxy.server.token_requests) == 1
    assert proxy.sample("upstream_unauthorized_total", route="up", action="replayed") == 1


async def test_the_response_to_the_replay_is_final(proxy, upstream):
    await proxy.adopt("rejected")
    upstream.script = [NO, NO]
    assert (await proxy.get()).startswith(b"HTTP/1.1 401 ")
    assert upstream.requests == 2
    assert proxy.sample("upstream_unauthorized_total", route="up", action="returned") == 1


async def test_within_thirty_seconds_the_401_passes_without_another_refresh(proxy, upstream):
    await proxy.adopt("rejected")
    upstream.script = [NO, NO, NO]
    await proxy.get()
    answer = await proxy.get()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.endswith(b"\r\n\r\nno")
    assert upstream.requests == 3
    assert len(proxy.server.token_requests) == 1


async def test_a_token_that_was_replaced_meanwhile_causes_no_refresh(proxy, upstream):
    await proxy.adopt("old")

    async def replaced_meanwhile(connection):
        await proxy.adopt("new")
        connection.writer.write(NO)

    upstream.script = [replaced_meanwhile]
    assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")
    assert tokens_sent(upstream) == [b"old", b"new"]
    assert proxy.server.token_requests == []


async def test_a_burst_of_401s_makes_one_refresh(proxy, upstream):
    await proxy.adopt("rejected")
    all_there = asyncio.Event()

    async def together(connection):
        if upstream.answered == 20:
            all_there.set()
        await all_there.wait()
        connection.writer.write(NO)

    upstream.script = [together] * 20
    answers = await asyncio.gather(*(proxy.get() for _ in range(20)))
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert len(proxy.server.token_requests) == 1


async def test_a_long_body_gets_its_401_and_the_token_is_refreshed_behind(proxy, upstream, kit):
    await proxy.adopt("rejected")
    upstream.script = [NO]
    size = 200_000
    answer = await proxy.ask(
        kit.request(b"POST", b"/up", b"Content-Length: %d" % size, b"Connection: close", body=b"x" * size)
    )
    assert answer.startswith(b"HTTP/1.1 401 ")
    while not proxy.server.token_requests:
        await asyncio.sleep(0.01)
    while proxy.tokens.ready(proxy.account).access_token.reveal() == "rejected":
        await asyncio.sleep(0.01)
    assert upstream.requests == 1


@pytest.mark.parametrize("no", [NO, b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"])
async def test_without_a_better_token_the_401_passes_whole(proxy, upstream, no):
    await proxy.adopt("rejected")
    proxy.server.script(status(400, {"error": "invalid_scope"}))
    upstream.script = [no]
    answer = await proxy.get()
    assert answer == no.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")


async def test_a_late_401_is_replayed_too(make_proxy, upstream):
    """The upstream has used up its timeout before the refresh, which has its own."""

    async def late(connection):
        await asyncio.sleep(0.8)
        connection.writer.write(NO)

    async def slow():
        await asyncio.sleep(1.5)

    limits = "first_byte = 1.0"
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits=limits) as proxy:
        await proxy.adopt("rejected")
        proxy.server.script(Fault(wait_before=slow))
        upstream.script = [late]
        assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")
        assert upstream.requests == 2


async def test_a_401_passes_when_the_refresh_outlasts_its_limit(make_proxy, upstream):
    go_on = asyncio.Event()
    limits = "token_wait = 0.3\nfirst_byte = 60.0"
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits=limits) as proxy:
        await proxy.adopt("rejected")
        proxy.server.script(Fault(wait_before=go_on.wait))
        upstream.script = [NO]
        answer = await asyncio.wait_for(proxy.get(), 10)
        go_on.set()
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.endswith(b"\r\n\r\nno")


# -- a new token that is refused


@pytest.fixture
def warned(caplog):
    """The upstream_unauthorized lines since the start."""
    caplog.set_level(logging.WARNING, "proxy.relay")
    return lambda: [each for each in caplog.records if getattr(each, "event", "") == "upstream_unauthorized"]


async def test_an_upstream_that_refuses_new_tokens_is_a_warning_and_not_many(proxy, upstream, warned):
    await proxy.adopt("rejected")
    upstream.script = [NO] * 9
    for _ in range(5):
        assert (await proxy.get()).startswith(b"HTTP/1.1 401 ")
    (line,) = warned()
    assert line.fields == {"route": "up", "credential": "cred", "token_age": line.fields["token_age"]}
    assert 0 <= line.fields["token_age"] < 60
    assert "scopes" in line.getMessage()


async def test_an_upstream_that_refuses_new_tokens_is_in_the_status_of_the_account(proxy, upstream):
    await proxy.adopt("rejected")
    assert proxy.account.diagnosis().text == ""
    upstream.script = [NO] * 2
    await proxy.get()
    diagnosis = proxy.account.diagnosis()
    assert (diagnosis.reason, diagnosis.serves, diagnosis.exit_code) == ("upstream_unauthorized", True, 0)
    assert diagnosis.sentence.startswith(
        "the upstream of route up refuses new tokens with 401, the last time at "
    )
    assert "scopes" in diagnosis.remedy
    assert "credentials.cred" in diagnosis.remedy
    proxy.tokens.login_ended(proxy.account.key, "failed", "access_denied", "the login was declined")
    assert proxy.account.diagnosis().reason == "upstream_unauthorized"
    proxy.tokens.login_ended(proxy.account.key, "success")
    assert proxy.account.diagnosis().text == ""


async def test_after_an_hour_it_may_have_been_mended(proxy, upstream):
    await proxy.adopt("rejected")
    for age, reason in ((3590, "upstream_unauthorized"), (3610, "")):
        proxy.account.unauthorized = Unauthorized(proxy.state.clock.wall() - age, "up")
        assert proxy.account.diagnosis().reason == reason


async def test_a_401_that_a_new_token_mends_is_no_warning(proxy, upstream, warned):
    await proxy.adopt("rejected")
    upstream.script = [NO]
    assert (await proxy.get()).startswith(b"HTTP/1.1 200 ")
    assert warned() == []


async def test_a_401_to_an_old_token_that_cannot_be_replaced_is_no_warning(proxy, upstream, warned):
    clock = proxy.state.clock
    await proxy.adopt("old", issued_at=clock.wall() - 600, issued_boot=clock.boot() - 600)
    upstream.script = [NO]
    proxy.server.script(status(400, {"error": "invalid_scope"}))
    assert (await proxy.get()).startswith(b"HTTP/1.1 401 ")
    assert warned() == []


async def test_the_time_of_the_last_401_is_exported(proxy, upstream):
    assert proxy.sample("last_unauthorized_timestamp_seconds", route="up") == 0
    await proxy.adopt("rejected")
    upstream.script = [NO]
    before = time.time()
    await proxy.get()
    assert before <= proxy.sample("last_unauthorized_timestamp_seconds", route="up") <= time.time()
