"""The public interface and the guides, whose code is run unchanged."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import proxy.demo
from proxy.demo.wiring import free_ports

REPOSITORY = Path(__file__).parents[2]
GUIDE = (REPOSITORY / "docs" / "testing.md").read_text()
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pytest.ini"]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `python` is this interpreter
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": path}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )


def test_all_public_names_exist() -> None:
    assert sorted(proxy.demo.__all__) == proxy.demo.__all__
    for name in proxy.demo.__all__:
        assert hasattr(proxy.demo, name)


@pytest.mark.parametrize("name", proxy.demo.__all__)
def test_all_public_names_are_typed(name: str) -> None:
    public = getattr(proxy.demo, name)
    for function in [public, *vars(public).values()] if inspect.isclass(public) else [public]:
        if inspect.isfunction(function) and not function.__name__.startswith("_"):
            untyped = [
                parameter.name
                for parameter in inspect.signature(function).parameters.values()
                if parameter.name != "self" and parameter.annotation is inspect.Parameter.empty
            ]
            assert not untyped
            assert inspect.signature(function).return_annotation is not inspect.Signature.empty


def test_importing_it_does_not_import_the_configuration() -> None:
    seen = run([sys.executable, "-c", "import sys, proxy.demo; print('pydantic' in sys.modules)"], REPOSITORY)
    assert (seen.stdout, seen.stderr) == ("False\n", "")


def test_the_example_of_the_package_works(tmp_path: Path) -> None:
    _, _, after = (proxy.demo.__doc__ or "").partition("in the same process:\n")
    example, _, _ = after.partition("\nContents:")
    (tmp_path / "test_example.py").write_text(textwrap.dedent(example))
    (tmp_path / "pytest.ini").write_text(INI)
    done = run(PYTEST, tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_guides_tests_pass(tmp_path: Path) -> None:
    (tests,) = [code for kind, code in BLOCKS if kind == "python" and "def test_" in code]
    (tmp_path / "test_guide.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text(INI)
    done = run(PYTEST, tmp_path)
    assert f"{tests.count('def test_')} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "code", [code for kind, code in BLOCKS if kind == "python" and "def test_" not in code]
)
def test_the_guides_python_runs(tmp_path: Path, code: str) -> None:
    done = run([sys.executable, "-W", "error", "-c", code], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "sh"])
def test_the_guides_shell_prints_what_it_claims(tmp_path: Path, code: str) -> None:
    if shutil.which("curl") is None:
        pytest.fail("curl is not installed", pytrace=False)
    for written, free in zip(("9400", "9401"), free_ports(0, 0), strict=True):
        code = code.replace(written, str(free))
    done = run(["bash", "-eu", "-c", code], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    response, event, settings = done.stdout.splitlines()
    assert response == "no response"
    assert event.startswith('{"number": 1, "event": "token_request",')
    assert '"outcome": "granted"' in event
    assert '"status": null' in event
    assert settings.startswith('{"grace": 0.0,')
    assert settings.endswith('"families_revoked": 0}')
