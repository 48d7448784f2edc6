"""How token-proxy is built: hatchling, and a hook that compiles the data path into the wheel.

`pip install .` compiles where a C compiler and Python's headers are, and installs the same source as Python
where they are not, or where compiling fails. With TOKEN_PROXY_COMPILE=always that is an error, with =never
it is not tried. Everything is written to a temporary copy: Python would take a compiled module in the source tree
for its source.

As a backend it asks for what compiles only where a wheel can be compiled, and not for an editable install.
Run as a script it is the part that compiles: in a process of its own, as a compiler may end it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling import build as hatchling_build
from hatchling.build import *  # noqa: F403  # the other functions of the backend are hatchling's
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH: Final = "TOKEN_PROXY_COMPILE"
WORDS: Final = ("auto", "always", "never")
NOTE: Final = "not-compiled.txt"  # in the installed package's metadata: why not, for `token-proxy --version`
SHOWN: Final = 40  # lines of a failed compilation: the error is at the end


class NotCompiled(Exception):
    """Why, as `token-proxy --version` says it."""

    def __init__(self, reason: str, output: str = "") -> None:
        super().__init__(reason)
        self.output = output  # of the compiler


def get_requires_for_build_wheel(  # type: ignore[no-redef]  # hatchling's, and more
    config_settings: dict[str, Any] | None = None,
) -> list[str]:
    required: list[str] = hatchling_build.get_requires_for_build_wheel(config_settings)
    if hindrance() is not None:
        return required
    project = tomllib.loads(Path("pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    return [*required, *hook["compilers"], *project["project"]["dependencies"]]  # the last for their types


def switch() -> str:
    word = os.environ.get(SWITCH) or "auto"
    if word not in WORDS:
        raise ValueError(f"{SWITCH}={word}: expected {', '.join(WORDS[:-1])} or {WORDS[-1]}")
    return word


def hindrance() -> str | None:
    """Why this machine can't compile, or is not to; None: it can."""
    if switch() == "never":
        return f"built with {SWITCH}=never"
    if platform.python_implementation() != "CPython":
        return f"{platform.python_implementation()} can't load it"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "this Python has no GIL"  # mypyc's code relies on it
    if compiler() is None:
        return "no C compiler when it was built"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "no headers of Python when it was built"
    return None


def compiler() -> str | None:
    """$CC, else what built this Python, else what a machine usually has. None: there is none."""
    given = os.environ.get("CC")
    commands = [given] if given else [sysconfig.get_config_var("CC") or "cc", "cc", "gcc", "clang"]
    return next((command for command in commands if shutil.which(shlex.split(command)[0])), None)


class CompiledDataPath(BuildHookInterface[Any]):
    _folder: TemporaryDirectory[str]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._folder = TemporaryDirectory(prefix="token-proxy-build-")
        folder = Path(self._folder.name)
        if version == "editable":
            self._note("an editable install", folder, build_data)
            return
        try:
            made = self._compile(folder)
        except NotCompiled as error:
            if switch() == "always":
                raise RuntimeError(f"the data path is not compiled: {error}\n{error.output}") from None
            self.app.display_warning(
                f"{error.output}\nThe data path is not compiled: {error}. It runs as Python."
            )
            self._note(str(error), folder, build_data)
            return
        build_data["force_include"].update(
            {str(path): str(path.relative_to(folder / "lib")) for path in made}
        )
        build_data["infer_tag"], build_data["pure_python"] = True, False
        self.app.display_info("The data path is compiled.")

    def finalize(self, *_: object) -> None:
        self._folder.cleanup()

    def _note(self, reason: str, folder: Path, build_data: dict[str, Any]) -> None:
        (folder / NOTE).write_text(f"{reason}\n")
        build_data["extra_metadata"][str(folder / NOTE)] = NOTE

    def _compile(self, folder: Path) -> list[Path]:
        """The compiled modules, below `folder`/lib as they are below site-packages. Raises NotCompiled."""
        if reason := hindrance():
            raise NotCompiled(reason)
        missing = [name for name in ("mypyc", "setuptools") if importlib.util.find_spec(name) is None]
        if missing:  # an environment of the caller's, by --no-build-isolation
            raise NotCompiled(f"no {' and '.join(missing)} when it was built")
        left_out = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(Path(self.root, "proxy"), folder / "source" / "proxy", ignore=left_out)
        done = subprocess.run(
            [sys.executable, "-P", __file__, json.dumps(self.config)],
            cwd=folder / "source",
            env={**os.environ, "CC": str(compiler())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        made = sorted((folder / "lib").rglob("*.so"))
        output = "\n".join(done.stdout.splitlines()[-SHOWN:])
        if done.returncode or not made:
            raise NotCompiled("the compiler failed when it was built", output)
        return made


def compile_here(config: dict[str, Any]) -> None:
    """Compile the source in this folder into ../lib. Raises SystemExit, or what a compiler raises."""
    from mypyc.build import mypycify  # missing where nothing is compiled
    from setuptools import Extension, setup  # type: ignore[import-untyped]

    files = sorted({str(path) for pattern in config["include"] for path in Path().glob(pattern)})
    modules = [file for file in files if file.endswith(".py")]
    plain = [file for file in files if file.endswith(".c")]
    extensions = [
        *mypycify([*config["mypy-args"], *modules], opt_level="3", debug_level="0", target_dir="../c"),
        *(
            Extension(file.removesuffix(".c").replace("/", "."), [file], extra_compile_args=["-O3", "-g0"])
            for file in plain
        ),
    ]
    jobs = str(os.cpu_count() or 1)
    arguments = ["build_ext", "--build-lib", "../lib", "--build-temp", "../objects", "--parallel", jobs]
    setup(name="token-proxy", ext_modules=extensions, script_args=arguments)
    for library in Path("../lib").rglob("*.so"):  # one with an unknown symbol is none
        ctypes.CDLL(str(library.resolve()), os.RTLD_NOW)


if __name__ == "__main__":
    compile_here(json.loads(sys.argv[1]))
