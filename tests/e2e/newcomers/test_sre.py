"""A reliability engineer is paged, and follows docs/runbooks to the letter."""

import re
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from proxy.demo import started
from tests.e2e.newcomers.runbook import PAGES, PLACEHOLDER, filled_in, lines_of, text_of
from tests.e2e.newcomers.shell import log_in_at_demo, shell
from tests.e2e.processes import free_port

pytestmark = pytest.mark.e2e

CONFIG = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
health = "127.0.0.1:{health}"
state_dir = "state"

[log]
audit = "audit/log"

[credentials.crm]
issuer = "{issuer}"
client_id = "app"
client_secret = {{ file = "secret" }}
scopes = ["api"]

[credentials.batch]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "batch"
client_secret = {{ file = "batch-secret" }}

[credentials.odd]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "app"
client_secret = {{ file = "secret" }}

[[routes]]
path = "/crm"
upstream = "{api}"
credential = "crm"

[[routes]]
path = "/batch"
upstream = "{api}"
credential = "batch"

[[routes]]
path = "/odd"
upstream = "{refusing}"
credential = "odd"
"""
# Programs that a test machine does not have, or that change it.
OF_THE_HOST = {"docker", "journalctl", "kubectl", "psql", "redis-cli", "ssh", "systemctl", "timedatectl"}
LINK = re.compile(r"http://127\.0\.0\.1:\d+/login/\S+\?ticket=\S+")


class Refusing(BaseHTTPRequestHandler):
    """An upstream that wants another token."""

    def do_GET(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Bearer error="insufficient_scope"')
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def refusing():
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Incident:
    """The server in production, the person who is paged, and the pages of the runbooks."""

    def __init__(self, sre, server, upstream):
        self.sre, self.server = sre, server
        self.ports = {"data": free_port(), "admin": 0, "health": free_port()}
        self.names = {"CRED": "crm", "ACCOUNT": "default", "STATE_DIR": "state", "AUDIT_FOLDER": "audit"}
        self._upstream = upstream

    def start(self, admin):
        self.ports["admin"] = admin
        sre = self.sre
        for name, secret in (("secret", "s3cret"), ("batch-secret", "old")):
            sre.write(name, secret)
        issuer, api = self.server.issuer, self.server.api
        sre.write("config.toml", CONFIG.format(issuer=issuer, api=api, refusing=self._upstream, **self.ports))
        (sre.folder / "audit").mkdir()
        self.names |= {
            "https://ISSUER": issuer,
            "UPSTREAM_URL": api,
            "FILE": "batch-secret",
            "ROUTE/PATH": "crm/contacts",
            "127.0.0.1:8080": f"127.0.0.1:{self.ports['data']}",
            "127.0.0.1:8081": f"127.0.0.1:{admin}",
            "127.0.0.1:9102": f"127.0.0.1:{self.ports['health']}",
        }
        self.proxy = sre.start("token-proxy run")
        sre.run("token-proxy wait --for startup")

    def typed(self, page, *beginnings, **names):
        """The lines of a page that begin so, filled in; each must be there."""
        lines = lines_of(text_of(page))
        found = [next((line for line in lines if line.startswith(each)), None) for each in beginnings]
        assert None not in found, (page, beginnings, lines)
        return [filled_in(line, self.names | names) for line in found]

    def log_in(self, line):
        command = self.sre.start(line)
        command.shows("paste the URL")
        (link,) = LINK.findall(command.text)
        assert log_in_at_demo(link).status == 200
        command.shows("logged in: crm/default has tokens")
        assert command.end() == 0

    def call(self, path):
        line = f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{self.ports['data']}{path}"
        return int(self.sre.run(line))


@pytest.fixture
def incident(tmp_path):
    admin = free_port()
    options = (
        "--client=app:s3cret",
        "--client=batch:new",
        f"--redirect-uri=http://127.0.0.1:{admin}/callback",
    )
    with (
        started(*options, "--lifetime=3600") as server,
        refusing() as upstream,
        shell(tmp_path / "host", NEW_SECRET="new") as sre,
    ):
        made = Incident(sre, server, upstream)
        made.start(admin)
        yield made
        assert "Traceback" not in made.proxy.text


def test_a_night_with_the_runbooks(incident):
    sre, typed = incident.sre, incident.typed

    # TokenProxyLoginRequired {credential="crm", account="default"}
    status, login = typed("login-required", "token-proxy status", "token-proxy login CRED --no-browser")
    said = sre.run(status, 3)
    assert "crm         default  absent" in said
    assert "run `token-proxy login crm`" in said
    incident.log_in(login)
    assert incident.call("/crm/x") == 200

    # TokenProxyMisconfigured {credential="batch"}: its secret was rotated at the server, and not here.
    assert incident.call("/batch/x") == 503
    status, check, rotate = typed("misconfigured", "token-proxy status", "token-proxy check -v", "printf")
    said = sre.run(status, 1)
    assert "misconfigured" in said
    assert "client_secret" in said
    assert re.search(r"client_secret = \*\*\* +# from file .*batch-secret", sre.run(check))
    sre.run(rotate)
    incident.proxy.shows("took up the new contents of")
    sre.run("token-proxy wait")
    assert incident.call("/batch/x") == 200
    assert "misconfigured" not in sre.run(status)

    # TokenProxyReloadFailed: somebody has edited the file.
    sre.edit("config.toml", 'path = "/odd"', 'path = "odd"')
    check, reload, last = typed("reload-failed", "token-proxy check", "pkill", "curl")
    sre.run(reload)
    incident.proxy.shows("expected a path prefix")
    assert "token_proxy_config_last_reload_successful 0.0" in sre.run(last)
    assert re.search(r"config.toml:\d+:8: expected a path prefix", sre.run(check, 2))
    assert incident.call("/odd/x") == 401, "served as before"
    sre.edit("config.toml", 'path = "odd"', 'path = "/odd"')
    sre.run(reload)
    incident.proxy.shows("reloaded the configuration")
    assert "token_proxy_config_last_reload_successful 1.0" in sre.run(last)

    # TokenProxyUpstreamRefusesToken {route="odd"}
    call, explain, token = typed(
        "upstream-refuses-token",
        "curl -si",
        "token-proxy explain",
        "token-proxy token",
        **{"ROUTE/PATH": "odd/x", "CRED": "odd"},
    )
    said = sre.run(call)
    assert said.startswith("HTTP/1.1 401 ")
    assert 'www-authenticate: bearer error="insufficient_scope"' in said.lower()
    said = sre.run(explain)
    assert re.search(r"^credential +odd$", said, re.MULTILINE)
    assert re.search(r"^account +default$", said, re.MULTILINE)
    sre.run(token)
    assert sre.run(status).count("valid") == 3, "green, as the page says"

    # TokenProxyCannotRefresh {credential="odd"}: the server fails, and a command tells why.
    incident.server.script("outage", times=None)
    sre.run("token-proxy logout odd")
    (refresh,) = typed("cannot-refresh", "token-proxy token", CRED="odd")
    assert "503" in sre.run(refresh, 1)
    incident.server.clear_faults()
    sre.run(refresh)


def is_for_here(line):
    return line.split()[0] not in OF_THE_HOST | {"pkill", "printf"} and not line.startswith(
        "token-proxy login"
    )


def test_each_command_of_the_runbooks_works_while_all_is_well(incident):
    """But for those of other hosts' programs, of logins, and of the test above."""
    incident.sre.write("batch-secret", "new")
    (login,) = incident.typed("login-required", "token-proxy login CRED --no-browser")
    incident.log_in(login)
    incident.sre.run("token-proxy wait")
    lines = {line for page in PAGES for line in lines_of(text_of(page)) if is_for_here(line)}
    assert len(lines) > 15
    for line in sorted(lines):
        incident.sre.run(filled_in(line, incident.names))


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_the_lines_of_a_runbook_are_a_shell_s_and_their_placeholders_are_known(page):
    known = {
        "CRED",
        "ACCOUNT",
        "STATE_DIR",
        "AUDIT_FOLDER",
        "ISSUER",
        "UPSTREAM_URL",
        "FILE",
        "ROUTE",
        "PATH",
    }
    known |= {"GET", "HOST", "POD", "HUP"}  # `HUP` is a signal
    for line in lines_of(text_of(page)):
        subprocess.run(["sh", "-n"], input=line, text=True, check=True)
        assert set(PLACEHOLDER.findall(line)) <= known, line
