"""A copy of what a build reads, of which little is compiled: seconds rather than a minute."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[1]
FILES: Final = ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE")
IN_C: Final = """\
#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "in_c"};
PyMODINIT_FUNC PyInit_in_c(void) { return PyModule_Create(&definition); }
"""


def checkout(folder: Path) -> Path:
    """Where proxy/clock.py is compiled, and a file in C, proxy/http/in_c.c."""
    folder.mkdir()
    for name in FILES:
        shutil.copy(REPOSITORY / name, folder)
    built = shutil.ignore_patterns("__pycache__", "*.so")  # in the folder of a compiled build
    shutil.copytree(REPOSITORY / "proxy", folder / "proxy", ignore=built)
    settings, narrowed = (
        (folder / "pyproject.toml").read_text(),
        'include = ["proxy/clock.py", "proxy/http/in_c.c"]',
    )
    settings, count = re.subn(r'include = \[ .*?"proxy/.*?\n\]', narrowed, settings, flags=re.DOTALL)
    assert count == 1
    (folder / "pyproject.toml").write_text(settings)
    (folder / "proxy" / "http" / "in_c.c").write_text(IN_C)
    return folder
