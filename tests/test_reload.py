"""Reloads of a serving process, in the process of the tests; as a command in black_box/test_reload.py."""

import asyncio
import base64
import gc
import json
import logging
import shutil
import ssl
import threading
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
import trustme

from proxy import reload, startup
from proxy.config.load import load
from proxy.demo.wiring import embedded, free_ports, log_in
from proxy.errors import TokenError
from proxy.hooks import Hooks
from proxy.process import Process
from proxy.reload import Reloader
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens.login.pending import new_secret
from tests.fakes import signing
from tests.patience import until

PATIENCE = 60  # seconds


@dataclass
class Served:
    """A serving process and its configuration file."""

    path: Path
    process: Process
    wanted: asyncio.Event
    hooks: Hooks
    server: object  # the demo's authorization server
    caplog: pytest.LogCaptureFixture
    writers: list = field(default_factory=list)

    async def connect(self, port=None, **options):
        """A connection to a data listener of this machine; closed at the end."""
        port = port or self.process.services.config.server.listen[0].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
        self.writers.append(writer)
        return reader, writer

    @property
    def text(self):
        return self.path.read_text()

    def edit(self, old="", new="", more=""):
        assert old in self.text
        self.path.write_text(self.text.replace(old, new, 1) + more)

    async def reload(self):
        """Ask for a reload, and wait until it is over."""
        settled = asyncio.Event()
        self.hooks.settled.append(settled.set)
        self.wanted.set()
        await asyncio.wait_for(settled.wait(), PATIENCE)
        self.hooks.settled.remove(settled.set)

    async def get(self, path, **options):
        data = self.process.services.config.server.listen[0]
        url = path if path.startswith("http") else f"http://{data}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, **options) as response:
            return response.status, await response.text()

    def sample(self, name, **labels):
        return self.process.services.metrics.registry.get_sample_value(f"token_proxy_{name}", labels)

    def logged(self, event="reload"):
        return [record for record in self.caplog.records if getattr(record, "event", "") == event]


@asynccontextmanager
async def serving(path, server, caplog):
    caplog.set_level(logging.INFO, "proxy")
    wanted, hooks = asyncio.Event(), Hooks()
    async with (
        startup.running(load(path), hooks=hooks) as running,
        Reloader(running, wanted).running(),
    ):
        served = Served(path, running, wanted, hooks, server, caplog)
        try:
            yield served
        finally:
            for writer in served.writers:
                writer.close()


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    monkeypatch.setattr(reload, "LOOK_EVERY", 0.15)


@pytest.fixture
async def served(caplog):
    async with embedded(*free_ports(0, 0)) as (server, made), serving(made.path, server, caplog) as found:
        yield found


def route(name, upstream="http://127.0.0.1:9", **keys):
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    place = "" if "listen" in keys or "host" in keys else f'path = "/{name}"\n'
    more = "\n".join(lines)
    return f'\n[[routes]]\nname = "{name}"\n{place}upstream = "{upstream}"\ncredential = "machine"\n{more}\n'


async def test_a_reload_takes_up_the_file_as_it_is_now(served):
    assert (await served.get("/new/x"))[0] == 404
    api = served.process.services.config.routes[1].upstream
    served.edit(more=route("new", f"http://{api.host}:{api.port}"))
    await served.reload()
    assert (await served.get("/new/x"))[0] == 200
    (told,) = served.logged()
    assert told.levelname == "INFO"
    assert told.fields == {"routes_added": "new"}
    assert served.sample("config_last_reload_successful") == 1


async def test_a_bad_file_changes_nothing_and_each_fault_is_told_with_its_place(served):
    before = served.process.services
    at = served.sample("config_last_reload_success_timestamp_seconds")
    served.edit(more=route("new", colour="x") + "\n[limits]\nidle = true\n")
    await served.reload()
    assert served.process.services is before
    assert (await served.get("/machine/x"))[0] == 200
    assert (await served.get("/new/x"))[0] == 404
    head, *faults = served.logged()
    assert head.fields == {"faults": 2}
    lines = served.text.splitlines()
    for fault, key in zip(faults, ("colour", "idle"), strict=True):
        assert fault.levelname == "ERROR"
        number = next(n for n, line in enumerate(lines, 1) if line.startswith(key))
        assert fault.getMessage().startswith(f"{served.path}:{number}:")
        assert "\n" not in fault.getMessage()
    assert served.sample("config_last_reload_successful") == 0
    assert served.sample("config_last_reload_success_timestamp_seconds") == at

    served.edit('colour = "x"\n')
    served.edit("idle = true", "idle = 70.0")
    await served.reload()
    assert (await served.get("/new/x"))[0] == 502
    assert served.sample("config_last_reload_successful") == 1
    assert served.sample("config_last_reload_success_timestamp_seconds") > at


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("listen = ", 'listen = [{data}, "127.0.0.1:0"] #'),
        ("admin = ", 'admin = "127.0.0.1:0"\npublic_url = "http://127.0.0.1:1" #'),
        ("state_dir = ", 'state_dir = "/nowhere" #'),
        ("[server]", '[server]\nhealth = "127.0.0.1:0"'),
        ("[server]", "[limits]\nconnections = 9\n[server]"),
    ],
)
async def test_what_needs_a_restart_is_refused_and_nothing_else_is_applied(served, old, new):
    served.edit(old, new.replace("{data}", json.dumps(str(served.process.services.config.server.listen[0]))))
    served.edit(more=route("new"))
    await served.reload()
    _, fault = served.logged()
    assert "expected the value as it was, or a restart" in fault.getMessage()
    assert (await served.get("/new/x"))[0] == 404


