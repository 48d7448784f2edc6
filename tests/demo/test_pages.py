from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.pages import login_page, refusal_page


class Reader(HTMLParser):
    """A parsed page: its text, the values of its buttons, the names of its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.values: list[str | None] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag == "button":
            self.values.append(dict(attrs)["value"])

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


async def test_the_login_page_has_the_client_its_scopes_and_each_user(world: Any) -> None:
    async with world.http.get("/authorize", params=world.authorize_query(scope="api mail")) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        page = Reader(await answer.text())
    assert page.values == ["alice", "bob", ""]
    assert {"web", "api", "mail"} <= set(page.texts)


@given(st.text(alphabet="<>&\"'{}a ", min_size=1))
def test_no_value_can_become_markup(value: str) -> None:
    plain = Reader(login_page("a", ["a"], ["a"]))
    page = Reader(login_page(value, [value], [value]))
    assert page.seen == plain.seen
    assert page.values == [value, ""]
    assert Reader(refusal_page(value)).seen == Reader(refusal_page("a")).seen
