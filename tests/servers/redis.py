"""A real Redis for tests and scripts, which can be stopped, killed, paused and emptied.

    with Redis(directory) as server:    # each write is on the disk, unless Redis(directory, appendonly="no")
        url = server.url                # redis://127.0.0.1:…/0
        server.kill()                   # -9
        server.start()                  # at the same address, with what was on the disk
        server.pause(); server.resume() # it stands still, and goes on
        server.flush()                  # it is empty
        server.ask("CONFIG", "SET", "appendfsync", "no")

It keeps everything in `directory`. Settings are named as in redis.conf, with `_` for `-`.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.e2e.processes import free_port
from tests.servers.programs import find
from tests.servers.tls import Front

PATIENCE = 90  # seconds for a start, which may have to load
SETTINGS = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "loglevel": "notice",
}


class Redis:
    def __init__(self, directory: Path, **settings: object) -> None:
        self._program = find("redis-server")
        self._directory = directory
        self.port = free_port()
        own = {"port": self.port, "dir": directory, "logfile": directory / "redis.log"}
        self._front = None if speaks_tls(self._program) else _front(self.port, settings)
        settings = {**SETTINGS, **own, **settings}
        self._settings = {name.replace("_", "-"): str(value) for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()
        if self._front:
            self._front.close()

    def start(self) -> None:
        assert self._process is None
        options = [word for name, value in self._settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            ["redis-server", *options],  # Debian's file has another name, and goes by what it is called
            executable=self._program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            assert self._process.poll() is None, (self._directory / "redis.log").read_text()
            assert time.monotonic() < deadline, "redis-server does not come up"
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        try:
            self.ask("PING")
        except redis.AuthenticationError:
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        return True

    def stop(self) -> None:
        """In an orderly way: what is set to be saved is saved."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def flush(self) -> None:
        self.ask("FLUSHALL")

    def ask(self, *command: object, **options: Any) -> Any:
        """The reply to one command, on a connection of its own."""
        once = Retry(NoBackoff(), 0)
        with redis.Redis("127.0.0.1", self.port, socket_timeout=5, retry=once, **options) as client:
            return client.execute_command(*command)


@cache
def speaks_tls(program: str) -> bool:
    """Whether it was built with TLS, which is OpenSSL's."""
    return b"SSL_CTX_" in Path(program).read_bytes()


def _front(port: int, settings: dict[str, Any]) -> Front | None:
    """What serves TLS by the settings, which are taken out; None if they ask for none."""
    given = [settings.pop(f"tls_{name}", None) for name in ("port", "cert_file", "key_file", "ca_cert_file")]
    tls_port, certificate, key, ca = given
    return Front(tls_port, port, certificate, key, ca) if tls_port else None


@pytest.fixture(scope="session")
def redis_of_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_of_worker: Redis) -> Redis:
    """One for all tests of a worker, emptied before each. Tests that stop or change one use `start_redis`."""
    redis_of_worker.flush()
    return redis_of_worker


@pytest.fixture
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Redis]]:
    """`start_redis(**settings)`: a server of the test's own, which it may stop, kill or pause."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(Redis(tmp_path_factory.mktemp("redis"), **settings))
