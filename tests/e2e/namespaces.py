"""Network namespaces joined by a cable (veth), as a pod and its node are. For root on Linux."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # linux/sched.h
STOP_LIMIT = 60  # seconds
_libc = ctypes.CDLL(None, use_errno=True)
_number = itertools.count()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=60)


@dataclass
class Namespace:
    name: str
    address: str  # of its end of the cable
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in a thread of its own, whose sockets are of this namespace for good."""

        def enter_and_call() -> T:
            with Path(f"/run/netns/{self.name}").open() as namespace:
                if _libc.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return function()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(enter_and_call).result()

    def connect(self, address: str, port: int) -> socket.socket:
        return self.call(lambda: socket.create_connection((address, port), 60))

    def start(self, command: Sequence[str], output: Path, **environment: str) -> subprocess.Popen[bytes]:
        with output.open("ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment},
            )
        self._started.append(process)
        return process

    def stop(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(STOP_LIMIT)


@contextmanager
def joined() -> Iterator[tuple[Namespace, Namespace]]:
    """A pod and its node."""
    tag = f"{os.getpid()}-{next(_number)}"
    pod, node = Namespace(f"pod-{tag}", "10.244.0.2"), Namespace(f"node-{tag}", "10.244.0.1")
    made = []
    try:
        for each in (pod, node):
            ip("netns", "add", each.name)
            made.append(each)
            ip("-n", each.name, "link", "set", "lo", "up")
        cable = ("veth", "peer", "name", "eth0", "netns", node.name)
        ip("-n", pod.name, "link", "add", "eth0", "type", *cable)
        for each in (pod, node):
            ip("-n", each.name, "address", "add", f"{each.address}/24", "dev", "eth0")
            ip("-n", each.name, "link", "set", "eth0", "up")
        yield pod, node
    finally:
        for each in made:
            each.stop()
            ip("netns", "delete", each.name)
