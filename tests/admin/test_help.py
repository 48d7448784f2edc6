"""GET /help and /help/ENDING: the pages of the table of endings."""

import html
import re

import pytest

from proxy.endings import ENDINGS
from tests.admin.test_gate import HTML

PLAIN = {"Accept": "*/*"}
TAG = re.compile(r"<[^>]+>")


def words_of(page):
    return " ".join(html.unescape(TAG.sub("", page.partition("</style>")[2])).split())


async def test_each_ending_has_a_page_with_its_cause_and_cures(world):
    for name, ending in ENDINGS.items():
        response = await world.get(f"/help/{name}", headers=HTML)
        assert (response.status, response.content_type) == (200, "text/html")
        words = words_of(await response.text())
        for text in (ending.title, name, ending.status, ending.cause, *ending.cures):
            assert text.replace("`", "") in words, name
        assert "`" not in words
        plain = await (await world.get(f"/help/{name}", headers=PLAIN)).text()
        for text in (ending.title, name, ending.status, ending.cause, *ending.cures):
            assert text in plain, name
        assert "<" not in plain


@pytest.mark.parametrize("path", ["/help", "/help/"])
async def test_the_index_lists_all(world, path):
    page = await world.get(path, headers=HTML)
    plain = await world.get(path, headers=PLAIN)
    assert (page.status, plain.status) == (200, 200)
    for name, ending in ENDINGS.items():
        assert f'<a href="/help/{name}">' in await page.text()
        assert f"{world.config.public_url}/help/{name}" in await plain.text()
        assert ending.title in await plain.text()


@pytest.mark.parametrize("tail", ["other", "LOGIN-REQUIRED", "a/b", "%3Cscript%3E", "%00", "x" * 4000, "../"])
async def test_an_unknown_ending_gets_the_index_and_no_echo(world, tail):
    for accept in (HTML, PLAIN):
        status, _, body = await world.whole(
            f"GET /help/{tail} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept['Accept']}\r\n\r\n"
        )
        assert status == 404
        if tail != "../":
            assert "login-required" in body
        assert "<script" not in body
        assert "x" * 100 not in body


async def test_they_are_read_only(world):
    assert (await world.browser.post("/help/login-required", {})).status == 405
