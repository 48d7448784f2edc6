"""deploy/systemd and deploy/launchd: the real linters, and the real command under the limits of its unit.

No systemd runs here: tests/e2e/test_socket_activation.py has a stand-in for what it does with sockets.
"""

import json
import os
import plistlib
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import aiohttp
import pytest

from proxy.config.limits import Limits
from proxy.config.load import load
from proxy.config.server import Server
from proxy.demo.wiring import embedded, free_ports
from proxy.process import CLOSING, SAVE_GRACE
from tests.e2e.processes import plain_environment
from tests.fakes.service_manager import ServiceManager
from tests.servers import programs

from .units import DEPLOY, confined, settings

SYSTEMD = DEPLOY / "systemd"
SERVICE = SYSTEMD / "token-proxy.service"
SOCKET = SYSTEMD / "token-proxy.socket"
USER_SERVICE = SYSTEMD / "user" / "token-proxy.service"
PLIST = DEPLOY / "launchd" / "com.github.token-proxy.plist"
EXAMPLE = DEPLOY.parent / "config.example.toml"
MOST_EXPOSURE = 1.5
FOR_ROOT = re.compile(r" fchown\(")  # of SQLite, which gives its files an owner if it runs as root, as here
KEYS_OF_LAUNCHD = {  # launchd.plist(5); launchd ignores others without a word
    "ExitTimeOut",
    "HardResourceLimits",
    "KeepAlive",
    "Label",
    "ProgramArguments",
    "RunAtLoad",
    "SoftResourceLimits",
    "ThrottleInterval",
    "Umask",
}


