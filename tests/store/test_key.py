"""The key file is created once, for one user, and refused when it can't be trusted."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from proxy.errors import StoreError
from proxy.store.key import decode_key, load_or_create_key
from tests.other_user import STRANGER, as_user

GOOD = base64.b64encode(bytes(range(32))).decode()


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_the_key_is_created_once_and_then_read(tmp_path: Path) -> None:
    path = tmp_path / "state" / "store.key"
    key = load_or_create_key(path)
    assert len(key) == 32
    assert load_or_create_key(path) == key
    assert decode_key(path.read_text()) == key
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.usefixtures("umask")
def test_only_its_owner_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    load_or_create_key(tmp_path / "state" / "store.key")
    assert (tmp_path / "state" / "store.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_concurrent_creation_gives_one_key(tmp_path: Path) -> None:
    path, start = tmp_path / "store.key", Barrier(8)

    def make(_: int) -> bytes:
        start.wait()
        return load_or_create_key(path)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(make, range(8)))) == 1
    assert list(tmp_path.iterdir()) == [path]


def linked(path: Path) -> None:
    write(path.with_name("elsewhere"), GOOD)
    path.symlink_to("elsewhere")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "readable by the group": (lambda path: write(path, GOOD, 0o640), "other users may read it: `chmod 600 "),
    "readable by all": (lambda path: write(path, GOOD, 0o604), "other users may read it: `chmod 600 "),
    "too short": (
        lambda path: write(path, base64.b64encode(bytes(31)).decode()),
        "must be 32 bytes in base64",
    ),
    "not base64": (lambda path: write(path, "ä" * 44), "must be 32 bytes in base64"),
    "empty": (lambda path: write(path, ""), "must be 32 bytes in base64"),
    "a symbolic link": (linked, "it is a symbolic link"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "it is a symbolic link"),
    "a directory": (lambda path: path.mkdir(), "Is a directory"),
    "a pipe": (os.mkfifo, "it is not a regular file"),
}


@pytest.mark.parametrize("make", REFUSED)
def test_a_key_file_is_refused_if_it_is(tmp_path: Path, make: str) -> None:
    path = tmp_path / "store.key"
    prepare, sentence = REFUSED[make]
    prepare(path)
    with pytest.raises(StoreError) as error:
        load_or_create_key(path)
    assert str(error.value).startswith(f"key file {path}: ")
    assert sentence in str(error.value)
    assert GOOD not in str(error.value)


@pytest.mark.privileged  # only root can give a file away
def test_a_key_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.key"
    write(path, GOOD)
    os.chown(path, 12345, -1)
    with pytest.raises(StoreError, match="another user owns it"):
        load_or_create_key(path)


def test_a_key_from_the_configuration_may_end_in_a_newline() -> None:
    assert decode_key(GOOD + "\n") == bytes(range(32))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.privileged
def test_a_directory_that_is_not_ours_is_refused_with_what_to_set() -> None:
    """As the home directory `/` of a container's user."""
    with as_user(STRANGER), pytest.raises(StoreError) as refused:
        load_or_create_key(Path("/.local/state/token-proxy/store.key"))
    assert str(refused.value) == (
        "key file /.local/state/token-proxy/store.key: Permission denied: set server.state_dir or "
        "$STATE_DIRECTORY to a directory that this user can write to"
    )
