"""A mitmproxy addon that sets the header with a static token.

Run: mitmdump -s mitmproxy_addon.py --set token=TOKEN …
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mitmproxy.addonmanager import Loader
    from mitmproxy.http import HTTPFlow

from mitmproxy import ctx

PREFIX = "/api"


def load(loader: Loader) -> None:
    loader.add_option("token", str, "", "what to send as Bearer token")


def requestheaders(flow: HTTPFlow) -> None:
    flow.request.path = flow.request.path.removeprefix(PREFIX)
    flow.request.headers["Authorization"] = f"Bearer {ctx.options.token}"
