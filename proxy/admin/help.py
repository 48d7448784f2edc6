"""GET /help and /help/ENDING: what each of the proxy's own responses means, from the table in endings.py.

Problem documents link there. The pages hold nothing of this installation, so that everyone may read
them.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from proxy import endings
from proxy.admin import access, pages
from proxy.endings import ENDINGS, Ending


class HelpPages:
    def __init__(self, public_url: str) -> None:
        self._public_url = public_url

    def routes(self) -> list[web.RouteDef]:
        return [web.get(endings.PATH, self.show), web.get(f"{endings.PATH}/{{ending:.*}}", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """A page for a browser, text for a program. An unknown ending gets the list of all, with 404."""
        name = request.match_info.get("ending", "")
        ending = ENDINGS.get(name)
        is_unknown = bool(name) and ending is None
        status = 404 if is_unknown else 200
        if "text/html" in request.headers.get("Accept", ""):
            page = pages.help_page(ending, f"{self._public_url}/", unknown=is_unknown)
            return access.html(page, status)
        lines = _index(self._public_url) if ending is None else _lines(ending, self._public_url)
        return web.Response(text="\n".join([*lines, ""]), status=status)


def is_help(path: str) -> bool:
    return path == endings.PATH or path.startswith(f"{endings.PATH}/")


def _lines(ending: Ending, public_url: str) -> Iterator[str]:
    yield f"{ending.name} ({ending.status}): {ending.title}"
    yield from ("", ending.cause, "", "What to do:")
    yield from (f"- {cure}" for cure in ending.cures)
    yield from ("", f"All endings: {public_url}{endings.PATH}")


def _index(public_url: str) -> Iterator[str]:
    for ending in ENDINGS.values():
        yield f"{ending.name} ({ending.status}): {ending.title}"
        yield f"    {endings.help_url(public_url, ending.name)}"
