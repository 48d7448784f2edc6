"""Every grant with every client authentication that npm oidc-provider offers, with all of its strictness on.

Pushed requests, tokens bound to a key with required nonces, rotation and mutual TLS: see strict.mjs. One
proxy has a credential and a route for each row. The API behind it takes only requests with a valid proof.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from tests.fakes import signing
from tests.servers import programs

from .authorization_servers import ALICE, OIDC_PROVIDER, install_oidc_provider, toml
from .browser import Browser
from .processes import Service, free_port, wait_until
from .proxy_process import COMMAND, COMMAND_LIMIT, REPOSITORY, Proxy

TTL = 4  # seconds an access token lives
SECRET = "a-secret-of-more-than-thirty-two-characters"
AUTHENTICATIONS = {  # what the credential says of it
    "client_secret_basic": 'client_secret = { env = "SECRET" }',
    "client_secret_post": 'client_secret = { env = "SECRET" }\nclient_auth = "client_secret_post"',
    "client_secret_jwt": 'client_secret = { env = "SECRET" }\nclient_auth = "client_secret_jwt"',
    "private_key_jwt": 'client_key = { file = "client.key" }\nclient_key_id = "2027-01"',
    "tls_client_auth": "",
    "self_signed_tls_client_auth": 'client_auth = "self_signed_tls_client_auth"',
    "none": "",
}
GRANTS = ("authorization_code", "device_code", "client_credentials")
TLS = {
    "tls_client_auth": ', cert = "tls.pem", key = "tls.key"',
    "self_signed_tls_client_auth": ', cert = "self-signed.pem", key = "self-signed.key"',
}


@dataclass(frozen=True)
class Row:
    grant: str
    auth: str

    @property
    def name(self) -> str:
        return f"{self.grant}-{self.auth}".replace("_", "-")

    @property
    def has_person(self) -> bool:
        return self.grant != "client_credentials"

    def credential(self, issuer: str) -> str:
        scopes = ["openid", "offline_access", "api"] if self.has_person else ["api"]
        consent = 'authorize_params = { prompt = "consent" }' if self.grant == "authorization_code" else ""
        return f"""
[credentials.{self.name}]
issuer = {toml(issuer)}
grant = "{self.grant}"
client_id = "{self.name}"
{AUTHENTICATIONS[self.auth]}
tls = {{ ca = "ca.pem"{TLS.get(self.auth, "")} }}
scopes = {toml(scopes)}
dpop = true
{consent}

[[routes]]
name = "{self.name}"
path = "/{self.name}"
upstream = {toml(f"{issuer}/resource")}
credential = "{self.name}"
"""


NOT_OFFERED = Row("client_credentials", "none")
ROWS = [row for grant in GRANTS for auth in AUTHENTICATIONS if (row := Row(grant, auth)) != NOT_OFFERED]


class Matrix:
    def __init__(self, folder: Path) -> None:
        install_oidc_provider()
        self._write_keys(folder)
        ports = free_port(), free_port()
        self.proxy = Proxy(folder, *ports, f"http://127.0.0.1:{ports[1]}", {"SECRET": SECRET})
        environment = {
            "ACCESS_TTL": str(TTL),
            "FOLDER": str(folder),
            "REDIRECT_URIS": self.proxy.redirect_uri,
            "CLIENTS": json.dumps(
                [[row.name, row.auth, row.grant, SECRET if "secret" in row.auth else ""] for row in ROWS]
            ),
        }
        command = [programs.find("node"), str(OIDC_PROVIDER / "strict.mjs")]
        self.service = Service(command, folder / "server", environment)
        self.proxy.config.write_text(self._config())
        self.proxy.start()

    @staticmethod
    def _write_keys(folder: Path) -> None:
        server, clients = trustme.CA(), trustme.CA()
        server.cert_pem.write_to_path(str(folder / "ca.pem"))
        clients.cert_pem.write_to_path(str(folder / "clients.pem"))
        for authority, name, identity in (
            (server, "server", "127.0.0.1"),
            (clients, "tls", "client.example"),
        ):
            made = authority.issue_cert(identity)
            made.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
            made.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        (folder / "self-signed.pem").write_text(signing.certificate("p256"))
        (folder / "self-signed.key").write_text(signing.pem("p256"))
        (folder / "client.key").write_text(signing.pem("rsa"))
        (folder / "client.pub").write_text(signing.public_pem("rsa"))

    def _config(self) -> str:
        proxy, issuer = self.proxy, str(self.service.ready["issuer"])
        return f"""