async def test_an_unexpected_exception_is_a_failed_reload(served, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("proxy.generation.relay_context", broken)
        await served.reload()
    assert served.sample("config_last_reload_successful") == 0
    assert any(
        record.exc_info and record.exc_info[0] is ZeroDivisionError for record in served.caplog.records
    )
    assert (await served.get("/machine/x"))[0] == 200
    await served.reload()
    assert served.sample("config_last_reload_successful") == 1


# -- listeners of routes


async def test_listeners_of_routes_come_and_go(served):
    first, second = free_ports(0, 0)
    api = served.process.services.config.routes[1].upstream
    upstream = f"http://{api.host}:{api.port}"
    added = route("own", upstream, listen=f"127.0.0.1:{first}")
    served.edit(more=added)
    await served.reload()
    assert (await served.get(f"http://127.0.0.1:{first}/x"))[0] == 200
    served.edit(added, route("own", upstream, listen=f"127.0.0.1:{second}"))
    await served.reload()
    assert (await served.get(f"http://127.0.0.1:{second}/x"))[0] == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await served.get(f"http://127.0.0.1:{first}/x")
    assert served.process.relay.context.lasting.ports >= {second}
    assert first not in served.process.relay.context.lasting.ports


async def test_a_route_whose_port_is_taken_is_a_fault_at_its_place_and_closes_the_others(served):
    free, taken = free_ports(0, 0)
    blocker = await asyncio.start_server(lambda *_: None, "127.0.0.1", taken)
    served.edit(more=route("one", listen=f"127.0.0.1:{free}") + route("two", listen=f"127.0.0.1:{taken}"))
    await served.reload()
    _, fault = served.logged()
    number = next(n for n, line in enumerate(served.text.splitlines(), 1) if str(taken) in line)
    assert fault.getMessage().startswith(f"{served.path}:{number}:10: can't listen on 127.0.0.1:{taken}")
    with pytest.raises(aiohttp.ClientConnectorError):
        await served.get(f"http://127.0.0.1:{free}/x")
    blocker.close()
    await served.reload()
    assert (await served.get(f"http://127.0.0.1:{free}/x"))[0] == 502


async def test_a_connection_uses_the_new_configuration_from_its_next_request_on(served):
    (own,) = free_ports(0)
    api = served.process.services.config.routes[1].upstream
    added = route("own", f"http://{api.host}:{api.port}/one", listen=f"127.0.0.1:{own}")
    served.edit(more=added)
    await served.reload()
    connections = [await served.connect(), await served.connect(own)]

    async def ask(connection, path):
        reader, writer = connection
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        size = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        return head.split()[1], json.loads(await reader.readexactly(size)).get("path")

    assert await ask(connections[0], "/new/x") == (b"404", None)
    assert await ask(connections[1], "/x") == (b"200", "/one/x")
    served.edit(
        added,
        added.replace("/one", "/two").replace('"own"', '"renamed"')
        + route("new", f"http://{api.host}:{api.port}"),
    )
    await served.reload()
    assert await ask(connections[0], "/new/x") == (b"200", "/x")
    assert await ask(connections[1], "/x") == (b"200", "/two/x"), "the listener has gone on"


# -- secrets


def server_expects(served, secret):
    """The authorization server takes another client secret from now on."""
    clients = served.server._protocol._clients
    for name, client in list(clients.items()):
        clients[name] = replace(client, client_secret=secret)


async def refresh(served, credential="machine"):
    tokens = served.process.services.tokens
    await tokens.refresh_now(tokens.account(credential, "default"))


def account(served, credential="machine"):
    return served.process.services.tokens.account(credential, "default")


async def test_a_mended_secret_works_without_a_reload_though_the_client_was_refused(served):
    server_expects(served, "another-secret")
    with pytest.raises(TokenError):
        await refresh(served)
    held = account(served)
    assert held.state() == "misconfigured"
    assert held.hold_until > served.process.services.clock.boot()
    (served.path.parent / "secret").write_text("another-secret\n")
    await until(lambda: held.state() == "valid")
    assert account(served) is held
    assert (await served.get("/machine/x"))[0] == 200
    (told,) = served.logged()
    assert told.fields == {"files": str(served.path.parent / "secret")}
    assert served.process.loaded.files.contents, "watched for the next time"


@pytest.mark.parametrize("how", ["empty", "gone", "no text", "too large"])
async def test_a_secret_that_can_not_be_used_leaves_the_old_one_with_one_warning(served, how):
    path = served.path.parent / "secret"
    old = served.process.services.config.credentials["machine"].client_secret
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "no text": b"\xff\xfe", "too large": b"x" * 65537}[how])
    (told,) = await until(served.logged)
    assert told.levelname == "WARNING"
    assert str(path) in told.getMessage()
    await served.reload()
    assert served.process.services.config.credentials["machine"].client_secret == old
    await asyncio.sleep(3 * reload.LOOK_EVERY)
    assert len([each for each in served.logged() if each.levelname == "WARNING"]) == 1
    path.write_text("third-secret")
    await until(
        lambda: served.process.services.config.credentials["machine"].client_secret == Secret("third-secret")
    )


