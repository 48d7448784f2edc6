"""`token-proxy check`: without secrets, verbose, for the environment alone, and what it warns about."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.config.load import load
from proxy.errors import ConfigError
from tests.fakes import signing
from tests.other_user import STRANGER

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
ELSEWHERE = """
[server]
tls = { cert = "none.pem", key = "none.key" }
admin_key = { file = "/run/secrets/admin" }
listen = { unix = "/run/data.sock", mode = "0660", group = "no-such-group-here" }
proxy = { env = "NO_SUCH_VARIABLE" }

[store]
url = { file = "/run/secrets/store-url" }
key = { file = "/run/secrets/store-key" }

[credentials.crm]
issuer = "https://login.example"
client_id = { env = "NO_SUCH_ID" }
client_secret = { env = "NO_SUCH_VARIABLE" }
tls = { ca = "/etc/ca.pem" }

[callers.one]
key = { env = "KEY_ONE" }
uid = 1000
[callers.two]
key = [{ file = "/run/secrets/two" }, { file = "/run/secrets/three" }]

[[routes]]
path = "/crm"
upstream = "https://api.example"
credential = "crm"
headers = { X-Api-Key = { env = "NO_SUCH_KEY" } }
tls = { ca = "/etc/ca.pem", cert = "/run/client.pem", key = "/run/client.key" }
"""
BASE = {
    "TOKEN_PROXY_UPSTREAM": "https://api.example/v2",
    "TOKEN_PROXY_ISSUER": "https://login.example",
    "TOKEN_PROXY_CLIENT_ID": "app",
}


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Run `check` in a folder of its own, with a file of this text, if any."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKEN_PROXY_CONFIG", raising=False)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))

    def run(*arguments, text=None, **environ):
        if text is not None:
            (tmp_path / "config.toml").write_text(text)
        return CliRunner().invoke(main, ["check", *arguments], env=environ, catch_exceptions=False)

    return run


# -- without secrets


def test_without_secrets_nothing_that_the_file_refers_to_need_exist(check):
    assert check(text=ELSEWHERE).exit_code == 2
    done = check("--no-secrets", text=ELSEWHERE)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("config.toml: no faults (1 credential, 1 route, 2 callers)\n")


def test_without_secrets_those_that_exist_are_not_read(check, tmp_path):
    """A wrong secret is no fault either: CI has other ones, or none."""
    (tmp_path / "secret").write_bytes(b"\xff")
    text = ELSEWHERE.replace('{ env = "NO_SUCH_VARIABLE" }\ntls', '{ file = "secret" }\ntls')
    assert text != ELSEWHERE
    assert check("--no-secrets", text=text, NO_SUCH_VARIABLE="not a URL").exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"NO_SUCH_ID"', '"NOT A NAME"', "not the name of an environment variable"),
        ('issuer = "https', 'issuer = "http', "http would expose secrets"),
        ('credential = "crm"', 'credential = "cmr"', "there is no credential 'cmr' - did you mean 'crm'?"),
        ('"/run/secrets/two"', '"/run/secrets/three"', ""),
        ('"/run/secrets/two"', '"x" }, { env = "KEY_ONE"', "caller 'one' has the same key"),
        ('client_id = { env = "NO_SUCH_ID" }', "", "client_id is missing"),
        ('{ file = "/run/secrets/store-key" }', '"short"', "expected 32 bytes in base64"),
        (', key = "none.key"', "", "key is missing"),
    ],
)
def test_without_secrets_other_faults_are_still_found(check, old, new, fault):
    text = ELSEWHERE.replace(old, new, 1)
    assert text != ELSEWHERE
    done = check("--no-secrets", text=text)
    assert done.exit_code == (2 if fault else 0)
    assert fault in done.stderr


def test_without_secrets_for_the_environment_alone(check):
    variables = {**BASE, "TOKEN_PROXY_CLIENT_SECRET_FILE": "/none", "TOKEN_PROXY_CA": "/none"}
    assert check(**variables).exit_code == 2
    done = check("--no-secrets", **variables)
    assert done.exit_code == 0
    assert done.stdout.startswith("environment: no faults (1 credential, 1 route)\n")


# -- verbose


def test_verbose_shows_what_was_understood(check):
    done = check("-v", "-c", str(EXAMPLE), OAUTH_CLIENT_ID="the-id", OAUTH_CLIENT_SECRET="Sesame")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "Sesame" not in done.output
    lines = [re.sub(" {2,}", "  ", line) for line in done.stdout.splitlines()]
    for expected in (
        'client_id = "the-id"  # from env OAUTH_CLIENT_ID',
        "client_secret = ***  # from env OAUTH_CLIENT_SECRET",
        'client_auth = "client_secret_basic"  # default',
        "refresh_at = 0.8  # default",
        "token_params = { audience = *** }",
        "# redirect URI to register: http://127.0.0.1:8081/callback",
        'account = { header = "Token-Proxy-Account" }',
        "refresh_token_idle = 5184000",
        'url = "sqlite:tokens.db"',
    ):
        assert expected in lines
    assert f"# tokens are kept in {os.environ['STATE_DIRECTORY']}/tokens.db" in lines


def test_verbose_shows_routes_in_their_order(check):
    routes = [
        ("path = '/a'", "http://127.0.0.1:8080/a"),
        ("path = '/'", "http://127.0.0.1:8080/"),
        ("host = 'api.localhost'\npath = '/x'", "http://api.localhost:8080/x"),
        ("path = '/a/b'", "http://127.0.0.1:8080/a/b"),
        ("listen = '127.0.0.1:9000'", "http://127.0.0.1:9000"),
        ("host = 'api.localhost'", "http://api.localhost:8080"),
        ("listen = 'unix:/run/own.sock'", "unix:/run/own.sock /"),
    ]
    text = "".join(
        f"[[routes]]\nname = 'r{index}'\n{place}\nupstream = 'https://a.example/base'\ncredential = 'c'\n"
        for index, (place, _) in enumerate(routes)
    )
    done = check("-v", text=text + "[credentials.c]\nissuer = 'https://l.example'\nclient_id = 'x'\n")
    assert done.exit_code == 0
    table = done.stdout.partition("# Routes")[2].splitlines()[2:]
    assert [re.split(" {2,}", line)[0] for line in table] == [routes[at][1] for at in (4, 6, 2, 5, 3, 0, 1)]
    assert all("https://a.example/base  c/default" in line for line in table)


def test_verbose_shows_callers_policies_and_references(check):
    text = ELSEWHERE.replace('credential = "crm"', 'credential = "crm"\nmethods = ["GET"]\ndeny = ["/x"]')
    done = check("-v", "--no-secrets", text=text)
    assert done.exit_code == 0
    lines = [re.sub(" {2,}", "  ", line) for line in done.stdout.splitlines()]
    assert "client_id = ***  # from env NO_SUCH_ID" in lines
    assert "key = ***  # from file /run/secrets/two, from file /run/secrets/three" in lines
    assert "url = ***  # from file /run/secrets/store-url" in lines
    assert "[callers.one]" in lines
    assert any(line.endswith("GET, deny /x") for line in lines)


def test_verbose_shows_no_password_of_the_store_or_a_proxy(check):
    done = check(
        "-v",
        **BASE,
        TOKEN_PROXY_STORE_URL="redis://user:Sesame@cache:6379/1",
        TOKEN_PROXY_STORE_KEY="A" * 43 + "=",
        TOKEN_PROXY_PROXY="http://user:Sesame@egress:3128",
    )
    assert done.exit_code == 0
    assert "Sesame" not in done.output
    assert 'url = "redis://cache:6379/1"' in done.stdout
    assert done.stdout.count('"http://***@egress:3128"') == 3


def test_verbose_output_without_notes_is_toml(check):
    done = check("-v", "-c", str(EXAMPLE), OAUTH_CLIENT_ID="the-id", OAUTH_CLIENT_SECRET="Sesame")
    tables = done.stdout.partition("\n")[2].partition("# Routes")[0]
    parsed = tomllib.loads(tables.replace("***", '"***"'))
    assert parsed["credentials"]["crm"]["issuer"] == "https://login.example"
    assert [route["name"] for route in parsed["routes"]][-1] == "tickets", "the route that `mcp` makes"
    assert len(parsed["routes"]) == 4


# -- faults that `run` would find


@pytest.mark.parametrize(
    "url",
    ["redis://cache:1/x", "rediss://cache/0?what=ever", "postgresql://db/x?nonsense=1", "redis://cache/0#x"],
)
def test_a_url_of_the_store_that_run_refuses_is_a_fault(check, url):
    key = "A" * 43 + "="
    done = check(text=f"[store]\nurl = {url!r}\nkey = '{key}'\n")
    assert done.exit_code == 2
    assert done.stderr.startswith("config.toml:2:7: store.url ")
    assert check(**BASE, TOKEN_PROXY_STORE_KEY=key, TOKEN_PROXY_STORE_URL=url, text=None).exit_code == 2


# -- warnings


def test_certificates_that_run_refuses_are_a_fault_at_their_place(open_folder):
    keys = {"rsa.pem": signing.pem("rsa"), "other.pem": signing.certificate("p256")}
    for name, text in keys.items():
        (open_folder / name).write_text(text)
    client = 'issuer = "https://login.example"\nclient_id = "app"\n'
    path = open_folder / "config.toml"
    path.write_text(f'[credentials.crm]\n{client}tls = {{ cert = "other.pem", key = "rsa.pem" }}\n')
    result = CliRunner().invoke(main, ["check", "-c", str(path)])
    assert result.exit_code == 2
    assert (
        f"{path}:4:7: {open_folder}/other.pem, {open_folder}/rsa.pem can't be used: expected" in result.output
    )
    assert CliRunner().invoke(main, ["check", "--no-secrets", "-c", str(path)]).exit_code == 0


def test_verbose_shows_that_a_key_is_there_and_nothing_of_it(check, tmp_path):
    (tmp_path / "key.pem").write_text(signing.pem("p256"))
    client = 'issuer = "https://login.example"\nclient_id = "app"\n'
    result = check(
        "-v", text=f'[credentials.crm]\n{client}client_key = {{ file = "key.pem" }}\ndpop = true\n'
    )
    assert re.search(r"^client_key = \*\*\* +# from file key.pem$", result.output, re.MULTILINE)
    assert re.search(r'^client_auth = "private_key_jwt" +# default$', result.output, re.MULTILINE)
    assert "PRIVATE" not in result.output


def test_no_routes_and_unused_credentials_are_warned_about(check):
    credentials = "".join(
        f"[credentials.{name}]\nissuer = 'https://l.example'\nclient_id = 'x'\n" for name in ("one", "two")
    )
    done = check(text=credentials)
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: config.toml:1:1: there are no routes")
    done = check(
        text=f"{credentials}[[routes]]\npath = '/'\nupstream = 'https://a.example'\ncredential = 'one'\n"
    )
    assert done.stderr.startswith("warning: config.toml:4:1: no route uses this credential - ")
    assert done.stderr.count("warning") == 1


@pytest.fixture
def open_folder():
    """A folder that every user can search; temporary ones of pytest are private."""
    folder = Path("/var/tmp") / f"token-proxy-test-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o755)  # whatever the umask, which commands change
    yield folder
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
def test_a_secret_file_that_others_can_read_is_warned_about(open_folder, mode, warned):
    path = open_folder / "config.toml"
    path.write_text(
        "[credentials.c]\nissuer = 'https://l.example'\nclient_id = 'x'\n"
        "client_secret = { file = 'secret' }\n"
    )
    (open_folder / "secret").write_text("s")
    (open_folder / "secret").chmod(mode)
    environ = {"STATE_DIRECTORY": "/x"}
    said = [fault.message for fault in load(path, environ).warnings]
    assert said == (["other users of this machine can read this file - `chmod 600` it"] if warned else [])
    assert load(path, environ, secrets=False).warnings == []
    open_folder.chmod(0o700)
    assert load(path, environ).warnings == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.privileged
def test_a_secret_file_of_another_user_is_not_warned_about(open_folder):
    """As in a mount of a container platform: the program can't change its mode."""
    path = open_folder / "config.toml"
    path.write_text("[credentials.c]\nissuer = 'https://l.example'\nclient_id = { file = 'id' }\n")
    (open_folder / "id").write_text("s")
    os.chown(open_folder / "id", STRANGER, STRANGER)
    assert load(path, {"STATE_DIRECTORY": "/x"}).warnings == []


