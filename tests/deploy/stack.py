"""The services of compose.yaml that are ours, from the replayed image, and nginx: without an engine.

They share a network namespace, as `network_mode` says; loopback there is theirs, and one address more stands
for that of the container, to which the published ports and the other services lead.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tests.deploy import image
from tests.deploy.container import Container, Network
from tests.e2e.processes import wait_until
from tests.servers.nginx import main_file
from tests.servers.programs import find

FILE = image.DOCKER / "compose.yaml"
NGINX_USER = 101  # of nginx-unprivileged


def read() -> dict[str, Any]:
    with FILE.open() as file:
        return yaml.safe_load(file)


def words(value: str | list[str]) -> list[str]:
    """A command of the file, in the form of a list; `$$` is `$` there."""
    assert isinstance(value, list), "the form of a string is split by rules of its own"
    return [word.replace("$$", "$") for word in value]


def given(service: Mapping[str, Any], secrets: Mapping[str, Any]) -> dict[str, Path]:
    """The files that a service gets, by their place in it."""
    found = {
        f"/run/secrets/{name}": FILE.parent / secrets[name]["file"] for name in service.get("secrets", ())
    }
    for volume in service.get("volumes", ()):
        source, place, *mode = volume.split(":")
        if source.startswith("."):
            assert mode == ["ro"], volume
            found[place] = (FILE.parent / source).resolve()
    return found


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Services:
    network: Network
    file: Mapping[str, Any]

    def _run(
        self, *command: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.network.enter, *command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **(environment or {})},
        )

    def get(self, url: str) -> Response:
        """From another service: by name, at the address of the container."""
        done = self._run("curl", *self._resolved(), "--silent", "--write-out", "\n%{http_code}", url)
        text, _, status = done.stdout.rpartition("\n")
        return Response(int(status), text)

    def _resolved(self) -> list[str]:
        return ["--noproxy", "*", "--connect-to", f"token-proxy::{self.network.ADDRESS}:"]

    def call(self, name: str) -> subprocess.CompletedProcess[str]:
        """The call that a service makes in its loop."""
        service = self.file["services"][name]
        (script,) = words(service["command"])
        call = script.partition("do ")[2].partition(";")[0]
        assert call.startswith("curl "), script
        for place, path in given(service, self.file["secrets"]).items():
            call = call.replace(place, str(path))
        resolved = " ".join(f"'{word}'" for word in self._resolved())
        call = call.replace("curl ", f"curl {resolved} ", 1)
        return self._run("/bin/sh", "-c", call, environment=service["environment"])

    def visit(self, script: str) -> list[str]:
        """Run a script of a person on the host, for whom the published ports lead to the container."""
        published = [port.rsplit(":", 2) for port in self.file["services"]["token-proxy"]["ports"]]
        ports = [f"{host.rpartition(':')[2]}:{port}:{inside}" for host, port, inside in published]
        done = self._run(sys.executable, script, self.network.ADDRESS, *ports)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@contextmanager
def compose(made: image.Image, folder: Path) -> Iterator[Services]:
    """Start `token-proxy`, `demo` and `page`, and wait as compose would."""
    folder.mkdir()
    file = read()
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        started = {}
        for name in ("token-proxy", "demo"):
            service = file["services"][name]
            command = (
                [*words(service["entrypoint"]), *words(service["command"])] if "entrypoint" in service else []
            )
            container = Container(
                made,
                folder / name,
                service.get("environment", {}),
                command=command,
                given=given(service, file["secrets"]),
                network=network,
            )
            started[name] = stack.enter_context(container)
        stack.enter_context(_page(file["services"]["page"], network))
        for name, container in started.items():
            test = file["services"][name]["healthcheck"]["test"]
            assert test[0] == "CMD"
            wait_until(lambda: container.execute(*test[1:]).returncode == 0, f"{name}: {container.log()}")  # noqa: B023
        yield Services(network, file)
        for name, container in started.items():
            assert container.stop() == 0, f"{name}: {container.log()}"


@contextmanager
def _page(service: Mapping[str, Any], network: Network) -> Iterator[None]:
    """nginx as the user of its image, with this machine's program; it reads what the image reads."""
    (conf,) = given(service, {}).values()
    with TemporaryDirectory() as name:  # a folder that this user may enter
        folder = Path(name)
        (folder / "default.conf").write_text(conf.read_text())
        included = f"include {folder}/default.conf;"
        (folder / "nginx.conf").write_text(main_file(folder, included, as_root=False))
        for path in (folder, *folder.iterdir()):
            os.chown(path, NGINX_USER, NGINX_USER)
        user = ["setpriv", "--reuid", str(NGINX_USER), "--regid", str(NGINX_USER), "--clear-groups"]
        options = ["-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
        process = subprocess.Popen([*network.enter, *user, find("nginx"), *options])
        try:
            wait_until(lambda: process.poll() is not None or (folder / "pid").exists(), "nginx")
            assert process.poll() is None, (folder / "error.log").read_text()
            yield
        finally:
            process.terminate()
            process.wait()