async def test_another_client_key_is_taken_up_and_a_bad_one_leaves_the_old_with_one_warning(served):
    path = served.path.parent / "client.pem"
    path.write_text(signing.pem("p256"))
    client = 'issuer = "https://login.example"\nclient_id = "app"\nclient_key = { file = "client.pem" }\n'
    served.edit(more=f"\n[credentials.bank]\n{client}")
    await served.reload()

    def key():
        return served.process.services.config.credentials["bank"].client_key

    first, before = key(), len(served.logged())
    path.write_text(signing.pem("weak"))
    (told,) = await until(lambda: served.logged()[before:])
    assert (told.levelname, key()) == ("WARNING", first)
    assert "an RSA key of 1024 bits is too weak" in told.getMessage()
    path.write_text(signing.pem("ed25519"))
    await until(lambda: key() != first)
    assert key().algorithms[0] == "EdDSA"
    await until(lambda: [each.levelname for each in served.logged()[before:]] == ["WARNING", "INFO"])


async def test_another_certificate_towards_the_authorization_server_is_taken_up(served, tmp_path):
    authority, (cert, key) = trustme.CA(), (tmp_path / "client.pem", tmp_path / "client.key")

    def issue():
        made = authority.issue_cert("client.example")
        made.cert_chain_pems[0].write_to_path(str(cert))
        made.private_key_pem.write_to_path(str(key))

    issue()
    tls = f'tls = {{ cert = "{cert}", key = "{key}" }}\n'
    served.edit(more=f'\n[credentials.bank]\nissuer = "https://login.example"\nclient_id = "app"\n{tls}')
    await served.reload()

    def context():
        settings = served.process.services.config.credentials["bank"].tls
        return served.process.services.servers._fetcher._contexts[settings]

    first = context()
    cert.write_text(signing.certificate("p256"))  # without its key: not taken up
    await until(lambda: [each for each in served.logged() if each.levelname == "WARNING"])
    assert context() is first
    issue()
    await until(lambda: context() is not first)


async def test_a_file_that_is_being_written_is_not_taken_up_half(served):
    path = served.path.parent / "secret"
    seen = set()
    with path.open("w") as file:
        for number in range(12):
            file.write(f"{number}-")
            file.flush()
            await asyncio.sleep(reload.LOOK_EVERY / 4)
            seen.add(served.process.services.config.credentials["machine"].client_secret.reveal())
    assert len(seen) == 1, "the old one only"
    await until(
        lambda: (
            served.process.services.config.credentials["machine"].client_secret.reveal().startswith("0-1-")
        )
    )


async def test_a_broken_configuration_does_not_hinder_a_secret(served):
    served.path.write_text("this is [not a configuration")
    server_expects(served, "another-secret")
    (served.path.parent / "secret").write_text("another-secret")
    await until(
        lambda: (
            served.process.services.config.credentials["machine"].client_secret == Secret("another-secret")
        )
    )
    assert (await served.get("/machine/x"))[0] == 200
    assert served.sample("config_last_reload_successful") == 1


