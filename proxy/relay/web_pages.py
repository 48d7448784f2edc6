"""Keep web pages out: a proxy on loopback can be reached by every page in the user's browser.

The Host must be one of ours, as DNS rebinding points a page's own name at 127.0.0.1 (hosts.py); and a request
that the browser marks as coming from a page is refused (Fetch Metadata, Origin).
"""

from __future__ import annotations

from typing import Final

from proxy.http.message import RequestHead
from proxy.relay import problems
from proxy.relay.problems import Refusal

FOREIGN_SITES: Final = frozenset({b"cross-site", b"same-site"})
PAGE_MODES: Final = frozenset({b"no-cors", b"navigate"})  # not "cors": Node's fetch sends it without any page


def check(request: RequestHead, authority: str | None) -> None:
    """`authority`: that of the request; a page of the same origin would be one of ours."""
    index = request.fields.index
    own = {f"{scheme}://{authority}".encode("latin-1") for scheme in ("http", "https")}
    from_page = (
        any(origin not in own for origin in index.get(b"origin", ()))
        or any(value.lower() in FOREIGN_SITES for value in index.get(b"sec-fetch-site", ()))
        or any(value.lower() in PAGE_MODES for value in index.get(b"sec-fetch-mode", ()))
    )
    if from_page:
        raise Refusal(
            problems.BROWSER_REFUSED, "this request comes from a web page; only programs may call this proxy"
        )
