"""Start and control the authorization server in a separate process, from a test.

    with started("--grace", "5", "--lifetime", "60") as server:
        tokens = server.issue("demo", "alice")
        server.script("drop-after-commit")
        ...
        assert server.families_revoked == 0

Calls block for about a millisecond; code that must not block calls them in a thread.
"""

from __future__ import annotations

import json
import math
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from http.client import HTTPConnection
from typing import Any, Final
from urllib.parse import urlsplit

from proxy.demo.faults import Fault
from proxy.demo.journal import (
    ApiRequest,
    E,
    Event,
    Revocation,
    TokenRecord,
    TokenRequest,
    from_json,
)

_TO_START: Final = 30.0  # seconds; long, so that a busy machine is no failure
_TO_RESPOND: Final = 30.0  # seconds; as above
_TO_STOP: Final = 5.0  # seconds


class ControlRefused(Exception):
    """The server refused the call; the message is its own."""


class RemoteServer:
    """Like `AuthorizationServer`, but in another process. Times are of the boot clock, which they share."""

    def __init__(self, ready: Mapping[str, Any]) -> None:
        """`ready` is the line that `python -m proxy.demo` prints, parsed."""
        self.issuer: str = ready["issuer"]
        self.api: str = ready["api"]
        self.control: str = ready["control"]
        self.pid: int = ready["pid"]

    def script(
        self,
        *faults: str | Fault,
        times: int | None = 1,
        client_id: str | None = None,
        subject: str | None = None,
        grant_type: str | None = None,
        after: float = 0.0,
        lasting: float = math.inf,
    ) -> None:
        """Like `AuthorizationServer.script`; accepts names of faults. Waits must be numbers (seconds)."""
        asked: dict[str, Any] = {
            "faults": [_as_json(fault) for fault in faults],
            "times": times,
            "client_id": client_id,
            "subject": subject,
            "grant_type": grant_type,
            "after": after,
        }
        if math.isfinite(lasting):
            asked["lasting"] = lasting
        self._call("POST", "/faults", asked)

    def clear_faults(self) -> None:
        self._call("DELETE", "/faults")

    def issue(self, client_id: str, subject: str) -> dict[str, Any]:
        """Issue tokens as after a login; the response of RFC 6749 section 5.1."""
        answer: dict[str, Any] = json.loads(
            self._call("POST", "/issue", {"client_id": client_id, "subject": subject})
        )
        return answer

    def revoke(self, token: str) -> None:
        self._call("POST", "/revoke", {"token": token})

    def revoke_family(self, token: str, *, after: float = 0.0) -> None:
        self._call("POST", "/revoke-family", {"token": token, "after": after})

    def settings(self, **changes: float | bool) -> dict[str, Any]:
        """Change settings; return grace, access_token_lifetime, rotation and families_revoked."""
        method = "PATCH" if changes else "GET"
        settings: dict[str, Any] = json.loads(self._call(method, "/settings", changes or None))
        return settings

    @property
    def families_revoked(self) -> int:
        return int(self.settings()["families_revoked"])

    def events(self, after: int = 0) -> list[Event]:
        """The events after event number `after`."""
        return [from_json(line) for line in self._lines(f"/events?after={after}")]

    @property
    def token_requests(self) -> list[TokenRequest]:
        return self._all(TokenRequest)

    @property
    def api_requests(self) -> list[ApiRequest]:
        return self._all(ApiRequest)

    @property
    def revocations(self) -> list[Revocation]:
        return self._all(Revocation)

    def token_records(self) -> list[TokenRecord]:
        return [TokenRecord(**line) for line in self._lines("/tokens")]

    def _all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events() if isinstance(event, kind)]

    def _lines(self, path: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._call("GET", path).splitlines()]

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> str:
        connection = HTTPConnection(urlsplit(self.control).netloc, timeout=_TO_RESPOND)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            raise ControlRefused(text)
        return text


def _as_json(fault: str | Fault) -> str | dict[str, Any]:
    """A fault as JSON. Raises TypeError for a wait that is not a number of seconds."""
    if isinstance(fault, str):
        return fault
    if callable(fault.wait_before) or callable(fault.wait_after):
        raise TypeError("a fault for another process can only wait for a number of seconds")
    return asdict(fault)


@contextmanager
def started(*options: str) -> Iterator[RemoteServer]:
    """Run `python -m proxy.demo` with these options for as long as the block lasts."""
    command = [sys.executable, "-m", "proxy.demo", "--until-eof", *options]
    # --until-eof: it stops with this process, even if that is killed.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 (ours)
        try:
            yield RemoteServer(json.loads(_first_line(process)))
        finally:
            process.terminate()
            try:
                process.wait(_TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], _TO_START)
    line = process.stdout.readline() if readable else b""
    if not line:
        raise RuntimeError("python -m proxy.demo did not start; see its output")
    return line
