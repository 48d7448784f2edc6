"""The first tokens: all ways to log in, with the servers' own pages."""

import pytest
import requests

from .authorization_servers import ALICE, BOB, AuthorizationServer
from .browser import Browser
from .conftest import ELSEWHERE, MakeProxy
from .proxy_process import Proxy


def subject(proxy: Proxy) -> str:
    response = requests.get(proxy.api("/whoami"), timeout=20)
    assert response.status_code == 200, response.text
    return str(response.json()["subject"])


def test_the_login_page_ends_at_the_running_server_that_refused_requests_until_then(
    server: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(server)
    proxy.start()
    too_early = requests.get(proxy.api("/whoami"), timeout=20)
    assert (too_early.status_code, too_early.json()["login_url"]) == (503, proxy.admin("/login/crm/default"))
    proxy.login_by_page(ALICE)
    assert subject(proxy) == "alice"


def test_the_command_takes_a_pasted_redirect_url_where_no_browser_reaches_the_public_url(
    server: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(server, public_url=ELSEWHERE)
    code, printed = proxy.login_by_command(ALICE, paste=True)
    assert code == 0, printed
    proxy.start()
    assert subject(proxy) == "alice"


@pytest.mark.parametrize("running", [False, True], ids=["it listens itself", "the running server has it"])
def test_the_command_waits_for_the_callback(
    running: bool, oidc_provider: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(oidc_provider)
    if running:
        proxy.start()
    code, printed = proxy.login_by_command(ALICE, paste=False)
    assert code == 0, printed
    if not running:
        proxy.start()
    assert subject(proxy) == "alice"


@pytest.mark.parametrize("client_auth", ["client_secret_basic", "client_secret_post"])
def test_a_machine_with_an_odd_secret_needs_no_login(
    client_auth: str, server: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(server, server.machine_credential(client_auth))
    proxy.start()
    assert subject(proxy).startswith("m2m")
    assert [request["outcome"] for request in server.token_requests("client_credentials")] == ["success"]


@pytest.mark.parametrize(("button", "owner"), [("cancel", "alice"), ("replace", "bob")])
def test_a_login_of_another_person_asks_before_it_replaces_the_tokens(
    button: str, owner: str, oidc_provider: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(oidc_provider)
    proxy.start()
    assert "alice@people.example" in proxy.login_by_page(ALICE).text
    browser = Browser()
    callback = BOB.approve(browser, proxy.admin("/login/crm/default"), proxy.redirect_uri)
    asked = browser.open(callback)
    assert asked.status == 409
    assert "alice@people.example" in asked.text
    assert "bob@people.example" in asked.text
    assert subject(proxy) == "alice"

    (form,) = asked.forms
    while form.buttons[-1] != ("decision", button):
        form.buttons.pop()
    assert browser.submit(asked, form).status == 200
    assert subject(proxy) == owner
    assert bool(oidc_provider.revoked_families()) is (button == "cancel"), "bob's tokens, if nobody has them"
    assert browser.submit(asked, form).status == 400, "it is decided once"
    proxy.stop()
    assert "people.example" not in proxy.log()


def test_a_pasted_url_replaces_another_person_only_after_a_logout(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(oidc_provider, public_url=ELSEWHERE)
    code, printed = proxy.login_by_command(ALICE, paste=True)
    assert (code, "alice@people.example" in printed) == (0, True), printed
    code, printed = proxy.login_by_command(BOB, paste=True)
    assert (code, "token-proxy logout crm --account default" in printed) == (1, True), printed
    assert proxy.run("logout", "crm", "--account", "default").returncode == 0
    code, printed = proxy.login_by_command(BOB, paste=True)
    assert (code, "bob@people.example" in printed) == (0, True), printed
