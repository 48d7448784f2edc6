"""More real authorization servers, for the main journey only: test_journeys.py.

Each is started as those of authorization_servers.py, and tells in its first line where it listens. What is
odd about it is said where it is configured here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.servers import debian, programs

from .authorization_servers import (
    ALICE,
    ODD_ASCII_SECRET,
    REFRESH_AT,
    AuthorizationServer,
    server_environment,
    start_upstream,
    toml,
)
from .browser import Person
from .processes import Service, free_port

SERVERS: Final = Path(__file__).parent / "servers"


@dataclass(frozen=True)
class Kind:
    """How a server is started, and configured beside what all have."""

    person: str  # lines of the credential of a person; {issuer} is filled in
    machine: str  # of a machine's; also {issuer}
    scopes: Sequence[str]
    runs: Literal["node", "python", "perl"] = "node"
    who: Person = ALICE


KINDS: Final = {
    # No metadata. Secrets in Basic are not decoded: `basic_encoding`, or `client_auth` as here.
    "node_oauth2_server": Kind(
        person='token_endpoint = "{issuer}/token"\nauthorization_endpoint = "{issuer}/authorize"',
        machine='token_endpoint = "{issuer}/token"\nclient_auth = "client_secret_post"',
        scopes=("api",),
    ),
    # The issuer has a path. A client bound to one way of authentication refuses the other: `client_auth`.
    "better_auth": Kind(
        person='issuer = "{issuer}"\nclient_auth = "client_secret_post"',
        machine='issuer = "{issuer}"\nclient_auth = "client_secret_basic"',
        scopes=("openid", "offline_access", "api"),
    ),
    # Its library does not decode Basic: such a secret needs `basic_encoding = "raw"`, or `client_auth`.
    "django_allauth": Kind(
        person='issuer = "{issuer}"',
        machine='issuer = "{issuer}"\nbasic_encoding = "raw"',
        scopes=("openid", "api"),
        runs="python",
    ),
    # The issuer ends with a slash, and its place of RFC 8414 has a page. Of Basic it takes \w only. There is
    # no revocation endpoint, and a dead refresh token is an invalid_request.
    "lemonldap": Kind(
        person='issuer = "{issuer}"\nclient_auth = "client_secret_post"',
        machine='issuer = "{issuer}"\nclient_auth = "client_secret_post"',
        scopes=("openid", "api"),
        runs="perl",
        who=Person("dwho", "dwho"),  # of its demonstration
    ),
}


@dataclass(frozen=True)
class JourneyServer(AuthorizationServer):
    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    def person_credential(self, refresh_at: float = REFRESH_AT) -> str:
        return f"""
{self.kind.person.format(issuer=self.issuer)}
client_id = {toml(self.service.ready.get("web", "web"))}
client_secret = {{ env = "WEB_SECRET" }}
scopes = {toml(self.scopes)}
refresh_at = {refresh_at}"""

    def machine_credential(self, client_auth: str = "") -> str:
        assert not client_auth, "each has one way"
        return f"""
{self.kind.machine.format(issuer=self.issuer)}
grant = "client_credentials"
client_id = {toml(self.service.ready.get("m2m", "m2m"))}
client_secret = {{ env = "M2M_SECRET" }}
scopes = {toml([scope for scope in self.scopes if scope == "api"])}
refresh_at = {REFRESH_AT}"""


def start(name: str, folder: Path, redirect_uris: Sequence[str]) -> JourneyServer:
    kind = KINDS[name]
    environment = {**server_environment(redirect_uris, ODD_ASCII_SECRET), "FOLDER": str(folder)}
    if kind.runs == "node":
        install(name)
        command = [programs.find("node"), str(SERVERS / name / "server.mjs")]
    elif kind.runs == "perl":
        environment |= {**debian.environment(), **_keys(folder), "PORT": str(free_port())}
        command = [debian.PERL, str(SERVERS / name / "server.pl")]
    else:
        command = [sys.executable, str(SERVERS / f"{name}.py")]
    service = Service(command, folder, environment)
    upstream, ca = start_upstream(folder / "upstream", service)
    return JourneyServer(name, service, upstream, ca, ODD_ASCII_SECRET, kind.scopes)


def _keys(folder: Path) -> dict[str, str]:
    """Files with a key that signs id_tokens."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return {"PRIVATE_KEY": str(private), "PUBLIC_KEY": str(public)}


def install(name: str) -> None:
    """As `make test` does beforehand."""
    folder = SERVERS / name
    if (folder / "node_modules").exists():
        return
    done = subprocess.run(
        [*programs.command("npm"), "ci", "--ignore-scripts"],
        cwd=folder,
        env=programs.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"npm ci in {folder} failed: {done.stderr}")
