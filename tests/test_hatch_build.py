"""hatch_build.py: an installation from a checkout, with a compiler, without one, and with one that fails.

Each builds a copy of the checkout in which one module and a file in C are compiled, rather than fifty modules
for a minute: `make wheel` compiles those. What builds is of the tests' own environment, but for the editable
install; tests/docs/test_operations.py lets uv download it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from proxy import compiled
from tests.checkout import REPOSITORY, checkout
from tests.e2e.processes import wait_until

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
HOOK = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
KEPT = ("PATH", "HOME", "LANG", "PIP_", "SSL_CERT_", "HTTP", "NO_PROXY")  # of the environment
PURE = "token_proxy-0.1.0-py3-none-any.whl"


@pytest.fixture
def source(tmp_path):
    """A checkout; what a build leaves in it is a failure."""
    folder = checkout(tmp_path / "source")
    before = contents(folder)
    yield folder
    assert contents(folder) == before


def contents(folder):
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if "__pycache__" not in name}


class Home:
    """A fresh virtual environment that sees the tests' packages, but for token-proxy itself."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        library = next(folder.glob("lib/python3*/site-packages"))
        ours = folder / "packages"
        ours.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if "token_proxy" not in path.name:
                (ours / path.name).symlink_to(path)
        (library / "tests.pth").write_text(f"{ours}\n")
        self.temporary = folder / "tmp"
        self.temporary.mkdir()

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if name.startswith(KEPT)}
        return {**kept, "TMPDIR": str(self.temporary), **variables}

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.bin,  # away from the source
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            check=False,
        )

    def pip(
        self, *arguments: str, isolated: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        first = ["-m", "pip", arguments[0], "--disable-pip-version-check", "--no-deps"]
        first += [] if isolated else ["--no-build-isolation"]
        return self.run("python", *first, *arguments[1:], **variables)

    def version(self) -> str:
        done = self.run("token-proxy", "--version")
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "home")
    yield made
    assert not list(made.temporary.iterdir()), "temporary files are left"


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def without_compiler(folder):
    """Variables by which neither a compiler nor anything else of the machine is found."""
    folder.mkdir()
    return {"PATH": str(folder)}


NOT_COMPILED = r"token-proxy, version 0\.1\.0 \(not compiled: {}, Python 3\.\d+\.\d+\S*\)\n"


