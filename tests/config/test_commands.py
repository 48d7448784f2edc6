"""`token-proxy check` and `token-proxy schema`: their output and exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from proxy.commands.shared import DONE, WRONG_CONFIG

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "config.example.toml"
ENVIRON = {"OAUTH_CLIENT_ID": "app", "OAUTH_CLIENT_SECRET": "s3cret"}
NASTY = [
    b"",
    b"[",
    b"\xff",
    b"\xef\xbb\xbf[server]",
    b"credentials = 5\nroutes = 5\nserver = []\nlimits = 'x'\nlog = 1.5\nstore = true",
    b"[[credentials]]\nx = 1\n[routes]\ny = 1",
    b"a = " + b"[" * 5000,
    b"a = " + b"9" * 5000,
    b"[limits]\nspool = 0x" + b"f" * 5000,
    b"[limits]\nidle = 0x" + b"f" * 5000,
    b"[credentials.c]\ngrant = ['x']\nclient_id = { env = \"a\\u0000\" }\n[[routes]]\ncredential = 'c'",
    b'["".""]\n"" = 1\n[credentials."".""]\n[[routes]]\n"" = { "" = [[]] }',
]


def run(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), env=environ)


def test_the_example_has_no_faults_and_no_warnings() -> None:
    done = run("check", "-c", EXAMPLE, **ENVIRON)
    assert (done.exit_code, done.stderr) == (DONE, "")
    first, *routes = done.stdout.splitlines()
    assert first == f"{EXAMPLE}: no faults (3 credentials, 4 routes)"
    assert len(routes) == 4
    assert all(re.fullmatch(r"  http://\S+ +→ https?://\S+ +[a-z]+/\S.*", route) for route in routes), routes


def test_many_routes_are_not_all_listed(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        "[credentials.x]\nissuer = 'https://login.example'\nclient_id = 'x'\n"
        + "".join(
            f"[[routes]]\npath = '/{n}'\nupstream = 'https://a.example'\ncredential = 'x'\n"
            for n in range(23)
        )
    )
    lines = run("check", "-c", path).stdout.splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "  and 3 more routes, which -v shows"
    assert run("check", "-v", "-c", path).stdout.count("→") == 0


def test_the_example_has_no_faults_in_a_real_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "check", "-c", "config.example.toml"],
        cwd=REPOSITORY,
        env={**ENVIRON, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (DONE, "")
    assert done.stdout.startswith("config.example.toml: no faults (3 credentials, 4 routes)\n")
    assert list(tmp_path.iterdir()) == [], "check changes nothing"


def test_empty_variables_of_the_example_are_reported() -> None:
    done = run("check", "-c", EXAMPLE, OAUTH_CLIENT_ID="app", OAUTH_CLIENT_SECRET="")
    assert (done.exit_code, done.stdout) == (WRONG_CONFIG, "")
    assert done.stderr.count(
        "the environment variable OAUTH_CLIENT_SECRET is empty"
    ) == EXAMPLE.read_text().count('\nclient_secret = { env = "OAUTH_CLIENT_SECRET" }')


def test_the_warning_about_a_literal_secret_does_not_show_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(EXAMPLE.read_text().replace('{ env = "OAUTH_CLIENT_SECRET" }', '"s3cret"'))
    done = run("check", "-c", path, OAUTH_CLIENT_ID="app")
    assert done.exit_code == DONE
    assert done.stderr.startswith(f"warning: {path}:")
    assert "s3cret" not in done.output


def test_the_warning_about_a_literal_proxy_password_does_not_show_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    text = EXAMPLE.read_text().replace(
        '\nupstream = "https', '\nproxy = "http://me:s3cret@egress"\nupstream = "https'
    )
    path.write_text(text)
    done = run("check", "-c", path, OAUTH_CLIENT_ID="app", OAUTH_CLIENT_SECRET="secret")
    assert done.exit_code == DONE
    assert done.stderr.count("a secret in the configuration file itself") == 2
    assert "s3cret" not in done.output


def test_a_missing_file_is_reported_in_one_line(tmp_path: Path) -> None:
    done = run("check", "-c", tmp_path / "none.toml")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (WRONG_CONFIG, "", 1)


@pytest.mark.parametrize("content", NASTY)
def test_no_file_ends_in_a_traceback(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    done = run("check", "-c", path)
    assert done.exit_code in {DONE, WRONG_CONFIG}
    assert (done.exit_code == DONE) == (not done.stderr or done.stderr.startswith("warning: "))
    assert "Traceback" not in done.output
    assert "unexpected" not in done.output


def test_schema_prints_json_that_an_editor_can_use() -> None:
    done = run("schema")
    assert (done.exit_code, done.stderr) == (DONE, "")
    schema = json.loads(done.stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"server", "credentials", "routes", "limits"} <= schema["properties"].keys()
