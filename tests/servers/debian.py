"""Programs that the tests start, of what Debian packages (tests/servers/install)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def program(name: str, package: str, *places: str) -> str:
    """The path of a program, on PATH or at one of `places` (patterns below /).

    Where it is missing the test is left out; in CI, which has everything, it fails.
    """
    found = shutil.which(name) or next(
        (str(path) for place in places for path in Path("/").glob(place)), None
    )
    if found is None:
        sentence = f"missing: {name}, from Debian's package {package}"
        pytest.fail(sentence) if os.environ.get("CI") == "true" else pytest.skip(sentence)
    return os.path.realpath(found)
