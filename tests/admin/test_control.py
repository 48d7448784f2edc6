"""The control socket: by it commands find the server of a state_dir, and it hinders no server."""

import asyncio
import json
import os
import socket
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import control_socket, startup
from proxy.admin import control
from proxy.admin.control import control_application, offered
from proxy.control_socket import SOCKET, read_entry, short_path
from proxy.demo.wiring import embedded, free_ports

PATIENCE = 60  # seconds
ENTRY = {
    "version": 1,
    "token_proxy": "1",
    "pid": 1,
    "config": "/config.toml",
    "digest": "00",
    "routes": [{"name": "a", "variable": "A", "base_url": None}],
    "hints": [],
}


def app(**more):
    return control_application(lambda: {**ENTRY, **more}, None)


async def find_server(state_dir):
    return await asyncio.to_thread(control_socket.find_server, state_dir)


async def ask(state_dir, path):
    return await asyncio.to_thread(control_socket.ask, state_dir, path)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not (result := await condition()):
            await asyncio.sleep(0.02)
    return result


async def test_a_server_tells_what_it_is():
    async with embedded(*free_ports(0, 0)) as (_, config):
        assert await find_server(config.server.state_dir) is None
        async with startup.serving(config):
            path = config.server.state_dir / SOCKET
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            found = await find_server(config.server.state_dir)
            assert found["pid"] == os.getpid()
            assert found["config"] == str(config.path.absolute())
            assert found["digest"] == config.digest != ""
            data = f"http://{config.server.listen[0]}"
            assert found["routes"] == [
                {"name": "demo", "variable": "DEMO_BASE_URL", "base_url": f"{data}/demo"},
                {"name": "machine", "variable": "MACHINE_BASE_URL", "base_url": f"{data}/machine"},
            ]
            (hint,) = found["hints"]
            assert hint.startswith("person/default: ")
            assert "`token-proxy login person`" in hint
            status = json.loads(await ask(config.server.state_dir, "/api/status"))
            assert set(status["counts"]) == {"person", "machine"}
            assert await ask(config.server.state_dir, "/metrics") is None
        assert not path.exists()


async def test_a_dead_servers_socket_is_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    assert await find_server(tmp_path) is None
    async with offered(tmp_path, app()):
        assert await find_server(tmp_path) == ENTRY


async def test_the_first_of_two_servers_has_it_and_the_second_takes_over(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(control, "AGAIN", 0.05)
    caplog.set_level("INFO", "proxy.control")
    async with offered(tmp_path, app(pid=1)):
        second = offered(tmp_path, app(pid=2))
        await second.__aenter__()
        await asyncio.sleep(0.3)
        assert (await find_server(tmp_path))["pid"] == 1
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith("another server with this state_dir has control.sock")
    found = await until(lambda: find_server(tmp_path))
    assert found["pid"] == 2
    await second.__aexit__(None, None, None)
    assert not (tmp_path / SOCKET).exists()
    assert len(caplog.messages) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="proc(5)")
@pytest.mark.parametrize("length", [89, 90, 91, 92, 93, 94, 95, 200])
async def test_a_long_path(tmp_path, length):
    """Below and above the 107 bytes that the address of a socket may have."""
    async with offered(tmp_path / "first", app()):
        pass  # for the first listener of a loop libuv opens a file that it keeps
    files = open_files()
    base = tmp_path / ("x" * max(1, length - len(str(tmp_path))))
    deep = base / ("ä" * 100) if length == 200 else base
    deep.mkdir(parents=True)
    async with offered(deep, app()):
        assert await find_server(deep) == ENTRY
        assert (deep / SOCKET).is_socket()
    assert not (deep / SOCKET).exists()
    assert open_files() == files


async def test_a_missing_state_dir_is_made_for_its_owner_only(tmp_path):
    async with offered(tmp_path / "a" / "b", app()):
        assert await find_server(tmp_path / "a" / "b") == ENTRY
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


async def test_a_failure_is_one_line_of_the_log_and_is_mended_later(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(control, "AGAIN", 0.02)
    caplog.set_level("INFO", "proxy.control")
    in_the_way = tmp_path / "in-the-way"
    in_the_way.write_text("")
    folder = in_the_way / "state"
    async with offered(folder, app()):
        await asyncio.sleep(0.1)
        assert caplog.messages == [
            "no control.sock in state_dir (not a directory): commands can't find this server by it"
        ]
        in_the_way.unlink()
        await until(lambda: find_server(folder))
    assert len(caplog.messages) == 1


async def test_an_unexpected_failure_does_not_keep_the_server_waiting(tmp_path):
    async with asyncio.timeout(PATIENCE), offered(tmp_path / "a\0b", app()):
        pass


async def test_a_file_that_is_no_socket_stays(tmp_path, caplog):
    caplog.set_level("INFO", "proxy.control")
    (tmp_path / SOCKET).write_text("mine")
    async with offered(tmp_path, app()):
        assert await find_server(tmp_path) is None
    assert (tmp_path / SOCKET).read_text() == "mine"


class Listener:
    """A program at the socket; `respond` is what it sends to each connection, then it waits."""

    def __init__(self, path, respond, *, close=True):
        self._respond, self._close, self._path = respond, close, path
        self._writers = []

    async def __aenter__(self):
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def _serve(self, _reader, writer):
        self._writers.append(writer)
        writer.write(self._respond)
        if self._close:
            writer.close()

    async def __aexit__(self, *_):
        self._server.close()
        for writer in self._writers:
            writer.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SSH-2.0\r\n",
        HEAD,
        HEAD + b"{",
        HEAD + b"[" * 100_000,
        HEAD + b"null",
        HEAD + json.dumps({**ENTRY, "version": 2}).encode(),
        HEAD + json.dumps({**ENTRY, "hints": ["\x1b[2J"]}).encode(),
        HEAD.replace(b"200 OK", b"500 Oh") + json.dumps(ENTRY).encode(),
        HEAD.replace(b"200 OK\r\n", b"302 Found\r\nLocation: http://127.0.0.1/\r\n"),
    ],
)
async def test_another_response_is_no_server(tmp_path, response):
    async with Listener(tmp_path / SOCKET, response):
        assert await find_server(tmp_path) is None


async def test_a_silent_server_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(control_socket, "TIMEOUT", 0.2)
    async with Listener(tmp_path / SOCKET, b"", close=False), asyncio.timeout(PATIENCE):
        assert await find_server(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="chown(2)")
async def test_the_socket_of_another_user_is_not_asked(tmp_path):
    async with offered(tmp_path, app()):
        os.chown(tmp_path / SOCKET, 12345, -1)
        assert await find_server(tmp_path) is None
        os.chown(tmp_path, 12345, -1)  # whoever has state_dir has the tokens anyway
        assert await find_server(tmp_path) == ENTRY


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(ENTRY)), inner, max_size=7)
    ),
)


@given(JSON, st.sampled_from(list(ENTRY)))
def test_any_document_is_read_or_refused(value, name):
    assert read_entry(json.dumps(value).encode()) is None
    found = read_entry(json.dumps({**ENTRY, name: value}).encode())
    assert found is None or isinstance(found["routes"], list)


def test_short_path_is_the_plain_one_if_it_fits(tmp_path):
    with short_path(tmp_path) as path:
        assert path == tmp_path / SOCKET
