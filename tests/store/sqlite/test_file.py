"""File systems on which a store's file may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import StoreError
from proxy.store.sqlite import mounts
from proxy.store.sqlite.file import open_database


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on nfs4 and one on FUSE, according to a fake mountinfo."""
    for name in ("nfs", "fuse"):
        (tmp_path / name).mkdir()
    (tmp_path / "mountinfo").write_text(
        "28 1 999:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        f"29 28 999:2 / {tmp_path}/nfs rw shared:2 - nfs4 filer:/export rw,vers=4.2\n"
        f"30 28 999:3 / {tmp_path}/fuse rw shared:3 - fuse.somebody x rw\n"
    )
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "mountinfo")
    return tmp_path


def test_a_network_file_system_is_refused_before_a_file_is_created(mounted: Path) -> None:
    path = mounted / "nfs" / "state" / "tokens.db"
    with pytest.raises(StoreError) as refused:
        open_database(path)
    assert f"on a network file system (nfs4 at {mounted}/nfs)" in str(refused.value)
    assert "set store.url to a postgresql:// address" in str(refused.value)
    assert not path.parent.exists()


def test_a_file_that_was_moved_to_a_network_file_system_is_refused(mounted: Path) -> None:
    open_database(mounted / "tokens.db").close()
    (mounted / "tokens.db").rename(moved := mounted / "nfs" / "tokens.db")
    with pytest.raises(StoreError, match="on a network file system"):
        open_database(moved)


def test_a_suspicious_file_system_is_used_with_a_warning(
    mounted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_database(mounted / "fuse" / "tokens.db").close()
    (message,) = caplog.messages
    assert f"it is on fuse.somebody at {mounted}/fuse, which may not be a disk of this host" in message


def test_a_local_disk_is_used_without_a_warning(mounted: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_database(mounted / "tokens.db").close()
    assert caplog.messages == []
