"""Commands beside a running server: the same state, and the exit codes that scripts rely on."""

import json
import re

import requests

from .authorization_servers import ALICE, AuthorizationServer
from .conftest import MakeProxy
from .processes import free_port, wait_until
from .proxy_process import Proxy
from .reference import call_upstream, obtain_code

DONE, FAILED, USAGE, LOGIN = 0, 1, 2, 3
AGREED = 1.0  # seconds until server and commands agree (contract 1.4)
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\n")  # RFC 6750 section 2.1, a line of its own


def status_of(proxy: Proxy) -> int:
    return requests.get(proxy.api("/whoami"), timeout=20).status_code


def test_a_logout_by_the_command_is_honoured_by_the_server_within_a_second_and_so_is_a_login(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(oidc_provider)
    proxy.start()
    proxy.login_by_page(ALICE)
    assert status_of(proxy) == 200

    assert proxy.run("logout", "crm").returncode == DONE
    wait_until(lambda: status_of(proxy) == 503, "the logout to be honoured", AGREED)
    response = requests.get(proxy.api("/whoami"), timeout=20)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "Retry-After" not in response.headers
    problem = response.json()
    assert problem["type"] == "urn:token-proxy:problem:login-required"
    assert problem["login_url"] == f"{proxy.public_url}/login/crm/default"
    assert len(oidc_provider.revoked_families()) == 1, "RFC 7009: the server was told"

    code, verifier = obtain_code(oidc_provider, proxy.redirect_uri)
    done = proxy.run("login", "crm", "--code", code, "--code-verifier", verifier)
    assert done.returncode == DONE, done.stderr
    wait_until(lambda: status_of(proxy) == 200, "the login to be honoured", AGREED)


def test_token_prints_a_good_token_and_nothing_else(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(oidc_provider)
    code, verifier = obtain_code(oidc_provider, proxy.redirect_uri)
    assert proxy.run("login", "crm", "--code", code, "--code-verifier", verifier).returncode == DONE
    done = proxy.run("token", "crm")
    assert (done.returncode, done.stderr) == (DONE, "")
    assert TOKEN.fullmatch(done.stdout), done.stdout
    assert call_upstream(oidc_provider, done.stdout.strip()).json()["subject"] == "alice"


def test_exit_codes_before_and_after_a_login(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(oidc_provider)
    assert proxy.run("check").returncode == DONE
    assert proxy.run("status").returncode == LOGIN
    refused = proxy.run("token", "crm")
    assert (refused.returncode, refused.stdout) == (LOGIN, "")
    assert refused.stderr.count("\n") == 1, "one sentence that says what to do next"

    proxy.start()
    assert proxy.run("status").returncode == LOGIN
    proxy.login_by_page(ALICE)
    assert proxy.run("token", "crm").returncode == DONE
    assert proxy.run("status").returncode == DONE
    shown = json.loads(proxy.run("status", "--json").stdout)
    assert (shown["version"], shown["ready"]) == (1, True)
    (token,) = shown["tokens"]
    assert (token["credential"], token["account"], token["routes"]) == ("crm", "default", ["api"])


def test_token_fails_with_1_when_the_authorization_server_is_down(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/token"
    credential = f"""
token_endpoint = "{nobody}"
grant = "client_credentials"
client_id = "m2m"
client_secret = {{ env = "M2M_SECRET" }}"""
    done = make_proxy(oidc_provider, credential).run("token", "crm")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (FAILED, "", 1), done.stderr


def test_check_reports_every_fault_with_its_place(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy
) -> None:
    faulty = 'isuer = "https://login.example"\ngrant = "client_credential"\nclient_id = "m2m"'
    done = make_proxy(oidc_provider, faulty).run("check")
    assert done.returncode == USAGE
    places = re.findall(r"^\S*config\.toml:(\d+):(\d+): ", done.stderr, re.MULTILINE)
    assert len(places) >= 2, done.stderr
    assert "Traceback" not in done.stderr


def test_run_names_a_taken_port(oidc_provider: AuthorizationServer, make_proxy: MakeProxy) -> None:
    proxy = make_proxy(oidc_provider)
    proxy.start()
    second = proxy.run("run")
    assert second.returncode == FAILED
    assert str(proxy.data_port) in second.stderr or str(proxy.admin_port) in second.stderr