# -- the real command


AS_STRANGER = f"""
import os, sys
import proxy.cli, proxy.commands.check, proxy.commands.route_table, proxy.store.sqlite.store
os.setgroups([]), os.setgid({STRANGER}), os.setuid({STRANGER})  # who may not read our modules: import before
os.chdir("/")
os.environ.clear()
os.environ.update(pair.split("=", 1) for pair in sys.argv[1:])
proxy.cli.main(["check"])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.privileged
def test_without_a_home_directory(tmp_path):
    """A user without an entry in the password database, as in a container."""

    def run(**more):
        pairs = [f"{name}={value}" for name, value in {**BASE, **more}.items()]
        return subprocess.run(
            [sys.executable, "-c", AS_STRANGER, *pairs],
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    failed = run()
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith(
        "environment: STATE_DIRECTORY: not set - expected a directory for the tokens"
    )
    for more in ({"STATE_DIRECTORY": str(tmp_path)}, {"TOKEN_PROXY_STORE_URL": "memory:"}):
        done = run(**more)
        assert done.returncode == 0
        assert "home directory" not in done.stderr
        assert done.stdout.startswith("environment: no faults (1 credential, 1 route)\n")


def test_without_a_home_directory_a_file_is_at_fault_in_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    path = tmp_path / "config.toml"
    path.write_text("[log]\n[server]\n")
    with pytest.raises(ConfigError) as report:
        load(path, {})
    assert str(report.value).startswith(
        f"{path}:2:1: no home directory here, so no place for the tokens: set server.state_dir or "
        "$STATE_DIRECTORY\n"
    )
