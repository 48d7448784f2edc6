"""Several processes, some of which die: no update is lost, and what was said to be saved is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from proxy.store.base import Key, Record
from proxy.store.sqlite import SQLiteStore

ANN = Key("crm", "ann")
WRITER = Path(__file__).with_name("writer.py")


def start(path: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, WRITER, path, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


async def held(path: Path, clock: Any) -> Record:
    store = await SQLiteStore.open(path, clock)
    record = await store.get(ANN)
    await store.close()
    assert record is not None
    return record


async def test_two_processes_that_count_against_each_other_lose_no_update(tmp_path: Path, clock: Any) -> None:
    path = tmp_path / "tokens.db"
    writers = [start(path, "count", "150") for _ in range(2)]
    for writer in writers:
        writer.communicate()
    record = await held(path, clock)
    assert (record.generation, record.body) == (300, b"300")


async def test_a_killed_writer_leaves_what_it_said_to_have_saved_or_the_next(
    tmp_path: Path, clock: Any
) -> None:
    path = tmp_path / "tokens.db"
    saved = 0
    for round_ in range(8):
        writer = start(path, "fill", "100000000")
        assert writer.stdout is not None
        for _ in range(1 + 37 * round_ % 11):
            saved = int(writer.stdout.readline())
        writer.kill()
        rest = writer.communicate()[0].split("\n")[:-1]  # what it said before it died
        saved = int(rest[-1]) if rest else saved
        record = await held(path, clock)
        assert record.generation in {saved, saved + 1}
        assert set(record.body.split()) == {b"%d" % record.generation}
        assert len(record.body.split()) == 1 + record.generation % 5000


async def test_a_writer_that_may_write_no_more_says_so_and_keeps_the_old_record(
    tmp_path: Path, clock: Any
) -> None:
    path = tmp_path / "tokens.db"
    writer = start(path, "fill", "200000", stderr=subprocess.PIPE)
    told, complaint = writer.communicate()
    assert "the disk failed or is full: check it, its quota and the limit on files' size" in complaint
    record = await held(path, clock)
    assert record.generation == int(told.split()[-1])