def test_with_a_compiler_it_is_compiled(source, home):
    done = home.pip("install", str(source), TOKEN_PROXY_COMPILE="always")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\(partly compiled: 2 of \d+ modules; install it again, Python ", home.version())
    [metadata] = home.bin.parent.glob("lib/*/site-packages/*.dist-info")
    tag = re.search(r"^Tag: (\S+)$", (metadata / "WHEEL").read_text(), re.MULTILINE)
    assert tag
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert tag[1].startswith(f"{version}-{version}-")
    found = home.run(
        "python", "-c", "import proxy.http.in_c as c, proxy.clock as m; print(c.__file__, m.__file__)"
    )
    assert [file.endswith(".so") for file in found.stdout.split()] == [True, True]
    assert not list(metadata.parent.rglob("*.c"))
    tried = home.run("python", str(REPOSITORY / "tests" / "wheel.py"))
    assert tried.returncode == 0, tried.stderr
    wholly = home.run("python", str(REPOSITORY / "tests" / "wheel.py"), "--compiled")
    assert "2 of " in wholly.stderr


@pytest.mark.parametrize("place", ["folder", "sdist", "git"])
def test_without_a_compiler_it_is_installed_as_python(source, home, tmp_path, place):
    made = place_of(source, home, place, tmp_path)
    variables = without_compiler(tmp_path / "empty")
    if place == "git":
        (tmp_path / "empty" / "git").symlink_to(shutil.which("git") or "git")
    done = home.pip("install", "-v", made, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The data path is not compiled: no C compiler when it was built" in done.stdout + done.stderr
    assert re.fullmatch(NOT_COMPILED.format("no C compiler when it was built"), home.version())
    [metadata] = home.bin.parent.glob("lib/*/site-packages/*.dist-info")
    assert "Tag: py3-none-any\n" in (metadata / "WHEEL").read_text()


def place_of(source, home, place, tmp_path):
    """What pip is given."""
    if place == "sdist":
        done = home.run(
            "python", "-m", "build", "-n", "--sdist", "--outdir", str(tmp_path / "dist"), str(source)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return str(next((tmp_path / "dist").glob("*.tar.gz")))
    if place == "git":
        shutil.copytree(source, tmp_path / "repository")
        name = ("-c", "user.name=a", "-c", "user.email=a@b.example")
        for command in (["init", "-q"], ["add", "."], [*name, "commit", "-qm", "all"]):
            subprocess.run(["git", *command], cwd=tmp_path / "repository", check=True)
        return f"git+file://{tmp_path / 'repository'}"
    return str(source)


FAILING = {
    "broken": "echo a broken compiler >&2; exit 1",
    "killed": "kill -9 $$",  # as when memory runs out; the message is the shell's
    "writes_nothing": "exit 0",
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_compiler_that_fails_leaves_it_to_python(source, home, tmp_path, kind):
    failing = script(tmp_path / "compiler", FAILING[kind])
    done = home.pip("wheel", "-v", "-w", str(tmp_path), str(source), CC=failing)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "The data path is not compiled: the compiler failed when it was built" in said
    assert [path.name for path in tmp_path.glob("*.whl")] == [PURE]


def test_a_compiler_that_fails_is_an_error_where_compiling_is_asked_for(source, home, tmp_path):
    failing = script(tmp_path / "compiler", FAILING["broken"])
    done = home.pip("wheel", "-w", str(tmp_path), str(source), CC=failing, TOKEN_PROXY_COMPILE="always")
    assert done.returncode != 0
    assert "a broken compiler" in done.stderr
    assert "RuntimeError: the data path is not compiled: the compiler failed when it was built" in done.stderr
    assert not list(tmp_path.glob("*.whl"))


def test_a_compiler_that_is_missing_is_an_error_where_compiling_is_asked_for(source, home, tmp_path):
    variables = {**without_compiler(tmp_path / "empty"), "TOKEN_PROXY_COMPILE": "always"}
    done = home.pip("wheel", "-w", str(tmp_path), str(source), **variables)
    assert done.returncode != 0
    assert "RuntimeError: the data path is not compiled: no C compiler when it was built" in done.stderr


def test_a_build_that_is_killed_leaves_the_source_as_it_was(source, tmp_path):
    started = tmp_path / "started"
    slow = script(tmp_path / "compiler", f"touch {started}; exec sleep 600")
    home = Home(tmp_path / "home")
    command = [home.bin / "python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    with subprocess.Popen(
        [*command, source],
        env=home.environment(CC=slow),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            wait_until(started.exists, "the compiler to be started")
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_what_is_not_to_be_compiled_is_not(source, home, tmp_path):
    done = home.pip("wheel", "-w", str(tmp_path), str(source), TOKEN_PROXY_COMPILE="never")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("*.whl")] == [PURE]


def test_another_word_is_an_error(source, home, tmp_path):
    done = home.pip("wheel", "-w", str(tmp_path), str(source), TOKEN_PROXY_COMPILE="1")
    assert done.returncode != 0
    assert "ValueError: TOKEN_PROXY_COMPILE=1: expected auto, always or never" in done.stderr


def test_an_editable_install_runs_its_source(source, home):
    done = home.pip("install", "-e", str(source), isolated=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(NOT_COMPILED.format("an editable install"), home.version())


def test_without_what_compiles_it_is_built_as_python(source, home, tmp_path):
    for package in ("mypyc", "setuptools"):
        (home.bin.parent / "packages" / package).unlink()
    done = home.pip("install", str(source))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(NOT_COMPILED.format("no mypyc and setuptools when it was built"), home.version())


# -- what an isolated build asks for


@pytest.fixture
def backend():
    spec = importlib.util.spec_from_file_location("hatch_build", REPOSITORY / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_build_asks_for_what_compiles_where_it_can_compile(backend, monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.delenv("TOKEN_PROXY_COMPILE", raising=False)
    all_of_it = backend.get_requires_for_build_wheel()
    assert set(HOOK["compilers"]) <= set(all_of_it)
    assert set(PROJECT["project"]["dependencies"]) <= set(all_of_it)
    assert not set(HOOK["compilers"]) & set(backend.get_requires_for_build_editable())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert backend.get_requires_for_build_wheel() == []


def test_what_compiles_is_what_the_tests_compile_with():
    lock = (REPOSITORY / "requirements-dev.lock").read_text()
    for requirement in map(Requirement, HOOK["compilers"]):
        pinned = re.search(rf"^{requirement.name}==(\S+)", lock, re.MULTILINE)
        assert pinned
        assert pinned[1] in requirement.specifier
        assert {each.operator for each in requirement.specifier} == {">=", "<"}


def test_what_is_compiled_is_what_the_version_tells_of():
    files = {str(path) for pattern in HOOK["include"] for path in REPOSITORY.glob(pattern)}
    told = [name.replace(".", "/") for name in (*compiled.PACKAGES, *compiled.MODULES)]
    expected = {
        str(path)
        for name in told
        for path in (
            [*(REPOSITORY / name).glob("*.[cp]*")]
            if (REPOSITORY / name).is_dir()
            else [*REPOSITORY.glob(f"{name}.py"), *REPOSITORY.glob(f"{name}.c")]
        )
    }
    assert files == {path for path in expected if path.endswith((".py", ".c"))}
    in_c = {path.stem for path in (REPOSITORY / "proxy").rglob("*.c")}
    assert in_c <= {name.rpartition("/")[2] for name in told}  # no file in Python tells of them


# -- the version


def test_a_module_that_is_missing_in_its_compiled_form_is_told():
    assert compiled.Compiled(50, 52).sentence == "partly compiled: 50 of 52 modules; install it again"
    assert not compiled.Compiled(50, 52).wholly
    assert compiled.Compiled(52, 52).sentence == "compiled"
    assert compiled.Compiled(0, 52).sentence.startswith("not compiled")
