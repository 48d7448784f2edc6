"""The login page and the error page of the authorization server. No scripts, no external resources."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    # No form-action: browsers apply it to the redirect that follows the form, back to the client.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8886; --soft: #8881; --accent: #2563eb; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0; min-height: 100vh;
  display: grid; place-items: center; }}
main {{ width: min(24rem, 100vw - 4rem); padding: 2rem; border: 1px solid var(--line); border-radius: 12px; }}
h1 {{ font-size: 1.25rem; margin: 0 0 1rem; }}
p {{ margin: 0 0 1rem; }}
ul {{ margin: 0 0 1.5rem; padding: .75rem 1rem; list-style: none;
  background: var(--soft); border-radius: 8px; }}
code {{ font: .9em ui-monospace, monospace; }}
button {{ font: inherit; width: 100%; padding: .6rem; margin-top: .5rem; border-radius: 8px; cursor: pointer;
  border: 1px solid var(--accent); background: var(--accent); color: #fff; }}
button[value=""] {{ border-color: var(--line); background: none; color: inherit; }}
small {{ display: block; margin-top: 1.5rem; opacity: .7; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{content}
<small>The authorization server embedded in token-proxy, for demonstrations and tests: it asks for
no password.</small>
</main>
</body>
</html>
"""


def login_page(client_id: str, scopes: Iterable[str], users: Iterable[str]) -> str:
    """A form that posts to its own address, so that the request's parameters stay in the query."""
    wanted = "".join(f"<li><code>{escape(scope)}</code></li>" for scope in scopes)
    choices = "".join(
        f'<button name="user" value="{escape(user)}">Continue as {escape(user)}</button>' for user in users
    )
    return _page(
        "Log in",
        f"<p><code>{escape(client_id)}</code> asks for:</p>"
        f"<ul>{wanted or '<li>no particular scope</li>'}</ul>"
        f'<form method="post">{choices}<button name="user" value="">Refuse</button></form>',
    )


def device_page(user_code: str, users: Iterable[str]) -> str:
    """A form for the code of another device (RFC 8628 section 3.3)."""
    choices = "".join(
        f'<button name="user" value="{escape(user)}">Continue as {escape(user)}</button>' for user in users
    )
    return _page(
        "Log in on a device",
        '<p>Enter the code that the device shows:</p><form method="post">'
        f'<p><input name="user_code" value="{escape(user_code)}" required autocomplete="off"></p>'
        f'{choices}<button name="user" value="">Refuse</button></form>',
    )


def decided_page() -> str:
    return _page("Done", "<p>You can close this page, and go back to the device.</p>")


def refusal_page(reason: str) -> str:
    return _page("Login failed", f"<p>{escape(reason)}</p>")


def _page(title: str, content: str) -> str:
    return _PAGE.format(title=escape(title), content=content)
