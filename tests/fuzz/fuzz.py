"""A coverage-guided fuzzer over the entries of this folder: make fuzz ARGS="one_link one_block" SECONDS=600

Each entry runs in its own process, for `--seconds`, from its seeds and the findings of earlier runs.
New inputs are written to .fuzz/corpus/ENTRY, inputs that break a property to .fuzz/found, the fuzzer's output
to .fuzz/ENTRY.log. `--once FILE` runs one entry over one file, without the fuzzer.
"""

import argparse
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
HOME = Path(".fuzz")
FOUND = HOME / "found"
ENTRIES = sorted(folder.name for folder in (HERE / "corpus").iterdir())
INSTRUMENTED = ["proxy.http", "proxy.relay", "proxy.routes"]  # the packages whose coverage counts
OPTIONS = [
    "-max_len=4096",  # bytes; the largest limit of the entries is twice that
    "-timeout=20",  # seconds; a slow input is a finding
    "-rss_limit_mb=1024",
    "-print_final_stats=1",
    f"-dict={HERE / 'http.dict'}",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("entries", nargs="*", choices=[*ENTRIES, []], help="which ones; all of them if none")
    parser.add_argument("--seconds", type=int, default=60, help="for each entry")
    parser.add_argument("--once", type=Path, help="a file to run one entry over")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        (name,) = chosen.entries
        load(name)(chosen.once.read_bytes())
        print(f"{name} holds over {chosen.once}")
        return 0
    if chosen.inside:
        run_inside(chosen.entries[0], chosen.seconds)
    failures = [name for name in chosen.entries or ENTRIES if not run(name, chosen.seconds)]
    return 1 if failures else 0


def run(name: str, seconds: int) -> bool:
    """Whether the entry's property held."""
    for folder in (FOUND, HOME / "tmp", HOME / "corpus" / name):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(FOUND.iterdir())
    command = [sys.executable, "-m", "tests.fuzz.fuzz", name, "--inside", "--seconds", str(seconds)]
    log = HOME / f"{name}.log"
    with log.open("wb") as output:
        environment = {**os.environ, "TMPDIR": str((HOME / "tmp").absolute())}
        ended = subprocess.run(command, stdout=output, stderr=output, env=environment, check=False)
    count = re.search(r"number_of_executed_units:\s*(\d+)", log.read_text(errors="replace"))
    new = sorted(set(FOUND.iterdir()) - before)
    told = f"{int(count[1]):,} inputs" if count else f"see {log}"
    print(f"{name:20} {told:>20}  {'held' if ended.returncode == 0 else 'BROKEN'}", flush=True)
    for file in new:
        print(
            f"    reproduce: {os.path.relpath(sys.executable)} -m tests.fuzz.fuzz {name} --once {file}",
            flush=True,
        )
    return ended.returncode == 0


def run_inside(name: str, seconds: int) -> None:
    """Does not return: the fuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        entry = load(name)
    folders = [str(HOME / "corpus" / name), str(HERE / "corpus" / name)]
    arguments = [f"-max_total_time={seconds}", f"-artifact_prefix={FOUND / name}-", *OPTIONS, *folders]
    atheris.Setup([sys.argv[0], *arguments], entry)
    atheris.Fuzz()


def load(name: str):
    from tests.fuzz import conversations, entries
    from tests.relay.stage import Stage

    if name in entries.ENTRIES:
        return entries.ENTRIES[name]
    return partial(conversations.ENTRIES[name], Stage().__enter__())  # it ends with the process


if __name__ == "__main__":
    sys.exit(main())
