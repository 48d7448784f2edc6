"""Figures of what the tests of crowds only bound.

    python -m tests.black_box.measure_crowds slow|delayed|black-hole

In the folder of a compiled build it measures that one. Figures of one run compare with each other only.

slow: an upstream that responds after 200 ms, with 1 000 callers; the same without the proxy beside it.
delayed: an upstream whose round trip takes 100 ms; dials bounded as by default and unbounded, in turn.
black-hole: 1 000 callers of a route whose upstream never answers the handshake, and callers of another route.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.demo import started
from proxy.demo.wiring import free_ports
from tests.black_box.conftest import CREDENTIAL, Command
from tests.black_box.crowds import UNBOUNDED, Certificates, ask, crowd, relay, route, upstream
from tests.fakes.crowd import SLOT, raise_file_limit

MANY = 100_000
POSSIBLE = 0.9  # share of what is possible, within two seconds of the start


@contextmanager
def proxy(folder: Path, text: str, *, unbounded: bool = False) -> Iterator[Command]:
    """A proxy of its own, warm, with the credential m2m. `unbounded`: in the number of its dials."""
    folder.mkdir()
    with started("--client", "app:secret", "--lifetime", "3600") as tokens:
        made = Command(folder, *free_ports(0, 0))
        if unbounded:
            made.program = UNBOUNDED
        made.configure(text + CREDENTIAL.format(name="m2m", issuer=tokens.issuer))
        made.start()
        try:
            yield made
        finally:
            made.stop()


def limits(dials: int, more: str = "") -> str:
    """`dials`: 0 is the default."""
    return "[limits]\n" + (f"dials = {dials}\n" if dials else "") + more


def rate(result: dict[str, Any], start: float, end: float) -> float:
    """Good responses a second between two moments."""
    slots = result["slots"][round(start / SLOT) : round(end / SLOT)]
    return float(sum(slots)) / (end - start)


def line(name: str, result: dict[str, Any], most: float) -> None:
    early, later = rate(result, 0, 2), rate(result, 2, 6)
    second = rate(result, 1, 2)
    print(
        f"| {name} | {early:.0f} | {early / most:.2f} | {second / most:.2f} | {later / most:.2f} "
        f"| {result['p50'] * 1000:.0f} | {result['p99'] * 1000:.0f} | {dict(result['statuses'])} |",
        flush=True,
    )


HEAD = (
    "| | first 2 s: a second | of the possible | second 2 | seconds 3-6 | p50 ms | p99 | statuses |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)


def measure_slow(options: argparse.Namespace, folder: Path) -> bool:
    """Without TLS upstream, unless asked for: upstream, crowd and proxy share the machine's cores."""
    delay = options.delay
    certificates = Certificates.made_in(folder) if options.tls else None
    ca = certificates.ca if certificates else None
    most = options.callers / delay
    print(f"{options.callers} callers, each response after {delay} s: {most:.0f} a second at most\n{HEAD}")
    with upstream(certificates.both if certificates else None, delay=delay) as there:
        shares = []
        for number in range(options.rounds):
            plan = {"seconds": 6, "at_once": 10_000, "prefix": f"d{number}-", "ca": str(ca or "")}
            direct = ask(there.port, options.callers, **plan)
            line("without a proxy", direct, most)
            for dials in options.dials:
                text = limits(dials) + route(there.port, ca=ca)
                with proxy(folder / f"slow{number}-{dials}", text) as command:
                    command.get("/up/warm")
                    there.change(forget=True)
                    result = ask(command.port, options.callers, seconds=6, at_once=10_000)
                    line(f"dials = {dials or 'default'}", result, most)
                    if not dials:
                        shares.append(rate(result, 1, 2) / max(1.0, rate(direct, 1, 2)))
                    print(f"  upstream: {brief(there.seen)}")
    share = statistics.median(shares)
    print(f"in the second second: {share:.2f} of what is possible without a proxy, expected {POSSIBLE}")
    return share >= POSSIBLE


