"""The life of a process, in the process of the tests; as a command it is tested in commands/test_run.py."""

import asyncio
import base64
import logging
import socket
from contextlib import suppress

import aiohttp
import pytest
import trustme

from proxy import generation, startup
from proxy.adopted import Adopted
from proxy.config.load import Loaded, load
from proxy.demo.wiring import embedded, free_ports, log_in
from proxy.errors import ConfigError
from proxy.listen import CannotListen
from proxy.systemd import Handed
from proxy.tls_material import Material, gather, needed
from tests.servers.redis import start_redis

__all__ = ["start_redis"]  # a fixture

OWN_LISTENER = """
[[routes]]
listen = "{listen}"
upstream = "{upstream}"
credential = "machine"
"""
HOSTS = """
[[routes]]
host = "Crm.Internal"
upstream = "http://127.0.0.1:9"
credential = "machine"
"""


@pytest.fixture
async def config():
    async with embedded(*free_ports(0, 0)) as (_, made):
        yield made


def changed(config, old="", new="", more=""):
    config.path.write_text(config.path.read_text().replace(old, new) + more)
    return load(config.path).config


async def fetch(url, **options):
    async with aiohttp.ClientSession(**options) as session, session.get(url) as response:
        return response.status, await response.json()


def is_free(address):
    with socket.socket() as probe:
        return probe.connect_ex((address.host, address.port)) != 0


async def test_it_serves_for_the_length_of_the_block(config):
    data, admin = config.server.listen[0], config.server.admin
    async with startup.serving(config) as services:
        await log_in(services)
        assert (await fetch(f"http://{data}/demo/x"))[1]["hello"] == "alice"
        assert (await fetch(f"http://{admin}/readyz"))[0] == 200
    assert is_free(data)
    assert is_free(admin)


async def test_a_route_may_have_a_listener_of_its_own(config):
    (port,) = free_ports(0)
    upstream = config.routes[1].upstream
    more = OWN_LISTENER.format(
        listen=f"127.0.0.1:{port}", upstream=f"http://{upstream.host}:{upstream.port}/base"
    )
    async with startup.serving(changed(config, more=more)):
        status, document = await fetch(f"http://127.0.0.1:{port}/x")
    assert (status, document["hello"], document["path"]) == (200, "demo-machine", "/base/x")


