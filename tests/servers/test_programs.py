"""The machine's programs where they are new enough, else those of the wheels."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.servers.programs import PROGRAMS, find, machines, version, wheels

EXECUTABLE = [name for name, program in PROGRAMS.items() if program.wheel and program.oldest]


@pytest.fixture
def no_program(monkeypatch, tmp_path):
    """A machine that has none of them."""
    monkeypatch.setenv("PATH", str(tmp_path))
    machines.cache_clear()
    yield tmp_path
    machines.cache_clear()


@pytest.mark.parametrize("name", EXECUTABLE)
def test_the_wheels_program_runs_and_is_new_enough(name):
    path = wheels(name)
    assert path is not None
    run = [find("node"), path] if path.endswith(".js") else [path]
    done = subprocess.run([*run, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout
    assert name == "npm" or version(path, PROGRAMS[name].oldest) >= PROGRAMS[name].oldest


@pytest.mark.skipif(sys.platform != "linux", reason="a library for LD_PRELOAD")
def test_the_wheels_library_is_there():
    assert wheels("libfaketime") is not None


def test_a_program_that_the_machine_lacks_is_the_wheels(no_program):
    assert find("node") == wheels("node")


def test_one_that_is_too_old_is_not_taken(no_program):
    old = no_program / "node"
    old.write_text("#!/bin/sh\necho v12.22.9\n")
    old.chmod(0o755)
    assert find("node") == wheels("node")


def test_one_that_is_new_enough_is(no_program):
    new = no_program / "node"
    new.write_text("#!/bin/sh\necho v99.1\n")
    new.chmod(0o755)
    assert find("node") == str(new)


def test_one_that_does_not_run_is_not(no_program):
    """As the /usr/bin/java of a Mac without Java."""
    broken = no_program / "java"
    broken.write_text("#!/bin/sh\necho 21 >&2; exit 1\n")
    broken.chmod(0o755)
    assert find("java") == wheels("java")


def test_one_that_neither_has_fails_the_test_and_names_it(no_program):
    with pytest.raises(pytest.fail.Exception, match="missing: strace"):
        find("strace")
