"""Run all peers in one scenario: start them, check their responses, and measure them in turn."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import claims
import measures
import proc
from catalog import Peer
from ground import STRANGERS, Ground
from rows import MeasureError, Row
from scenarios import Scenario
from start import Started, direct, started

WARM_UP = 1  # seconds; fills the pools, and is not counted
DIRECT = "direct"


@dataclass(frozen=True)
class Effort:
    rounds: int
    seconds: int


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def unfit(peer: Peer, ground: Ground) -> str | None:
    """Why a peer must not be compared with the others; None if it may."""
    try:
        with started(peer, "push", ground) as run:
            fault = claims.unmet(run, ground.token, pools="pool" not in peer.lacks)
    except proc.StartError as error:
        return str(error)
    return fault or _too_trusting(peer, ground)


def _too_trusting(peer: Peer, ground: Ground) -> str | None:
    """Detect a peer that accepts any certificate, as it does less work than the others."""
    for stranger, badness in STRANGERS.items():
        try:
            with started(peer, stranger, ground) as run:
                if proc.get(run.base + "1k")[0] == 200:
                    return f"it believes a certificate {badness}"
        except proc.StartError as error:
            return str(error)
    return None


def compared(scenario: Scenario, peers: Sequence[Peer], effort: Effort, ground: Ground) -> list[Row]:
    peers = [peer for peer in peers if scenario.needs not in peer.lacks]
    if scenario.most_rounds:
        effort = Effort(min(effort.rounds, scenario.most_rounds), effort.seconds)
    return (_alone if scenario.alone else _together)(scenario, peers, effort, ground)


def _together(scenario: Scenario, peers: Sequence[Peer], effort: Effort, ground: Ground) -> list[Row]:
    """Run all peers at the same time, and load them in turn."""
    rows = [Row(peer.name) for peer in peers]
    with contextlib.ExitStack() as until_end:
        runs: dict[str, Started] = {}
        for peer, row in zip(peers, rows, strict=True):
            try:
                runs[peer.name] = until_end.enter_context(
                    started(peer, scenario.upstream, ground, logged=scenario.logged)
                )
            except proc.StartError as error:
                row.fault = str(error)
        if scenario.direct:
            runs[DIRECT] = direct(scenario.upstream, ground)
            rows.insert(0, Row(DIRECT))
        time.sleep(measures.SETTLE)
        for row in rows:
            row.fault = row.fault or _prove(scenario, runs[row.peer]) or _warm_up(scenario, runs[row.peer])
        for number in range(effort.rounds):
            for row in rows:
                if not row.fault:
                    _measure(scenario, row, runs[row.peer], effort.seconds, number)
    if scenario.direct:
        measures.added(rows)
    return rows


def _alone(scenario: Scenario, peers: Sequence[Peer], effort: Effort, ground: Ground) -> list[Row]:
    """Start a peer for each sample, and stop it before the next one."""
    rows = [Row(peer.name) for peer in peers]
    for number in range(effort.rounds):
        for peer, row in zip(peers, rows, strict=True):
            if row.fault:
                continue
            try:
                with started(peer, scenario.upstream, ground, logged=scenario.logged) as run:
                    row.fault = _prove(scenario, run)
                    if not row.fault:
                        _measure(scenario, row, run, effort.seconds, number)
            except proc.StartError as error:
                row.fault = str(error)
    return rows


def _prove(scenario: Scenario, run: Started) -> str | None:
    """Check that one request gets the API's complete response, which requires the token."""
    status, length = proc.get(run.base + scenario.proof, run.token)
    if status == 200 and length == scenario.size:
        return None
    return f"GET gave {status} with {length} bytes"


def _warm_up(scenario: Scenario, run: Started) -> str | None:
    try:
        scenario.measure(scenario, run, WARM_UP)
    except MeasureError as error:
        return str(error)
    return None


def _measure(scenario: Scenario, row: Row, run: Started, seconds: int, number: int) -> None:
    try:
        sample = scenario.measure(scenario, run, seconds)
    except MeasureError as error:
        row.fault = str(error)
        return
    row.samples.append(sample)
    column = scenario.columns[0]
    figure = sample.figures.get(column.figure) or sample.figures.get("p50_ms", 0)
    say(f"{scenario.name}: round {number + 1}: {row.peer}: {figure:,.2f} {sample.errors or ''}")
