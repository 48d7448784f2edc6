"""The command as a service: by a stand-in for systemd, with sockets that outlive it."""

import asyncio
import json
import signal
import socket
import ssl
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest
import trustme

from proxy.config.load import load
from proxy.demo.wiring import embedded, free_ports
from tests.fakes.service_manager import PATIENCE, ServiceManager

from .processes import plain_environment
from .restarts import CLOSED, OK, PAUSE, Callers

COMMAND = [sys.executable, "-m", "proxy", "run"]
RESTARTS = 3  # of the ordinary suite
MANY_RESTARTS = 50


class Unit:
    """A configuration on disk, its authorization server, and the service manager."""

    def __init__(self, config, manager):
        self.config = config
        self.manager = manager
        self.data, self.admin = config.server.listen[0], config.server.admin

    def edit(self, old, new):
        text = self.config.path.read_text()
        assert old in text
        self.config.path.write_text(text.replace(old, new))
        self.config = load(self.config.path).config

    def bind(self, *names):
        """Bind the listeners of the configuration."""
        for name in names:
            address = {"data": self.data, "admin": self.admin}[name]
            self.manager.bind((address.host, address.port), name)

    def start(self, *wrapped):
        environment = plain_environment(self.config.path.parent, {})
        self.manager.start([*wrapped, *COMMAND, "-c", str(self.config.path)], environment)

    def log(self):
        return self.manager.log.read_text()

    def events(self):
        return [json.loads(line)["event"] for line in self.log().splitlines()]


@pytest.fixture
def a_unit(tmp_path):
    @asynccontextmanager
    async def make(**options):
        manager = ServiceManager(tmp_path, **options)
        try:
            async with embedded(*free_ports(0, 0)) as (_, config):
                unit = Unit(config, manager)
                unit.edit('format = "text"', 'format = "json"')
                yield unit
                manager.close()
        finally:
            manager.close()

    return make


@pytest.fixture
async def unit(a_unit):
    async with a_unit() as made:
        yield made


async def fetch(url):
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
        return response.status, await response.text()


# -- sockets


async def restart_under_load(unit, times, *, callers=4, between=10, pauses=(PAUSE,), tls=None):
    """Restart the service so many times, each after `between` requests of each kind; returns the callers.

    `callers`: how many of each kind. `pauses`: of those that keep their connection, in seconds.
    """
    unit.bind("data", "admin")
    unit.start()
    await unit.manager.until("READY=1")
    load = Callers((unit.data.host, unit.data.port), tls)
    load.start(callers, callers, pauses)
    for _ in range(times):
        await load.go_on(between)
        assert await unit.manager.stop() == 0, unit.log()
        await unit.manager.until("STOPPING=1")
        unit.start()
        await unit.manager.until("READY=1")
    await load.go_on(between)
    await load.stop()
    assert await unit.manager.stop() == 0
    assert "Traceback" not in unit.log()
    return load


def assert_none_lost(load):
    assert set(load.fresh) == {OK}, (load.fresh, load.errors)
    assert set(load.kept) <= {OK, CLOSED}, (load.kept, load.errors)


async def test_restarts_under_load_refuse_no_connection_and_lose_no_request(unit):
    load = await restart_under_load(unit, RESTARTS)
    assert_none_lost(load)
    assert unit.events().count("start") == RESTARTS + 1


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("wire", ["plain", "tls"])
async def test_many_restarts_under_load_refuse_no_connection_and_lose_no_request(unit, tmp_path, wire):
    tls = encrypt(unit, tmp_path, wire == "tls")
    load = await restart_under_load(
        unit, MANY_RESTARTS, callers=16, between=100, pauses=(PAUSE, 0.3, 0.9), tls=tls
    )
    print(f"\n{wire}: fresh connections {dict(load.fresh)}, kept connections {dict(load.kept)}")
    assert_none_lost(load)


def encrypt(unit, folder, wanted):
    """Let the data listener speak TLS; returns the context of its callers."""
    if not wanted:
        return None
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    both = folder / "both.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(both)
    unit.edit("[server]\n", f'[server]\ntls = {{ cert = "{both}", key = "{both}" }}\n')
    return context


OWN_LISTENER = """
[[routes]]
name = "own"
listen = "127.0.0.1:{port}"
upstream = "{upstream}"
credential = "machine"
"""


async def test_what_comes_before_the_start_is_served_after_it(unit):
    """As with `systemctl start token-proxy.socket` alone: the first request starts the service."""
    health, own = free_ports(0, 0)
    api = unit.config.routes[1].upstream
    route = OWN_LISTENER.format(port=own, upstream=f"http://{api.host}:{api.port}")
    unit.edit("[server]\n", f'[server]\nhealth = "127.0.0.1:{health}"\n')
    unit.edit("[log]", f"{route}\n[log]")
    unit.bind("data", "admin")
    for port in (health, own):
        unit.manager.bind(("127.0.0.1", port))
    urls = [f"http://{unit.data}/machine/x", f"http://127.0.0.1:{own}/x"]
    urls += [f"http://{unit.admin}/healthz", f"http://127.0.0.1:{health}/healthz"]
    early = [asyncio.create_task(fetch(url)) for url in urls]
    await asyncio.sleep(0.1)
    unit.start()
    (status, document), *others = await asyncio.gather(*early)
    assert (status, json.loads(document)["hello"]) == (200, "demo-machine")
    assert [each[0] for each in others] == [200, 200, 200]


