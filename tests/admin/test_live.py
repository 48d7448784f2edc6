"""Pages that stay up to date: /events."""

import asyncio
import re
from contextlib import asynccontextmanager

import pytest

from proxy.admin import live, pages
from proxy.demo import faults
from tests.patience import until

PATIENCE = 60  # seconds


class Stream:
    """What a browser is sent."""

    def __init__(self, response):
        self.response = response
        self.retry = None

    async def next(self):
        """The next event: its name and data."""
        name, lines = "", []
        async with asyncio.timeout(PATIENCE):
            while line := (await self.response.content.readline()).decode():
                field, _, value = line.rstrip("\n").partition(": ")
                if field == "retry":
                    self.retry = int(value)
                elif field == "event":
                    name = value
                elif field in {"data", "data:"}:
                    lines.append(value)
                elif not field and name:
                    return name, "\n".join(lines)
        return None

    async def comment(self):
        async with asyncio.timeout(PATIENCE):
            while line := await self.response.content.readline():
                if line.startswith(b":"):
                    return True
        return False


@asynccontextmanager
async def listening(world, query="", browser=None):
    browser = browser or world.browser
    async with browser._session.get(f"{world.admin}/events{query}") as response:
        yield Stream(response)


async def test_each_change_is_sent_as_the_page_itself_without_what_belongs_to_one_browser(world):
    async with listening(world) as stream:
        assert stream.response.status == 200
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert stream.response.headers["Cache-Control"] == "no-store"
        name, data = await stream.next()
        assert (name, stream.retry) == ("page", live.AGAIN)
        now, html = data.split("\n", 1)
        assert abs(float(now) - world.services.clock.wall()) < PATIENCE
        assert html.strip().startswith("<main ")
        assert html.strip().endswith("</main>")
        assert "1 of 2 accounts needs attention" in html
        await world.browser.log_in()
        while "All 2 accounts work" not in html:
            _, html = await stream.next()
        assert 'name="csrf" value=""' in html
        assert not re.search("[0-9a-f]{64}", html), "no form's token"
        world.server.script(*[faults.NAMED["outage"]] * 9, times=1)
        await world.browser.press("/refresh/person", page="/")
        while "http_503" not in html:
            _, html = await stream.next()


@pytest.fixture
def rendered(monkeypatch):
    """What has been rendered for streams."""
    found, render = [], pages.status_main

    def counted(page, **options):
        found.append(page.query)
        return render(page, **options)

    monkeypatch.setattr(pages, "status_main", counted)
    return found


async def test_a_change_is_rendered_once_for_all_subscribers_and_nothing_without_one(world, rendered):
    others = [world.browser, world.another_browser(), world.another_browser()]
    async with (
        listening(world, browser=others[0]) as one,
        listening(world, browser=others[1]) as two,
        listening(world, "?state=valid", others[2]) as three,
    ):
        streams = (one, two, three)
        for each in streams:
            await each.next()
        assert len(rendered) == 2
        await asyncio.sleep(1.2)
        assert len(rendered) == 2, "nothing has changed"
        world.services.tokens.changes.note(None)
        for each in streams:
            await each.next()
        assert len(rendered) == 4
        for _ in range(50):  # together they are one change
            world.services.tokens.changes.note(None)
            await asyncio.sleep(0)
        for each in streams:
            await each.next()
        assert len(rendered) <= 8
    await until(lambda: not any("render" in task.get_name() for task in asyncio.all_tasks()))


async def test_a_later_subscriber_gets_the_last_rendering(world, rendered):
    async with listening(world) as one:
        _, first = await one.next()
        async with listening(world, browser=world.another_browser()) as two:
            _, second = await two.next()
            assert second.partition("\n")[2] == first.partition("\n")[2]
        assert len(rendered) == 1


async def test_a_visitor_has_a_few_streams_and_gets_another_when_one_is_left(world):
    await world.get("/")
    async with listening(world) as one:
        await one.next()
        opened = [listening(world) for _ in range(live.MOST_OF_VISITOR - 1)]
        streams = [await each.__aenter__() for each in opened]
        assert {each.response.status for each in streams} == {200}
        async with listening(world) as refused:
            assert refused.response.status == 429
        other = world.another_browser()
        await other.get("/")
        async with listening(world, browser=other) as another:
            assert another.response.status == 200
        streams[0].response.close()

        async def again():
            async with listening(world) as stream:
                return stream.response.status == 200

        async with asyncio.timeout(PATIENCE):
            while not await again():
                await asyncio.sleep(0.05)
        for each in opened:
            await each.__aexit__(None, None, None)


async def test_a_peer_with_many_cookies_leaves_streams_to_others(world, monkeypatch):
    monkeypatch.setattr(live, "MOST_OF_PEER", 2)
    browsers = [world.browser, world.another_browser(), world.another_browser()]
    for browser in browsers:
        await browser.get("/")
    async with listening(world, browser=browsers[0]) as one, listening(world, browser=browsers[1]) as two:
        assert (one.response.status, two.response.status) == (200, 200)
        async with listening(world, browser=browsers[2]) as refused:
            assert refused.response.status == 429
            assert b"Close one of them" in await refused.response.read()


async def test_a_silent_stream_has_a_heartbeat_and_an_end(world, monkeypatch):
    monkeypatch.setattr(live, "HEARTBEAT", 0.05)
    monkeypatch.setattr(live, "LONGEST", 0.5)
    async with listening(world) as stream:
        await stream.next()
        assert await stream.comment()
        async with asyncio.timeout(PATIENCE):
            await stream.response.read()


async def test_a_head_request_opens_no_stream(world):
    status, _ = await world.raw("HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 405


@pytest.mark.parametrize("text", ["", "a", "a\nb", "a\r\nb\rc", "\n", "event: evil\n\ndata: x"])
def test_no_text_ends_an_event_early(text):
    lines = live.event("page", text).decode().split("\n")
    assert lines[0] == "event: page"
    assert lines[-2:] == ["", ""]
    assert all(line.startswith("data: ") for line in lines[1:-2])
    assert len(lines) - 3 == len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
