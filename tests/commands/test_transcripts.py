"""The recorded sessions in transcripts/, against the real command."""

import asyncio
from pathlib import Path

import pytest

from proxy.demo import faults
from tests.commands import session

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
async def test_a_recorded_session_goes_as_it_stands(bench, tmp_path, path):
    loop = asyncio.get_running_loop()

    def in_loop(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    async def short_login():
        bench.server.script(faults.Fault(change={"expires_in": 1}))
        await bench.log_in()
        await asyncio.sleep(1.2)

    actions = {
        "config": lambda: (tmp_path / "config.toml").write_text(bench.path.read_text()),
        "log in, for a second": lambda: in_loop(short_login()),
        "revoke": lambda: bench.server.script(
            faults.NAMED["invalid-grant"], times=3, grant_type="refresh_token"
        ),
    }
    names = {
        "data": bench.data,
        "admin": bench.admin,
        "issuer": bench.server.issuer,
        "api": str(bench.config.routes[0].upstream),
        "state": str(bench.config.server.state_dir),
        "folder": str(tmp_path),
        "port": str(bench.config.server.admin.port),
    }
    played = session.Session(
        tmp_path, names, lambda name: actions[name](), lambda url: in_loop(bench.authorize(url))
    )
    await asyncio.to_thread(played.play, session.read(path))


def test_there_are_sessions():
    assert TRANSCRIPTS


@pytest.mark.parametrize(
    ("said", "wanted", "matches"),
    [
        ("in 4 min", "<time>", True),
        ("in 4 minx", "<time>", False),
        ("a.b", "a.b", True),
        ("axb", "a.b", False),
        ("x 1.2.3 (y)", "x <version> <...>", True),
    ],
)
def test_a_line_is_compared_as_it_stands(tmp_path, said, wanted, matches):
    found = session.Session(tmp_path, {}, None, None)._pattern(wanted).fullmatch(said)
    assert (found is not None) == matches


@pytest.mark.parametrize(
    "steps", ["$ echo one\ntwo", "$ echo one", "$ echo one\none\ntwo", "$ false", "$ echo one\n...\ntwo"]
)
async def test_a_session_that_goes_otherwise_fails(tmp_path, steps):
    (tmp_path / "x.txt").write_text(steps)
    played = session.Session(tmp_path, {}, None, None)
    with pytest.raises(AssertionError):
        await asyncio.to_thread(played.play, session.read(tmp_path / "x.txt"))
