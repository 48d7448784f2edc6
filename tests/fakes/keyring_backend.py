"""A backend of the package keyring: a file of lines "service name password", for PYTHON_KEYRING_BACKEND."""

from __future__ import annotations

import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError

FILE = "TEST_KEYRING_FILE"  # the variable that names the file


class FileKeyring(KeyringBackend):
    priority = 1.0

    def get_password(self, service: str, username: str) -> str | None:
        text = Path(os.environ[FILE]).read_text()
        if text == "locked\n":
            raise KeyringLocked("sesame")
        entries = dict(line.rsplit(" ", 1) for line in text.splitlines())
        return entries.get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        with Path(os.environ[FILE]).open("a") as file:
            file.write(f"{service} {username} {password}\n")

    def delete_password(self, service: str, username: str) -> None:
        raise PasswordDeleteError(f"{service} {username}")
