"""The native sidecar of a pod, as Kubernetes runs it: token-proxy beside an app, in a network namespace.

The kubelet, Prometheus and strangers are outside, in a second namespace. The app talks to 127.0.0.1 only.
"""

import http.client
import json
import signal
import socket
import sys
import threading

import pytest

from tests.e2e.namespaces import joined
from tests.e2e.processes import wait_until
from tests.e2e.proxy_process import COMMAND
from tests.fakes.raw_servers import read_message, response

pytestmark = [pytest.mark.e2e, pytest.mark.privileged]

DATA, ADMIN, HEALTH = 8080, 8081, 9102
GRACE = 30  # seconds; terminationGracePeriodSeconds by default
LIMIT = 90  # seconds; a busy machine is no failure
CONFIG = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
health = "0.0.0.0:{health}"
quit = true
state_dir = "{folder}/state"

[log]
format = "json"

[credentials.machine]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "app"
client_secret = {{ file = "{folder}/secret" }}

[[routes]]
path = "/api"
upstream = "http://127.0.0.1:{upstream}"
credential = "machine"
"""
# The app: one request, told on stdout. A SIGTERM meanwhile ends it when the response is there, as servers do.
APP = """
import signal, sys, urllib.request
signal.signal(signal.SIGTERM, lambda *_: None)
with urllib.request.urlopen("http://127.0.0.1:8080/api/" + sys.argv[1], timeout=90) as got:
    print(got.status, got.read().decode(), flush=True)
"""
# A job: the same, and then it ends the sidecar.
JOB = (
    APP
    + """
quit = urllib.request.Request("http://127.0.0.1:9102/quitquitquit", method="POST")
print(urllib.request.urlopen(quit, timeout=90).status, flush=True)
"""
)
PROBE = {"User-Agent": "kube-probe/1.33", "Accept": "*/*", "Connection": "close"}
SCRAPE = {"User-Agent": "Prometheus/3.5.0", "Accept": "application/openmetrics-text;version=1.0.0;q=0.6"}


class Pod:
    """The namespaces, the upstream and the authorization server on the pod's loopback, and the sidecar."""

    def __init__(self, inside, outside, folder):
        self.inside = inside
        self.outside = outside
        self.folder = folder
        self.asked, self.may_respond = threading.Event(), threading.Event()
        self.sidecar = None

    def serve_upstream(self):
        """Requests to /slow have their response when `may_respond` is set."""
        self._listener = self.inside.call(lambda: socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=self._accept, daemon=True).start()
        return self._listener.getsockname()[1]

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._respond, args=(connection,), daemon=True).start()

    def _respond(self, connection):
        with connection:
            request = read_message(connection)
            assert b"authorization: bearer " in request.lower()
            if b"/slow" in request.split(b"\r\n")[0]:
                self.asked.set()
                self.may_respond.wait(LIMIT)
            connection.sendall(response(b"at last", b"200 OK", b"Connection: close"))

    def serve_tokens(self):
        command = [sys.executable, "-m", "proxy.demo", "--client", "app:secret", "--lifetime", "3600"]
        output = self.folder / "tokens.log"
        self.inside.start(command, output)
        wait_until(lambda: '"issuer"' in output.read_text(), "the authorization server")
        return json.loads(output.read_text().splitlines()[0])["issuer"]

    def configure(self):
        (self.folder / "secret").write_text("secret")
        (self.folder / "config.toml").write_text(
            CONFIG.format(
                data=DATA,
                admin=ADMIN,
                health=HEALTH,
                folder=self.folder,
                issuer=self.serve_tokens(),
                upstream=self.serve_upstream(),
            )
        )

    def start_sidecar(self):
        command = [*COMMAND, "run", "-c", str(self.folder / "config.toml")]
        self.sidecar = self.inside.start(command, self.folder / "sidecar.log")

    def start_app(self, script, path):
        return self.inside.start([sys.executable, "-c", script, path], self.folder / "app.log")

    def app_said(self):
        return (self.folder / "app.log").read_text().split("\n")[:-1]

    def ask(self, path, method="GET", *, here=None, port=HEALTH, **headers):
        """Status and body. From outside, unless `here` is the pod itself."""
        address = "127.0.0.1" if here is self.inside else self.inside.address
        connection = http.client.HTTPConnection(address, port, timeout=LIMIT)
        connection.sock = (here or self.outside).connect(address, port)
        try:
            connection.request(method, path, headers={**PROBE, **headers})
            got = connection.getresponse()
            return got.status, got.read().decode()
        finally:
            connection.close()

    def probe(self, path):
        """As the kubelet: 0 if there is no response."""
        try:
            return self.ask(path)[0]
        except OSError:
            return 0

    def until(self, path, status):
        wait_until(lambda: self.probe(path) == status, f"{path} responds {status}")

    def log(self):
        return (self.folder / "sidecar.log").read_text()


@pytest.fixture
def pod(tmp_path):
    with joined() as (inside, outside):
        made = Pod(inside, outside, tmp_path)
        made.configure()
        yield made
        made.may_respond.set()
        assert "Traceback" not in made.log()


