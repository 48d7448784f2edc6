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
from typing import Final

import pytest

from tests.servers import programs

from .authorization_servers import (
    ODD_ASCII_SECRET,
    REFRESH_AT,
    AuthorizationServer,
    server_environment,
    start_upstream,
    toml,
)
from .processes import Service

SERVERS: Final = Path(__file__).parent / "servers"


@dataclass(frozen=True)
class Kind:
    """How a server is started, and configured beside what all have."""

    person: str  # lines of the credential of a person; {issuer} is filled in
    machine: str  # of a machine's; also {issuer}
    scopes: Sequence[str]
    node: bool = True  # else Python


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
        node=False,
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
    if kind.node:
        install(name)
        command = [programs.find("node"), str(SERVERS / name / "server.mjs")]
    else:
        command = [sys.executable, str(SERVERS / f"{name}.py")]
    service = Service(command, folder, environment)
    upstream, ca = start_upstream(folder / "upstream", service)
    return JourneyServer(name, service, upstream, ca, ODD_ASCII_SECRET, kind.scopes)


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
