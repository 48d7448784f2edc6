"""The rows of the tables with a few bytes changed: their validity is unknown, but two properties hold.

Every request that arrives is well-formed, and one that llhttp reads in the caller's bytes: the proxy finds
no request where there is none, and none with another beginning or another body.
"""

import random

import httptools
import pytest
import pytest_asyncio

from .conformance_pieces import SHORT
from .conformance_refusals import REFUSED
from .conformance_requests import PASSING
from .conformance_sides import SMUGGLED, conforming, turns

pytestmark = pytest.mark.asyncio(loop_scope="module")
EACH = 5  # mutations of a row
ODD = [
    *[
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n\n",
        b"\x00",
        b" ",
        b"\t",
        b"\x0b",
        b"\xff",
        b":",
        b";",
        b",",
        b"-",
        b"_",
    ],
    *[
        b"0\r\n\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n ",
        b"chunked",
        b"0",
        b"9",
        b"f",
    ],
]
READ_OTHERWISE = {"a length in trailers"}  # llhttp refuses it; it is no framing there, and the proxy cuts it
ROWS = [row for row in (*PASSING, *REFUSED) if len(row.sent) <= SHORT and row.name not in READ_OTHERWISE]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def side(tmp_path_factory):
    async with conforming(tmp_path_factory.mktemp("conformance")) as made:
        yield made


def mutated(data, chance):
    """One to three changes: bytes removed, doubled, inserted, or replaced."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data))
        end = min(len(data), at + chance.choice([0, 0, 1, 1, 2, 8]))
        put = chance.choice([chance.choice(ODD), data[at:end] * 2, b""])
        data = (data[:at] + put + data[end:]) or b"\r\n"
    return data


class Reader:
    """The requests that llhttp reads completely, as (method, target, payload)."""

    def __init__(self, data):
        self.requests = []
        self.upgrades = False
        self._parser = httptools.HttpRequestParser(self)
        self._begin()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.upgrades = True  # llhttp stops here; the proxy reads on if it ignores the upgrade
        except httptools.HttpParserError:
            pass

    def _begin(self):
        self._target, self._payload = b"", b""

    def on_message_begin(self):
        self._begin()

    def on_url(self, url):
        self._target += url

    def on_body(self, body):
        self._payload += body

    def on_message_complete(self):
        self.requests.append((self._parser.get_method(), upstreams(self._target), self._payload))


def upstreams(target):
    """The upstream's target for a caller's target that passes."""
    path = target
    if target[:4].lower() == b"http":
        path = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    for prefix in (b"/up", b"/ws"):
        if path.startswith(prefix):
            return b"/base" + path.removeprefix(prefix)
    return path


def is_within(some, all_of_them):
    """Whether `some` is a subsequence of `all_of_them`."""
    rest = iter(all_of_them)
    return all(one in rest for one in some)


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_a_request_that_arrives_is_one_that_was_sent(side, row):
    chance = random.Random(str(row))
    side.upstream.forget()
    for _ in range(EACH):
        sent = mutated(side.fill(row.sent), chance) + SMUGGLED
        with side.caller() as caller:
            await caller.say(sent)
            caller.end()
            await caller.hear_end()
        await turns()
        arrived = [message.told for message in side.upstream.take()]
        read = Reader(sent)
        assert read.upgrades or is_within(arrived, read.requests), (sent, arrived, read.requests)
