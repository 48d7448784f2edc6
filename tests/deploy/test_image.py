"""deploy/docker: linted, and each instruction replayed in a bare folder (image.py)."""

import importlib.util
import shutil
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import requests

from proxy.demo.wiring import free_ports
from tests.deploy import dockerfile, image, stack
from tests.deploy.container import Container
from tests.deploy.tools import program
from tests.e2e.processes import Service, wait_until

UNCHECKED = 1  # PEP 552: the hash stands for the source, which nobody reads


def test_hadolint_has_no_complaint():
    done = subprocess.run(
        [program("hadolint"), image.DOCKER / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("line", "rule"),
    [("RUN apt-get install gcc", "DL3008"), ("USER root", "DL3002"), ("FROM debian:latest", "DL3007")],
)
def test_hadolint_complains_about_a_bad_line(tmp_path, line, rule):
    bad = tmp_path / "Dockerfile"
    bad.write_text(f"FROM debian:13\n{line}\n")
    done = subprocess.run([program("hadolint"), bad], capture_output=True, text=True, check=False)
    assert rule in done.stdout


def test_an_image_says_what_it_is_and_is_nobody_by_default():
    last = dockerfile.read(image.DOCKER / "Dockerfile", {"VERSION": "1.2.3", "REVISION": "abc"})[-1]
    labels = last.last("LABEL").pairs
    assert labels["org.opencontainers.image.version"] == "1.2.3"
    assert labels["org.opencontainers.image.revision"] == "abc"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.source"].startswith("https://")
    uid, gid = last.last("USER").value.split(":")
    assert (int(uid), int(gid)) >= (10_000, 10_000), "numbers that no system user has"
    assert last.last("HEALTHCHECK").value == 'CMD ["token-proxy", "wait", "--timeout", "0"]'
    assert (last.last("ENTRYPOINT").exec_form, last.last("CMD").exec_form) == (["token-proxy"], ["run"])


def test_the_stages_are_of_one_python_and_the_last_has_no_compiler():
    builder, last = dockerfile.read(image.DOCKER / "Dockerfile", {})
    assert builder.base.replace(":3.13-", ":3.13-slim-") == last.base == "python:3.13-slim-trixie"


def test_the_build_is_sent_only_what_it_copies():
    sent = {
        line.removeprefix("!")
        for line in (image.DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for stage in dockerfile.read(image.DOCKER / "Dockerfile", {})
        for step in stage.all("COPY")
        if "from" not in step.flags
        for source in step.value.split()[:-1]
    }
    assert sent == copied


def test_what_runs_is_of_the_versions_that_the_tests_use():
    tested = pins(image.REPOSITORY / "requirements-dev.lock")
    for name in ("requirements.lock", "build.lock"):
        assert pins(image.DOCKER / name) <= tested, "make lock"
    packages = pins(image.DOCKER / "requirements.lock")
    assert pins(image.REPOSITORY / "requirements.lock") <= packages, "make lock"
    assert {"psycopg", "psycopg-binary", "redis"} <= dict(packages).keys(), (
        "an image is for shared stores too"
    )


def pins(lock: Path) -> set[tuple[str, str]]:
    lines = (line.split()[0] for line in lock.read_text().splitlines() if "==" in line and line[0].isalnum())
    return {(name, version) for name, _, version in (line.partition("==") for line in lines)}


@pytest.mark.privileged
@pytest.mark.timeout(1200)  # it installs all that runs; many machines at once share a network
def test_the_image_runs_as_nobody_on_a_read_only_root_with_environment_alone(tmp_path):
    made = image.build(tmp_path / "image", COMPILE="never")
    try:
        is_small_and_complete(made)
        server = Service([sys.executable, "-m", "proxy.demo"], tmp_path / "server", {})
        try:
            lives(made, server, tmp_path / "state")
            needs_a_login(made, server, tmp_path / "other-state")
        finally:
            server.stop()
        with stack.compose(made, tmp_path / "compose") as services:
            the_application_gets_what_it_calls_for(services)
            a_person_logs_in_on_the_published_port(services)
    finally:
        shutil.rmtree(tmp_path / "image")  # some 400 MB


def is_small_and_complete(made: image.Image) -> None:
    library = made.root.local / "lib" / f"python3.{sys.version_info.minor}"
    assert not (library / "ensurepip").exists()
    assert not list((library / "site-packages").iterdir()), "pip, and all that came with it"
    installed = made.root.folder / "opt" / "token-proxy"
    assert not list(installed.rglob("pip"))
    module = next(installed.rglob("proxy/cli.py"))
    cached = Path(importlib.util.cache_from_source(str(module)))
    assert cached.read_bytes()[4:8] == UNCHECKED.to_bytes(4, "little")
    for path in installed.rglob("*"):
        status = path.lstat()
        assert status.st_uid == 0, path
        assert path.is_symlink() or not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH), path
    assert sum(path.lstat().st_size for path in installed.rglob("*")) < 150_000_000


def variables(server: Service, grant: str) -> tuple[dict[str, str], int]:
    """A configuration by environment alone, and the port of its data listener."""
    data, admin, health = free_ports(0, 0, 0)
    return {
        "TOKEN_PROXY_UPSTREAM": server.ready["api"],
        "TOKEN_PROXY_ISSUER": server.ready["issuer"],
        "TOKEN_PROXY_GRANT": grant,
        "TOKEN_PROXY_CLIENT_ID": "demo",
        "TOKEN_PROXY_CLIENT_SECRET": "secret",
        "TOKEN_PROXY_LISTEN": f"127.0.0.1:{data}",
        "TOKEN_PROXY_ADMIN": f"127.0.0.1:{admin}",
        "TOKEN_PROXY_HEALTH": f"127.0.0.1:{health}",
    }, data


def lives(made: image.Image, server: Service, state: Path) -> None:
    environment, port = variables(server, "client_credentials")
    for _ in range(2):  # the second time with the state of the first
        with Container(made, state, environment) as container:
            wait_until(container.is_healthy, f"the container to be healthy\n{container.log()}")
            assert requests.get(f"http://127.0.0.1:{port}/hello", timeout=30).status_code == 200
            has_no_name_no_home_and_no_rights(container)
            for path in state.iterdir():
                assert path.stat().st_uid == 10001
                assert not path.stat().st_mode & 0o077
            assert (state / "tokens.db").exists()
            assert container.stop() == 0
            assert "Traceback" not in container.log()


def has_no_name_no_home_and_no_rights(container: Container) -> None:
    assert container.execute("id").stdout.startswith("uid=10001 gid=10001 groups=10001")
    assert "\nHOME=" not in f"\n{container.execute('env').stdout}"
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{container.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert status["NSpid"].split()[-1] == "1", "the first process of the container"
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    for place in ("/", "/opt/token-proxy", "/usr/local/lib", "/tmp", "/etc"):
        tried = container.execute("sh", "-c", f"touch {place}/new")
        assert tried.returncode != 0, place
    mounts = container.execute("cat", "/proc/self/mounts").stdout.splitlines()
    options = {line.split()[1]: line.split()[3].split(",") for line in mounts}
    assert "ro" in options["/"]
    assert "rw" in options["/var/lib/token-proxy"]


def has_started(container: Container) -> bool:
    return container.execute("token-proxy", "wait", "--for", "startup", "--timeout", "0").returncode == 0


def needs_a_login(made: image.Image, server: Service, state: Path) -> None:
    """Up, and not ready: what waits for this container waits on; Docker does not restart it."""
    environment, port = variables(server, "authorization_code")
    with Container(made, state, environment) as container:
        wait_until(partial(has_started, container), "the container to have started")
        assert not container.is_healthy()
        response = requests.get(f"http://127.0.0.1:{port}/hello", timeout=30)
        assert response.json()["type"] == "urn:token-proxy:problem:login-required"
        assert container.execute("token-proxy", "status").returncode == 3
        assert container.stop() == 0


def the_application_gets_what_it_calls_for(services: stack.Services) -> None:
    """With the command of compose.yaml, but for its loop."""
    done = services.call("app")
    assert '"hello": "demo"' in done.stdout, done.stdout + done.stderr
    assert services.get("http://token-proxy:8080/machine/report").status == 401, "without the key"
    metrics = services.get("http://token-proxy:9102/metrics")
    assert (metrics.status, "token_proxy_build_info{" in metrics.text) == (200, True)
    assert services.get("http://token-proxy:9102/").status in {403, 404}


def a_person_logs_in_on_the_published_port(services: stack.Services) -> None:
    said = services.visit(str(Path(__file__).with_name("visitor.py")))
    assert said == ["refused without the key", "refused with a wrong key", "signed in", "logged in", "valid"]
