"""The files of deploy/nginx under Debian's nginx, and the command that they stand in front of."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests
import trustme

from tests.deploy.tools import DEPLOY
from tests.e2e.processes import plain_environment, wait_until
from tests.e2e.proxy_process import COMMAND, REPOSITORY, STOP_LIMIT
from tests.servers.nginx import main_file
from tests.servers.programs import find

NAME = "tokens.corp.example"  # in the files


@contextmanager
def nginx(folder: Path, file: str, authority: trustme.CA, changes: Mapping[str, str]) -> Iterator[None]:
    """Run one of the files, with some of its words replaced: ports, and the place of the certificate."""
    (folder / "conf.d").mkdir(parents=True)
    certificate = authority.issue_cert("localhost", NAME)
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "certificate.pem"))
    text = (DEPLOY / "nginx" / file).read_text()
    for old, new in {**changes, f"/etc/nginx/tls/{NAME}.pem": "", f"/etc/nginx/tls/{NAME}.key": ""}.items():
        assert old in text, f"{file} has no {old} any more"
        text = text.replace(old, new or str(folder / "certificate.pem"))
    (folder / "conf.d" / file).write_text(text)
    included = f"include {folder}/conf.d/*.conf;"
    (folder / "nginx.conf").write_text(main_file(folder, included, as_root=os.geteuid() == 0))
    command = [
        find("nginx"),
        "-p",
        str(folder),
        "-e",
        str(folder / "error.log"),
        "-c",
        str(folder / "nginx.conf"),
    ]
    tried = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    assert "warn" not in tried.stderr, tried.stderr
    (folder / "pid").unlink(missing_ok=True)  # the test makes one, and no process
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: process.poll() is not None or (folder / "pid").exists(), "nginx")
        assert process.poll() is None, (folder / "error.log").read_text()
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def running_proxy(folder: Path, config: str, extra: Mapping[str, str] | None = None) -> Iterator[Path]:
    """`token-proxy run` with this configuration; yields its file. It must end by SIGTERM with 0."""
    folder.mkdir(parents=True, exist_ok=True)
    path, log = folder / "config.toml", folder / "log"
    path.write_text(config)
    found = re.search(r'^admin = "([^"]+)"', config, re.MULTILINE)
    assert found is not None
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*COMMAND, "run", "-c", str(path)],
            cwd=REPOSITORY,
            env=plain_environment(folder, extra or {}),
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: _is_up(process, log, found[1]), "the proxy")
        yield path
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_LIMIT) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def _is_up(process: subprocess.Popen[bytes], log: Path, admin: str) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return requests.get(f"http://{admin}/readyz", timeout=30).status_code in {200, 503}
    except requests.ConnectionError:
        return False
