"""What it costs to identify callers: user CPU for each request, without callers and with them.

`python bench/callers.py` after `make wheel`. All variants run at once and are loaded in turn, round by
round. Each row's ratio is the first row's CPU by its own in the same round: the target is a median of 0.95.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import proc
from catalog import COMPILED, TOKEN_PROXY
from compare import say
from ground import HERE, Ground, fill, free_ports, prepared
from run import _cpus

KEY = "tpk_" + "k" * 43
OWN_KEY = "an-own-key-without-our-prefix"
BEARER = f"Authorization: Bearer {KEY}"
CONNECTIONS = 16
CONFIG = """
[server]
listen = "127.0.0.1:@port"
admin = "127.0.0.1:@admin_port"
state_dir = "@folder/state"
[credentials.bench]
token_endpoint = "@token_endpoint"
grant = "client_credentials"
client_id = "bench"
client_secret = { file = "@secret_file" }
[[routes]]
name = "api"
path = "/api"
upstream = "https://localhost:@upstream_port"
credential = "bench"
tls = { ca = "@ca" }
[log]
level = "warning"
"""


@dataclass(frozen=True)
class Variant:
    name: str
    callers: str  # the tables of the configuration
    line: str  # one more field of each request
    tree: Path = COMPILED
    samples: list[float] = field(default_factory=list)  # microseconds of user CPU, by round


def caller(line: str) -> str:
    return f"[callers.app]\n{line}\n"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def variants(before: Path | None) -> list[Variant]:
    rows = [
        Variant("no callers, a Bearer dummy", "", BEARER),
        Variant("no callers, no key", "", ""),
        Variant("key, as Bearer", caller(f'key = "{KEY}"'), BEARER),
        Variant("key, as X-Api-Key", caller(f'key = "{KEY}"'), f"X-Api-Key: {KEY}"),
        Variant("key_sha256, as Bearer", caller(f'key_sha256 = "{digest(KEY)}"'), BEARER),
        Variant("own key, as X-Api-Key", caller(f'key = "{OWN_KEY}"'), f"X-Api-Key: {OWN_KEY}"),
    ]
    if before is not None:
        rows.insert(1, Variant("another tree, no callers", "", BEARER, before))
    return rows


@contextlib.contextmanager
def started(variant: Variant, ground: Ground, folder: Path) -> Iterator[tuple[int, str]]:
    """Run the proxy with these callers; yields its process id and the URL to load."""
    folder.mkdir()
    port, admin_port = free_ports(2)
    secret = folder / "secret"
    secret.write_text("bench-secret\n")
    secret.chmod(0o600)
    values = {
        "port": port,
        "admin_port": admin_port,
        "folder": folder,
        "secret_file": secret,
        "token_endpoint": ground.token_endpoint,
        "ca": ground.ca,
        "upstream_port": ground.ports["https"],
    }
    config = folder / "config.toml"
    config.write_text(fill(CONFIG, values) + variant.callers)
    command = ["env", "-C", str(variant.tree), *TOKEN_PROXY]
    filled = [fill(part, {"python": sys.executable, "config": config}) for part in command]
    with proc.running(filled, folder, ground.proxy_cpu) as process:
        proc.wait_ready(process, f"http://127.0.0.1:{admin_port}/healthz", folder)
        yield process.pid, f"http://127.0.0.1:{port}/api/1k"


def user_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / proc.TICKS_PER_SECOND


def microseconds(pid: int, url: str, variant: Variant, seconds: int) -> float:
    """User CPU for each request of a run."""
    before = user_seconds(pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(HERE / "heads.lua"), url]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write((HERE / "heads.lua").read_text() + (HERE / "report.lua").read_text())
        script.flush()
        command[-2] = script.name
        ran = subprocess.run(
            [*command, "--", f"field={variant.line}"], capture_output=True, text=True, check=True
        )
    used = user_seconds(pid) - before
    report = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("REPORT "))[7:])
    if report["bad_status"] or not report["requests"]:
        raise SystemExit(f"{variant.name}: {report['bad_status']} of {report['requests']} were refused")
    return used / float(report["requests"]) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2, help="length of one run")
    parser.add_argument("--before", type=Path, help="another tree with compiled modules, to compare with")
    parser.add_argument(
        "--only", default="", help="a word in the names of the variants to run, beside the first"
    )
    options = parser.parse_args()
    first, *others = variants(options.before)
    rows = [first, *(each for each in others if options.only in each.name)]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        ground = stack.enter_context(prepared(folder, *_cpus()))
        running = [
            stack.enter_context(started(row, ground, folder / f"proxy-{number}"))
            for number, row in enumerate(rows)
        ]
        for round_ in range(-1, options.rounds):  # the first one warms up
            say(f"round {round_ + 1} of {options.rounds}")
            pairs = list(zip(running, rows, strict=True))
            turn = round_ % len(pairs)  # none has the same neighbour each time
            for (pid, url), row in pairs[turn:] + pairs[:turn]:
                used = microseconds(pid, url, row, options.seconds)
                if round_ >= 0:
                    row.samples.append(used)
    print("| variant | µs of user CPU | ratio: median | least | most |\n| --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        ratios = [base / mine for base, mine in zip(first.samples, row.samples, strict=True)]
        figures = statistics.median(row.samples), statistics.median(ratios), min(ratios), max(ratios)
        print("| {} | {:.1f} | {:.3f} | {:.3f} | {:.3f} |".format(row.name, *figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