async def test_one_bad_file_does_not_hinder_another(served):
    folder = served.path.parent
    (folder / "app.key").write_text("a-key-of-twenty-characters-or-more")
    served.edit(more='\n[callers.app]\nkey = { file = "app.key" }\n')
    await served.reload()
    server_expects(served, "another-secret")
    (folder / "app.key").write_text("too short")
    (folder / "secret").write_text("another-secret")
    await until(
        lambda: (
            served.process.services.config.credentials["machine"].client_secret == Secret("another-secret")
        )
    )
    key = {"Token-Proxy-Key": "a-key-of-twenty-characters-or-more"}
    await until(lambda: [each for each in served.logged() if each.levelname == "WARNING"])
    assert (await served.get("/machine/x", headers=key))[0] == 200


async def test_a_callers_key_is_taken_up(served):
    folder = served.path.parent
    old, new = "a-key-of-twenty-characters-or-more", "another-key-of-twenty-characters"
    (folder / "app.key").write_text(old)
    served.edit(more='\n[callers.app]\nkey = { file = "app.key" }\n')
    await served.reload()
    assert (await served.get("/machine/x", headers={"Token-Proxy-Key": old}))[0] == 200
    fresh = folder / "fresh"
    fresh.write_text(new)
    fresh.replace(folder / "app.key")
    async with asyncio.timeout(PATIENCE):
        while (await served.get("/machine/x", headers={"Token-Proxy-Key": new}))[0] != 200:
            await asyncio.sleep(0.1)
    assert (await served.get("/machine/x", headers={"Token-Proxy-Key": old}))[0] == 401
    assert served.sample("caller_requests_total", caller="app", route="machine", code="200") == 2


async def test_secrets_of_kubernetes_are_taken_up(served):
    """Its volumes: each file is a link to ..data/FILE, and ..data is swapped."""
    folder = served.path.parent
    (folder / "..one").mkdir()
    (folder / "..one" / "secret").write_text("one")
    (folder / "..data").symlink_to("..one")
    (folder / "secret").unlink()
    (folder / "secret").symlink_to("..data/secret")
    secret = lambda: served.process.services.config.credentials["machine"].client_secret  # noqa: E731
    await until(lambda: secret() == Secret("one"))
    (folder / "..two").mkdir()
    (folder / "..two" / "secret").write_text("two")
    (folder / "..data_tmp").symlink_to("..two")
    (folder / "..data_tmp").replace(folder / "..data")
    shutil.rmtree(folder / "..one")
    await until(lambda: secret() == Secret("two"))


async def test_another_refresh_token_is_adopted_without_a_reload(served):
    """For the grant that starts from one (docs/operations.md)."""
    seed, secret = served.path.parent / "seed", served.path.parent / "secret"
    seed.write_text(served.server.issue("demo-app", "alice")["refresh_token"])
    served.edit(
        more=f"""
[credentials.seeded]
issuer = "{served.process.services.config.credentials["machine"].issuer}"
grant = "refresh_token"
client_id = "demo-app"
client_secret = {{ file = "{secret}" }}
refresh_token = {{ file = "{seed}" }}
{route("seeded").replace('"machine"', '"seeded"')}"""
    )
    await served.reload()
    adopted = lambda: [each.fields for each in served.logged("seed_adopted")]  # noqa: E731
    await until(lambda: len(adopted()) == 1)
    seed.write_text(served.server.issue("demo-app", "alice")["refresh_token"])
    await until(lambda: len(adopted()) == 2)
    assert adopted()[1] == {"credential": "seeded", "account": "default"}


async def test_a_changed_key_of_the_store_is_told_to_need_a_restart_once(caplog):
    async with embedded(*free_ports(0, 0)) as (server, made):
        key = base64.b64encode(bytes(32)).decode()
        (made.path.parent / "k").write_text(key)
        made.path.write_text(made.path.read_text() + '\n[store]\nkey = { file = "k" }\n')
        async with serving(made.path, server, caplog) as served:
            (made.path.parent / "k").write_text(base64.b64encode(b"1" * 32).decode())
            (told,) = await until(served.logged)
            assert "a restart" in told.getMessage()
            await asyncio.sleep(3 * reload.LOOK_EVERY)
            assert len(served.logged()) == 1
            await served.reload()
            assert "expected the value as it was, or a restart" in served.logged()[-1].getMessage()
            (made.path.parent / "k").write_text(key)
            await served.reload()
            assert served.sample("config_last_reload_successful") == 1


# -- accounts


async def test_a_back_off_survives_and_the_account_stays_the_same(served):
    held = account(served)
    await refresh(served)
    served.server.script("outage", times=100)
    with pytest.raises(TokenError):
        await refresh(served)
    failures, hold, throttle = held.failures, held.hold_until, held.throttle.state
    assert failures
    served.edit(more=route("new"))
    await served.reload()
    assert account(served) is held
    assert served.process.relay.context.runtimes[1].fixed is held
    assert (held.failures, held.hold_until, held.throttle.state) == (failures, hold, throttle)


