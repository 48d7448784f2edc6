"""No secret appears where it must not: a run with all features, then a search."""

import base64
import json
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import requests

from .authorization_servers import ALICE, WEB_SECRET, AuthorizationServer
from .browser import Browser
from .conftest import MakeProxy
from .processes import wait_until
from .proxy_process import Proxy
from .reference import refresh

CALLER = {  # nor may anything that a caller sends appear
    "query": "canary-query-5f21",
    "authorization": "canary-authorization-77ab",
    "cookie": "canary-cookie-902c",
    "field": "canary-field-c3d4",
    "body": "canary-body-18ee",
}
DEAD_ROUTE = """
[[routes]]
path = "/dead"
upstream = "https://127.0.0.1:1"
credential = "crm"
"""
NAMES_NOBODY = {
    "/readyz",
    "/metrics",
    "/login/crm/default",
    "the store",
    "the log",
}
ADMIN_KEY = "canary-admin-key-4d9b-20"
LONG_ENOUGH = 8  # characters; shorter form fields are words, not secrets

Secrets = dict[str, str]


class Search:
    """Outputs by their place, and secrets by their kind."""

    def __init__(self) -> None:
        self.secrets: Secrets = {f"caller's {name}": value for name, value in CALLER.items()}
        self.outputs: dict[str, bytes] = {}

    def saw(self, where: str, text: str | bytes) -> None:
        content = text.encode() if isinstance(text, str) else text
        self.outputs[where] = self.outputs.get(where, b"") + content

    def leaks(self) -> list[str]:
        return [
            f"{what} in {where}"
            for what, secret in self.secrets.items()
            for where, content in self.outputs.items()
            if any(form in content for form in written_forms(secret))
        ]


def written_forms(secret: str) -> list[bytes]:
    """A secret as it is, percent-encoded, in base64 and in hexadecimal."""
    plain = secret.encode()
    return [
        plain,
        quote(secret, safe="").encode(),
        base64.b64encode(plain).rstrip(b"="),
        plain.hex().encode(),
    ]


def call_with_markers(proxy: Proxy, path: str, search: Search) -> requests.Response:
    response = requests.post(
        f"{proxy.api(path)}?q={CALLER['query']}",
        data=CALLER["body"],
        headers={
            "Authorization": f"Bearer {CALLER['authorization']}",
            "Cookie": f"session={CALLER['cookie']}",
            "X-Note": CALLER["field"],
        },
        timeout=20,
    )
    search.saw(f"the response to {path}", f"{response.headers}\n{response.text}")
    return response


def log_in(proxy: Proxy, search: Search) -> None:
    browser = Browser()
    page = browser.open(proxy.admin("/login/crm/default"))
    search.secrets |= {
        f"CSRF token {name}": value
        for form in page.forms
        for name, value in form.fields.items()
        if len(value) >= LONG_ENOUGH
    }
    callback = ALICE.approve(browser, page.url, proxy.redirect_uri)
    search.saw("the store during the login", stored(proxy))
    query = parse_qs(urlsplit(callback).query)
    search.secrets |= {"state": query["state"][0], "code": query["code"][0]}
    search.secrets |= {
        f"cookie {cookie.name}": cookie.value
        for cookie in browser.session.cookies
        if cookie.value and len(cookie.value) >= LONG_ENOUGH
    }
    done = browser.open(callback)
    assert done.status == 200, done.text
    search.saw("the page after the login", done.text)
    again = browser.open(callback)
    assert again.status >= 400, "a callback counts once"
    search.saw("the page after the same callback again", again.text)


def sign_in(proxy: Proxy, search: Search) -> None:
    """By the admin key, after a wrong one, and by a launch link."""
    search.secrets |= {"admin key": ADMIN_KEY, "wrong admin key": f"{ADMIN_KEY}-wrong"}
    for key, status in ((f"{ADMIN_KEY}-wrong", 403), (ADMIN_KEY, 200)):
        browser = Browser()
        page = browser.open(proxy.admin("/sign-in"))
        page = browser.submit(page, page.forms[0], key=key)
        assert page.status == status, page.text
        search.saw(f"the page after signing in: {status}", page.text)
        search.secrets |= {
            f"cookie {cookie.name} {status}": cookie.value or "" for cookie in browser.session.cookies
        }
        bearer = {"Authorization": f"Bearer {key}"}
        done = requests.post(proxy.admin("/refresh/nothing"), headers=bearer, timeout=20)
        search.saw(f"the response to a program: {status}", f"{done.status_code}{done.headers}{done.text}")
    link = proxy.run("open").stdout.split()[-1]
    search.secrets |= {"launch link": link.rpartition("/")[2]}
    search.saw("the page of a launch link", Browser().open(link).text)
    search.saw("the page of a used one", Browser().open(link).text)


