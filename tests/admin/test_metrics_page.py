"""/metrics of a server that serves."""

import asyncio
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.demo import faults
from proxy.tokens.lifetime import STATES
from tests.servers import programs


async def scrape(world):
    response = await world.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return await response.text()


def value(text, name, **labels):
    """The sum of the samples that have these labels; None if there is none."""
    samples = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"token_proxy_{name}" and labels.items() <= sample.labels.items()
    ]
    return sum(samples) if samples else None


async def test_what_happens_is_counted(world):
    assert value(await scrape(world), "token_expiry_timestamp_seconds") is None
    await world.browser.log_in()
    await world.get(f"{world.data}/demo/x")
    await world.get(f"{world.data}/nowhere")
    await world.raw("GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n")
    world.server.script(faults.NAMED["too-many-requests"])
    await world.browser.press("/refresh/person", page="/")
    text = await scrape(world)
    states = {state: value(text, "token_state", credential="person", state=state) for state in STATES}
    assert states == dict.fromkeys(STATES, 0) | {"valid": 1}
    assert value(text, "token_expiry_timestamp_seconds", credential="person") > 1e9
    assert value(text, "requests_total", route="demo", method="GET", code="200") == 1
    assert value(text, "refused_total", reason="no-route") == 1
    assert value(text, "refused_total", reason="host-refused") == 1
    assert value(text, "token_refreshes_total", outcome="transient") == 1
    assert value(text, "token_refresh_errors_total", error="http_429") == 1
    assert value(text, "logins_total", credential="person", outcome="success") == 1
    assert abs(value(text, "clock_skew_seconds", credential="person")) < 5
    assert value(text, "token_next_try_timestamp_seconds", credential="person") > time.time()
    assert value(text, "token_refresh_failures_consecutive", credential="person") == 1
    assert value(text, "build_info") == 1


async def test_with_very_many_accounts_the_numbers_are_those_of_the_store(a_world):
    async with a_world(lambda text: f"{text}\n[limits]\naccount_labels = 2\n") as world:
        for name in ("anna", "bert", "carl"):
            await world.browser.log_in(f"/login/person/{name}")
        text = await scrape(world)
        assert value(text, "token_state", credential="person") is None
        assert value(text, "token_expiry_timestamp_seconds", credential="person") is None
        assert value(text, "accounts", credential="person", state="valid") == 3
        assert value(text, "accounts", credential="person", state="expired") == 0
        assert value(text, "token_state", credential="machine", account="default", state="absent") == 1
        assert value(text, "accounts", credential="machine", state="absent") == 1


async def test_no_label_comes_from_a_caller(world):
    before = len((await scrape(world)).splitlines())
    for number in range(20):
        await world.get(f"{world.data}/{number}")
        await world.get(f"{world.data}/demo/{number}?{number}")
    after = len((await scrape(world)).splitlines())
    for number in range(20, 40):
        await world.get(f"{world.data}/{number}")
        await world.get(f"{world.data}/demo/{number}?{number}")
    assert before < after == len((await scrape(world)).splitlines())


@pytest.mark.monitoring
async def test_promtool_has_no_complaint(world):
    """Prometheus's own linter, of names, types and HELP texts."""
    await world.browser.log_in()
    await world.get(f"{world.data}/demo/x")
    check = await asyncio.create_subprocess_exec(
        *(programs.find("promtool"), "check", "metrics"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await check.communicate((await scrape(world)).encode())
    assert (check.returncode, printed.decode()) == (0, "")


UNITS = (
    "_seconds",
    "_bytes",
    "_total",
    "_info",
    "_consecutive",
    "_in_flight",
    "_queued",
    "_connections",
    "_writable",
    "_unsaved",
    "_state",
    "_required",
    "_fds",
    "_accounts",
    "_ready",
    "_successful",
)


async def test_the_page_is_in_the_format_of_prometheus(world):
    await world.browser.log_in()
    await world.get(f"{world.data}/demo/x")
    families = list(text_string_to_metric_families(await scrape(world)))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.documentation
        names = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert names <= {f"{family.name}_total"}
        assert family.type == "counter" or family.name.endswith(UNITS), family.name