def is_refused(pod, address, port):
    try:
        pod.inside.connect(address, port).close()
    except ConnectionRefusedError:
        return True
    return False


def ended(process):
    """The exit code, within the grace that Kubernetes gives."""
    return process.wait(GRACE)


def started(pod):
    """The order of Kubernetes: the sidecar, its startup probe, and only then the app."""
    assert pod.probe("/startupz") == 0
    pod.start_sidecar()
    pod.until("/startupz", 200)


def test_probes_and_scrapes_come_from_outside_and_nothing_else_does(pod):
    started(pod)
    app = pod.start_app(APP, "x")  # its first request is served at once
    assert ended(app) == 0
    assert pod.app_said() == ["200 at last"]
    for path, expected in (
        ("/healthz", "ok"),
        ("/startupz", "ok"),
        ("/readyz", '{"ready": true, "reasons": []}'),
    ):
        assert pod.ask(path) == (200, expected)
    status, metrics = pod.ask("/metrics", **SCRAPE)
    assert status == 200
    assert 'token_proxy_requests_total{code="200",method="GET",route="api"} 1.0' in metrics
    assert metrics.endswith("# EOF\n")
    for port in (DATA, ADMIN):
        with pytest.raises(ConnectionRefusedError):
            pod.ask("/", port=port)
    for path in ("/api/x", "/", "/login/machine", "/api/status"):
        assert pod.ask(path)[0] == 404
    assert pod.ask("/api/x", port=DATA, here=pod.inside) == (200, "at last")
    assert pod.ask("/healthz", port=ADMIN, here=pod.inside) == (200, "ok")


def test_the_command_waits_for_the_sidecar_as_a_startup_probe_of_exec(pod):
    pod.start_sidecar()
    command = [*COMMAND, "wait", "--for", "startup", "-c", str(pod.folder / "config.toml")]
    said = pod.folder / "wait.log"
    assert pod.inside.start(command, said).wait(LIMIT) == 0
    assert said.read_text() == ""
    assert pod.probe("/startupz") == 200


def test_without_an_authorization_server_the_app_starts_all_the_same(pod):
    """/startupz is not about tokens; /readyz says that this pod can't serve."""
    config = pod.folder / "config.toml"
    config.write_text(
        config.read_text().replace('issuer = "http://127.0.0.1:', 'issuer = "http://127.0.0.2:')
    )
    started(pod)
    assert pod.ask("/api/x", port=DATA, here=pod.inside)[0] == 503
    pod.until("/readyz", 503)
    assert json.loads(pod.ask("/readyz")[1])["reasons"][0]["credential"] == "machine"
    assert (pod.probe("/startupz"), pod.probe("/healthz")) == (200, 200)


def test_the_app_ends_first_and_then_the_sidecar(pod):
    """The order of native sidecars at the end of a pod."""
    started(pod)
    app = pod.start_app(APP, "slow")
    assert pod.asked.wait(LIMIT)
    app.send_signal(signal.SIGTERM)
    assert (pod.probe("/readyz"), pod.probe("/healthz")) == (200, 200), "the sidecar serves on"
    pod.may_respond.set()
    assert ended(app) == 0
    assert pod.app_said() == ["200 at last"]
    pod.sidecar.send_signal(signal.SIGTERM)
    assert ended(pod.sidecar) == 0
    assert pod.probe("/healthz") == 0


def test_a_sidecar_that_has_to_end_first_drains(pod):
    """Where it is an ordinary container, both get SIGTERM at once."""
    started(pod)
    app = pod.start_app(APP, "slow")
    assert pod.asked.wait(LIMIT)
    pod.sidecar.send_signal(signal.SIGTERM)
    pod.until("/readyz", 503)
    assert json.loads(pod.ask("/readyz")[1])["reasons"] == [{"state": "draining"}]
    assert (pod.probe("/healthz"), pod.probe("/startupz"), pod.probe("/metrics")) == (200, 200, 200)
    wait_until(lambda: is_refused(pod, "127.0.0.1", DATA), "the data listener is closed")
    assert pod.sidecar.poll() is None
    pod.may_respond.set()
    assert ended(app) == 0
    assert pod.app_said() == ["200 at last"]
    assert ended(pod.sidecar) == 0


def test_at_the_end_of_a_job_the_sidecar_ends_too(pod):
    """Where it is an ordinary container, a job would never be complete otherwise."""
    started(pod)
    job = pod.start_app(JOB, "x")
    assert ended(job) == 0
    assert pod.app_said() == ["200 at last", "200"]
    assert ended(pod.sidecar) == 0
    assert '"stopping on POST /quitquitquit"' in pod.log()


def test_nobody_outside_ends_it(pod):
    started(pod)
    assert pod.ask("/quitquitquit", "POST")[0] == 403
    assert pod.ask("/quitquitquit", "POST", **{"X-Forwarded-For": "127.0.0.1", "Host": "127.0.0.1"})[0] == 403
    assert pod.ask("/quitquitquit")[0] == 405
    assert pod.probe("/healthz") == 200
    assert pod.sidecar.poll() is None
    assert pod.ask("/quitquitquit", "POST", here=pod.inside) == (200, "stopping")
    assert ended(pod.sidecar) == 0