[server]
listen = "127.0.0.1:{proxy.data_port}"
admin = "127.0.0.1:{proxy.admin_port}"
state_dir = {toml(str(proxy.state))}
[log]
level = "debug"
{"".join(row.credential(issuer) for row in ROWS)}
"""

    def ask(self, row: Row) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.proxy.data_port}/{row.name}?x=1", timeout=60)

    def get(self, row: Row) -> dict[str, Any]:
        response = self.ask(row)
        told = f"{response.text}\n{self.events(row)}\n{self.proxy.log()[-3000:]}"
        assert response.status_code == 200, told
        return dict(response.json())

    def events(self, row: Row) -> list[dict[str, Any]]:
        """The requests of this row's client, with the server's verdict."""
        names = ("token", "revocation", "pushed_authorization_request", "device_authorization")
        return [each for name in names for each in self.service.events(name) if each["client"] == row.name]

    def log_in(self, row: Row) -> None:
        if row.grant == "device_code":
            return self._log_in_on_device(row)
        browser = Browser()
        page = f"{self.proxy.public_url}/login/{row.name}/default"
        callback = ALICE.approve(browser, page, self.proxy.redirect_uri)
        done = browser.open(callback)
        assert done.status == 200, done.text[:500]
        return None

    def _log_in_on_device(self, row: Row) -> None:
        command = subprocess.Popen(
            [*COMMAND, "login", row.name, "-c", str(self.proxy.config), "--no-browser"],
            cwd=REPOSITORY,
            env=self.proxy._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert command.stdout is not None
            printed = ""
            for line in command.stdout:
                printed += line
                if found := re.search(r"https?://\S+user_code=\S+", line):
                    break
            else:
                pytest.fail(f"no address was printed: {printed}")
            browser = Browser()
            browser.session.verify = str(self.proxy.folder / "ca.pem")  # of the address for certificates
            ALICE.enter_code(browser, found[0])
            rest, _ = command.communicate(timeout=COMMAND_LIMIT)
            assert command.returncode == 0, printed + rest
        finally:
            command.kill()
            command.wait()
            command.stdout.close()

    def stop(self) -> None:
        self.proxy.stop()
        self.service.stop()


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    made = Matrix(tmp_path_factory.mktemp("matrix"))
    yield made
    made.stop()


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_grant_with_a_client_authentication(matrix: Matrix, row: Row) -> None:
    if row.has_person:
        matrix.log_in(row)
    first = matrix.get(row)
    assert first["client"] == row.name
    assert first["subject"] == (ALICE.username if row.has_person else None)
    time.sleep(TTL + 1)
    second = matrix.get(row)
    assert second["token"] != first["token"], "the token has been replaced"
    assert second["jkt"] == first["jkt"], "and is bound to the same key"
    events = matrix.events(row)
    assert {event["outcome"] for event in events} <= {"success", "use_dpop_nonce", "authorization_pending"}
    assert {event["secure"] for event in events} == {row.auth in TLS}
    granted = [event for event in events if event.get("type")]
    assert {event["type"] for event in granted} == {"DPoP"}
    assert all(event["proof"] for event in granted)
    if row.has_person:
        assert matrix.proxy.run("logout", row.name).returncode == 0
        wait_until(lambda: matrix.ask(row).status_code == 503, "the logout to be known")
        assert [event["outcome"] for event in matrix.events(row)][-1] == "success"


def test_the_key_survives_a_restart_and_no_proof_was_refused(matrix: Matrix) -> None:
    row = Row("authorization_code", "private_key_jwt")
    matrix.log_in(row)
    before = matrix.get(row)
    matrix.proxy.stop()
    matrix.proxy.start()
    after = matrix.get(row)
    assert after["jkt"] == before["jkt"], "the key survives a restart"
    faults = {event["fault"] for event in matrix.service.events("resource")}
    # of the tokens, those that a logout had revoked before it was known here
    assert faults <= {"", "nonce", "expired"}, "each proof was valid but for a nonce that was not known yet"
    assert matrix.service.events("server_error") == []