async def test_another_client_is_another_account_and_the_first_comes_back_with_its_tokens(served):
    await refresh(served)
    first = account(served)
    token = first.attachment
    served.edit('client_id = "demo-machine"', 'client_id = "another"')
    await served.reload()
    second = account(served)
    assert second is not first
    assert second.attachment is None
    assert second.credential.client_id == "another"
    served.edit('client_id = "another"', 'client_id = "demo-machine"')
    await served.reload()
    third = account(served)
    await until(lambda: third.attachment is not None)
    assert third.attachment.fields == token.fields, "nothing in the store was touched"


async def test_a_removed_credential_ends_and_a_flight_still_saves_its_token(served):
    await log_in(served.process.services)
    held = account(served, "person")
    generation = held.held.generation
    gate = asyncio.Event()
    store = served.process.services.store
    put = store.put

    async def slow_put(*args, **more):
        await gate.wait()
        return await put(*args, **more)

    store.put = slow_put
    refreshing = asyncio.create_task(refresh(served, "person"))
    await until(lambda: held.flight is not None)
    text = served.text
    start = text.index("[credentials.person]")
    served.path.write_text(
        text[:start]
        + text[text.index("[credentials.machine]") :].replace(
            text[text.index('[[routes]]\npath = "/demo"') : text.index('[[routes]]\npath = "/machine"')], ""
        )
    )
    await served.reload()
    assert served.logged()[-1].fields == {"routes_removed": "demo", "credentials_removed": "person"}
    assert (await served.get("/demo/x"))[0] == 404
    gate.set()
    await refreshing
    record = await store.get(AccountId("person", "default"))
    assert record.generation > generation, "the token of the flight is saved"
    assert AccountId("person", "default") not in {
        each.key for each in served.process.services.tokens.accounts()
    }
    del store.put
    served.path.write_text(text)
    await served.reload()
    assert account(served, "person") is not held
    assert (await served.get("/demo/x"))[0] == 200


# -- certificates


@dataclass
class Certificate:
    """Files with a certificate for localhost."""

    folder: Path

    def __post_init__(self):
        self.authority = trustme.CA()
        self.cert, self.key, self.ca = (self.folder / name for name in ("cert.pem", "key.pem", "ca.pem"))
        self.authority.cert_pem.write_to_path(self.ca)
        self.issue()

    def issue(self):
        issued = self.authority.issue_cert("localhost")
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        return issued

    @property
    def trusting(self):
        return ssl.create_default_context(cafile=self.ca)


async def serial_of(address, trusting):
    """The serial number of the certificate that a new handshake shows."""
    _, writer = await asyncio.open_connection(
        address.host, address.port, ssl=trusting, server_hostname="localhost"
    )
    number = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    return number


@pytest.fixture
async def tls_served(caplog, tmp_path):
    certificate = Certificate(tmp_path)
    files = f'{{ cert = "{certificate.cert}", key = "{certificate.key}" }}'
    async with embedded(*free_ports(0, 0)) as (server, made):
        made.path.write_text(
            made.path.read_text().replace("[server]", f"[server]\ntls = {files}\nadmin_tls = {files}")
        )
        async with serving(made.path, server, caplog) as served:
            yield served, certificate


async def test_new_handshakes_have_the_new_certificate_and_connections_go_on(tls_served):
    served, certificate = tls_served
    server = served.process.services.config.server
    places, trusting = (server.listen[0], server.admin), certificate.trusting
    before = [await serial_of(place, trusting) for place in places]
    reader, writer = await served.connect(ssl=trusting, server_hostname="localhost")
    certificate.issue()
    async with asyncio.timeout(PATIENCE):
        for place, old in zip(places, before, strict=True):
            while await serial_of(place, trusting) == old:
                await asyncio.sleep(0.1)
    writer.write(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), PATIENCE)).startswith(b"HTTP/1.1 404")


async def test_a_certificate_without_its_key_is_not_taken_up(tls_served):
    served, certificate = tls_served
    place, trusting = served.process.services.config.server.listen[0], certificate.trusting
    before = await serial_of(place, trusting)
    old_key = certificate.key.read_bytes()
    certificate.issue()
    new_key = certificate.key.read_bytes()
    certificate.key.write_bytes(old_key)
    (told,) = await until(served.logged)
    assert told.levelname == "WARNING"
    assert str(certificate.cert) in told.getMessage()
    await served.reload()  # nor by that
    await asyncio.sleep(3 * reload.LOOK_EVERY)
    assert len([each for each in served.logged() if each.levelname == "WARNING"]) == 1
    assert await serial_of(place, trusting) == before
    certificate.key.write_bytes(new_key)
    async with asyncio.timeout(PATIENCE):
        while await serial_of(place, trusting) == before:
            await asyncio.sleep(0.1)


