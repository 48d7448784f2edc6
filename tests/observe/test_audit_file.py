"""The file of the audit log: full disks, rotation, stalls, and what is never lost."""

import json
import os
import resource
import stat
import threading
import time

import pytest

from proxy.observe import audit_file
from proxy.observe.audit_file import STDOUT, AuditFile, open_audit_file

PATIENCE = 30


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it has not come true"
        time.sleep(0.005)


def line(number, size=0):
    return json.dumps({"number": number, "pad": "x" * size}).encode() + b"\n"


def numbers(*paths):
    return [json.loads(each).get("number") for path in paths for each in path.read_bytes().splitlines()]


@pytest.fixture
def opened(monkeypatch):
    """Make audit files that are closed after the test. They try again often."""
    monkeypatch.setattr(audit_file, "RETRY", 0.02)
    files = []

    def make(path):
        files.append(AuditFile(path))
        return files[-1]

    yield make
    for each in files:
        each.close()


def test_lines_are_written_in_their_order(opened, tmp_path):
    file = opened(tmp_path / "audit.log")
    for number in range(5000):
        file.write(line(number, 100))
    assert file.close()
    assert numbers(file.path) == list(range(5000))
    assert (file.written, file.failures, file.dropped) == (5000, 0, 0)


def test_the_file_is_the_owners_alone_whatever_it_was(opened, tmp_path):
    former = tmp_path / "former.log"
    former.write_bytes(line("before"))
    former.chmod(0o644)
    for path in (former, tmp_path / "new.log"):
        os.close(open_audit_file(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert numbers(former) == ["before"]


def test_a_rotation_loses_no_line(opened, tmp_path):
    path = tmp_path / "audit.log"
    file = opened(path)
    until(path.exists)
    for number in range(3000):
        if number % 100 == 50:
            path.rename(tmp_path / f"audit.log.{number:05d}")
            file.reopen()
        if number % 100 == 60:
            until(path.exists)
        file.write(line(number))
    assert file.close()
    files = sorted(tmp_path.glob("audit.log.*"))
    assert len(files) == 30
    assert numbers(*files, path) == list(range(3000))


def test_a_rotation_to_a_place_that_can_not_be_opened_goes_on_in_the_former_file(opened, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = opened(folder / "audit.log")
    until((folder / "audit.log").exists)
    folder.rename(tmp_path / "moved")
    file.reopen()
    file.write(line(1))
    until(lambda: file.written == 1)
    assert file.failures
    assert file.accepts
    folder.mkdir()
    until((folder / "audit.log").exists)
    file.write(line(2))
    assert file.close()
    assert numbers(tmp_path / "moved" / "audit.log", folder / "audit.log") == [1, 2]


def test_a_file_that_can_not_be_opened_is_tried_again_and_its_lines_are_kept(opened, tmp_path):
    path = tmp_path / "later" / "audit.log"
    file = opened(path)
    until(lambda: file.failures)
    assert not file.accepts
    file.write(line(1))
    path.parent.mkdir()
    until(lambda: file.written)
    assert file.accepts
    assert numbers(path) == [1]


def test_a_full_device_keeps_the_lines_until_the_queue_is_full(opened, monkeypatch):
    monkeypatch.setattr(audit_file, "QUEUE", 10 * len(line(0)))
    file = opened(open_path := audit_file.Path("/dev/full"))
    for number in range(10):
        file.write(line(number))
    until(lambda: file.failures >= 2)
    assert not file.accepts
    assert file.dropped == 0
    file.write(line(10))
    assert (file.written, file.dropped) == (0, 1)
    assert file.path is open_path
    assert file.close() is False


@pytest.fixture
def full_at():
    """`full_at(bytes)`: no file grows beyond that; a write up to it is cut short, as on a full disk."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, former)

    yield fill
    resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_disk_that_was_full_has_every_line_once_and_whole(opened, tmp_path, full_at):
    make_room = full_at(20_000)
    file = opened(tmp_path / "audit.log")
    for number in range(60):
        file.write(line(number, 700))
    until(lambda: file.failures >= 3)
    assert file.path.stat().st_size == 20_000  # within a line
    assert 20 < file.written < 30
    assert not file.accepts
    make_room()
    until(lambda: file.written == 60)
    until(lambda: file.accepts)
    assert numbers(file.path) == list(range(60))


def test_a_line_that_was_cut_by_a_full_disk_is_whole_in_the_next_file(opened, tmp_path, full_at):
    path = tmp_path / "audit.log"
    make_room = full_at(20_000)
    file = opened(path)
    for number in range(60):
        file.write(line(number, 700))
    until(lambda: file.failures)
    path.rename(tmp_path / "audit.log.1")
    file.reopen()
    until(path.exists)
    make_room()
    assert file.close()
    whole, _, cut = (tmp_path / "audit.log.1").read_bytes().rpartition(b"\n")
    assert cut
    found = [json.loads(each)["number"] for each in whole.splitlines()] + numbers(path)
    assert found == list(range(60))


def test_the_number_of_dropped_lines_is_a_line(opened, tmp_path, monkeypatch):
    path = tmp_path / "later" / "audit.log"
    monkeypatch.setattr(audit_file, "QUEUE", 2 * len(line(0)))
    file = opened(path)
    for number in range(5):
        file.write(line(number))
    path.parent.mkdir()
    until(lambda: file.written == 3)
    *kept, told = [json.loads(each) for each in path.read_bytes().splitlines()]
    assert [each["number"] for each in kept] == [0, 1]
    assert (told["event"], told["count"]) == ("audit_lines_dropped", 3)
    assert file.dropped == 3


def test_a_write_that_hangs_blocks_no_one_and_is_noticed(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(audit_file, "STALLED", 0.05)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        file = opened(fifo)
        until(lambda: file._fd >= 0)
        for number in range(300):
            file.write(line(number, 1000))  # more than the pipe holds
        until(lambda: not file.accepts)
        before = threading.active_count()
        assert file.close(0.05) is False
        assert threading.active_count() == before  # it is left alone
    finally:
        until(lambda: drained(reader) and not file._thread.is_alive())
        os.close(reader)


def drained(reader):
    """Read what is there; true if nothing is, now."""
    try:
        return not os.read(reader, 65536)
    except BlockingIOError:  # its writer is between two lines
        return True


def test_a_fifo_without_a_reader_is_not_waited_for(opened, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    file = opened(fifo)
    until(lambda: file.failures)
    assert not file.accepts


def test_standard_output_is_a_file_as_others(opened, capfd):
    file = opened(STDOUT)
    file.write(line(1))
    file.reopen()
    file.write(line(2))
    assert file.close()
    assert capfd.readouterr().out.encode() == line(1) + line(2)