def analyze(*arguments, **environment):
    done = subprocess.run(
        [programs.find("systemd-analyze"), "--no-pager", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def installed(tmp_path):
    """Copies of the units, whose command exists."""
    command = tmp_path / "home" / ".local" / "bin" / "token-proxy"
    command.parent.mkdir(parents=True)
    command.symlink_to(shutil.which("true"))
    for unit in (SERVICE, SOCKET):
        text = unit.read_text().replace("/usr/local/bin/token-proxy run", f"{command} run")
        (tmp_path / unit.name).write_text(text)
    assert str(command) in (tmp_path / SERVICE.name).read_text()
    return tmp_path


# -- what systemd says of them


@pytest.mark.privileged
def test_the_units_have_no_faults(installed):
    assert analyze("verify", "--man=no", installed / SERVICE.name, installed / SOCKET.name) == (0, "")


@pytest.mark.privileged
def test_the_unit_of_a_user_has_no_faults(installed):
    runtime = installed / "runtime"
    (runtime / "systemd").mkdir(parents=True)
    environment = {"HOME": str(installed / "home"), "XDG_RUNTIME_DIR": str(runtime)}
    assert analyze("--user", "verify", "--man=no", USER_SERVICE, **environment) == (0, "")


@pytest.mark.privileged
def test_the_service_is_hardened():
    code, said = analyze("security", "--offline=true", f"--threshold={int(10 * MOST_EXPOSURE)}", SERVICE)
    (exposure,) = re.findall(r"Overall exposure level for token-proxy.service: ([\d.]+)", said)
    assert (code, float(exposure) <= MOST_EXPOSURE) == (0, True), said


# -- what they say of the command


@pytest.mark.parametrize("unit", [SERVICE, USER_SERVICE], ids=["system", "user"])
def test_the_command_is_one_that_exists(unit):
    (started,) = settings(unit)["ExecStart"]
    command, action, option, path = started.split()
    assert (Path(command).name, action, option) == ("token-proxy", "run", "-c")
    assert path.endswith("/token-proxy/config.toml")
    shown = subprocess.run(
        [sys.executable, "-m", "proxy", "run", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "-c, --config FILE" in shown


@pytest.mark.parametrize("unit", [SERVICE, USER_SERVICE], ids=["system", "user"])
def test_it_is_killed_only_after_the_time_that_it_takes_to_stop(unit):
    (stop,) = settings(unit)["TimeoutStopSec"]
    assert float(stop) > Limits().shutdown + SAVE_GRACE + CLOSING


def test_the_sockets_are_the_listeners_of_the_example_and_of_no_configuration():
    streams = settings(SOCKET)["ListenStream"]
    example = tomllib.loads(EXAMPLE.read_text())["server"]
    assert streams == [example["listen"], example["admin"]]
    defaults = Server.model_fields["listen"].default, Server.model_fields["admin"].default
    assert streams == list(defaults)


def test_the_configuration_finds_the_secrets_where_the_comment_says():
    text = SERVICE.read_text()
    names = [each.partition(":")[0] for each in settings(SERVICE)["LoadCredential"]]
    assert names == ["client-secret", "store-key"]
    for name in names:
        assert f'{{ file = "/run/credentials/{SERVICE.name}/{name}" }}' in text


def test_the_readme_names_all_files():
    text = (SYSTEMD / "README.md").read_text()
    for file in (SERVICE.name, SOCKET.name, f"user/{USER_SERVICE.name}", f"../launchd/{PLIST.name}"):
        assert file in text
    for secret in settings(SERVICE)["LoadCredential"]:
        assert secret.partition(":")[2] in text
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        subprocess.run(["sh", "-n"], input=block, text=True, check=True)


# -- the command under its limits


async def fetch(url, method="GET", **options):
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as response:
        return response.status, await response.text()


@pytest.mark.privileged
@pytest.mark.parametrize("unit", [SERVICE, USER_SERVICE], ids=["system", "user"])
async def test_the_command_needs_nothing_that_its_unit_forbids(unit, tmp_path):
    """It starts, refreshes, serves on a unix socket of its own, looks up a peer, reloads and stops."""
    manager, report = ServiceManager(tmp_path), tmp_path / "forbidden"
    try:
        async with embedded(*free_ports(0, 0)) as (_, config):
            data, admin = config.server.listen[0], config.server.admin
            path = f"{tmp_path}/data.sock"
            text = config.path.read_text().replace(f'"{data}"', f'["{data}", "unix:{path}"]')
            config.path.write_text(text)
            load(config.path)
            manager.bind((data.host, data.port), "token-proxy")
            manager.bind((admin.host, admin.port), "token-proxy")
            command = [sys.executable, "-m", "proxy", "run", "-c", str(config.path)]
            manager.start([*confined(unit, report), *command], plain_environment(tmp_path, {}))
            await manager.until("READY=1")
            status, document = await fetch(f"http://{data}/machine/x")
            assert (status, json.loads(document)["hello"]) == (200, "demo-machine")
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
                session.get("http://localhost/machine/x") as response,
            ):
                assert response.status == 200
            assert (await fetch(f"http://{admin}/"))[0] == 200
            page = f"http://{admin}/refresh/machine"
            assert (await fetch(page, "POST", headers={"Origin": f"http://{admin}"}))[0] in {303, 403}
            manager.signal(signal.SIGHUP)
            await manager.until("RELOADING=1")
            await manager.until("READY=1")
            assert await manager.stop() == 0, manager.log.read_text()
            assert "Traceback" not in manager.log.read_text()
    finally:
        manager.close()
    calls = report.read_text().splitlines()
    families = {found[1] for line in calls if (found := re.search(r"socket\((AF_\w+)", line))}
    assert families <= set(settings(unit)["RestrictAddressFamilies"][0].split())
    assert families >= {"AF_INET", "AF_UNIX", "AF_NETLINK"}, "else nothing was looked at"
    assert [line for line in calls if "socket(" not in line and not FOR_ROOT.search(line)] == []


FORBIDDEN = """
import mmap, os
try:
    os.chown(".", 0, 0)
except PermissionError:
    print("no chown")
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    print("no code")
"""


@pytest.mark.privileged
def test_these_limits_are_limits(tmp_path):
    command = [*confined(SERVICE, tmp_path / "forbidden"), sys.executable, "-c", FORBIDDEN]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert said == "no chown\nno code\n"
    assert "chown(" in (tmp_path / "forbidden").read_text()


# -- launchd


def test_the_plist_has_keys_that_launchd_knows():
    plist = plistlib.loads(PLIST.read_bytes())
    assert set(plist) <= KEYS_OF_LAUNCHD
    assert plist["Label"] == PLIST.name.removesuffix(".plist")
    assert plist["ExitTimeOut"] > Limits().shutdown + SAVE_GRACE + CLOSING
    assert plist["Umask"] == 0o077


def test_the_command_of_the_plist_starts_the_command_with_its_configuration(tmp_path):
    """By a home in which the command says what it was given."""
    command = tmp_path / ".local" / "bin" / "token-proxy"
    command.parent.mkdir(parents=True)
    (tmp_path / "Library" / "Logs").mkdir(parents=True)
    command.write_text('#!/bin/sh\necho "$@" $$\necho a line >&2\n')
    command.chmod(0o700)
    started = subprocess.Popen(
        plistlib.loads(PLIST.read_bytes())["ProgramArguments"],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = started.communicate(timeout=60)
    assert said == f"run -c {tmp_path}/.config/token-proxy/config.toml {started.pid}\n", "signals reach it"
    assert (tmp_path / "Library" / "Logs" / "token-proxy.log").read_text() == "a line\n"
