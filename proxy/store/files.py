"""Files for one user's eyes only, complete from the moment their name exists."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def make_private_directory(path: Path) -> None:
    """Make `path` and whatever is missing above it, for this user only. What exists is left as it is."""
    for directory in reversed((path, *path.parents)):
        if not directory.exists():
            directory.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Yields an empty file, 0600, to be filled; after the block it has the name `path`, durably.

    If another process was first, its file stays. The block must leave its data on the disk (fsync).
    """
    descriptor, name = tempfile.mkstemp(prefix=".draft-", dir=path.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
        with suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename, this never replaces what is there
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
