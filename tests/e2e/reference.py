"""OAuth without the product: the reference behaviour of the servers, and codes from elsewhere."""

import base64
import hashlib
import secrets
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import requests

from .authorization_servers import ALICE, WEB_SECRET, AuthorizationServer
from .browser import Browser


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
        metadata(server)["token_endpoint"],
        data=form,
        headers={"Authorization": f"Basic {basic}"},
        timeout=10,
    )


def obtain_code(server: AuthorizationServer, redirect_uri: str) -> tuple[str, str]:
    """Log in with the server's own pages; return the code and its PKCE verifier."""
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
    return callback["code"][0], verifier


def log_in(server: AuthorizationServer, redirect_uri: str) -> dict[str, Any]:
    code, verifier = obtain_code(server, redirect_uri)
    response = ask_token_endpoint(
        server,
        "web",
        WEB_SECRET,
        grant_type="authorization_code",
        code=code,
        redirect_uri=redirect_uri,
        code_verifier=verifier,
    )
    assert response.status_code == 200, response.text
    tokens: dict[str, Any] = response.json()
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
