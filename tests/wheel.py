"""The package as installed, away from its source: `python tests/wheel.py [--compiled]`, for cibuildwheel."""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import sys
import tempfile
import urllib.request

from proxy import compiled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiled", action="store_true", help="fail if the data path is not compiled")
    options = parser.parse_args()
    files = [str(file) for file in importlib.metadata.files("token-proxy") or ()]
    assert {"proxy/py.typed", "proxy/admin/pages/base.html"} <= set(files), files
    found = compiled.look()
    assert found.wholly or not options.compiled, f"{found.modules} of {found.of} modules are compiled"
    with tempfile.TemporaryDirectory() as folder:
        demo(folder)
    print(f"the demo responds; token-proxy {compiled.about()}")
    return 0


def demo(folder: str) -> None:
    """A request through the embedded demo has a response, and its status page is there."""
    command = [sys.executable, "-m", "proxy", "demo"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                found = re.search(r"(http://\S+/demo/hello)|(http://\S+/) +status page", line)
                if found:
                    with urllib.request.urlopen(found[0].split()[0], timeout=60) as response:
                        assert response.status == 200
                if found and found[2]:
                    return
            raise AssertionError("the demo ended before it said how to call it")
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
