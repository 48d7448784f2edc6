"""The harness itself, with no proxy: what the other tests take for granted about the servers."""

import base64
import hashlib
import secrets
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import requests

from .authorization_servers import ACCESS_TTL, ALICE, WEB_SECRET, AuthorizationServer
from .browser import Browser
from .processes import wait_until


def metadata(server: AuthorizationServer) -> dict[str, str]:
    """RFC 8414 section 3.1: the well-known part goes before the issuer's path."""
    issuer = urlsplit(server.issuer)
    url = f"{issuer.scheme}://{issuer.netloc}/.well-known/oauth-authorization-server{issuer.path}"
    found: dict[str, str] = requests.get(url, timeout=10).json()
    return found


def ask_token_endpoint(
    server: AuthorizationServer, client: str, secret: str, **form: str
) -> requests.Response:
    basic = base64.b64encode(f"{quote(client, safe='')}:{quote(secret, safe='')}".encode()).decode()
    return requests.post(
        metadata(server)["token_endpoint"], data=form, headers={"Authorization": f"Basic {basic}"}, timeout=10
    )


def log_in(server: AuthorizationServer, redirect_uri: str) -> dict[str, str]:
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    query = urlencode(
        {
            "response_type": "code",
            "client_id": "web",
            "redirect_uri": redirect_uri,
            "scope": " ".join(server.scopes),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "prompt": "consent",
        }
    )
    url = f"{metadata(server)['authorization_endpoint']}?{query}"
    callback = parse_qs(urlsplit(ALICE.approve(Browser(), url, redirect_uri)).query)
    assert callback["state"] == [state]
    answer = ask_token_endpoint(
        server,
        "web",
        WEB_SECRET,
        grant_type="authorization_code",
        code=callback["code"][0],
        redirect_uri=redirect_uri,
        code_verifier=verifier,
    )
    assert answer.status_code == 200, answer.text
    tokens: dict[str, str] = answer.json()
    return tokens


def refresh(server: AuthorizationServer, refresh_token: str) -> requests.Response:
    return ask_token_endpoint(
        server, "web", WEB_SECRET, grant_type="refresh_token", refresh_token=refresh_token
    )


def call_upstream(server: AuthorizationServer, token: str) -> requests.Response:
    return requests.get(
        f"{server.upstream_url}/whoami",
        headers={"Authorization": f"Bearer {token}"},
        verify=str(server.ca),
        timeout=10,
    )


def test_a_login_by_the_real_pages_gives_a_token_that_the_upstream_takes_until_it_expires(
    server: AuthorizationServer, redirect_uris: list[str]
) -> None:
    tokens = log_in(server, redirect_uris[0])
    answer = call_upstream(server, tokens["access_token"])
    assert (answer.status_code, answer.json()["subject"]) == (200, "alice")
    assert call_upstream(server, "made-up").status_code == 401
    wait_until(
        lambda: call_upstream(server, tokens["access_token"]).status_code == 401,
        "an expired token to be refused",
        seconds=ACCESS_TTL + 1,
    )


def test_a_refresh_token_rotates_and_its_second_use_revokes_the_family(
    server: AuthorizationServer, redirect_uris: list[str]
) -> None:
    first = log_in(server, redirect_uris[0])
    second = refresh(server, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert call_upstream(server, second["access_token"]).status_code == 200
    assert server.revoked_families() == []

    assert refresh(server, first["refresh_token"]).json()["error"] == "invalid_grant"
    assert len(server.revoked_families()) == 1
    assert refresh(server, second["refresh_token"]).json()["error"] == "invalid_grant"
    wait_until(
        lambda: call_upstream(server, second["access_token"]).status_code == 401,
        "a revoked token to be refused",
    )
    outcomes = [request["outcome"] for request in server.token_requests("refresh_token")]
    assert outcomes == ["success", "invalid_grant", "invalid_grant"]


def test_a_client_with_an_odd_secret_gets_a_token(server: AuthorizationServer) -> None:
    answer = ask_token_endpoint(server, "m2m", server.secret, grant_type="client_credentials", scope="api")
    assert answer.status_code == 200, answer.text
    assert call_upstream(server, answer.json()["access_token"]).json()["subject"] == "m2m"
    assert ask_token_endpoint(server, "m2m", "wrong", grant_type="client_credentials").status_code == 401