async def test_a_certificate_that_is_gone_for_a_moment_does_not_hinder_a_reload(tls_served):
    served, certificate = tls_served
    content = certificate.cert.read_bytes()
    certificate.cert.unlink()
    served.edit(more=route("new"))
    await served.reload()
    assert served.sample("config_last_reload_successful") == 1
    place = served.process.services.config.server.listen[0]
    await serial_of(place, certificate.trusting)
    certificate.cert.write_bytes(content)


@pytest.mark.parametrize(
    "change", ['tls = {{ cert = "{0}", key = "{1}" }}\n', 'admin_tls = {{ cert = "{0}", key = "{1}" }}\n']
)
async def test_a_listener_can_not_cease_to_have_tls(tls_served, change):
    served, certificate = tls_served
    served.edit(change.format(certificate.cert, certificate.key))
    await served.reload()
    assert "restart" in served.logged()[-1].getMessage()


@asynccontextmanager
async def tls_upstream(certificate):
    """Its port, and whether each connection's session was resumed. A response ends its connection."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    resumed = []

    async def respond(reader, writer):
        resumed.append(writer.get_extra_info("ssl_object").session_reused)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0, ssl=context) as upstream:
        yield upstream.sockets[0].getsockname()[1], resumed


def trust(path, authority):
    """Replace the file at once."""
    shutil.copy(authority, path.with_suffix(".fresh"))
    path.with_suffix(".fresh").replace(path)


async def test_an_upstreams_new_authority_is_taken_up(served, tmp_path):
    certificate = Certificate(tmp_path)
    async with tls_upstream(certificate) as (port, _):
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        trust(tmp_path / "trusted.pem", tmp_path / "other.pem")
        tls = f'tls = {{ ca = "{tmp_path}/trusted.pem", server_name = "localhost" }}\n'
        served.edit(more=route("new", f"https://127.0.0.1:{port}") + tls)
        await served.reload()
        assert (await served.get("/new/x"))[0] == 502
        trust(tmp_path / "trusted.pem", certificate.ca)
        async with asyncio.timeout(PATIENCE):
            while (await served.get("/new/x"))[0] != 200:
                await asyncio.sleep(0.1)


async def test_an_upstream_of_an_authority_that_is_not_trusted_any_more_is_refused_despite_its_sessions(
    served, tmp_path
):
    certificate = Certificate(tmp_path)
    async with tls_upstream(certificate) as (port, resumed):
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        trust(tmp_path / "trusted.pem", certificate.ca)
        tls = f'tls = {{ ca = "{tmp_path}/trusted.pem", server_name = "localhost" }}\n'
        served.edit(more=route("new", f"https://127.0.0.1:{port}") + tls)
        await served.reload()
        for _ in range(3):
            assert (await served.get("/new/x"))[0] == 200
        assert resumed == [False, True, True]
        trust(tmp_path / "trusted.pem", tmp_path / "other.pem")
        async with asyncio.timeout(PATIENCE):
            while (await served.get("/new/x"))[0] != 502:
                await asyncio.sleep(0.1)
        count = len(resumed)
        for _ in range(3):
            assert (await served.get("/new/x"))[0] == 502
        assert len(resumed) == count  # its handshakes have failed


async def test_tls_files_that_can_not_be_used_are_a_fault_at_their_place(served, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    served.edit(more=route("new", "https://127.0.0.1:9") + f'tls = {{ ca = "{tmp_path}/ca.pem" }}\n')
    await served.reload()
    _, fault = served.logged()
    number = len(served.text.splitlines())
    assert fault.getMessage().startswith(f"{served.path}:{number}:7: {tmp_path}/ca.pem can't be used")


# -- requests in flight


class Streaming:
    """An upstream whose responses go on until they are ended."""

    def __init__(self):
        self.end = asyncio.Event()
        self.serving = {}

    async def respond(self, reader, writer):
        ended = self.serving[writer] = asyncio.Event()
        await self._respond(reader, writer)
        writer.close()
        del self.serving[writer]
        ended.set()

    async def close(self):
        self.end.set()
        for writer, ended in list(self.serving.items()):
            writer.close()
            await ended.wait()

    async def _respond(self, reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"\r\nUpgrade: websocket\r\n" in head:
                    writer.write(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                    while data := await reader.read(100):
                        writer.write(data)
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while not self.end.is_set():
                    writer.write(b"5\r\nevent\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)
                writer.write(b"0\r\n\r\n")


@pytest.fixture
async def streams():
    upstream = Streaming()
    async with await asyncio.start_server(upstream.respond, "127.0.0.1", 0) as server:
        upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield upstream
        await upstream.close()


async def opened(served, path, *lines):
    """A connection on which a response has begun."""
    reader, writer = await served.connect()
    fields = "".join(f"{line}\r\n" for line in lines)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    return int(head.split()[1]), reader, writer


async def lasts(reader, writer):
    """Whether data still comes."""
    writer.write(b"ping")
    return await asyncio.wait_for(reader.readuntil(b"event"), PATIENCE)


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def test_streams_and_tunnels_of_routes_that_stay_go_on(served, streams):
    served.edit(
        more=route("live", streams.url, websocket=True) + route("other") + "\n[limits]\nshutdown = 0.2\n"
    )
    await served.reload()
    status, reader, writer = await opened(served, "/live/x")
    assert status == 200
    tunnel = await opened(served, "/live/x", *UPGRADE)
    assert tunnel[0] == 101
    served.edit(streams.url, "http://127.0.0.1:9")  # changed, but there
    served.edit(route("other"))
    await served.reload()
    await asyncio.sleep(1.0)
    for _ in range(3):
        await lasts(reader, writer)
    tunnel[2].write(b"hello")
    assert await asyncio.wait_for(tunnel[1].readexactly(5), PATIENCE) == b"hello"
    assert served.sample("requests_in_flight", route="live") == 2
    assert (await served.get("/live/x"))[0] == 502, "a new request goes to the new upstream"
    streams.end.set()
    await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), PATIENCE)
    tunnel[2].close()
    await until(lambda: served.sample("requests_in_flight", route="live") == 0)
    await until(lambda: not served.process.relay._former)


@pytest.mark.parametrize("gone", ["route", "caller"])
async def test_streams_and_tunnels_of_what_is_removed_end_in_time(served, streams, gone):
    key = "a-key-of-twenty-characters-or-more"
    caller = f'\n[callers.app]\nkey = "{key}"\n\n[callers.other]\nkey = "a-key-of-another-program"\n'
    live = route("live", streams.url, websocket=True)
    served.edit(more=live + caller + "\n[limits]\nshutdown = 1.5\n")
    await served.reload()
    stream = await opened(served, "/live/x", f"Token-Proxy-Key: {key}")
    tunnel = await opened(served, "/live/x", f"Token-Proxy-Key: {key}", *UPGRADE)
    assert (stream[0], tunnel[0]) == (200, 101)
    loop = asyncio.get_running_loop()
    served.edit(live if gone == "route" else f'[callers.app]\nkey = "{key}"\n')
    begun = loop.time()
    await served.reload()
    await lasts(stream[1], stream[2])
    with suppress(ConnectionResetError):
        while await asyncio.wait_for(stream[1].read(100), PATIENCE):
            pass
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(tunnel[1].read(100), PATIENCE) in {b"", b"ping"}
    assert loop.time() - begun > 1.4
    await until(lambda: served.sample("requests_in_flight", route="live") == 0)
    assert served.process.relay._leaving == []


async def test_connections_of_a_removed_listener_end_after_their_exchange(served, streams):
    (own,) = free_ports(0)
    added = route("own", streams.url, listen=f"127.0.0.1:{own}")
    served.edit(more=added)
    await served.reload()
    idle, busy = await served.connect(own), await served.connect(own)
    busy[1].write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(busy[0].readuntil(b"event"), PATIENCE)
    served.edit(added)
    await served.reload()
    assert await asyncio.wait_for(idle[0].read(), PATIENCE) == b""
    streams.end.set()
    assert (await asyncio.wait_for(busy[0].read(), PATIENCE)).endswith(b"\r\n0\r\n\r\n"), (
        "it ended, and closed"
    )


# -- one at a time, and not for ever


async def test_requests_during_a_reload_make_one_more(served):
    settled = []
    served.hooks.settled.append(lambda: settled.append(1))
    for _ in range(200):
        served.wanted.set()
        await asyncio.sleep(0)
    await until(lambda: settled)
    await asyncio.sleep(0.5)
    assert 1 <= len(settled) <= 20


async def test_a_hanging_file_hinders_neither_requests_nor_the_end(caplog, monkeypatch):
    async with embedded(*free_ports(0, 0)) as (server, made):
        async with asyncio.timeout(PATIENCE):
            async with serving(made.path, server, caplog) as served:
                hanging = threading.Event()
                monkeypatch.setattr("proxy.watched_files.Looks.at", lambda *_: hanging.wait())
                await asyncio.sleep(2 * reload.LOOK_EVERY)
                served.wanted.set()
                assert (await served.get("/machine/x"))[0] == 200
        hanging.set()


async def test_reloads_leave_nothing_behind(served, streams):
    """Contexts, routes, sockets, tasks and threads of 60 reloads; in black_box/ it is memory."""

    def count():
        gc.collect()
        kinds = Counter(type(each).__name__ for each in gc.get_objects())
        return {
            **{
                name: kinds[name]
                for name in (
                    "RelayContext",
                    "RouteRuntime",
                    "Generation",
                    "Parts",
                    "Config",
                    "Services",
                    "Application",
                    "Account",
                    "SSLContext",
                    "AdminServer",
                    "Logins",
                    "Loaded",
                )
            },
            "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
        }

    def edited(number):
        return base + route(f"r{number % 3}", streams.url) + f"\n[limits]\nidle = {60 + number % 7}.0\n"

    base = served.text
    await opened(served, "/machine/x")
    before = None
    for number in range(66):
        served.path.write_text(edited(number))
        await served.reload()
        assert (await served.get("/machine/x"))[0] == 200
        if number == 5:
            await until(lambda: not served.process.relay._former)
            before = count()
    await until(lambda: not served.process.relay._former)  # at the next sweep
    after = count()
    assert {
        name: n for name, n in after.items() if n > before[name] + (2 if name in {"files", "tasks"} else 0)
    } == {}


async def test_a_login_that_a_reload_overtakes_replaces_nothing(served):
    """Its tokens are another client's: the account may have tokens of its own by now."""
    services = served.process.services
    key = AccountId("person", "default")
    invited = await services.logins.invite(key, command=new_secret())
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(invited) as page:
            assert page.status == 200
        taken, go_on = asyncio.Event(), asyncio.Event()
        adopt = services.tokens.adopt

        async def slow(*args, **more):
            taken.set()
            await go_on.wait()
            return await adopt(*args, **more)

        services.tokens.adopt = slow
        ending = asyncio.create_task(browser.post(page.url, data={"user": "alice"}))
        await asyncio.wait_for(taken.wait(), PATIENCE)
        served.edit('client_id = "demo-app"', 'client_id = "another"')
        await served.reload()
        go_on.set()
        async with await ending as done:
            assert done.status == 400
            assert "configuration has changed" in await done.text()
    assert await services.store.get(key) is None


