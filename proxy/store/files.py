"""Create files that only this user can read, and that are complete once they have their name."""

from __future__ import annotations

import errno
import filecmp
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_NOT_OURS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR})


def remedy(error: OSError) -> str:
    """What to do if the store's files can't be made or read."""
    if error.errno in _NOT_OURS:  # the home directory of a container's user, most often
        return "set server.state_dir or $STATE_DIRECTORY to a directory that this user can write to"
    return "check its directory and disk"


def make_private_directory(path: Path) -> None:
    """Create `path` and missing parents with mode 0700. Existing directories are left unchanged."""
    for directory in reversed((path, *path.parents)):
        if not directory.exists():
            directory.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def drafting(directory: Path) -> Iterator[Path]:
    """Yield an empty file in `directory`, mode 0600, that is unlinked after the block."""
    descriptor, name = tempfile.mkstemp(prefix=".draft-", dir=directory)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
    finally:
        draft.unlink()


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Yield an empty file, mode 0600, to be filled; after the block it has the name `path`, durably.

    If another process was faster, its file stays. The block must sync the data to disk (fsync).
    """
    with drafting(path.parent) as draft:
        yield draft
        with suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename, a link never replaces an existing file
    _sync(path.parent)


def keep_beside(draft: Path, path: Path) -> Path:
    """Give a draft the name `path`, durably; `path`-2 and so on if a file with other content has it.

    Returns the name, which may be that of an earlier file with the same content. Raises OSError.
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