def stored(proxy: Proxy) -> bytes:
    files = [path for path in sorted(proxy.state.rglob("*")) if path.is_file() and path != key_file(proxy)]
    assert files
    return b"".join(path.read_bytes() for path in files)


def key_file(proxy: Proxy) -> Path:
    return proxy.state / "store.key"


def look_around(proxy: Proxy, search: Search) -> None:
    """As a user without a login."""
    for path in ("/", "/readyz", "/metrics", "/api/status", "/healthz", "/login/crm/default"):
        response = requests.get(proxy.admin(path), timeout=10)
        search.saw(path, f"{response.headers}\n{response.text}")
    for option in ([], ["--json"]):
        done = proxy.run("status", *option)
        search.saw("status", done.stdout + done.stderr)
    search.saw("the store", stored(proxy))


def test_no_secret_is_printed_logged_exported_or_stored_in_clear(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    search = Search()
    proxy = make_proxy(oidc_provider, more=DEAD_ROUTE)
    text = proxy.config.read_text()
    assert 'level = "debug"' in text
    proxy.config.write_text(text.replace("[server]", f'[server]\nadmin_key = "{ADMIN_KEY}"'))
    proxy.start()
    sign_in(proxy, search)
    assert call_with_markers(proxy, "/whoami", search).status_code == 503
    log_in(proxy, search)
    assert call_with_markers(proxy, "/whoami", search).status_code == 200
    requests.post(proxy.api("/whoami").replace("/api/", "/dead/"), data=CALLER["body"], timeout=20)
    wait_until(lambda: oidc_provider.token_requests("refresh_token"), "a refresh")
    look_around(proxy, search)

    # The refresh token is used elsewhere: the family is revoked, and the proxy's next refresh is refused.
    refresh(oidc_provider, oidc_provider.token_requests("refresh_token")[-1]["got"][1])
    wait_until(lambda: call_with_markers(proxy, "/whoami", search).status_code == 503, "a login to be needed")
    assert oidc_provider.revoked_families()
    look_around(proxy, search)
    code, printed = proxy.login_by_command(ALICE, paste=True)
    assert code == 0, printed
    search.saw("login", printed)
    search.saw("token", proxy.run("token", "crm", "--debug").stderr)  # stdout is the token
    search.saw("status", str(proxy.run("status", "--debug")))
    search.saw("logout", str(proxy.run("logout", "crm", "--debug")))
    look_around(proxy, search)
    proxy.stop()
    search.saw("the log", proxy.log())
    decisions = [line for line in map(json.loads, proxy.log().splitlines()) if line["event"] == "decision"]
    assert {line["level"] for line in decisions} == {"debug"}
    told = " ".join(line["message"] for line in decisions)
    for word in ("is ours", "a refresh starts: due", "metadata are fetched", "status 200", "status 400"):
        assert word in told

    search.secrets |= {"client secret": WEB_SECRET, "store key": key_file(proxy).read_text().strip()}
    for number, request in enumerate(oidc_provider.service.events("token")):
        values = request["sent"] + request["got"]
        search.secrets |= {f"{request['grant']} {number}.{i}": value for i, value in enumerate(values)}
    leaks = search.leaks()
    assert not leaks, "\n".join(leaks)
    told = {where: content for where, content in search.outputs.items() if where in NAMES_NOBODY}
    assert told.keys() == NAMES_NOBODY
    assert not [where for where, content in told.items() if b"alice" in content]


def test_the_log_is_json_lines_that_tell_when_how_bad_and_what(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(oidc_provider, oidc_provider.machine_credential("client_secret_basic"))
    proxy.start()
    assert requests.get(proxy.api("/whoami"), timeout=20).status_code == 200
    proxy.stop()
    lines = [json.loads(line) for line in proxy.log().splitlines()]
    assert all(line.keys() >= {"ts", "level", "event"} for line in lines)
    events = [line["event"] for line in lines]
    assert {"start", "refresh", "request", "stop"} <= set(events)
    (request,) = [line for line in lines if line["event"] == "request"]
    told = {name: request[name] for name in ("route", "credential", "account", "method", "status")}
    assert told == {"route": "api", "credential": "crm", "account": "default", "method": "GET", "status": 200}
    assert request.keys() >= {"message", "duration_ms", "upstream_ms", "bytes_in", "bytes_out"}
    assert "error" not in request
