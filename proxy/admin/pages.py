"""HTML: templates in pages/, filled by `string.Template`; every value is escaped on its way in."""

from __future__ import annotations

import time
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

from proxy.admin.status import Health
from proxy.tokens.account import Account

DIRECTORY: Final = files("proxy.admin") / "pages"
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@cache
def _template(name: str) -> Template:
    return Template((DIRECTORY / name).read_text(encoding="utf-8"))


def _fill(name: str, *, safe: dict[str, str] | None = None, **values: object) -> str:
    """`safe` holds HTML that was made here; all else is escaped."""
    escaped = {key: escape(str(value)) for key, value in values.items()}
    return _template(name).substitute(escaped | (safe or {}))


def page(title: str, body: str, *, refresh: int = 0) -> str:
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    return _fill("page.html", title=title, safe={"body": body, "refresh": again})


def stylesheet() -> str:
    return (DIRECTORY / "style.css").read_text(encoding="utf-8")


def status_page(health: Health, now: float, csrf: str) -> str:
    status = health.status(now)
    rows = "".join(_row(entry, now, csrf) for entry in status["tokens"])
    ready = "ready" if status["ready"] else "not ready"
    body = _fill("status.html", ready=ready, count=len(status["tokens"]), safe={"rows": rows})
    return page("Tokens", body, refresh=10)


def _row(entry: dict[str, Any], now: float, csrf: str) -> str:
    where = f"{entry['credential']}/{entry['account']}"
    buttons = ""
    if entry["login_url"]:
        buttons += f'<a class="button" href="/login/{escape(where)}">Log in</a>'
    if entry["generation"] and entry["state"] != "absent":
        buttons += _button("refresh", where, csrf, "Refresh") + _button("logout", where, csrf, "Log out")
    return _fill(
        "row.html",
        credential=entry["credential"],
        account=entry["account"],
        state=entry["state"],
        state_words=entry["state"].replace("_", " "),
        reason=entry["reason"] or "",
        expires=relative(entry["expires_at"], now),
        due=relative(entry["refresh_due_at"], now),
        routes=", ".join(entry["routes"]),
        safe={"buttons": buttons},
    )


def _button(action: str, where: str, csrf: str, label: str) -> str:
    return _fill("button.html", action=f"/{action}/{where}", csrf=csrf, label=label)


def login_page(account: Account, csrf: str) -> str:
    credential = account.credential
    if credential.grant != "authorization_code":
        return message_page("Nobody logs in here", f"Credential {credential.name} gets its tokens by itself.")
    body = _fill(
        "login.html",
        credential=credential.name,
        account=account.key.account,
        server=credential.issuer or credential.authorization_endpoint or "",
        scopes=", ".join(credential.scopes) or "as the server decides",
        action=f"/login/{account.key}",
        csrf=csrf,
    )
    return page("Log in", body)


def message_page(title: str, sentence: str) -> str:
    return page(title, _fill("message.html", title=title, sentence=sentence))


def relative(at: float | None, now: float) -> str:
    """A time as a person says it: "in 4 min", "12 s ago"."""
    if at is None:
        return "–"  # noqa: RUF001 (an en dash is what a table shows for nothing)
    distance = abs(at - now)
    size, unit = next(((size, unit) for size, unit in _UNITS if distance >= size), (1, "s"))
    amount = f"{int(distance // size)} {unit}"
    return f"in {amount}" if at >= now else f"{amount} ago"


def clock(now: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(now))
