"""Files with secrets that other users of this machine can read: for warnings.

Mounts of container platforms are left out: there the mode is the platform's, and can't be changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy.config.fault_messages import Complaint
from proxy.config.positions import Path as KeyPath
from proxy.config.variable_checks import references


def check_exposed(data: dict[str, Any], folder: Path) -> Iterator[Complaint]:
    """Secrets and private keys in files. `folder`: what relative names are relative to."""
    named = [(each.path, each.name) for each in references(data) if each.kind == "file"]
    for path, name in (*named, *_private_keys(data)):
        file = folder / Path(name).expanduser()
        if _is_exposed(file):
            yield Complaint(path, "other users of this machine can read this file - `chmod 600` it")


def _private_keys(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Those of certificates."""
    if isinstance(data, dict):
        if "cert" in data and isinstance(data.get("key"), str):
            yield (*path, "key"), data["key"]
        for key, each in data.items():
            yield from _private_keys(each, (*path, key))
    elif isinstance(data, list):
        for index, each in enumerate(data):
            yield from _private_keys(each, (*path, index))


def _is_exposed(file: Path) -> bool:
    """Whether others can read it, and we could change that."""
    try:
        status = file.stat()
        return (
            stat.S_ISREG(status.st_mode)
            and bool(status.st_mode & stat.S_IROTH)
            and status.st_uid == os.geteuid()
            and os.access(file, os.W_OK)  # also false on a read-only mount
            and all(parent.stat().st_mode & stat.S_IXOTH for parent in file.resolve().parents)
        )
    except OSError:
        return False
