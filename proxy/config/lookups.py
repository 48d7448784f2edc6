"""Secrets that another program has: of a command's output, or in the system's keyring.

    { command = ["op", "read", "op://vault/item/password"] }      { keyring = "service/name" }

Both block for up to LIMIT seconds: while a process serves, they run in a thread (reload.py). A fault names
the program, but none of its arguments, and nothing that it said: either may hold a secret.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

LIMIT: Final = 10.0  # seconds; of a command, and of a keyring
LARGEST: Final = 65536  # bytes of a secret; as in files.py
LOOK_EVERY: Final = 0.05  # seconds between two looks whether a command has ended with its output still open
# All that a command needs to find its own settings, and nothing that may be a secret of ours.
PASSED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_[A-Z]+|TZ|TMPDIR|XDG_[A-Z_]+|DBUS_SESSION_BUS_ADDRESS|SSL_CERT_(?:FILE|DIR)"
)


@dataclass(frozen=True, slots=True)
class Command:
    """`argv`, to be started in `folder`, without a shell."""

    argv: tuple[str, ...]
    folder: Path

    def __str__(self) -> str:
        return f"the command {Path(self.argv[0]).name}"

    def read(self, environ: Mapping[str, str]) -> bytes:
        """What it prints. Blocks. Raises ValueError."""
        kept = {name: value for name, value in environ.items() if PASSED.fullmatch(name)}
        try:
            process = subprocess.Popen(  # noqa: S603 (the configuration names it)
                self.argv,
                cwd=self.folder,
                env=kept,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that its children end with it
            )
        except OSError as error:
            reason = (error.strerror or "unknown error").lower()
            raise ValueError(
                f"{self} can't be started ({reason}): expected a program's name or path"
            ) from None
        assert process.stdout is not None
        deadline = time.monotonic() + LIMIT
        with process, process.stdout as output:
            try:
                printed = self._output(process, output, deadline)
                code = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise ValueError(
                    f"{self} took longer than {LIMIT:.0f} s: expected the secret on its stdout"
                ) from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if code != 0:
            how = f"with exit code {code}" if code > 0 else f"by signal {-code}"
            raise ValueError(f"{self} ended {how}: expected the secret on its stdout - run it to see why")
        if not printed:
            raise ValueError(f"{self} prints nothing: expected the secret on its stdout")
        return printed

    def _output(self, process: subprocess.Popen[bytes], output: IO[bytes], deadline: float) -> bytes:
        """Until its end, or that of the command: a child that it leaves behind may keep it open.

        Raises TimeoutExpired, ValueError.
        """
        printed = bytearray()
        while (wait := deadline - time.monotonic()) > 0:
            has_ended = process.poll() is not None
            readable, _, _ = select.select([output], [], [], 0 if has_ended else min(wait, LOOK_EVERY))
            piece = os.read(output.fileno(), LARGEST + 1) if readable else b""
            printed += piece
            if len(printed) > LARGEST:
                raise ValueError(f"{self} prints too much: expected nothing but the secret on its stdout")
            if not piece and (readable or has_ended):
                return bytes(printed)
        raise subprocess.TimeoutExpired(self.argv, LIMIT)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The password of `name` at `service`, in the backend that the package keyring chooses."""

    service: str
    name: str

    def __str__(self) -> str:
        return f"the keyring's {self.service}/{self.name}"

    def read(self, _environ: Mapping[str, str]) -> bytes:
        """Blocks. Raises ValueError."""
        try:
            import keyring  # noqa: PLC0415 (an extra, needed only here)
        except ImportError:
            raise ValueError(
                'the package keyring is not installed: `pip install "token-proxy[keyring]"`'
            ) from None
        found: list[str | Exception | None] = []

        def ask() -> None:
            try:
                found.append(keyring.get_password(self.service, self.name))
            except Exception as error:  # noqa: BLE001 (each backend has its own)
                found.append(error)

        thread = threading.Thread(target=ask, name="ask the keyring", daemon=True)
        thread.start()
        thread.join(LIMIT)
        if not found:
            raise ValueError(
                f"the keyring took longer than {LIMIT:.0f} s: unlock it before token-proxy starts"
            )
        return self._text(found[0]).encode()

    def _text(self, found: str | Exception | None) -> str:
        if isinstance(found, str):
            return found
        if found is None:
            raise ValueError(
                f"the keyring has no such entry - `keyring set {self.service} {self.name}` makes it"
            )
        kind = type(found).__name__
        raise ValueError(f"the keyring can't be used here ({kind}) - `keyring diagnose` says more") from None


Lookup = Command | Keyring


def command_of(value: object, folder: Path) -> Command:
    """Raises ValueError."""
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise ValueError('expected a list, as there is no shell: { command = ["op", "read", "op://…"] }')
    if not value[0] or any("\0" in each for each in value):
        raise ValueError("expected the name of a program, and arguments without NUL characters")
    return Command(tuple(value), folder)


def keyring_of(value: object) -> Keyring:
    """The service may have slashes, the name has none. Raises ValueError."""
    service, _, name = value.rpartition("/") if isinstance(value, str) else ("", "", "")
    if not service or not name or not isinstance(value, str) or not value.isprintable():
        raise ValueError('expected { keyring = "service/name" }')
    return Keyring(service, name)