async def test_links_to_any_of_its_listeners_are_dropped(config):
    own, second, health, foreign = free_ports(0, 0, 0, 0)
    places = [config.server.listen[0].port, config.server.admin.port, own, second, health, foreign]
    links = ", ".join(f"<http://localhost:{port}/b>; rel=x{port}" for port in places)

    async def respond(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nLink: {links}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    upstream = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    more = [OWN_LISTENER.format(listen=f"127.0.0.1:{port}", upstream=upstream) for port in (own, second)]
    async with (
        server,
        startup.serving(
            changed(config, "[server]\n", f'[server]\nhealth = "0.0.0.0:{health}"\n', more="".join(more))
        ),
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{own}/x") as response,
    ):
        assert response.headers["Link"] == f"<http://localhost:{foreign}/b>; rel=x{foreign}"


async def test_listeners_may_be_unix_sockets_and_leave_no_files(config):
    folder = config.path.parent
    data, admin, server = folder / "data.sock", folder / "admin.sock", config.server
    config = changed(config, f'"{server.listen[0]}"', f'"unix:{data}"')
    config = changed(config, f'"{server.admin}"', f'"unix:{admin}"\npublic_url = "http://{server.admin}"')
    async with startup.serving(config):
        for path, url in ((data, "http://localhost/machine/x"), (admin, "http://localhost/api/status")):
            assert (await fetch(url, connector=aiohttp.UnixConnector(str(path))))[0] == 200
            assert path.stat().st_mode & 0o777 == 0o600
    assert not data.exists()
    assert not admin.exists()


async def test_when_one_listener_fails_the_others_are_closed_again(config):
    data = config.server.listen[0]
    with socket.create_server((data.host, data.port)), pytest.raises(CannotListen):
        await serve(config)
    assert is_free(config.server.admin)
    await serve(config)


async def test_a_taken_address_of_the_health_listener_is_named(config):
    (port,) = free_ports(0)
    config = changed(config, "[server]\n", f'[server]\nhealth = "127.0.0.1:{port}"\nquit = true\n')
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(CannotListen, match=f"can't listen on 127.0.0.1:{port}: address already in use"):
            await serve(config)
        async with startup.running(Loaded(config, [], []), is_found=False):
            assert (await fetch(f"http://{config.server.listen[0]}/machine/x"))[0] == 200
    assert is_free(config.server.admin)


async def test_what_nobody_waits_for_can_not_be_ended_on_request(config):
    """As by `exec`, whose own server ends with its program."""
    (port,) = free_ports(0)
    config = changed(config, "[server]\n", f'[server]\nhealth = "127.0.0.1:{port}"\nquit = true\n')
    async with (
        startup.serving(config),
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/quitquitquit") as response,
    ):
        assert response.status == 404


async def serve(config, work=None):
    async with startup.serving(config):
        if work:
            await work()


async def test_what_fails_within_the_block_is_not_drained(config):
    async def fail_with_a_request_in_flight():
        _, writer = await asyncio.open_connection("127.0.0.1", config.server.listen[0].port)
        writer.write(b"GET /machine/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        await asyncio.sleep(0)
        writer.close()
        raise ZeroDivisionError

    async with asyncio.timeout(60):
        with pytest.raises(ZeroDivisionError):
            await serve(config, fail_with_a_request_in_flight)
    assert is_free(config.server.admin)


async def test_a_routes_tls_files_that_can_not_be_used_are_named_by_the_route(config, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    route = '\n[[routes]]\npath = "/tls"\nupstream = "https://127.0.0.1:9"\ncredential = "machine"\n'
    config = changed(config, more=f'{route}tls = {{ ca = "{tmp_path}/ca.pem" }}\n')
    with pytest.raises(ConfigError, match="ca\\.pem can't be used"):
        await serve(config)


async def test_its_own_names_are_those_of_the_configuration(config):
    config = changed(
        config,
        "[server]",
        '[server]\nallowed_hosts = ["one.internal"]\npublic_url = "https://two.example"\n'
        'health = "10.9.8.7:1"',
        HOSTS,
    )
    named = {"one.internal", "two.example", "127.0.0.1", "10.9.8.7", "crm.internal"}
    assert set(generation.own_names(config)) == named


async def test_the_life_of_a_process_is_logged(config, caplog):
    caplog.set_level(logging.INFO, "proxy")
    await serve(config)
    events = [record.event for record in caplog.records if hasattr(record, "event")]
    assert events == ["listen", "listen", "start", "stop"]


async def test_a_store_that_may_lose_tokens_is_warned_of_once(config, caplog, start_redis):
    redis = start_redis(appendonly="no")
    caplog.set_level(logging.WARNING, "proxy")
    key = base64.b64encode(bytes(32)).decode()
    await serve(changed(config, more=f'[store]\nurl = "{redis.url}"\nkey = "{key}"\n'))
    (said,) = [record.message for record in caplog.records]
    assert said.startswith(
        f"token store {redis.url}: it loses the latest tokens when it stops: set appendonly"
    )


async def test_routes_with_the_same_tls_share_one_trust_store(tmp_path):
    text = '[credentials.c]\nissuer = "https://a.example"\nclient_id = "x"\n'
    for number in range(3):
        text += f'[[routes]]\npath = "/r{number}"\nupstream = "https://u{number}.example"\ncredential = "c"\n'
    text += '[[routes]]\npath = "/plain"\nupstream = "http://127.0.0.1:1"\ncredential = "c"\n'
    (tmp_path / "config.toml").write_text(text)
    config = load(tmp_path / "config.toml").config
    assert list(gather(needed(config), Material()).made) == [None]


@pytest.mark.parametrize(("listener", "limit"), [("tls", "header_time"), ("admin_tls", "admin_header_time")])
async def test_a_caller_that_never_shakes_hands_is_closed_after_the_time_for_a_header(
    config, tmp_path, listener, limit
):
    certificate = trustme.CA().issue_cert("127.0.0.1")
    both = tmp_path / "both.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(both)
    tls = f'[server]\n{listener} = {{ cert = "{both}", key = "{both}" }}\n'
    config = changed(config, "[server]\n", tls, more=f"\n[limits]\n{limit} = 0.5\n")
    address = config.server.listen[0] if listener == "tls" else config.server.admin
    async with startup.serving(config):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        async with asyncio.timeout(10):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


async def test_the_admin_listener_has_its_own_limit_of_connections(config):
    config = changed(config, "[server]\n", "[server]\n", more="\n[limits]\nadmin_connections = 3\n")
    address = config.server.admin
    async with startup.serving(config), asyncio.timeout(60):
        first, *others = [await asyncio.open_connection(address.host, address.port) for _ in range(4)]
        with suppress(ConnectionResetError):
            assert await first[0].read() == b"", "the oldest made room"
        for reader, writer in others:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        for _, writer in (first, *others):
            writer.close()


async def replace(running, config, text):
    config.path.write_text(text)
    loaded = load(config.path)
    await running.replace(loaded, gather(needed(loaded.config), Material()))


async def test_a_routes_adopted_socket_waits_while_the_route_is_away(config, caplog):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        upstream = config.routes[1].upstream
        own = OWN_LISTENER.format(
            listen=f"127.0.0.1:{port}", upstream=f"http://{upstream.host}:{upstream.port}"
        )
        without = config.path.read_text()
        config.path.write_text(without + own)
        handed = Handed(sock, "own")
        async with startup.running(load(config.path), adopted=Adopted([handed])) as running:
            assert (await fetch(f"http://127.0.0.1:{port}/x"))[0] == 200
            await replace(running, config, without)
            early = asyncio.create_task(fetch(f"http://127.0.0.1:{port}/x"))
            await asyncio.sleep(0.1)
            assert not early.done()
            await replace(running, config, without + own)
            assert (await early)[0] == 200
    (said,) = [record.message for record in caplog.records if "fits no listener" in record.message]
    assert said.startswith(f"the socket 127.0.0.1:{port} (own) fits no listener")
