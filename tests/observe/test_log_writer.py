"""Log lines through files that stall, break, or are shared."""

import os
import resource
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.observe import log_writer
from proxy.observe.log_writer import PIPE_BUF, LogWriter, pieces

LINE = "x" * 99 + "\n"


def told(count):
    return f"dropped {count}\n"


@contextmanager
def pipe():
    """A pipe's two ends, of which a test may close either."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        for end in (reader, writer):
            with suppress(OSError):  # the test has closed it
                os.close(end)


def read_to_end(fd):
    data = b""
    while piece := os.read(fd, 65536):
        data += piece
    return data


def until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_was_written_is_there_after_the_close():
    with pipe() as (reader, end):
        writer = LogWriter(end, told)
        for number in range(100):
            writer.write(f"{number}\n")
        assert writer.close()
        os.close(end)
        assert read_to_end(reader) == b"".join(b"%d\n" % number for number in range(100))
        assert writer.dropped == 0


def test_a_reader_that_stalls_blocks_no_writer_and_gets_the_number_of_lost_lines():
    with pipe() as (reader, end):
        writer = LogWriter(end, told)
        count = 3 * log_writer.QUEUE // len(LINE)
        for _ in range(count):
            writer.write(LINE)  # would hang here
        lost = writer.dropped
        assert 0 < lost < count
        heard = []
        reading = threading.Thread(target=lambda: heard.append(read_to_end(reader)))
        reading.start()
        until(lambda: writer._untold == 0)
        writer.write("and on\n")
        assert writer.close(10)
        os.close(end)
        reading.join()
        lines = heard[0].decode().splitlines(keepends=True)
        assert lines[-1] == "and on\n"
        notes = [line for line in lines if line.startswith("dropped")]
        assert sum(int(note.split()[1]) for note in notes) == lost == writer.dropped
        assert lines.count(LINE) == count - lost


def test_the_end_waits_a_limited_time_for_a_reader_that_stalls():
    with pipe() as (_reader, end):
        writer = LogWriter(end, told)
        for _ in range(1000):
            writer.write(LINE)
        assert not writer.close(0.05)
        writer.write("too late\n")
        assert writer.dropped == 1


@pytest.mark.parametrize("mended", [False, True])
def test_a_file_that_can_not_be_written_loses_lines_but_the_writer_goes_on(tmp_path, mended):
    """A closed pipe; then another file is there, as after a disk was full."""
    with pipe() as (reader, end):
        writer = LogWriter(end, told)
        os.close(reader)
        writer.write("one\ntwo\n")
        until(lambda: writer.dropped == 2)
        if not mended:
            assert writer.close()
            return
        with (tmp_path / "log").open("wb") as file:
            os.dup2(file.fileno(), end)
        writer.write("three\n")
        assert writer.close()
        assert (tmp_path / "log").read_text() == "three\ndropped 2\n"


def test_a_line_that_a_full_disk_broke_off_does_not_swallow_the_next_one(tmp_path):
    """RLIMIT_FSIZE: the kernel writes what fits, and refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(file.fileno(), told)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
            writer.write(LINE + LINE + LINE)
            until(lambda: writer.dropped == 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        writer.write("next\n")
        assert writer.close()
    assert path.read_text() == LINE + LINE[:50] + "\nnext\ndropped 2\n"


def test_a_pipe_that_somebody_made_non_blocking_is_waited_for():
    with pipe() as (reader, end):
        os.set_blocking(end, False)
        writer = LogWriter(end, told)
        count = 2000  # more than a pipe holds
        for _ in range(count):
            writer.write(LINE)
        heard = []
        reading = threading.Thread(target=lambda: heard.append(read_to_end(reader)))
        reading.start()
        assert writer.close(10)
        os.close(end)
        reading.join()
        assert heard[0].decode() == LINE * count


def test_the_lines_of_several_processes_are_whole():
    """Several writers on one pipe; each line names its writer."""
    with pipe() as (reader, end):
        heard = []
        reading = threading.Thread(target=lambda: heard.append(read_to_end(reader)))
        reading.start()
        writers = [LogWriter(end, told) for _ in range(4)]
        for number in range(500):
            for name, writer in enumerate(writers):
                writer.write(f"{name}:{number}:" + str(name) * (number % 90 * 40 % 3900) + "\n")
        assert all(writer.close(10) for writer in writers)
        os.close(end)
        reading.join()
    lines = heard[0].decode().splitlines()
    assert len(lines) == 2000 - sum(writer.dropped for writer in writers)
    for line in lines:
        name, number, filling = line.split(":")
        assert filling == name * (int(number) % 90 * 40 % 3900)


@given(st.lists(st.binary(max_size=3 * PIPE_BUF).map(lambda line: line.replace(b"\n", b".") + b"\n")))
def test_pieces_are_whole_lines_and_fit_where_a_line_does(lines):
    found = list(pieces(b"".join(lines), PIPE_BUF))
    assert b"".join(found) == b"".join(lines)
    for piece in found:
        assert piece.endswith(b"\n")
        assert len(piece) <= PIPE_BUF or piece.count(b"\n") == 1


def test_a_destructor_that_logs_within_a_write_does_not_hang():
    with pipe() as (_reader, end):
        writer = LogWriter(end, told)
        with writer._changed:  # as when the garbage collector runs in the middle of `write`
            writer.write("from a destructor\n")
        assert writer.close()
