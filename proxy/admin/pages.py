"""HTML: Jinja2 templates in pages/; every value is escaped.

Pages are self-contained: the style sheet and the script are inline, and there are no other resources. All
pages work without scripts.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from proxy import qr_code
from proxy.admin.status_page import Page, as_sentence
from proxy.endings import ENDINGS, Ending
from proxy.oauth.grants import Login
from proxy.oauth.token import Principal
from proxy.store.base import AccountId
from proxy.tokens.account import Account
from proxy.tokens.diagnosis import Diagnosis
from proxy.tokens.login.devices import DeviceLogin
from proxy.tokens.login.takeover import Takeover

if TYPE_CHECKING:
    from jinja2 import Environment

    from proxy.admin.sessions import WaysIn

_MARKED: Final = re.compile("`([^`]+)`")  # a command, a key or a field in a sentence
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_LAST: Final = 253_402_300_000.0  # Unix seconds; the end of the year 9999, the last that datetime represents


def _read(name: str) -> str:
    return (files("proxy.admin") / "pages" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source of a Content-Security-Policy that allows this element alone (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


STYLE: Final = _read("style.css")
STYLE_SOURCE: Final = _hash(STYLE)
SCRIPT: Final = _read("script.js")
SCRIPT_SOURCE: Final = _hash(SCRIPT)
ICON: Final = _read("icon.svg").strip()
_DOT: Final = '<circle cx="12.4" cy="3.6" r="3.6" fill="#d93025" stroke="none"/>'


@cache
def _environment() -> Environment:
    """Imported with the first page: it takes 1 MiB, which a server without visitors saves."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (see above)

    environment = Environment(
        loader=PackageLoader("proxy.admin", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"] = STYLE
    environment.globals["script"] = SCRIPT
    environment.globals["relative"] = relative
    environment.globals["iso"] = iso
    environment.globals["icon"] = icon
    environment.globals["pieces"] = _MARKED.split
    return environment


@cache
def prepare() -> None:
    """Import and compile all that pages need, for some 100 ms: in a thread, as requests are waiting."""
    environment = _environment()
    for name in environment.list_templates(["html"]):
        environment.get_template(name)


def is_prepared() -> bool:
    return prepare.cache_info().currsize > 0


def _render(template: str, **values: object) -> str:
    return _environment().get_template(template).render(values)


def status_page(
    page: Page, csrf: str, *, feed: str, ways_in: WaysIn | None = None, signed_in: bool = False
) -> str:
    """`feed`: the URL of its stream. `ways_in`: how this visitor can get a session; None if none is needed.

    `signed_in`: it has one to end.
    """
    return _render(
        "status.html",
        page=page,
        csrf=csrf,
        feed=feed,
        ways_in=ways_in,
        signed_in=signed_in,
        home=f"{page.public_url}/",
    )


def status_main(page: Page, *, ways_in: WaysIn | None) -> str:
    """The element `main` of the status page, for every browser that sees this: without its CSRF token."""
    return _render("status_main.html", page=page, csrf="", ways_in=ways_in)


def login_page(
    account: Account,
    redirect_uri: str,
    home: str,
    csrf: str,
    *,
    routes: Sequence[str] = (),
    ways_in: WaysIn | None = None,
) -> str:
    """`redirect_uri`: of its logins. `home`: the address of the status page. `routes`: that use the account.

    `ways_in`: as for `status_page`.
    """
    if not account.grant.needs_person:
        text = account.diagnosis().text
        sentence = f"No login to {account.key} is needed: its grant is {account.grant.name}."
        return message("No login needed", f"{sentence} {as_sentence(text)}" if text else sentence, home)
    return _render(
        "login.html",
        credential=account.credential,
        key=account.key,
        redirect_uri=redirect_uri if account.grant.login is Login.REDIRECT else "",
        routes=routes,
        home=home,
        csrf=csrf,
        ways_in=ways_in,
    )


def device_page(login: DeviceLogin, home: str, csrf: str, *, feed: str, now: float) -> str:
    """The codes of a login on another device that is under way. `home`: as for `login_page`.

    `feed`: the URL of the stream that ends with the login. `now`: Unix seconds.
    """
    return _render(
        "device.html",
        key=login.key,
        codes=login.codes,
        qr_code=qr_code.svg(login.codes.link),
        ends_at=now + login.seconds_left,
        now=now,
        feed=feed,
        home=home,
        csrf=csrf,
    )


def logged_in_page(
    key: AccountId, person: Principal | None, diagnosis: Diagnosis, home: str, csrf: str
) -> str:
    """`home`: the address of the status page; without one, the page has no button to log out either.

    `diagnosis`: of the account after the login, which may end soon.
    """
    warning = as_sentence(diagnosis.text) if diagnosis.text else ""
    return _render("logged_in.html", key=key, person=person, warning=warning, home=home, csrf=csrf)


def logout_page(
    account: Account, home: str, csrf: str, *, routes: Sequence[str], ways_in: WaysIn | None = None
) -> str:
    """What a logout will do. `home`: the address of the status page. `routes`: that use the account.

    `ways_in`: as for `status_page`.
    """
    token = account.held.token
    return _render(
        "logout.html",
        key=account.key,
        owner=token.principal if token else None,
        ways_in=ways_in,
        revokes=bool(account.credential.revocation_endpoint or account.credential.issuer),
        routes=routes,
        home=home,
        csrf=csrf,
    )


def undecided_page(undecided: Takeover, home: str, csrf: str) -> str:
    return _render(
        "undecided.html",
        key=undecided.key,
        owner=undecided.owner,
        newcomer=undecided.token.principal,
        ticket=undecided.ticket,
        home=home,
        csrf=csrf,
    )


def sign_in_page(ways_in: WaysIn, home: str, csrf: str, *, back_to: str, refused: str = "") -> str:
    """`back_to`: the path of the page after it. `refused`: why the last attempt was."""
    return _render("sign_in.html", ways_in=ways_in, home=home, csrf=csrf, next=back_to, refused=refused)


def refused_page(ways_in: WaysIn, home: str) -> str:
    """For a change by a visitor without a session."""
    return _render("refused.html", ways_in=ways_in, home=home)


def help_page(ending: Ending | None, home: str, *, unknown: bool = False) -> str:
    """What an ending means; None: the list of all. `unknown`: another one was asked for."""
    return _render("help.html", ending=ending, endings=ENDINGS.values(), home=home, unknown=unknown)


def message(
    title: str, sentence: str, home: str = "", *, again: str = "", again_word: str = "Try again"
) -> str:
    """`home`: the address of the status page, if there is one. `again`: that of the next step, if any."""
    return _render(
        "message.html",
        title=title,
        sentence=as_sentence(sentence),
        home=home,
        again=again,
        again_word=again_word,
    )


def icon(*, attention: bool = False) -> str:
    """The icon of a tab, in a URL, so that it needs no request. `attention`: with a red dot."""
    svg = ICON.replace("</svg>", f"{_DOT}</svg>") if attention else ICON
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def relative(at: float | None, now: float) -> str:
    """A relative time: "in 4 min", "12 s ago"."""
    if at is None or not math.isfinite(at):
        return "–"  # noqa: RUF001 (an en dash for an empty cell)
    distance = abs(at - now)
    size, unit = next(((size, unit) for size, unit in _UNITS if distance >= size), (1, "s"))
    count = int(distance // size)
    return f"in {count} {unit}" if at >= now else f"{count} {unit} ago"


def iso(at: float) -> str:
    """For the attribute `datetime`; empty for a time that has no such form."""
    if not math.isfinite(at) or not 0 <= at < _LAST:
        return ""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
