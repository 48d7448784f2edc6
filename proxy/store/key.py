"""The key that encrypts a store: 32 random bytes, encoded in base64."""

from __future__ import annotations

import base64
import binascii
import os
import shlex
import stat
from pathlib import Path
from typing import Final

from proxy.errors import StoreError
from proxy.store.files import creating, make_private_directory, remedy

KEY_BYTES: Final = 32
_FOR_OTHERS: Final = 0o077
_LONGEST_FILE: Final = 1024  # bytes; a longer file is no key


def decode_key(secret: str) -> bytes:
    """Decode a key of the configuration or of a file. Raises StoreError."""
    try:
        key = base64.b64decode(secret.strip(), validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        key = b""
    if len(key) != KEY_BYTES:
        raise StoreError("the store's key must be 32 bytes in base64: `openssl rand -base64 32` makes one")
    return key


def load_or_create_key(path: Path) -> bytes:
    """Read the key at `path`; create it first if there is none. Raises StoreError."""
    try:
        if not os.path.lexists(path):
            _create(path)
        text = _read(path)
    except OSError as error:
        raise StoreError(f"key file {path}: {error.strerror}: {remedy(error)}") from error
    try:
        return decode_key(text)
    except StoreError as error:
        raise StoreError(f"key file {path}: {error}") from error


def _create(path: Path) -> None:
    make_private_directory(path.parent)
    with creating(path) as draft, draft.open("w") as file:
        file.write(base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> str:
    if path.is_symlink():
        raise StoreError(f"key file {path}: it is a symbolic link: put the file itself there")
    with open(path, "rb", opener=_open_untrusted) as file:
        _check_private(path, os.fstat(file.fileno()))
        return file.read(_LONGEST_FILE).decode("ascii", "replace")


def _open_untrusted(path: str, flags: int) -> int:
    """Open without following a link or waiting for a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _check_private(path: Path, status: os.stat_result) -> None:
    name, me = shlex.quote(str(path)), os.geteuid()
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"key file {path}: it is not a regular file: move it away")
    if status.st_uid != me:
        raise StoreError(f"key file {path}: another user owns it: run as that user, or `chown {me} {name}`")
    if stat.S_IMODE(status.st_mode) & _FOR_OTHERS:
        raise StoreError(f"key file {path}: other users may read it: `chmod 600 {name}`")