def brief(seen: dict[str, Any]) -> str:
    wanted = ("opened", "most_open", "most_in_flight", "requests", "repeated")
    return ", ".join(f"{name} {seen[name]}" for name in wanted)


def measure_delayed(options: argparse.Namespace, folder: Path) -> bool:
    each_way = options.delay / 2
    certificates = Certificates.made_in(folder)
    print(f"{options.callers} callers, an upstream {options.delay} s of round trip away\n{HEAD}")
    ratios: dict[str, list[float]] = {"first 2 s": [], "seconds 3-6": []}
    with upstream(certificates.both) as there, relay(there.port, each_way) as far:
        for number in range(options.rounds):
            found = {}
            for dials in (0, MANY) if number % 2 else (MANY, 0):  # the first has the fresher upstream
                text = limits(dials) + route(far, ca=certificates.ca)
                with proxy(folder / f"delayed{number}-{dials}", text, unbounded=dials > 0) as command:
                    command.get("/up/warm")
                    there.change(forget=True)
                    found[dials] = ask(command.port, options.callers, seconds=6, at_once=10_000)
                    line("unbounded" if dials else "bounded", found[dials], options.callers / options.delay)
                    print(f"  upstream: {brief(there.seen)}")
            for name, (start, end) in {"first 2 s": (0, 2), "seconds 3-6": (2, 6)}.items():
                ratios[name].append(rate(found[0], start, end) / max(1.0, rate(found[MANY], start, end)))
    for name, values in ratios.items():
        print(f"{name}: {statistics.median(values):.2f} of unbounded dials")
    return all(statistics.median(values) >= 0.97 for values in ratios.values())


def measure_black_hole(options: argparse.Namespace, folder: Path) -> bool:
    certificates = Certificates.made_in(folder)
    with (
        upstream(certificates.both) as good,
        upstream(certificates.both, accepts=False) as hole,
    ):
        text = limits(options.dials[0], f"connect = {options.connect}\n")
        text += route(good.port, "up", ca=certificates.ca) + route(hole.port, "hole", ca=certificates.ca)
        with proxy(folder / "hole", text) as command:
            command.get("/up/warm")
            seconds = options.connect + 1.0
            before = ask(command.port, 50, seconds=seconds, prefix="b")
            with crowd(command.port, options.callers, path="/hole", prefix="h") as lost:
                beside = ask(command.port, 50, seconds=seconds, prefix="w")
                refused = lost.result()
    print(f"the black hole: {refused['statuses']} {refused['problems']} {refused['errors']}")
    print(f"  the last after {refused['longest_refusal']:.2f} s, limits.connect is {options.connect} s")
    for name, result in (("before", before), ("beside it", beside)):
        print(
            f"the other route {name}: {result['statuses']} {result['faults']} "
            f"{rate(result, 0, seconds):.0f} a second, "
            f"p50 {result['p50'] * 1000:.1f} ms, p99 {result['p99'] * 1000:.1f} ms"
        )
    return not beside["faults"] and set(beside["statuses"]) == {"200"}


MEASURES = {
    "slow": (measure_slow, 0.2),
    "delayed": (measure_delayed, 0.1),
    "black-hole": (measure_black_hole, 0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Figures of crowds.")
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("--callers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--delay", type=float, default=None, help="seconds")
    parser.add_argument(
        "--dials", type=int, nargs="+", default=[0], help="values of limits.dials; 0: default"
    )
    parser.add_argument("--tls", action="store_true", help="slow: to the upstream")
    parser.add_argument("--connect", type=float, default=5.0, help="limits.connect of black-hole")
    options = parser.parse_args(arguments)
    raise_file_limit()
    measure, delay = MEASURES[options.what]
    options.delay = options.delay or delay
    with tempfile.TemporaryDirectory(prefix="crowds-") as folder:
        return 0 if measure(options, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
