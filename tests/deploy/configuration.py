"""The configurations inside of deploy/, judged by `token-proxy check`, with or without what they refer to."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import trustme

from tests.e2e.processes import plain_environment
from tests.e2e.proxy_process import COMMAND, REPOSITORY

FILES = re.compile(r'\{ file = "([^"]+)" \}')
CONTENTS = {
    "store.key": base64.b64encode(bytes(32)).decode(),
    "store.url": "postgresql://user:password@db.example/tokens?sslmode=verify-full",
}


def check(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`token-proxy check` for a configuration on its own: nothing that it refers to is there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(text)
    return run(folder, {}, "check", "-c", str(folder / "config.toml"), *options)


def check_complete(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """`token-proxy check` where each secret and certificate is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES.findall(text):
        (folder / name).write_text(CONTENTS.get(name, f"a-secret-of-more-than-20-characters-{name}") + "\n")
    if "tls/tls.crt" in text:
        (folder / "tls").mkdir()
        certificate = trustme.CA().issue_cert("token-proxy")
        certificate.cert_chain_pems[0].write_to_path(str(folder / "tls" / "tls.crt"))
        certificate.private_key_pem.write_to_path(str(folder / "tls" / "tls.key"))
    return check(folder, text)


def run(folder: Path, variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=REPOSITORY,
        env=plain_environment(folder, variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
