"""The judgement with the scanner of plain heads (scanner.c) and the one without: the same verdicts.

And the scanner compared with a regular expression: it returns the same lines, or none for the same blocks.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from proxy.http.message import END
from proxy.http.plain import SCANNER, Scanner

from .same_heads import FIRST_LINES, Pair, known_keys

SOURCE = Path(__file__).resolve().parents[2] / "proxy" / "http" / "scanner.c"
SANITIZERS = (
    "TEST_SANITIZERS"  # for the compiler: -fsanitize=address,undefined, for a process that preloads these
)
PLAIN = re.compile(rb"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]+):(?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
MOST, LARGEST = 32, 6000


@cache
def scanner() -> Scanner:
    """The one that the data path has; where that is not compiled, one built from the same source."""
    return build() if SCANNER is None or SANITIZERS in os.environ else SCANNER


def build() -> Scanner:
    with TemporaryDirectory() as folder:
        library = Path(folder, "scanner.so")
        compiler = shlex.split(os.environ.get("CC", "cc"))
        options = ["-O3", "-shared", "-fPIC", "-std=gnu11", "-Wall", "-Wextra", "-Werror"]
        options += shlex.split(os.environ.get(SANITIZERS, ""))
        if sysconfig.get_config_var("PYTHONFRAMEWORK") or os.uname().sysname == "Darwin":
            options += ["-undefined", "dynamic_lookup"]
        command = [*compiler, *options, f"-I{sysconfig.get_path('include')}", str(SOURCE), "-o", str(library)]
        subprocess.run(command, check=True)
        spec = importlib.util.spec_from_file_location("scanner", library)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return Scanner(module.scan, module.place, module.SLOTS)


def expected(block: bytes, passing: set[bytes], most: int, largest: int) -> list[int] | None:
    """What the scanner returns."""
    found: list[int] = []
    at = number = 0
    while at < len(block):
        line = PLAIN.match(block, at)
        number += 1
        if line is None or number > most or line.end() - at - 2 > largest:
            return None
        at = line.end()
        if line[1] not in passing:
            found += line.start(1), at
    return found


class Plain:
    """The judgement with the scanner, and the one without."""

    def __init__(self, *, with_keys: bool) -> None:
        self.scanned = Pair(known_keys() if with_keys else None, scanner())
        self.reference = Pair(known_keys() if with_keys else None, None)

    def compare(self, head: bytes) -> None:
        """Judge it as a request, as a response, and as one to HEAD."""
        assert self.scanned.of_request(head) == self.reference.of_request(head)
        for method in (b"GET", b"HEAD"):
            assert self.scanned.of_response(head, method) == self.reference.of_response(head, method)


LASTING = Plain(with_keys=False), Plain(with_keys=True)


def same_scan(block: bytes) -> None:
    compiled = scanner()
    names = {line.partition(b":")[0] for line in block.split(b"\r\n")[1::2]} - {b""}
    passing: list[bytes | None] = [None] * compiled.slots
    for name in sorted(names):
        passing[compiled.place(name)] = name
    held = {name for name in passing if name is not None}
    assert compiled.scan(block, passing, MOST, LARGEST) == expected(block, held, MOST, LARGEST)


def same_plain_heads(data: bytes) -> None:
    """Heads, each ended by an empty line, but for the last one; and each of them below other first lines."""
    parts = data.split(END)
    heads = [part + END for part in parts]
    heads += [line + b"\r\n" + part + END for part in parts for line in FIRST_LINES]
    for part in parts:
        same_scan(b"\r\n" + part)
    same_scan(data)
    for pair in (Plain(with_keys=False), Plain(with_keys=True), *LASTING):
        for head in (*heads, *reversed(heads)):
            pair.compare(head)
