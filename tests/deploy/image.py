"""Builds and runs our image without an engine: each instruction of the Dockerfile, in a bare folder as root.

The folder has the system of this machine, read-only, and its Python in /usr/local, where the official images have
theirs. What COPY, RUN, USER, ENV, VOLUME, HEALTHCHECK and ENTRYPOINT say is done by what an engine uses too:
mounts, a PID namespace, chroot, setpriv. Layers and the two base images are not tried.
"""

from __future__ import annotations

import fnmatch
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.deploy import dockerfile
from tests.e2e.processes import wait_until

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
RUN_LIMIT = 280  # seconds


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
                (folder / name).symlink_to(os.readlink(Path("/") / name))
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
    (library / "site-packages").mkdir()
    for package in Path(sysconfig.get_path("purelib")).glob("pip*"):
        shutil.copytree(package, library / "site-packages" / package.name)
    for shared in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        shutil.copy2(shared, local / "lib", follow_symlinks=False)
    (local / "bin").mkdir()
    shutil.copy2(Path(sys._base_executable).resolve(), local / "bin" / short)
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
            _inside(root, where).mkdir(parents=True, exist_ok=True)
        elif step.name == "ENV":
            environment |= step.pairs
        elif step.name == "COPY":
            _copy(step, root, where, made)
        elif step.name == "RUN":
            _run(step.value, root, where, {**environment, **stage.arguments})
    return environment


def _inside(root: Root, path: Path) -> Path:
    return root.folder / path.relative_to("/")


def _copy(step: dockerfile.Instruction, root: Root, where: Path, made: Mapping[str, Root]) -> None:
    *sources, target = step.value.split()
    assert set(step.flags) <= {"from"}, step
    place = _inside(root, where / target)
    for source in sources:
        if "from" in step.flags:
            found = _inside(made[step.flags["from"]], Path(source))
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
                *_assignments({**network, **environment}),
                "/bin/sh",
                "-c",
                f"cd {where} && {command}",
            ]
        )
    )
    unshare = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    done = subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, timeout=RUN_LIMIT)
    assert done.returncode == 0, f"RUN {command}\n{done.stdout}\n{done.stderr}"


def _assignments(environment: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in environment.items()]


class Network:
    """A network namespace with loopback and one address more, as if that of a container."""

    ADDRESS = "172.31.0.2"

    def __enter__(self) -> Network:
        command = [
            "unshare",
            "--net",
            sys.executable,
            str(Path(__file__).with_name("network.py")),
            self.ADDRESS,
        ]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()  # the end of its input is its end

    @property
    def enter(self) -> list[str]:
        """What a command begins with, to run in this network."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net"]


class Container:
    """A running image: root read-only, no capability, no new privileges, a PID namespace of its own."""

    def __init__(
        self,
        image: Image,
        state: Path,
        environment: Mapping[str, str],
        *,
        command: Sequence[str] = (),
        given: Mapping[str, Path] | None = None,
        network: Network | None = None,
    ) -> None:
        """`command` instead of the image's, entrypoint and all. `given`: files from outside, by their place."""
        self._image = image
        uid, _, gid = image.stage.last("USER").value.partition(":")
        volume = image.stage.last("VOLUME").exec_form[0]
        _fill(state, _inside(image.root, Path(volume)))
        for place in given or {}:
            _inside(image.root, Path(place)).parent.mkdir(parents=True, exist_ok=True)
            _inside(image.root, Path(place)).touch()
        self._user = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs"]
        self._user += ["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
        self._environment = _assignments({**image.environment, **environment})
        self._enter = network.enter if network else []
        inside = ["chroot", str(image.root.folder), *self._user, "env", "-i", *self._environment]
        inside += command or image.command
        mounts = image.root.mounts({volume: state}, given or {}, read_only=True)
        unshare = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        self._log = state.with_name(f"{state.name}.log")
        with self._log.open("wb") as log:
            self._unshare = subprocess.Popen(
                [*self._enter, *unshare, "sh", "-c", f"{mounts}\nexec {shlex.join(inside)}"],
                stdout=log,
                stderr=log,
            )
        self.pid = wait_until(self._first_process, "the first process of the container")

    def _first_process(self) -> int:
        """The process with the id 1 in the namespace, by its id here."""
        assert self._unshare.poll() is None, self.log()
        of = self._unshare.pid
        children = Path(f"/proc/{of}/task/{of}/children").read_text().split()
        return int(children[0]) if children else 0

    def log(self) -> str:
        return self._log.read_text()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, with the variables of the container and its user."""
        enter = [
            "nsenter",
            "--target",
            str(self.pid),
            "--mount",
            "--pid",
            "chroot",
            str(self._image.root.folder),
        ]
        whole = [*self._enter, *enter, *self._user, "env", "-i", *self._environment, *command]
        return subprocess.run(whole, capture_output=True, text=True, timeout=120, check=False)

    def is_healthy(self) -> bool:
        assert self._unshare.poll() is None, self.log()
        return self.execute(*self._image.healthcheck).returncode == 0

    def stop(self) -> int:
        """SIGTERM to the first process, as `docker stop`; the exit code of the container."""
        if self._unshare.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        return self._unshare.wait(90)

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        if self._unshare.poll() is None:
            self._unshare.kill()  # and with it, by --kill-child, all that runs in the namespace
            self._unshare.wait()


def _fill(state: Path, place: Path) -> None:
    """As an engine does: a volume starts as a copy of the image's directory."""
    if not state.exists():
        shutil.copytree(place, state)
        status = place.stat()
        os.chown(state, status.st_uid, status.st_gid)
        state.chmod(status.st_mode & 0o777)
