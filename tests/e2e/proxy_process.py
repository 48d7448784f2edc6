"""The product as users run it: a configuration file, the server, the commands."""

import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from .authorization_servers import AuthorizationServer, toml
from .browser import Browser, Page, Person
from .processes import plain_environment, wait_until

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "proxy"]
COMMAND_LIMIT = 90  # seconds
STOP_LIMIT = 90  # seconds
URL_IN_TEXT = re.compile(r"https?://\S+")

CONFIG = """
[server]
listen = "127.0.0.1:{data_port}"
admin = "127.0.0.1:{admin_port}"
public_url = {public_url}
state_dir = {state_dir}

[log]
level = "debug"

[credentials.crm]
{credential}

[[routes]]
name = "api"
path = "/api"
upstream = {upstream}
credential = "crm"
tls = {{ ca = {ca} }}
"""


@dataclass
class Proxy:
    folder: Path
    data_port: int
    admin_port: int
    public_url: str
    environment: Mapping[str, str]
    _server: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def redirect_uri(self) -> str:
        return f"{self.public_url}/callback"

    def api(self, path: str) -> str:
        """The URL of `path` of the upstream for callers."""
        return f"http://127.0.0.1:{self.data_port}/api{path}"

    def admin(self, path: str) -> str:
        return f"http://127.0.0.1:{self.admin_port}{path}"

    def configure(self, server: AuthorizationServer, credential: str, more: str = "") -> None:
        self.config.write_text(
            CONFIG.format(
                data_port=self.data_port,
                admin_port=self.admin_port,
                public_url=toml(self.public_url),
                state_dir=toml(str(self.state)),
                credential=credential,
                upstream=toml(server.upstream_url),
                ca=toml(str(server.ca)),
            )
            + more
        )

    def start(self) -> None:
        with self._log_file.open("ab") as log:
            self._server = subprocess.Popen(
                [*COMMAND, "run", "-c", str(self.config)],
                cwd=REPOSITORY,
                env=self._environment(),
                stdout=log,
                stderr=log,
            )
        wait_until(self._alive, "the proxy to respond to /healthz")

    def _alive(self) -> bool:
        assert self._server is not None
        if self._server.poll() is not None:
            self._server = None  # nothing is left to stop
            pytest.fail(f"the proxy ended at once: {self.log()}")
        try:
            response = requests.get(self.admin("/healthz"), timeout=5)
            socket.create_connection(("127.0.0.1", self.data_port), 5).close()  # this listener is the last
        except (requests.ConnectionError, ConnectionRefusedError):
            return False
        return response.status_code == 200 and response.text.strip() == "ok"

    def stop(self) -> None:
        if self._server is None:
            return
        self._server.terminate()
        try:
            code = self._server.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._server.kill()
            code = self._server.wait()
        self._server = None
        assert code == 0, f"exit code {code} after SIGTERM: {self.log()}"
        assert "Traceback" not in self.log(), self.log()

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    @property
    def _log_file(self) -> Path:
        return self.folder / "log"

    def log(self) -> str:
        return self._log_file.read_text() if self._log_file.exists() else ""

    def _environment(self) -> dict[str, str]:
        return plain_environment(self.folder, self.environment)

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*COMMAND, name, "-c", str(self.config), *arguments],
            cwd=REPOSITORY,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT,
            check=False,
        )

    def login_by_command(self, person: Person, *, paste: bool) -> tuple[int, str]:
        """`login crm --no-browser`: open the first address that it prints, then the callback's; or open the
        last one, and paste the callback's.

        Returns the exit code and all it printed.
        """
        with subprocess.Popen(
            [*COMMAND, "login", "crm", "-c", str(self.config), "--no-browser"],
            cwd=REPOSITORY,
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as command:
            assert command.stdout is not None
            printed, found = "", None
            for line in command.stdout:
                printed += line
                if paste and "paste the URL" in line:
                    break
                found = URL_IN_TEXT.search(line) or found
                if found and not paste:
                    break
            else:
                raise AssertionError(f"no address was printed: {printed}")
            assert found is not None, printed
            browser = Browser()
            callback = person.approve(browser, found[0], self.redirect_uri)
            if not paste:
                assert browser.open(callback).status == 200
            rest, _ = command.communicate(f"{callback}\n" if paste else None, timeout=COMMAND_LIMIT)
            return command.returncode, printed + rest

    def login_by_page(self, person: Person, browser: Browser | None = None) -> Page:
        """Press the button of the page `login_url`; the callback arrives at the running server."""
        browser = browser or Browser()
        callback = person.approve(browser, f"{self.public_url}/login/crm/default", self.redirect_uri)
        done = browser.open(callback)
        assert done.status == 200, f"{done.status} from the callback: {done.text[:500]}"
        return done
