"""Builds our image without an engine: each instruction of the Dockerfile, in a bare folder, as root.

The folder has the system of this machine, read-only, and its Python in /usr/local, where the official images
have theirs. Instructions are carried out by what an engine uses, too: mounts, namespaces, chroot, setpriv.
The base images are not tried, nor what an engine makes of layers. container.py runs what is built.
"""

from __future__ import annotations

import fnmatch
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.deploy import dockerfile

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "deploy" / "docker"
SYSTEM = ("bin", "lib", "lib32", "lib64", "sbin", "usr")
SETTINGS = (  # of /etc: enough to resolve names, to trust certificates, and to find libraries and packages
    "alternatives",
    "group",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "nsswitch.conf",
    "passwd",
    "pip.conf",
    "resolv.conf",
    "ssl",
    "xdg/pip",
)
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
BASE_ENVIRONMENT = {"PATH": PATH, "LD_LIBRARY_PATH": "/usr/local/lib"}  # for a Python with a shared library
OF_THE_NETWORK = (
    "PIP_",
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)  # as predefined arguments are
LARGE = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "tkinter", "site-packages", "__pycache__"}
UNSHARE = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
RUN_LIMIT = 600  # seconds; packages are downloaded


class Root:
    """A folder that looks like a Debian with Python in /usr/local."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("dev", "etc/xdg", "proc", "tmp", "run", "var/lib", "opt"):
            (folder / name).mkdir(parents=True)
        self._bound = [
            name for name in SYSTEM if not (Path("/") / name).is_symlink() and (Path("/") / name).exists()
        ]
        for name in SYSTEM:
            if name in self._bound:
                (folder / name).mkdir()
            elif (Path("/") / name).is_symlink():
                (folder / name).symlink_to((Path("/") / name).readlink())
        for name in SETTINGS:
            _copy_setting(Path("/etc") / name, folder / "etc" / name)
        self.local = folder.with_name(f"{folder.name}.usr.local")
        _copy_python(self.local)

    def mounts(self, writable: Mapping[str, Path], given: Mapping[str, Path], *, read_only: bool) -> str:
        """Shell commands for a mount namespace of its own; `given` is for reading."""
        root = shlex.quote(str(self.folder))
        lines = ["set -e", f"mount --bind {root} {root}"]
        for name in self._bound:
            lines += [f"mount --bind /{name} {root}/{name}", f"mount -o remount,bind,ro {root}/{name}"]
        local = f"{root}/usr/local"
        lines.append(f"mount --bind {shlex.quote(str(self.local))} {local}")
        lines += [f"mount --rbind /dev {root}/dev", f"mount -t proc proc {root}/proc"]
        for place, path in {**writable, **given}.items():
            lines.append(f"mount --bind {shlex.quote(str(path))} {root}{place}")
        lines += [f"mount -o remount,bind,ro {root}{place}" for place in given]
        if read_only:
            lines += [f"mount -o remount,bind,ro {local}", f"mount -o remount,bind,ro {root}"]
        return "\n".join(lines)


def _copy_setting(found: Path, place: Path) -> None:
    if found.is_dir():
        private = shutil.ignore_patterns("private")  # keys of the machine
        shutil.copytree(found, place, symlinks=True, ignore=private)
    elif found.exists():
        shutil.copy(found, place)


def _copy_python(local: Path) -> None:
    """The interpreter of these tests, with pip and without its other packages."""
    short = f"python3.{sys.version_info.minor}"
    library = local / "lib" / short
    stdlib = Path(sysconfig.get_path("stdlib"))

    def ignored(folder: str, names: Sequence[str]) -> set[str]:
        return {name for name in names if name in LARGE - {"__pycache__"} or name.startswith("config-")}

    shutil.copytree(stdlib, library, ignore=ignored, symlinks=True)
    headers = Path(sysconfig.get_path("include"))
    if headers.is_dir():  # for COMPILE=always
        shutil.copytree(headers, local / "include" / headers.name)
    (library / "site-packages").mkdir()
    for package in Path(sysconfig.get_path("purelib")).glob("pip*"):
        shutil.copytree(package, library / "site-packages" / package.name)
    for shared in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        shutil.copy2(shared, local / "lib", follow_symlinks=False)
    (local / "bin").mkdir()
    shutil.copy2(Path(sys.executable).resolve(), local / "bin" / short)
    for name in ("python", "python3"):
        (local / "bin" / name).symlink_to(short)


@dataclass(frozen=True, slots=True)
class Image:
    root: Root
    stage: dockerfile.Stage
    environment: Mapping[str, str]

    @property
    def command(self) -> list[str]:
        return self.stage.last("ENTRYPOINT").exec_form + self.stage.last("CMD").exec_form

    @property
    def healthcheck(self) -> list[str]:
        word, _, command = self.stage.last("HEALTHCHECK").value.partition(" ")
        assert word == "CMD"
        return dockerfile.Instruction("CMD", {}, command).exec_form


def build(folder: Path, **arguments: str) -> Image:
    """Replay the Dockerfile with these --build-arg; `folder` is empty."""
    made: dict[str, Root] = {}
    for number, stage in enumerate(dockerfile.read(DOCKER / "Dockerfile", arguments)):
        root = Root(folder / str(number))
        environment = _replay(stage, root, made)
        made[stage.name] = root
    return Image(root, stage, environment)


def _replay(stage: dockerfile.Stage, root: Root, made: Mapping[str, Root]) -> dict[str, str]:
    environment, where = dict(BASE_ENVIRONMENT), Path("/")
    for step in stage.instructions:
        if step.name == "WORKDIR":
            where = Path(step.value)
            inside(root, where).mkdir(parents=True, exist_ok=True)
        elif step.name == "ENV":
            environment |= step.pairs
        elif step.name == "COPY":
            _copy(step, root, where, made)
        elif step.name == "RUN":
            _run(step.value, root, where, {**environment, **stage.arguments})
    return environment


def inside(root: Root, path: Path) -> Path:
    return root.folder / path.relative_to("/")


def _copy(step: dockerfile.Instruction, root: Root, where: Path, made: Mapping[str, Root]) -> None:
    *sources, target = step.value.split()
    assert set(step.flags) <= {"from"}, step
    place = inside(root, where / target)
    for source in sources:
        if "from" in step.flags:
            found = inside(made[step.flags["from"]], Path(source))
        else:
            found = REPOSITORY / source
            assert _is_sent(source), f"Dockerfile.dockerignore leaves {source} out"
        if found.is_dir():
            shutil.copytree(found, place, dirs_exist_ok=True, symlinks=True, ignore=_left_out)
        else:
            shutil.copy2(found, place / found.name if target.endswith("/") else place)


def _is_sent(source: str) -> bool:
    """Whether the build context has it."""
    patterns = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    return "*" in patterns and f"!{source}" in patterns


def _left_out(folder: str, names: Sequence[str]) -> set[str]:
    """What `**/` patterns of the ignore file leave out of the context; a stage has no such files to lose."""
    if not Path(folder).is_relative_to(REPOSITORY / "proxy"):
        return set()
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    return {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}


def _run(command: str, root: Root, where: Path, environment: Mapping[str, str]) -> None:
    network = {key: value for key, value in os.environ.items() if key.upper().startswith(OF_THE_NETWORK)}
    script = (
        f"{root.mounts({}, {}, read_only=False)}\nexec chroot {shlex.quote(str(root.folder))} env -i "
        + " ".join(
            shlex.quote(word)
            for word in [
                *assignments({**network, **environment}),
                "/bin/sh",
                "-c",
                f"cd {where} && {command}",
            ]
        )
    )
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", script], capture_output=True, text=True, timeout=RUN_LIMIT, check=False
    )
    assert done.returncode == 0, f"RUN {command}\n{done.stdout}\n{done.stderr}"


def assignments(environment: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in environment.items()]
