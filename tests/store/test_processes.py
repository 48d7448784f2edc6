"""Several processes, some killed: no update is lost, and every confirmed put is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.store.base import Record
from tests.store import writer

WRITERS = 8
TIMES = 40


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/tokens.db"
    return str(request.getfixturevalue(f"{request.param}_url"))


def start(url: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, writer.__file__, url, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


async def held(url: str) -> Record:
    store = await writer.opened(url)
    record = await store.get(writer.ANN)
    await store.close()
    assert record is not None
    return record


async def test_competing_processes_lose_no_update(url: str) -> None:
    writers = [
        start(url, "count", str(TIMES)) for _ in range(WRITERS)
    ]  # all at once, before the store exists
    for each in writers:
        each.communicate()
    record = await held(url)
    assert (record.generation, record.body) == (WRITERS * TIMES, str(WRITERS * TIMES).encode())


async def test_a_killed_writer_leaves_its_last_confirmed_put_or_the_next(url: str) -> None:
    saved = 0
    for round_ in range(8):
        killed = start(url, "fill", "100000000")
        assert killed.stdout is not None
        for _ in range(1 + 37 * round_ % 11):
            saved = int(killed.stdout.readline())
        killed.kill()
        rest = killed.communicate()[0].split("\n")[:-1]  # its output before the kill
        saved = int(rest[-1]) if rest else saved
        record = await held(url)
        assert record.generation in {saved, saved + 1}
        assert set(record.body.split()) == {b"%d" % record.generation}
        assert len(record.body.split()) == 1 + record.generation % 5000


async def test_a_writer_at_its_size_limit_gets_an_error_and_the_old_record_stays(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/tokens.db"
    stopped = start(url, "fill", "200000", stderr=subprocess.PIPE)
    told, complaint = stopped.communicate()
    assert "the disk failed or is full: check it, its quota and the limit on files' size" in complaint
    record = await held(url)
    assert record.generation == int(told.split()[-1])
