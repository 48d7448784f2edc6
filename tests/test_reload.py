"""Reloads of a serving process, in the process of the tests; as a command in black_box/test_reload.py."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from proxy import process
from proxy.config.load import load
from proxy.demo.wiring import embedded, free_ports
from proxy.hooks import Hooks
from proxy.reload import Reloader

PATIENCE = 60  # seconds


@dataclass
class Served:
    """A serving process and its configuration file."""

    path: Path
    process: process.Process
    wanted: asyncio.Event
    hooks: process.Hooks
    server: object  # the demo's authorization server
    caplog: pytest.LogCaptureFixture

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

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not (found := condition()):
                await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def serving(path, server, caplog):
    caplog.set_level(logging.INFO, "proxy")
    wanted, hooks = asyncio.Event(), Hooks()
    async with (
        process.running(load(path), hooks=hooks) as running,
        Reloader(running, wanted).running(),
    ):
        yield Served(path, running, wanted, hooks, server, caplog)


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
    served.edit(more=route("new", upstrem="x") + "\n[limits]\nidle = true\n")
    await served.reload()
    assert served.process.services is before
    assert (await served.get("/machine/x"))[0] == 200
    assert (await served.get("/new/x"))[0] == 404
    head, *faults = served.logged()
    assert head.fields == {"faults": 2}
    lines = served.text.splitlines()
    for fault, key in zip(faults, ("upstrem", "idle"), strict=True):
        assert fault.levelname == "ERROR"
        number = next(n for n, line in enumerate(lines, 1) if line.startswith(key))
        assert fault.getMessage().startswith(f"{served.path}:{number}:")
        assert "\n" not in fault.getMessage()
    assert served.sample("config_last_reload_successful") == 0
    assert served.sample("config_last_reload_success_timestamp_seconds") == at

    served.edit('upstrem = "x"\n')
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
    data = served.process.services.config.server.listen[0]
    api = served.process.services.config.routes[1].upstream
    added = route("own", f"http://{api.host}:{api.port}/one", listen=f"127.0.0.1:{own}")
    served.edit(more=added)
    await served.reload()
    connections = [await asyncio.open_connection("127.0.0.1", port) for port in (data.port, own)]

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
    for _, writer in connections:
        writer.close()
