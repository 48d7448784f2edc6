"""When changed files are taken up: a model of files that anyone may write, break, remove and bring back."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.config.files import fingerprint
from proxy.watched_files import SAME, Changed, Looks, Refused, Watch, step

A, B, NOTHING = (b"a",), (b"b",), (b"",)


@pytest.mark.parametrize(
    ("state", "seen", "expected", "is_due"),
    [
        (SAME, A, SAME, False),
        (SAME, B, Changed(B), False),
        (Changed(B), B, Changed(B), True),
        (Changed(B), A, SAME, False),
        (Changed(B), NOTHING, Changed(NOTHING), False),
        (Refused(B), B, Refused(B), False),
        (Refused(B), A, SAME, False),
        (Refused(B), NOTHING, Changed(NOTHING), False),
        (Changed(NOTHING), NOTHING, Changed(NOTHING), True),
    ],
)
def test_two_looks_must_agree(state, seen, expected, is_due):
    assert step(state, seen, A) == (expected, is_due)


class WatchedFiles(RuleBasedStateMachine):
    """A certificate and its key fit if their contents are equal; an empty or missing file fits nothing."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        self.pair, self.secret = (folder / "cert", folder / "key"), (folder / "secret",)
        for path in (*self.pair, *self.secret):
            path.write_bytes(b"first")
        self.watch, self.looks = Watch(), Looks()
        first = fingerprint(b"first")
        self.used = {self.pair: (first, first), self.secret: (first,)}
        self.good = {self.pair: {(first, first)}, self.secret: {(first,)}}  # seen twice, and usable
        self.before: dict = dict(self.used)
        self.warned: list = []

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    names = st.sampled_from(["cert", "key", "secret"])

    @rule(
        name=names,
        content=st.sampled_from([b"", b"first", b"second", b"third"]),
        how=st.sampled_from(["write", "move", "link"]),
    )
    def change(self, name: str, content: bytes, how: str) -> None:
        path = Path(self.folder.name) / name
        if how == "write" and not path.is_symlink():
            path.write_bytes(content)
            return
        fresh = path.with_name(f"{name}.{time.monotonic_ns()}")
        fresh.write_bytes(content)
        if how == "link":
            link = path.with_name("link")
            link.symlink_to(fresh)
            fresh = link
        fresh.replace(path)

    @rule(name=names)
    def remove(self, name: str) -> None:
        (Path(self.folder.name) / name).unlink(missing_ok=True)

    @rule()
    def look(self) -> None:
        seen = self.looks.at([self.pair, self.secret])
        assert seen == {group: tuple(self._print(path) for path in group) for group in self.used}
        for group, prints in self.watch.looked(seen, self.used).items():
            assert self.before[group] == prints, "it was seen once only"
            assert self.used[group] != prints
            if b"" in prints or len(set(prints)) > 1:
                assert (group, prints) not in self.warned[-1:], "one warning, until it changes"
                self.warned.append((group, prints))
                self.watch.refuse(group, prints)
            else:
                self.used[group] = prints
        for group in self.used:
            if seen[group] != self.before[group]:
                self.warned = [each for each in self.warned if each[0] != group]
        agreed = {group: seen[group] == self.before[group] for group in self.used}
        self.before = seen
        for group, prints in seen.items():
            usable = b"" not in prints and len(set(prints)) == 1
            if agreed[group] and usable:
                assert self.used[group] == prints, "what two looks have seen is used"

    @invariant()
    def what_is_used_is_never_half(self) -> None:
        if hasattr(self, "used"):
            for prints in self.used.values():
                assert b"" not in prints
                assert len(set(prints)) == 1

    @staticmethod
    def _print(path: Path) -> bytes:
        try:
            return fingerprint(path.read_bytes())
        except OSError:
            return b""


TestWatchedFiles = WatchedFiles.TestCase
TestWatchedFiles.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_file_is_read_again_only_if_it_has_changed(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    path.write_text("one")
    old = time.time() - 100
    os.utime(path, (old, old))
    looks = Looks()
    reads = []
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *args, **more: reads.append(self) or real(self, *args, **more)
    )
    for _ in range(3):
        assert looks.at([(path,)]) == {(path,): (fingerprint(b"one"),)}
    assert len(reads) == 1
    monkeypatch.undo()
    path.write_text("two")
    assert looks.at([(path,)]) == {(path,): (fingerprint(b"two"),)}


def test_the_same_size_and_times_do_not_hide_a_recent_change(tmp_path):
    path = tmp_path / "secret"
    path.write_text("one")
    status = path.stat()
    looks = Looks()
    looks.at([(path,)])
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert looks.at([(path,)]) == {(path,): (fingerprint(b"two"),)}


def test_an_unreadable_file_is_read_again_at_each_look(tmp_path):
    path = tmp_path / "secret"
    looks = Looks()
    assert looks.at([(path,)]) == {(path,): (b"",)}
    path.write_text("one")
    assert looks.at([(path,)]) == {(path,): (fingerprint(b"one"),)}


def test_a_pipe_is_never_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert Looks().at([(path,)]) == {}