async def test_a_listener_without_a_socket_is_bound_as_ever(a_unit):
    async with a_unit(abstract=True) as unit:  # the manager's address, which changes nothing
        unit.bind("data")
        unit.start()
        await unit.manager.until("READY=1")
        assert (await fetch(f"http://{unit.data}/machine/x"))[0] == 200
        assert (await fetch(f"http://{unit.admin}/healthz"))[0] == 200


async def test_unix_sockets_are_left_as_they_are(unit):
    folder = unit.config.path.parent
    unit.edit(f'"{unit.data}"', f'"unix:{folder}/data.sock"')
    unit.manager.bind(f"{folder}/data.sock", "data", 0o600)
    for _ in range(2):
        unit.start()
        await unit.manager.until("READY=1")
        connector = aiohttp.UnixConnector(f"{folder}/data.sock")
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://localhost/machine/x") as response,
        ):
            assert response.status == 200
        assert await unit.manager.stop() == 0
        assert (folder / "data.sock").stat().st_mode & 0o777 == 0o600


async def test_a_socket_that_fits_no_listener_ends_the_start_with_what_to_write(unit):
    (port,) = free_ports(0)
    unit.manager.bind(("127.0.0.1", port), "typo")
    unit.start()
    assert await unit.manager.end() == 1
    fault = f"the socket 127.0.0.1:{port} (typo) fits no listener: expected its address in server.listen"
    assert unit.log().splitlines()[-1].startswith(f"token-proxy: {fault}")
    assert unit.manager.hear()[-1].startswith(f"STATUS={fault}")


async def test_a_socket_that_does_not_listen_ends_the_start(unit):
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        unit.manager.hand_over(plain, "plain")
        unit.start()
        assert await unit.manager.end() == 1
    fault = "descriptor 3 (plain) is a connection: expected a socket that listens, as Accept=no gives"
    assert unit.log() == f"token-proxy: {fault}\n"


async def test_the_sockets_of_another_process_are_left_alone(unit):
    """A shell between the manager and the command: LISTEN_PID and WATCHDOG_PID are its own."""
    unit.bind("data", "admin")
    unit.start("sh", "-c", '"$@"; exit $?', "sh")
    assert await unit.manager.end() == 1  # both addresses are taken, by the sockets that were not adopted
    assert "address already in use" in unit.log()
    assert unit.manager.told == []


# -- messages


async def test_the_manager_is_told_the_life_of_the_service(unit):
    unit.start()
    await unit.manager.until("READY=1")
    assert (await fetch(f"http://{unit.admin}/healthz"))[0] == 200
    await unit.manager.until("STATUS=1 of 2 credentials can serve; needs a login: person/default")
    assert (await fetch(f"http://{unit.data}/machine/x"))[0] == 200  # its token is an hour old at most
    await unit.manager.until("STATUS=1 of 2 credentials can serve, next refresh in ")
    unit.manager.signal()
    await unit.manager.until("STOPPING=1")
    assert await unit.manager.end() == 0
    told = unit.manager.hear()
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in told)
    assert "READY=1" not in told
    assert unit.manager.strangers == []


async def test_the_manager_is_told_of_reloads(unit):
    unit.start()
    await unit.manager.until("READY=1")
    text = unit.config.path.read_text()
    for written, line in (
        (text + "[typo]\n", "the last reload failed: see the log"),
        (text, "person/default"),
    ):
        unit.config.path.write_text(written)
        unit.manager.signal(signal.SIGHUP)
        await unit.manager.until("RELOADING=1")
        await unit.manager.until("MONOTONIC_USEC=")
        await unit.manager.until("READY=1")
        await unit.manager.until("STATUS=1 of 2 credentials can serve; needs a login: person/default")
        assert unit.manager.last.endswith(line)


async def test_a_start_that_fails_says_why_in_the_status(unit):
    with socket.create_server((unit.data.host, unit.data.port)):
        unit.start()
        assert await unit.manager.end() == 1
    (told,) = unit.manager.hear()
    assert told.startswith(f"STATUS=can't listen on {unit.data}: address already in use")


@pytest.mark.parametrize("more", ["", "[typos]\n"])
async def test_a_start_with_a_faulty_configuration_says_why_in_the_status(unit, more):
    path = unit.config.path
    path.write_text(f"[typo]\n{more}{path.read_text()}")
    unit.start()
    assert await unit.manager.end() == 2
    (told,) = unit.manager.hear()
    assert told.startswith(f"STATUS={path}:1:2: unknown key 'typo'")
    assert told.endswith(" (and 1 more in the log)") is bool(more)


# -- the watchdog


async def test_a_stopped_process_gives_no_sign_of_life(a_unit):
    async with a_unit(watchdog=1.0) as unit:
        unit.start()
        await unit.manager.until("READY=1")
        for _ in range(3):
            await unit.manager.until("WATCHDOG=1")
        unit.manager.signal(signal.SIGSTOP)
        await asyncio.sleep(0.2)
        unit.manager.hear()
        await asyncio.sleep(1.5)
        assert unit.manager.hear() == []
        unit.manager.signal(signal.SIGCONT)
        await unit.manager.until("WATCHDOG=1")
