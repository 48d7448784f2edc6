"""A scripted browser: cookies, redirects and real HTML forms, no JavaScript."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qs, urljoin, urlsplit

import requests

MOST_REDIRECTS = 10
MOST_PAGES = 5  # between the start of a login and its callback


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _FormReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get").upper()))
        if not self.forms or tag not in ("input", "button"):
            return
        form, name, kind = self.forms[-1], given.get("name", ""), given.get("type", "")
        if kind == "submit" or (tag == "button" and not kind):
            form.buttons.append((name, given.get("value", "")))
        elif name:
            form.fields[name] = given.get("value", "")
            form.types[name] = kind or "text"


@dataclass(frozen=True)
class Page:
    url: str
    status: int = 0  # 0: the target of a redirect that the browser was told not to follow
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def forms(self) -> list[Form]:
        reader = _FormReader()
        reader.feed(self.text)
        return reader.forms


class Browser:
    def __init__(self) -> None:
        self.session = requests.Session()
        self.session.trust_env = False

    def open(self, url: str, stop_at: str | None = None) -> Page:
        """As if typed in the address bar. `stop_at`: don't follow a redirect to an address that begins so."""
        return self._navigate("GET", url, came_from=None, stop_at=stop_at)

    def submit(self, page: Page, form: Form, stop_at: str | None = None, **values: str) -> Page:
        """Fill in `values` and press the last button: on these pages it is the one that agrees."""
        filled = form.fields | values
        if form.buttons and form.buttons[-1][0]:
            filled |= [form.buttons[-1]]
        url = urljoin(page.url, form.action)
        return self._navigate(form.method, url, came_from=page.url, stop_at=stop_at, form=filled)

    def _navigate(
        self,
        method: str,
        url: str,
        *,
        came_from: str | None,
        stop_at: str | None,
        form: dict[str, str] | None = None,
    ) -> Page:
        for _ in range(MOST_REDIRECTS):
            headers = _navigation_headers(method, url, came_from)
            response = self.session.request(
                method, url, data=form, headers=headers, allow_redirects=False, timeout=20
            )
            if not response.is_redirect:
                return Page(url, response.status_code, response.text, dict(response.headers))
            came_from, url = url, urljoin(url, response.headers["Location"])
            method, form = "GET", None
            if stop_at and url.startswith(stop_at):
                return Page(url)
        raise AssertionError(f"redirected in circles, last to {url}")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _navigation_headers(method: str, url: str, came_from: str | None) -> dict[str, str]:
    """What Chromium and Firefox send with a navigation (Fetch Metadata; Origin with POST)."""
    site = "none"
    if came_from is not None:
        # Another port is another origin, but the same site.
        same_host = urlsplit(url).hostname == urlsplit(came_from).hostname
        site = (
            "same-origin"
            if _origin(url) == _origin(came_from)
            else "same-site"
            if same_host
            else "cross-site"
        )
    headers = {
        "Accept": "text/html,application/xhtml+xml",
        "Sec-Fetch-Dest": "document",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Site": site,
        "Sec-Fetch-User": "?1",
    }
    if method == "POST" and came_from is not None:
        headers["Origin"] = _origin(came_from)
    return headers


@dataclass(frozen=True)
class Person:
    username: str
    password: str

    def approve(self, browser: Browser, url: str, redirect_uri: str) -> str:
        """Begin a login, log in and consent; return the callback's URL without opening it."""
        page = browser.open(url, stop_at=redirect_uri)
        for _ in range(MOST_PAGES):
            if page.url.startswith(redirect_uri):
                return page.url
            assert page.status == 200, f"{page.status} from {page.url}: {page.text[:500]}"
            form = page.forms[0]
            form.buttons = [button for button in form.buttons if button[1] != "cancel"]
            page = browser.submit(page, form, stop_at=redirect_uri, **self._answers(form))
        raise AssertionError(f"no way to the callback, stuck at {page.url}: {page.text[:500]}")

    def _answers(self, form: Form) -> dict[str, str]:
        known = {"text": self.username, "password": self.password}
        return {name: known[kind] for name, kind in form.types.items() if kind in known}

    def enter_code(self, browser: Browser, url: str) -> None:
        """Open the page of a login on another device, with its code; log in and consent."""
        code = {"user_code": parse_qs(urlsplit(url).query)["user_code"][0]}
        page = browser.open(url)
        for _ in range(MOST_PAGES + 2):
            assert page.status == 200, f"{page.status} from {page.url}: {page.text[:500]}"
            if not page.forms:
                return
            form = page.forms[0]
            form.buttons = [button for button in form.buttons if button[0] != "abort"]
            answers = self._answers(form)
            page = browser.submit(page, form, **(code if "user_code" in form.fields else answers))
        raise AssertionError(f"no end of the login, stuck at {page.url}: {page.text[:500]}")
