"""Every command for a configuration that consists of environment variables; the server as a process."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from click.testing import CliRunner

from proxy.cli import main
from proxy.demo.wiring import free_ports

DONE, USAGE, LOGIN_NEEDED = 0, 2, 3
PATIENCE = 90
KEY = "tpk_" + "k" * 43
VERIFIER = "v" * 43


class Alone:
    """A folder without a configuration file, and an environment that has what it needs, and no more."""

    def __init__(self, bench, folder, monkeypatch):
        data, admin = free_ports(0, 0)
        self.folder = folder
        self.data, self.admin = f"http://127.0.0.1:{data}", f"http://127.0.0.1:{admin}"
        machine = bench.config.credentials["machine"]
        self.environ = {
            "PATH": os.environ["PATH"],
            "STATE_DIRECTORY": str(folder / "state"),
            "TOKEN_PROXY_UPSTREAM": str(bench.config.routes[0].upstream),
            "TOKEN_PROXY_ISSUER": machine.issuer,
            "TOKEN_PROXY_CLIENT_ID": machine.client_id,
            "TOKEN_PROXY_CLIENT_SECRET": machine.client_secret.reveal(),
            "TOKEN_PROXY_SCOPES": "api",
            "TOKEN_PROXY_GRANT": "client_credentials",
            "TOKEN_PROXY_LISTEN": f"127.0.0.1:{data}",
            "TOKEN_PROXY_ADMIN": f"127.0.0.1:{admin}",
        }
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(folder)

    def set(self, **variables):
        self.environ |= {f"TOKEN_PROXY_{name}": value for name, value in variables.items()}
        return self

    async def start(self, *arguments):
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", *arguments),
            cwd=self.folder,
            env=self.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def call(self, *arguments):
        """Run a command in a thread of this process: exit code, stdout, stderr."""
        for name in os.environ:
            self._monkeypatch.delenv(name)
        for name, value in self.environ.items():
            self._monkeypatch.setenv(name, value)
        done = await asyncio.to_thread(CliRunner().invoke, main, arguments, catch_exceptions=False)
        return done.exit_code, done.stdout, done.stderr

    @asynccontextmanager
    async def running(self):
        """A server; yields its events so far."""
        process = await self.start("run")
        try:
            async with asyncio.timeout(PATIENCE):
                events = []
                while not events or events[-1]["event"] != "start":
                    line = await process.stderr.readline()
                    assert line, events
                    events.append(json.loads(line))
            yield process, events
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                await process.communicate()
            assert process.returncode == DONE
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


@pytest.fixture
def alone(bench, tmp_path, monkeypatch):
    return Alone(bench, tmp_path, monkeypatch)


async def test_a_server_and_the_commands_beside_it(bench, alone):
    async with alone.running() as (_, events):
        start = events[-1]
        assert start["config"] == "environment"
        assert start["message"] == "token-proxy is ready"
        assert start["routes"] == [
            {
                "name": "default",
                "place": f"{alone.data}/",
                "upstream": alone.environ["TOKEN_PROXY_UPSTREAM"],
                "credential": "default",
                "account": "default",
                "state": "absent",
            }
        ]
        response = await bench.get(f"{alone.data}/hello")
        assert (response.status, (await response.json())["hello"]) == (200, "demo-machine")
        commands = [
            (("status", "--json"), '"state": "valid"'),
            (("explain", "GET", "/x"), "config      environment\n"),
            (("explain", "GET", "/x"), "outcome     passes"),
            (("check",), "environment: no faults (1 credential, 1 route)\n"),
            (("check", "-v"), "[credentials.default]"),
            (("token", "default"), ""),
            (("open",), f"{alone.admin}/launch/"),
        ]
        for arguments, expected in commands:
            code, out, err = await alone.call(*arguments)
            assert (code, err) == (DONE, ""), arguments
            assert expected in out
            assert alone.environ["TOKEN_PROXY_CLIENT_SECRET"] not in out
        code, out, _ = await alone.call("logout", "default")
        assert (code, out) == (DONE, "logged out of default/default\n")


async def test_a_login(bench, alone):
    person = bench.config.credentials["person"]
    alone.set(GRANT="authorization_code", CLIENT_ID=person.client_id, PUBLIC_URL=bench.admin)
    assert (await alone.call("token", "default"))[0] == LOGIN_NEEDED
    async with alone.running() as (_, events):
        assert "nobody has logged in yet; run `token-proxy login default`" in events[-1]["message"]
        query = {
            "response_type": "code",
            "client_id": person.client_id,
            "redirect_uri": f"{bench.admin}/callback",
            "code_challenge": create_s256_code_challenge(VERIFIER),
            "code_challenge_method": "S256",
        }
        callback = await bench.authorize(f"{bench.server.issuer}/authorize?{urlencode(query)}")
        code = dict(parse_qsl(urlsplit(callback).query))["code"]
        done = await alone.call("login", "default", "--code", code, "--code-verifier", VERIFIER)
        assert done == (DONE, "logged in: default/default has tokens\n", "")
        async with asyncio.timeout(PATIENCE):
            while (response := await bench.get(f"{alone.data}/hello")).status != 200:
                await asyncio.sleep(0.2)
        assert (await response.json())["hello"] == "alice"


async def test_a_key_of_the_caller(bench, alone):
    alone.set(CALLER_KEY=KEY)
    async with alone.running():
        assert (await bench.get(f"{alone.data}/hello")).status == 401
        code, signed, _ = await alone.call("caller-key", "default", "--ttl", "5m")
        assert code == DONE
        code, out, _ = await alone.call("explain", "GET", "/x", "--caller", "default")
        assert (code, "caller      default" in out) == (DONE, True)
        for key in (KEY, signed.strip()):
            async with (
                aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session,
                session.get(f"{alone.data}/hello") as response,
            ):
                assert response.status == 200


async def test_a_secret_in_a_file_is_taken_up_by_a_reload(bench, alone, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    alone.set(CLIENT_SECRET_FILE=str(secret))
    right = alone.environ.pop("TOKEN_PROXY_CLIENT_SECRET")
    async with alone.running() as (process, _):
        assert (await bench.get(f"{alone.data}/hello")).status == 503
        secret.write_text(right)
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE):
            while (await bench.get(f"{alone.data}/hello")).status != 200:
                await asyncio.sleep(0.2)


async def test_a_file_beside_the_variables_starts_nothing(alone, tmp_path):
    (tmp_path / "config.toml").write_text("")
    for command in ("run", "check", "status"):
        code, out, err = await alone.call(command)
        assert (code, out) == (USAGE, "")
        assert err.startswith("config.toml:1:1: TOKEN_PROXY_UPSTREAM, TOKEN_PROXY_ISSUER, ")
        assert alone.environ["TOKEN_PROXY_CLIENT_SECRET"] not in err


@pytest.mark.parametrize("command", ["run", "status", "check"])
async def test_faults_name_variables(alone, command):
    alone.set(GRANT="password", LISTEN="0.0.0.0:1")
    code, out, err = await alone.call(command)
    assert (code, out) == (USAGE, "")
    assert [line.split(": ")[:2] for line in err.splitlines()] == [
        ["environment", "TOKEN_PROXY_GRANT"],
        ["environment", "TOKEN_PROXY_LISTEN"],
    ]
