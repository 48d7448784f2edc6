"""HTML: Jinja2 templates in pages/; every value is escaped.

Pages are self-contained: the style sheet is inline, there are no scripts and no other resources.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from proxy import qr_code
from proxy.oauth.grants import Login
from proxy.oauth.token import Principal
from proxy.observe.status import Status
from proxy.store.base import AccountId
from proxy.tokens.account import Account
from proxy.tokens.diagnosis import Diagnosis
from proxy.tokens.login.devices import DeviceLogin
from proxy.tokens.login.takeover import Takeover

if TYPE_CHECKING:
    from jinja2 import Environment

    from proxy.admin.sessions import WaysIn

STYLE: Final = (files("proxy.admin") / "pages" / "style.css").read_text(encoding="utf-8")
STYLE_SOURCE: Final = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
REFRESH: Final = 10  # seconds, of the status page
LOOK_AGAIN: Final = 3  # seconds, of the page that waits for a login on another device
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


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
    environment.globals["relative"] = relative
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
    status: Status,
    joinable: Collection[str],
    public_url: str,
    csrf: str,
    *,
    ways_in: WaysIn | None = None,
    signed_in: bool = False,
) -> str:
    """`joinable`: the credentials whose requests name the account, so that new ones may be added.

    `ways_in`: how this visitor can get a session; None if none is needed. `signed_in`: it has one to end.
    """
    return _render(
        "status.html",
        entries=status["tokens"],
        joinable=joinable,
        total=sum(sum(states.values()) for states in status["counts"].values()),
        ready=status["ready"],
        now=status["now"],
        next=status["next"],
        public_url=public_url,
        csrf=csrf,
        ways_in=ways_in,
        signed_in=signed_in,
    )


def login_page(
    account: Account, redirect_uri: str, home: str, csrf: str, *, ways_in: WaysIn | None = None
) -> str:
    """`redirect_uri`: of its logins. `home`: the address of the status page.

    `ways_in`: as for `status_page`.
    """
    if not account.grant.needs_person:
        text = account.diagnosis().text
        sentence = f"No login to {account.key} is needed: its grant is {account.grant.name}."
        return message("No login needed", f"{sentence} {_as_sentence(text)}" if text else sentence, home)
    return _render(
        "login.html",
        credential=account.credential,
        key=account.key,
        redirect_uri=redirect_uri if account.grant.login is Login.REDIRECT else "",
        csrf=csrf,
        ways_in=ways_in,
    )


def device_page(login: DeviceLogin, home: str, csrf: str) -> str:
    """The codes of a login on another device that is under way. `home`: as for `login_page`."""
    return _render(
        "device.html",
        key=login.key,
        codes=login.codes,
        qr_code=qr_code.svg(login.codes.link),
        left=login.seconds_left,
        again=LOOK_AGAIN,
        home=home,
        csrf=csrf,
    )


def logged_in_page(
    key: AccountId, person: Principal | None, diagnosis: Diagnosis, home: str, csrf: str
) -> str:
    """`home`: the address of the status page; without one, the page has no button to log out either.

    `diagnosis`: of the account after the login, which may end soon.
    """
    warning = _as_sentence(diagnosis.text) if diagnosis.text else ""
    return _render("logged_in.html", key=key, person=person, warning=warning, home=home, csrf=csrf)


def undecided_page(undecided: Takeover, csrf: str) -> str:
    return _render(
        "undecided.html",
        key=undecided.key,
        owner=undecided.owner,
        newcomer=undecided.token.principal,
        ticket=undecided.ticket,
        csrf=csrf,
    )


def sign_in_page(ways_in: WaysIn, csrf: str, *, back_to: str, refused: str = "") -> str:
    """`back_to`: the path of the page after it. `refused`: why the last attempt was."""
    return _render("sign_in.html", ways_in=ways_in, csrf=csrf, next=back_to, refused=refused)


def refused_page(ways_in: WaysIn) -> str:
    """For a change by a visitor without a session."""
    return _render("refused.html", ways_in=ways_in)


def message(title: str, sentence: str, home: str = "") -> str:
    """`home`: the address of the status page, if there is one."""
    return _render("message.html", title=title, sentence=_as_sentence(sentence), home=home)


def _as_sentence(text: str) -> str:
    """An error message (lower case, no full stop) as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def relative(at: float | None, now: float) -> str:
    """A relative time: "in 4 min", "12 s ago"."""
    if at is None:
        return "–"  # noqa: RUF001 (an en dash for an empty cell)
    distance = abs(at - now)
    size, unit = next(((size, unit) for size, unit in _UNITS if distance >= size), (1, "s"))
    amount = f"{int(distance // size)} {unit}"
    return f"in {amount}" if at >= now else f"{amount} ago"
