"""A real nginx for tests: HTTPS with passwords in front of several servers, in turn.

    with Nginx(directory, certificate, port, people, backends) as server: ...

It connects from FROM, names the person in X-Remote-User, whatever a client sends there, and says in X-Replica
which server has responded. As root its workers are root too: the worst user for a server that trusts root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import trustme

from tests.e2e.processes import wait_until
from tests.servers.programs import find

FROM = "127.0.0.2"
HEADER = "X-Remote-User"
MAIN = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {content}
}}
"""
SERVERS = """\
    upstream replicas {{ {servers} }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/certificate.pem;
        auth_basic "tokens";
        auth_basic_user_file {folder}/people;
        location / {{
            proxy_pass http://replicas;
            proxy_bind {own};
            proxy_set_header Host $http_host;
            proxy_set_header {header} $remote_user;
            proxy_set_header Authorization "";
            add_header X-Replica $upstream_addr always;
        }}
    }}
"""


def main_file(folder: Path, content: str, *, as_root: bool) -> str:
    """A configuration that writes below `folder` only. `content`: of its http block."""
    return MAIN.format(folder=folder, content=content, user="user root;" if as_root else "")


class Nginx:
    def __init__(
        self,
        folder: Path,
        certificate: trustme.LeafCert,
        port: int,
        people: Mapping[str, str],
        backends: Sequence[str],
    ) -> None:
        """`people`: passwords by name. `backends`: host:port of the servers."""
        folder.mkdir()
        self._folder, self._port = folder, port
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "certificate.pem"))
        (folder / "people").write_text(_hashed(people))
        servers = SERVERS.format(
            folder=folder,
            port=port,
            servers=" ".join(f"server {backend};" for backend in backends),
            own=FROM,
            header=HEADER,
        )
        (folder / "nginx.conf").write_text(main_file(folder, servers, as_root=os.geteuid() == 0))

    def __enter__(self) -> Self:
        log = self._folder / "error.log"
        arguments = ["-p", str(self._folder), "-e", str(log), "-c", str(self._folder / "nginx.conf")]
        self._process = subprocess.Popen([find("nginx"), *arguments])
        wait_until(self._is_up, "nginx")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def _is_up(self) -> bool:
        assert self._process.poll() is None, (self._folder / "error.log").read_text()
        return (self._folder / "pid").exists()


def _hashed(people: Mapping[str, str]) -> str:
    """Lines of an htpasswd file."""
    passwords = "".join(f"{password}\n" for password in people.values())
    command = ["openssl", "passwd", "-apr1", "-stdin"]
    done = subprocess.run(command, input=passwords, capture_output=True, text=True, check=True)
    hashes = done.stdout.split()
    return "".join(f"{name}:{each}\n" for name, each in zip(people, hashes, strict=True))
