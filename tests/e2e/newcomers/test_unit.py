"""An administrator installs the unit of deploy/systemd, as its README says. systemd's part has a stand-in."""

import asyncio
import re
import signal
import tempfile
from pathlib import Path

import pytest

from proxy.demo import started
from tests.deploy.units import DEPLOY, settings
from tests.e2e.newcomers.shell import log_in_at_demo, shell
from tests.e2e.processes import free_port
from tests.e2e.restarts import OK, Callers
from tests.fakes.service_manager import ServiceManager

pytestmark = [pytest.mark.e2e, pytest.mark.privileged]

SYSTEMD = DEPLOY / "systemd"
SERVICE = settings(SYSTEMD / "token-proxy.service")
STREAMS = settings(SYSTEMD / "token-proxy.socket")["ListenStream"]
USER = "61184"  # the first that DynamicUser= would give
# As this user, who may read the interpreter of the tests wherever that is, and write its own files only.
AS_USER = (
    f"setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs --inh-caps=-all,+dac_read_search"
)
AS_USER += " --bounding-set=-all,+dac_read_search --ambient-caps=-all,+dac_read_search"
ROUTE = """
[[routes]]
path = "/machine"
upstream = "{api}"
credential = "crm"
"""
LOGIN = re.compile(r"http://127\.0\.0\.1:\d+/login/crm/default\?ticket=\S+")


class Host:
    """The places of the unit, below a folder; its addresses, at free ports."""

    def __init__(self, admin_shell, manager, server, ports):
        self.shell, self.manager, self.server = admin_shell, manager, server
        root = admin_shell.folder
        self.places = {
            "/etc/token-proxy": f"{root}/etc",
            "/run/credentials/token-proxy.service": f"{root}/credentials",
            "/var/lib/token-proxy": f"{root}/state",
            **{stream: f"127.0.0.1:{port}" for stream, port in zip(STREAMS, ports, strict=True)},
        }
        for stream in STREAMS:
            host, _, port = self.here(stream).partition(":")
            manager.bind((host, int(port)), settings(SYSTEMD / "token-proxy.socket")["FileDescriptorName"][0])

    def here(self, text):
        for place, below in self.places.items():
            text = text.replace(place, below)
        return text

    def load_credentials(self):
        """LoadCredential=, for the user of the service."""
        self.shell.run(f"install -d -m 0500 -o {USER} credentials")
        for each in SERVICE["LoadCredential"]:
            name, _, source = each.partition(":")
            self.shell.run(f"install -m 0400 -o {USER} {self.here(source)} credentials/{name}")

    def start(self):
        (command,) = SERVICE["ExecStart"]
        program, *arguments = self.here(command).split()
        assert program == "/usr/local/bin/token-proxy"
        variables = {**self.shell.variables, "STATE_DIRECTORY": self.here("/var/lib/token-proxy")}
        del variables["HOME"]
        self.manager.start([*AS_USER.split(), self.shell.program("token-proxy"), *arguments], variables)

    def reload(self):
        (command,) = SERVICE["ExecReload"]
        self.shell.run(command.replace("$MAINPID", str(self.manager.pid)))


@pytest.fixture
def host():
    ports = free_port(), free_port()
    redirect = f"--redirect-uri=http://127.0.0.1:{ports[1]}/callback"
    with (
        started("--client=app:s3cret", redirect, "--lifetime=3600") as server,
        tempfile.TemporaryDirectory() as name,
        shell(Path(name) / "host") as admin,
    ):
        Path(name).chmod(0o755)  # the user of the service has to find its files
        manager = ServiceManager(Path(name), abstract=True)
        try:
            yield Host(admin, manager, server, ports)
        finally:
            manager.close()


def configuration(host):
    """That of the README, completed."""
    (text,) = re.findall(r"```toml\n(.*?)```", (SYSTEMD / "README.md").read_text(), re.DOTALL)
    listen, admin = STREAMS
    text = text.replace("[server]\n", f'[server]\nlisten = "{listen}"\nadmin = "{admin}"\n')
    client = f'\nissuer = "{host.server.issuer}"\nclient_id = "app"\nscopes = ["api"]'
    text = text.replace("[credentials.crm]", f"[credentials.crm]{client}")
    return host.here(text + ROUTE.format(api=host.server.api))


async def test_an_administrator_installs_the_unit(host):
    admin, manager = host.shell, host.manager
    admin.run("mkdir -p etc/secrets")
    admin.write("etc/config.toml", configuration(host))
    admin.run(f"install -d -m {SERVICE['StateDirectoryMode'][0]} -o {USER} -g {USER} state")

    # A secret was forgotten in LoadCredential=. `systemctl status` says so, and systemd does not try again.
    host.start()
    assert await manager.end() == int(SERVICE["RestartPreventExitStatus"][0])
    (status,) = [line for line in manager.hear() if line.startswith("STATUS=")]
    assert "client-secret" in status or "store-key" in status

    # As the README says.
    for command in (
        "openssl rand -base64 32 >etc/secrets/store-key",
        "printf s3cret >etc/secrets/client-secret",
    ):
        admin.run(f"umask 077 && {command}")
    host.load_credentials()
    host.start()
    await manager.until("READY=1")
    await manager.until("STATUS=0 of 1 credentials can serve; needs a login: crm/default")

    # Root sees the tokens of the service, and logs in for it.
    config = "-c etc/config.toml"  # which is found without this in /etc/token-proxy
    assert "nobody has logged in yet" in admin.run(f"token-proxy status {config}", 3)
    login = admin.start(f"token-proxy login crm --no-browser {config}")
    await asyncio.to_thread(login.shows, "paste the URL")
    (link,) = LOGIN.findall(login.text)
    assert (await asyncio.to_thread(log_in_at_demo, link)).status == 200
    assert await asyncio.to_thread(login.end) == 0
    await manager.until("STATUS=1 of 1 credentials can serve, next refresh in ")
    assert "valid" in admin.run(f"token-proxy status {config}")
    assert admin.run(f"token-proxy token crm {config}").startswith("access-")

    # `systemctl reload` after an edit.
    admin.edit("etc/config.toml", "[[routes]]", "[limits]\ntoken_wait = 20\n\n[[routes]]")
    host.reload()
    await manager.until("RELOADING=1")
    await manager.until("READY=1")

    # `systemctl restart`: callers wait, and none is refused.
    load = Callers(("127.0.0.1", int(host.here(STREAMS[0]).rpartition(":")[2])))
    load.start(2, 0)
    await load.go_on_fresh(5)
    assert await manager.stop() == 0
    assert "valid" in admin.run(f"token-proxy status {config}"), "root asks the store meanwhile"
    host.start()
    await manager.until("READY=1")
    await load.go_on_fresh(5)
    await load.stop()
    assert set(load.fresh) == {OK}, (load.fresh, load.errors)

    # What root has done has taken nothing from the service: it logs out and in again.
    admin.run(f"token-proxy logout crm {config}")
    await manager.until("STATUS=0 of 1 credentials can serve; needs a login: crm/default")
    owners = admin.run("find state ! -uid " + USER)
    assert owners == "", "files that the service can't write"
    manager.signal(signal.SIGTERM)
    assert await manager.end() == 0
    assert "Traceback" not in manager.log.read_text()
