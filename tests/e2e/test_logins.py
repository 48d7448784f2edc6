"""The first tokens: every way a person can get them, through the servers' own pages."""

import pytest
import requests

from .authorization_servers import ALICE, AuthorizationServer
from .conftest import ELSEWHERE, MakeProxy
from .proxy_process import Proxy


def subject(proxy: Proxy) -> str:
    answer = requests.get(proxy.api("/whoami"), timeout=20)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["subject"])


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
