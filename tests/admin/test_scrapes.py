"""The metrics as text: one at a time, a share of the time, and never older than their request."""

import asyncio
import time

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy.admin import scrapes
from proxy.admin.scrapes import Format, Scrapes, WithoutAccounts, wanted

PLAIN = Format(is_openmetrics=False, is_compressed=False)
OPENMETRICS = Format(is_openmetrics=True, is_compressed=False)


class Source(Collector):
    """Takes `seconds` of the event loop for each text, and counts."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.texts = 0

    async def read(self):
        return self

    def collect(self):
        self.texts += 1
        time.sleep(self.seconds)
        yield GaugeMetricFamily("texts", "Their number.", value=self.texts)


def number(text):
    (line,) = [line for line in text.decode().splitlines() if line.startswith("texts ")]
    return float(line.split()[1])


async def test_requests_that_wait_share_one_text():
    source = Source()
    shown = Scrapes(source.read)
    texts = await asyncio.gather(*(shown.text(PLAIN) for _ in range(100)))
    assert {number(text) for text in texts} == {1}


async def test_each_text_is_begun_after_its_request():
    source = Source()
    shown = Scrapes(source.read)
    for expected in (1, 2, 3):
        assert number(await shown.text(PLAIN)) == expected


async def test_a_request_during_a_text_gets_the_next_one():
    reading, may_go_on = asyncio.Event(), asyncio.Event()
    source = Source()

    async def read():
        reading.set()
        await may_go_on.wait()
        return source

    shown = Scrapes(read)
    first = asyncio.create_task(shown.text(PLAIN))
    await reading.wait()
    second = asyncio.create_task(shown.text(PLAIN))
    await asyncio.sleep(0)
    may_go_on.set()
    assert (number(await first), number(await second)) == (1, 2)


async def test_formats_take_turns():
    source = Source()
    shown = Scrapes(source.read)
    texts = await asyncio.gather(*(shown.text(form) for form in (PLAIN, OPENMETRICS) * 50))
    assert source.texts == 2
    assert texts[1].endswith(b"# EOF\n")


async def test_however_many_ask_the_event_loop_has_most_of_the_time():
    source = Source(0.01)
    shown = Scrapes(source.read)
    ends = time.monotonic() + 1

    async def ask():
        while time.monotonic() < ends:
            await shown.text(PLAIN)

    began = time.monotonic()
    await asyncio.gather(*(ask() for _ in range(20)))
    written = source.texts * source.seconds
    assert written < (time.monotonic() - began) * scrapes.SHARE * 1.5 + 0.02
    assert source.texts > 1


async def test_a_reader_that_leaves_takes_the_text_from_nobody():
    source = Source()
    shown = Scrapes(source.read)
    leaving, staying = asyncio.create_task(shown.text(PLAIN)), asyncio.create_task(shown.text(PLAIN))
    await asyncio.sleep(0)
    leaving.cancel()
    assert number(await staying) == 1


async def test_a_text_that_fails_is_followed_by_others():
    source = Source()
    fails = True

    async def read():
        if fails:
            raise ZeroDivisionError
        return source

    shown = Scrapes(read)
    with pytest.raises(ZeroDivisionError):
        await shown.text(PLAIN)
    fails = False
    assert number(await shown.text(PLAIN)) == 1


@pytest.mark.parametrize(
    ("accept", "encoding", "form"),
    [
        ("", "", (False, False)),
        ("*/*", "gzip", (False, True)),
        ("application/openmetrics-text", "identity", (True, False)),
        ("text/plain, APPLICATION/openmetrics-text;version=1", "br, GZIP;q=0.5", (True, True)),
        ("application/openmetrics-text-not", "gzipped", (False, False)),
        (",;=,", ",;", (False, False)),
    ],
)
def test_the_format_is_chosen_by_the_scraper(accept, encoding, form):
    assert wanted(accept, encoding) == form


def test_samples_with_an_account_are_left_out_and_the_others_stay():
    registry = CollectorRegistry()
    Gauge("named", "All have one.", ("credential", "account"), registry=registry).labels("c", "alice").set(1)
    some = Gauge("some", "Some have one.", ("credential", "account"), registry=registry)
    some.labels("c", "alice").set(1)
    some.labels("c", "").set(2)  # the same as no label, to Prometheus
    Counter("events", "None has one.", ("credential",), registry=registry).labels("c").inc()
    for _ in range(2):
        families = {family.name: family for family in WithoutAccounts(registry).collect()}
        assert set(families) == {"some", "events"}
        assert [sample.value for sample in families["some"].samples] == [2]
    assert registry.get_sample_value("some", {"credential": "c", "account": "alice"}) == 1