async def test_all_routes_share_what_reading_responses_remembers(served):
    def memories():
        return {id(each._dialer.head_limits) for each in served.process.relay.context.runtimes}

    before = memories()
    assert len(before) == 1
    served.edit(more=route("new"))
    await served.reload()
    assert memories() == before
    served.edit(more="\n[limits]\nheader_size = 100000\n")
    await served.reload()
    assert len(memories()) == 1
    assert memories() != before


async def test_notifications_can_be_added_changed_and_removed(served, tmp_path):
    def sent():
        return served.sample("notifications_total", outcome="sent")

    assert sent() is None
    first = f'\n[notify]\ncommand = ["sh", "-c", "cat >> {tmp_path}/first"]\n'
    served.edit(more=first)
    await served.reload()
    assert sent() == 0
    await log_in(served.process.services)
    store = served.process.services.store
    record = await store.get(AccountId("person", "default"))
    dead = replace(record, generation=record.generation + 1, state="login_required", due_at=None)
    await store.put(dead, expected=record.generation)  # as by another process
    await until(sent)
    served.edit("first", "second")
    await served.reload()
    await log_in(served.process.services)
    await until(lambda: sent() == 2)
    said = [json.loads((tmp_path / name).read_text())["state"] for name in ("first", "second")]
    assert said == ["login_required", "valid"]
    served.edit(first.replace("first", "second"), "")
    await served.reload()
    assert sent() is None


# -- pages that stay up to date


@asynccontextmanager
async def stream(served):
    """Events of the status page; the first has come."""
    admin = served.process.services.config.server.admin
    async with aiohttp.ClientSession() as session, session.get(f"http://{admin}/events") as response:
        assert response.status == 200
        async with asyncio.timeout(PATIENCE):
            await response.content.readuntil(b"</main>")
        yield response


async def test_the_streams_of_pages_end_with_their_configuration_and_others_begin(served):
    async with stream(served) as former:
        served.edit(more="\n[limits]\nidle = 61.0\n")
        await served.reload()
        async with asyncio.timeout(PATIENCE):
            await former.read()  # to its end
        async with stream(served):
            pass


async def test_the_streams_of_pages_end_in_order_when_the_process_stops(caplog):
    async with (
        embedded(*free_ports(0, 0)) as (server, made),
        AsyncExitStack() as later,
    ):
        async with serving(made.path, server, caplog) as served:
            response = await later.enter_async_context(stream(served))
        async with asyncio.timeout(PATIENCE):
            await response.read()  # a connection that was cut off would be an error
