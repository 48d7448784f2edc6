"""The scanner of plain heads (scanner.c) under sanitizers of addresses and undefined behaviour.

    python -m tests.fuzz.sanitized --seconds 600

It mutates the corpus of same_plain_heads, checks that entry's property, and ends at the first byte that the
scanner reads beyond its block. `make fuzz` is guided by coverage, but only by that of Python.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import same_plain_heads

HERE = Path(__file__).parent
OPTIONS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
PARTS = (
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b":",
        b" ",
        b"\t",
        b"\0",
        b"\x7f",
        b"\xff",
        b"-",
        b"_",
        b"\r\n\r\n",
        b"\r\n ",
        b" :",
    ),
    *(
        b"\r\nContent-Length: 5",
        b"\r\nTransfer-Encoding: chunked",
        b"\r\nUpgrade: x",
        b"\r\nConnection: close",
    ),
    *(b"\r\nHost: a", b"\r\nX-Id: 1", b"\r\nX-Request-Id:", b"a" * 70, b"\r\nX: 1" * 30, b"v" * 5990),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        print(f"{run(chosen.seconds, chosen.seed):,} inputs", flush=True)
        return 0
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.sanitized", *sys.argv[1:], "--inside"],
        env={**os.environ, **environment()},
        check=False,
    )
    return ended.returncode


def environment() -> dict[str, str]:
    compiler = os.environ.get("CC", "cc")
    libraries = [
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return {
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own, at its end
        "PYTHONMALLOC": "malloc",  # each bytes object between guarded zones
        same_plain_heads.SANITIZERS: OPTIONS,
    }


def run(seconds: float, seed: int) -> int:
    """The number of inputs."""
    assert b"libasan" in Path("/proc/self/maps").read_bytes()
    seeds = [file.read_bytes() for file in sorted((HERE / "corpus" / "same_plain_heads").iterdir())]
    for data in seeds:
        same_plain_heads.same_plain_heads(data)
    ends = time.monotonic() + seconds
    count = len(seeds)
    for data in mutations(seeds, random.Random(seed)):
        if time.monotonic() > ends:
            return count
        same_plain_heads.same_scan(data)
        if count % 20 == 0:
            same_plain_heads.same_plain_heads(data)
        count += 1
    raise AssertionError


def mutations(seeds: list[bytes], chance: random.Random) -> Iterator[bytes]:
    while True:
        data = chance.choice(seeds)
        if chance.random() < 0.5:
            data = b"\r\n" + data.partition(b"\r\n")[2].removesuffix(b"\r\n\r\n")
        for _ in range(chance.randrange(4)):
            start = chance.randrange(len(data) + 1)
            end = min(len(data), start + chance.choice((0, 0, 1, 2, 8, 64)))
            new = chance.choice((*PARTS, b"", bytes([chance.randrange(256)])))
            data = data[:start] + new + data[end:]
        yield data[: chance.randrange(len(data) + 1)] if chance.random() < 0.2 else data


if __name__ == "__main__":
    sys.exit(main())
