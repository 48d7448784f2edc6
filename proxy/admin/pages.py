"""HTML: templates in pages/, filled by `string.Template`; every value is escaped.

Pages are self-contained: the style sheet is inline, there are no scripts and no other resources.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from proxy.oauth.token import Principal
from proxy.observe.status import Entry, Status
from proxy.store.base import AccountId
from proxy.tokens.account import Account
from proxy.tokens.diagnosis import Diagnosis
from proxy.tokens.login.takeover import Takeover

DIRECTORY: Final = files("proxy.admin") / "pages"
STYLE: Final = (DIRECTORY / "style.css").read_text(encoding="utf-8")
STYLE_SOURCE: Final = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
REFRESH: Final = 10  # seconds, of the status page
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@cache
def _template(name: str) -> Template:
    return Template((DIRECTORY / name).read_text(encoding="utf-8"))


def _fill(name: str, *, safe: dict[str, str] | None = None, **values: object) -> str:
    """`safe` holds HTML made by this module; other values are escaped."""
    escaped = {key: escape(str(value)) for key, value in values.items()}
    return _template(name).substitute(escaped | (safe or {}))


def _page(title: str, body: str, *, refresh: int = 0) -> str:
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    return _fill("page.html", title=title, safe={"body": body, "refresh": again, "style": STYLE})


def status_page(status: Status, joinable: Collection[str], public_url: str, csrf: str) -> str:
    """`joinable`: the credentials whose requests name the account, so that new ones may be added."""
    rows = "".join(_row(entry, status["now"], public_url, csrf) for entry in status["tokens"])
    rows += "".join(_fill("join_row.html", credential=credential) for credential in joinable)
    total = sum(sum(states.values()) for states in status["counts"].values())
    more = _fill("more.html", after=status["next"]) if status["next"] else ""
    body = _fill(
        "status.html" if rows else "empty.html",
        ready="ready" if status["ready"] else "not ready",
        count=f"{total} account{'' if total == 1 else 's'}",
        safe={"rows": rows, "more": more},
    )
    return _page("Tokens", body, refresh=REFRESH)


def _row(entry: Entry, now: float, public_url: str, csrf: str) -> str:
    where = f"{entry['credential']}/{entry['account']}"
    label = "Refresh" if entry["state"] in {"valid", "stale"} else "Try now"
    forms = {
        "login": _fill("login_link.html", url=f"{public_url}/login/{where}"),
        "refresh": _fill("refresh.html", where=where, csrf=csrf, label=label),
        "logout": _fill("logout.html", where=where, csrf=csrf),
    }
    buttons = "".join(forms[action] for action in entry["actions"])
    return _fill(
        "row.html",
        credential=entry["credential"],
        account=entry["account"],
        state=entry["state"],
        state_words=entry["state"].replace("_", " "),
        reason=entry["reason"] or "",
        remedy=entry["remedy"] or "",
        expires=relative(entry["expires_at"], now),
        due=relative(entry["refresh_due_at"], now),
        routes=", ".join(entry["routes"]),
        safe={"buttons": buttons},
    )


def login_page(account: Account, home: str, csrf: str) -> str:
    """`home`: the address of the status page."""
    credential = account.credential
    if not account.grant.needs_person:
        text = account.diagnosis().text
        sentence = f"No login to {account.key} is needed: its grant is {account.grant.name}."
        return message("No login needed", f"{sentence} {_as_sentence(text)}" if text else sentence, home)
    body = _fill(
        "login.html",
        credential=credential.name,
        account=account.key.account,
        server=credential.issuer or credential.authorization_endpoint or "",
        client_id=credential.client_id,
        scopes=", ".join(credential.scopes) or "as the server decides",
        action=f"/login/{account.key}",
        csrf=csrf,
    )
    return _page("Log in", body)


def logged_in_page(
    key: AccountId, person: Principal | None, diagnosis: Diagnosis, home: str, csrf: str
) -> str:
    """`home`: the address of the status page; without one, the page has no button to log out either.

    `diagnosis`: of the account after the login, which may end soon.
    """
    whose = ""
    if person is not None:
        undo = _fill("not_me_command.html", **key._asdict())
        if home:
            undo = _fill("not_me.html", where=key, csrf=csrf)
        whose = _fill("whose.html", where=key, safe={"person": _person(person), "undo": undo})
    parts = {"whose": whose, "back": _back(home), "warning": ""}
    kept = "They are refreshed in time." if home else "They are refreshed while a token-proxy server runs."
    if diagnosis.text:
        kept = ""
        parts["warning"] = _fill("warning.html", text=_as_sentence(diagnosis.text))
    return _page("Logged in", _fill("logged_in.html", where=key, kept=kept, safe=parts))


def undecided_page(undecided: Takeover, csrf: str) -> str:
    newcomer = undecided.token.principal
    assert newcomer is not None
    body = _fill(
        "undecided.html",
        where=undecided.key,
        ticket=undecided.ticket,
        csrf=csrf,
        safe={"owner": _person(undecided.owner), "newcomer": _person(newcomer)},
    )
    return _page("Account of another person", body)


def _person(person: Principal) -> str:
    """With the subject, as two people may have the same name."""
    return _fill("person.html", shown=person.shown, subject=person.subject)


def _back(home: str) -> str:
    return _fill("back.html", url=home) if home else ""


def message(title: str, sentence: str, home: str = "") -> str:
    """`home`: the address of the status page, if there is one."""
    body = _fill("message.html", title=title, sentence=_as_sentence(sentence), safe={"back": _back(home)})
    return _page(title, body)


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
