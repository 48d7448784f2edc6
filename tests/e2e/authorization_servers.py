"""The two real authorization servers, each with an API of its own that requires its tokens."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.servers import programs

from .browser import Person
from .processes import Service

HERE = Path(__file__).parent
UPSTREAM = HERE.parent / "fakes" / "upstream.py"
OIDC_PROVIDER = HERE / "servers" / "oidc_provider"

ACCESS_TTL = 5  # seconds: a test sees several expiries, and a paused process is still ahead of them
REFRESH_AT = 0.6  # both servers count in whole seconds: a token may expire a second early
ALICE = Person("alice", "wonderland-7")
BOB = Person("bob", "builder-3")  # a user of oidc-provider only
WEB_SECRET = "web-secret-7hJq2"
# What the wrong encodings of RFC 6749 section 2.3.1 trip over. Only django-oauth-toolkit takes the é:
# oidc-provider insists on VSCHAR (RFC 6749 appendix A.2).
ODD_SECRET = "p+a%:/ é&=%41"
ODD_ASCII_SECRET = "p+a%:/ &=%41"


@dataclass(frozen=True)
class AuthorizationServer:
    name: str
    service: Service
    upstream: Service
    ca: Path  # of the upstream
    secret: str  # of the client `m2m`
    scopes: Sequence[str]
    extra: str = ""  # configuration for this server only

    @property
    def issuer(self) -> str:
        return str(self.service.ready["issuer"])

    @property
    def upstream_url(self) -> str:
        return str(self.upstream.ready["url"])

    def token_requests(self, grant: str) -> list[dict[str, Any]]:
        """Since the test began: grant, outcome, the secrets sent and received."""
        return [event for event in self.service.events("token") if event["grant"] == grant]

    def revoked_families(self) -> list[dict[str, Any]]:
        return self.service.events("family_revoked")

    def person_credential(self, refresh_at: float = REFRESH_AT) -> str:
        """The configuration of a credential with logins."""
        return f"""
issuer = {toml(self.issuer)}
grant = "authorization_code"
client_id = "web"
client_secret = {{ env = "WEB_SECRET" }}
scopes = {toml(self.scopes)}
refresh_at = {refresh_at}
{self.extra}"""

    def machine_credential(self, client_auth: str) -> str:
        """The configuration of a credential without logins. oidc-provider needs a client each."""
        post_client = self.name == "oidc_provider" and client_auth == "client_secret_post"
        return f"""
issuer = {toml(self.issuer)}
grant = "client_credentials"
client_id = "{"m2m-post" if post_client else "m2m"}"
client_secret = {{ env = "M2M_SECRET" }}
client_auth = "{client_auth}"
scopes = ["api"]
refresh_at = {REFRESH_AT}"""

    def stop(self) -> None:
        self.upstream.stop()
        self.service.stop()


def toml(value: object) -> str:
    """Strings, numbers and lists are written in TOML as they are in JSON."""
    return json.dumps(value)


def start_django_oauth_toolkit(folder: Path, redirect_uris: Sequence[str]) -> AuthorizationServer:
    script = HERE / "servers" / "django_oauth_toolkit.py"
    environment = {**server_environment(redirect_uris, ODD_SECRET), "FOLDER": str(folder)}
    service = Service([sys.executable, str(script)], folder, environment)
    upstream, ca = start_upstream(folder / "upstream", service)
    return AuthorizationServer("django_oauth_toolkit", service, upstream, ca, ODD_SECRET, ("api",))


def start_oidc_provider(folder: Path, redirect_uris: Sequence[str]) -> AuthorizationServer:
    install_oidc_provider()
    environment = server_environment(redirect_uris, ODD_ASCII_SECRET)
    service = Service([programs.find("node"), str(OIDC_PROVIDER / "server.mjs")], folder, environment)
    upstream, ca = start_upstream(folder / "upstream", service)
    return AuthorizationServer(
        "oidc_provider",
        service,
        upstream,
        ca,
        ODD_ASCII_SECRET,
        ("openid", "offline_access", "api"),
        # OpenID Connect Core section 11: offline_access is ignored without it.
        extra='authorize_params = { prompt = "consent" }',
    )


def install_oidc_provider() -> None:
    if (OIDC_PROVIDER / "node_modules").exists():
        return
    done = subprocess.run(
        [*programs.command("npm"), "ci", "--ignore-scripts"],
        cwd=OIDC_PROVIDER,
        env=programs.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"npm ci in {OIDC_PROVIDER} failed: {done.stderr}")


def server_environment(redirect_uris: Sequence[str], m2m_secret: str) -> dict[str, str]:
    return {
        "ACCESS_TTL": str(ACCESS_TTL),
        "REDIRECT_URIS": " ".join(redirect_uris),
        "M2M_SECRET": m2m_secret,
        "WEB_SECRET": WEB_SECRET,
        "USERNAME": ALICE.username,
        "PASSWORD": ALICE.password,
    }


def start_upstream(folder: Path, authorization_server: Service) -> tuple[Service, Path]:
    folder.mkdir(parents=True)
    authority, ca, certificate = trustme.CA(), folder / "ca.pem", folder / "certificate.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    endpoint = authorization_server.ready["introspection_endpoint"]
    command = [sys.executable, str(UPSTREAM), "--certificate", str(certificate)]
    return Service([*command, "--introspection-endpoint", endpoint], folder, {}), ca
