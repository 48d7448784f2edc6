"""Programs without OAuth, in four languages, each with the usual HTTP client there."""

import base64
import hashlib
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers.programs import find

from .authorization_servers import AuthorizationServer, toml
from .conftest import MakeProxy
from .processes import plain_environment

CALLERS = Path(__file__).parent / "callers"
BINARY = ["-H", "Content-Type: application/octet-stream"]
CURL = ["curl", "-sS", *BINARY, "-w", "%{http_code} %header{content-digest}"]
# Each takes METHOD URL BODY_FILE ANSWER_FILE and prints the status and the Content-Digest.
PROGRAMS = {
    "requests": lambda: [sys.executable, str(CALLERS / "caller.py")],
    "node": lambda: [find("node"), str(CALLERS / "caller.mjs")],
    "java": lambda: [find("java"), "-cp", str(CALLERS), "Caller"],
}
# A Java runtime of a wheel has no compiler, so Caller.class stands beside its source, made with
# `javac --release 11 -g:none Caller.java`; then `sha256sum Caller.java` is written here.
COMPILED_FROM = "7785c30e25cbbeb4066caaa5e9d0bfb03936da850fcc8b6375e2da8c2463514f"
BODY = bytes(range(256)) + random.Random(1).randbytes(700_000)  # every byte there is, in many pieces
LONG_BODY = BODY * 3  # above 1 MB curl asks first whether it may send it: Expect: 100-continue


def call(caller: str, method: str, url: str, body: bytes, folder: Path) -> tuple[str, bytes]:
    """What the program prints, and the response's body."""
    body_file, answer_file = folder / "body", folder / "response"
    body_file.write_bytes(body)
    command = command_line(caller, method, url, body_file, answer_file)
    done = subprocess.run(
        command, env=plain_environment(folder, {}), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), answer_file.read_bytes()


def command_line(caller: str, method: str, url: str, body_file: Path, answer_file: Path) -> Sequence[str]:
    if caller == "curl":
        data = ["--data-binary", f"@{body_file}"] if method == "POST" else []
        return [*CURL, *data, "-o", str(answer_file), url]
    return [*PROGRAMS[caller](), method, url, str(body_file), str(answer_file)]


def test_the_compiled_caller_is_made_of_its_source() -> None:
    assert hashlib.sha256((CALLERS / "Caller.java").read_bytes()).hexdigest() == COMPILED_FROM


@pytest.mark.parametrize("caller", ["curl", *PROGRAMS])
def test_a_real_caller_gets_and_posts_every_byte(
    caller: str, oidc_provider: AuthorizationServer, make_proxy: MakeProxy, tmp_path: Path
) -> None:
    proxy = make_proxy(oidc_provider, oidc_provider.machine_credential("client_secret_basic"))
    proxy.start()

    printed, response = call(caller, "GET", proxy.api("/download?size=700000"), b"", tmp_path)
    digest = base64.b64encode(hashlib.sha256(response).digest()).decode()
    assert (printed, len(response)) == (f"200 sha-256=:{digest}:", 700_000)

    # A program of its own, so a first request on a fresh connection: there Java adds Upgrade to the POST.
    printed, response = call(caller, "POST", proxy.api("/echo"), BODY, tmp_path)
    assert (printed, response == BODY) == ("200", True)


def test_curl_sends_a_long_body_after_a_100_continue(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy, tmp_path: Path
) -> None:
    proxy = make_proxy(oidc_provider, oidc_provider.machine_credential("client_secret_basic"))
    proxy.start()
    printed, response = call("curl", "POST", proxy.api("/echo"), LONG_BODY, tmp_path)
    assert (printed, response == LONG_BODY) == ("200", True)


def test_a_caller_may_use_the_proxy_as_a_plain_http_proxy(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy, tmp_path: Path
) -> None:
    """An app whose base URL can't be changed, but is plain http: `http_proxy` and a route of that host do."""
    route = f"""
[[routes]]
host = "api.internal"
upstream = {toml(oidc_provider.upstream_url)}
credential = "crm"
tls = {{ ca = {toml(str(oidc_provider.ca))} }}
"""
    proxy = make_proxy(oidc_provider, oidc_provider.machine_credential("client_secret_basic"), route)
    proxy.start()
    environment = {"http_proxy": f"http://127.0.0.1:{proxy.data_port}"}
    asked = ["curl", "-sS", "-o", "/dev/null", "-w", " %{http_code}", "http://api.internal/download?size=9"]
    done = subprocess.run(
        asked, env=plain_environment(tmp_path, environment), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" 200"), done.stdout
