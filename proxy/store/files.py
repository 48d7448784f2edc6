"""Files for one user's eyes only, complete from the moment their name exists."""

from __future__ import annotations

import filecmp
import itertools
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
def drafting(directory: Path) -> Iterator[Path]:
    """Yields an empty file in `directory`, 0600, that is gone after the block, unless it was linked."""
    descriptor, name = tempfile.mkstemp(prefix=".draft-", dir=directory)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
    finally:
        draft.unlink()


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Yields an empty file, 0600, to be filled; after the block it has the name `path`, durably.

    If another process was first, its file stays. The block must leave its data on the disk (fsync).
    """
    with drafting(path.parent) as draft:
        yield draft
        with suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename, this never replaces what is there
    _sync(path.parent)


def keep_beside(draft: Path, path: Path) -> Path:
    """Give a draft the name `path`, durably; `path`-2 and so on where other content has it.

    Returns its name, which may be that of an earlier file with the same content. Raises OSError.
    """
    _sync(draft)
    for number in itertools.count(1):
        name = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            os.link(draft, name)
        except FileExistsError:
            if not filecmp.cmp(draft, name, shallow=False):
                continue
        _sync(path.parent)
        return name
    raise AssertionError


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
