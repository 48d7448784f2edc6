"""A real PostgreSQL for tests and scripts, which can be stopped, killed and paused.

    with Postgres(directory) as server:
        url = server.database()         # a new, empty database: postgresql://tester:…@127.0.0.1:…/…
        server.stop("immediate")        # its clients lose their connections, as after a crash of the machine
        server.start()                  # at the same address, with what was durable
        server.pause(); server.resume() # all of its processes stop, and go on

It keeps everything in `directory`, which the tests' unprivileged user must reach: PostgreSQL never runs as
root. fsync is on, and times are the defaults of PostgreSQL.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self

import psycopg
import pytest
import trustme

from tests.e2e.processes import free_port
from tests.servers.programs import find

USER, PASSWORD = "tester", "hunter2"
PATIENCE = 90  # seconds for a start, which may have to recover
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "track_commit_timestamp": "on",
}


class Postgres:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._user = unprivileged() if os.geteuid() == 0 else None
        self._binaries = self._executable(Path(find("postgres")).parent)
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = self._url("postgres")
        self._initialise()

    def _executable(self, binaries: Path) -> Path:
        """A place from which the server's user may run them: not a home folder of root."""
        if not self._user or all(folder.stat().st_mode & 0o001 for folder in (binaries, *binaries.parents)):
            return binaries
        copy = shutil.copytree(binaries.parent, self._directory / "program", symlinks=True)
        return copy / binaries.name

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def _initialise(self) -> None:
        if self._user:
            shutil.chown(self._directory, self._user)
        secret = self._directory / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # whatever the umask: the folder is private to the server's user
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        arguments = (f"--pgdata={self._data}", f"--username={USER}", f"--pwfile={secret}", *options)
        subprocess.run(
            [self._binaries / "initdb", *arguments], check=True, user=self._user, stdout=subprocess.DEVNULL
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self.stop("immediate")

    def start(self) -> None:
        """Returns when it accepts connections."""
        settings = {**SETTINGS, "port": self.port, "unix_socket_directories": self._directory}
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *options],
                user=self._user,
                stdout=log,
                stderr=log,
            )
        self._wait_until_ready(self._process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def stop(self, how: Literal["fast", "immediate"] = "fast") -> None:
        """fast: roll back transactions and write everything. immediate: as in a crash."""
        assert self._process
        self._process.send_signal(SIGNALS[how])
        self._process.wait(PATIENCE)

    def kill(self) -> None:
        """kill -9, all of its processes."""
        self._signal(signal.SIGKILL)
        assert self._process
        self._process.wait(PATIENCE)

    def pause(self) -> None:
        """Stop all of its processes: clients get no response."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """First to the parent, or it would replace its children."""
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(number)
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            for child in children.read_text().split():
                with suppress(ProcessLookupError):  # it has ended
                    os.kill(int(child), number)

    def execute(self, statement: str, *values: Any, url: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser, in the database of `url`."""
        with psycopg.connect(url or self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def tls(self, certificate: trustme.LeafCert) -> Iterator[None]:
        """Serve TLS to clients that ask for it."""
        key = self._data / "server.key"
        key.touch(0o600)
        certificate.private_key_pem.write_to_path(key)
        certificate.cert_chain_pems[0].write_to_path(self._data / "server.crt")
        for path in (key, self._data / "server.crt"):
            if self._user:
                shutil.chown(path, self._user)
        self._set_tls("on")
        yield
        self._set_tls("off")

    def _set_tls(self, on: Literal["on", "off"]) -> None:
        self.execute(f"ALTER SYSTEM SET ssl TO {on}")
        self.stop()
        self.start()

    def database(self) -> str:
        """Make a new, empty database; its URL."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def drop(self, url: str) -> None:
        name = url.rpartition("/")[2]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def unprivileged() -> str:
    """A user that may run PostgreSQL, which never runs as root."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests of a process; each takes a database of its own from it."""
    with tempfile.TemporaryDirectory(prefix="token-proxy-") as directory, Postgres(Path(directory)) as server:
        yield server
