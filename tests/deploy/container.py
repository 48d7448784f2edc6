"""Runs a replayed image (image.py) as an engine would: read-only, as its user, in namespaces of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.deploy.image import UNSHARE, Image, assignments, inside
from tests.e2e.processes import wait_until


class Network:
    """A network namespace with loopback and one address more, as if that of a container."""

    ADDRESS = "172.31.0.2"

    def __enter__(self) -> Self:
        command = [
            "unshare",
            "--net",
            sys.executable,
            str(Path(__file__).with_name("network.py")),
            self.ADDRESS,
        ]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()  # the end of its input is its end

    @property
    def enter(self) -> list[str]:
        """What a command begins with, to run in this network."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net"]


class Container:
    """A running image: root read-only, no capability, no new privileges, a PID namespace of its own."""

    def __init__(
        self,
        image: Image,
        state: Path,
        environment: Mapping[str, str],
        *,
        command: Sequence[str] = (),
        given: Mapping[str, Path] | None = None,
        network: Network | None = None,
    ) -> None:
        """`command` instead of entrypoint and command. `given`: files from outside, by their place."""
        self._image = image
        uid, _, gid = image.stage.last("USER").value.partition(":")
        volume = image.stage.last("VOLUME").exec_form[0]
        _fill(state, inside(image.root, Path(volume)))
        for place in given or {}:
            inside(image.root, Path(place)).parent.mkdir(parents=True, exist_ok=True)
            inside(image.root, Path(place)).touch()
        self._user = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs"]
        self._user += ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
        self._environment = assignments({**image.environment, **environment})
        self._enter = network.enter if network else []
        whole = ["chroot", str(image.root.folder), *self._user, "env", "-i", *self._environment]
        whole += command or image.command
        mounts = image.root.mounts({volume: state}, given or {}, read_only=True)
        self._log = state.with_name(f"{state.name}.log")
        with self._log.open("wb") as log:
            self._unshare = subprocess.Popen(
                [*self._enter, *UNSHARE, "sh", "-c", f"{mounts}\nexec {shlex.join(whole)}"],
                stdout=log,
                stderr=log,
            )
        self.pid = wait_until(self._first_process, "the first process of the container")

    def _first_process(self) -> int:
        """The process with the id 1 in the namespace, by its id here."""
        assert self._unshare.poll() is None, self.log()
        of = self._unshare.pid
        children = Path(f"/proc/{of}/task/{of}/children").read_text().split()
        return int(children[0]) if children else 0

    def log(self) -> str:
        return self._log.read_text()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, with the variables of the container and its user."""
        enter = [
            "nsenter",
            "--target",
            str(self.pid),
            "--mount",
            "--pid",
            "chroot",
            str(self._image.root.folder),
        ]
        whole = [*self._enter, *enter, *self._user, "env", "-i", *self._environment, *command]
        return subprocess.run(whole, capture_output=True, text=True, timeout=120, check=False)

    def is_healthy(self) -> bool:
        assert self._unshare.poll() is None, self.log()
        return self.execute(*self._image.healthcheck).returncode == 0

    def stop(self) -> int:
        """SIGTERM to the first process, as `docker stop`; the exit code of the container."""
        if self._unshare.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        return self._unshare.wait(90)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._unshare.poll() is None:
            self._unshare.kill()  # and with it, by --kill-child, all that runs in the namespace
            self._unshare.wait()


def _fill(state: Path, place: Path) -> None:
    """As an engine does: a volume starts as a copy of the image's directory."""
    if not state.exists():
        shutil.copytree(place, state)
        status = place.stat()
        os.chown(state, status.st_uid, status.st_gid)
        state.chmod(status.st_mode & 0o777)
