"""Secrets of commands and keyrings, by the real command: found at the start, and again after a refusal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.keyring_backend import FILE
from tests.fakes.raw_servers import listening, read_message, response

from .conftest import CREDENTIAL, until

REPOSITORY = Path(__file__).parents[2]
ROUTE = """
[[routes]]
path = "/x"
upstream = "http://127.0.0.1:{upstream}"
credential = "{credential}"
"""
STATIC = """
[credentials.key]
grant = "static"
value = {value}
"""
NO = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


def api(taken):
    def serve(connection):
        while message := read_message(connection):
            is_good = f"\r\nAuthorization: Bearer {taken()}\r\n".encode() in message
            connection.sendall(response(b"hello") if is_good else NO)

    return serve


@pytest.fixture
def vault(command):
    """A file that a program prints, and the configuration that runs it."""
    (command.folder / "vault").write_text("sesame-1\n")
    script = command.folder / "read.sh"
    script.write_text("#!/bin/sh\necho run >> runs\nexec cat vault\n")
    script.chmod(0o700)
    return command.folder / "vault"


def test_a_401_to_a_static_value_looks_it_up_again_and_replays(command, vault):
    runs = command.folder / "runs"
    with listening(api(lambda: vault.read_text().strip())) as upstream:
        value = '{ command = ["./read.sh"] }'
        command.configure(STATIC.format(value=value) + ROUTE.format(upstream=upstream, credential="key"))
        command.start()
        assert command.get("/x")[0] == 200
        assert runs.read_text() == "run\n"
        vault.write_text("sesame-2\n")
        assert command.get("/x")[0] == 200
        assert runs.read_text() == "run\nrun\n"
        vault.write_text("sesame-3\n")
        assert command.get("/x")[0] == 401  # not again within half a minute
        assert runs.read_text() == "run\nrun\n"
        assert "took up other secrets of credentials.key" in command.log()
        command.stop()
    assert "sesame" not in command.log()


def test_many_refusals_share_one_look_which_delays_nothing_else(command, vault):
    script, runs = command.folder / "read.sh", command.folder / "runs"
    script.write_text(
        "#!/bin/sh\necho run >> runs\n"
        'if [ "$(wc -l < runs)" -gt 1 ]; then while [ ! -e go ]; do sleep 0.05; done; fi\nexec cat vault\n'
    )
    with listening(api(lambda: vault.read_text().strip())) as upstream, ThreadPoolExecutor(20) as callers:
        value = '{ command = ["./read.sh"] }'
        command.configure(STATIC.format(value=value) + ROUTE.format(upstream=upstream, credential="key"))
        command.start()
        assert command.get("/x")[0] == 200
        vault.write_text("sesame-2\n")
        asked = [callers.submit(command.get, "/x") for _ in range(20)]
        until(lambda: runs.read_text() == "run\nrun\n", "the look is under way")
        assert command.get("/healthz", admin=True)[0] == 200  # the loop does not wait for it
        assert command.get("/nowhere")[0] == 404
        (command.folder / "go").touch()
        assert [each.result()[0] for each in asked] == [200] * 20
        assert runs.read_text() == "run\nrun\n"
        command.stop()


def test_a_command_that_fails_later_leaves_the_value_and_is_warned_about_once(command, vault):
    with listening(api(lambda: "other")) as upstream:
        value = '{ command = ["./read.sh"] }'
        command.configure(STATIC.format(value=value) + ROUTE.format(upstream=upstream, credential="key"))
        command.start()
        vault.unlink()
        for _ in range(3):
            assert command.get("/x")[0] == 401
        until(lambda: "can't be looked up again" in command.log(), "the failure is reported")
        assert command.log().count("can't be looked up again") == 1
        assert command.get("/healthz", admin=True)[0] == 200
        command.stop()
    assert "sesame" not in command.log()


def test_a_client_secret_is_looked_up_again_when_the_server_refuses_the_client(command, tokens):
    script = command.folder / "read.sh"
    script.write_text("#!/bin/sh\nif mkdir first; then echo old; else echo secret; fi\n")
    script.chmod(0o700)
    credential = CREDENTIAL.format(name="crm", issuer=tokens.issuer)
    credential = credential.replace('"secret"', '{ command = ["./read.sh"] }')
    with listening(
        lambda connection: read_message(connection) and connection.sendall(response(b"hello"))
    ) as port:
        command.configure(credential + ROUTE.format(upstream=port, credential="crm"))
        command.start()
        until(lambda: command.get("/x")[0] == 200, "the other secret is found and used")
        assert "took up other secrets of credentials.crm" in command.log()
        command.stop()


@pytest.mark.parametrize("name", ["check", "run"])
def test_a_command_that_fails_at_the_start_is_a_fault(command, name):
    command.configure(STATIC.format(value='{ command = ["false"] }'))
    found = command.run(name)
    assert found.returncode == 2
    assert "the command false ended with exit code 1" in found.stderr


def test_a_keyring_of_the_users_own_choice(command):
    file = command.folder / "keyring"
    file.write_text("notes api sesame-1\n")
    command.environment = {
        "PYTHON_KEYRING_BACKEND": "tests.fakes.keyring_backend.FileKeyring",
        "PYTHONPATH": str(REPOSITORY),
        FILE: str(file),
    }
    with listening(api(lambda: "sesame-2")) as upstream:
        value = '{ keyring = "notes/api" }'
        command.configure(STATIC.format(value=value) + ROUTE.format(upstream=upstream, credential="key"))
        assert command.run("token", "key").stdout == "sesame-1\n"
        assert "from keyring notes/api" in command.run("check", "-v").stdout
        command.start()
        file.write_text("notes api sesame-2\n")
        assert command.get("/x")[0] == 200
        command.stop()
    file.write_text("")
    found = command.run("check")
    assert found.returncode == 2
    assert "`keyring set notes api` makes it" in found.stderr


def test_without_the_package_keyring_the_fault_says_what_to_install(command):
    (command.folder / "keyring.py").write_text("raise ImportError\n")
    command.environment = {"PYTHONPATH": f"{command.folder}:{REPOSITORY}"}
    command.configure(STATIC.format(value='{ keyring = "notes/api" }'))
    found = command.run("check")
    assert found.returncode == 2
    assert 'pip install "token-proxy[keyring]"' in found.stderr
