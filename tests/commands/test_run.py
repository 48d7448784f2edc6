"""run: start, serve, stop, start again."""

import asyncio
import json
import signal
import sys
from importlib.metadata import version

import pytest
from aiohttp import web

from proxy.demo.serve import running
from proxy.signals import SAME_SIGNAL
from tests.commands.a_terminal import on_a_terminal

DONE, FAILED, USAGE = 0, 1, 2
EVENTS = {"start", "listen", "request", "refresh", "login", "logout", "refused", "stop", "notice"}


async def idle_connection(bench):
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.config.server.listen[0].port)
    writer.write(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_sigterm_ends_in_an_orderly_way(bench, slow):
    server = await bench.run()
    request = asyncio.create_task(bench.get(f"{bench.data}/slow/x"))
    await slow.asked.wait()
    reader, writer = await idle_connection(bench)
    assert (await bench.get(f"{bench.admin}/healthz")).status == 200

    server.signal(signal.SIGTERM)
    await server.until("stopping on SIGTERM")
    async with asyncio.timeout(60):
        await reader.read()  # the idle connection is closed
    writer.close()
    ready = await bench.get(f"{bench.admin}/readyz")
    assert (ready.status, (await ready.json())["ready"]) == (503, False)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", bench.config.server.listen[0].port)

    slow.may_answer.set()
    response = await request
    assert (response.status, await response.text()) == (200, "at last")
    assert await server.end() == DONE
    assert set(server.events()) <= EVENTS
    assert server.events()[-1] == "stop"


async def test_a_second_sigterm_ends_at_once_but_a_duplicate_does_not(bench, slow):
    server = await bench.run()
    request = asyncio.create_task(bench.get(f"{bench.data}/slow/x"))
    await slow.asked.wait()
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGTERM)
    await server.until("stopping on SIGTERM")
    await asyncio.sleep(SAME_SIGNAL + 0.2)
    assert not request.done()
    server.signal(signal.SIGTERM)
    assert await server.end() == -signal.SIGTERM
    with pytest.raises(OSError):
        await request


async def test_after_a_restart_the_same_token_is_served_without_a_login(bench):
    await bench.log_in()
    token = (await bench.call("token", "person")).stdout
    for _ in range(2):
        server = await bench.run()
        assert await bench.whose() == "alice"
        server.signal()
        assert await server.end() == DONE
    assert (await bench.call("token", "person")).stdout == token
    assert bench.granted() == ["authorization_code"]


async def test_every_line_of_the_log_is_an_object_without_a_query_or_a_token(bench):
    await bench.log_in()
    token = (await bench.call("token", "person")).stdout.strip()
    server = await bench.run()
    await bench.get(f"{bench.data}/demo/x?key=in-the-query")
    await bench.get(f"{bench.data}/nowhere?key=in-the-query")
    await bench.get(f"{bench.admin}/callback?state=x&code=in-the-query")
    server.signal()
    assert await server.end() == DONE
    told = [json.loads(line) for line in server.log]
    assert all({"ts", "level", "event"} <= line.keys() for line in told)
    (request,) = [line for line in told if line["event"] == "request"]
    assert (request["route"], request["status"], request["account"]) == ("demo", 200, "default")
    (start,) = [line for line in told if line["event"] == "start"]
    assert start["version"]
    assert "in-the-query" not in "".join(server.log)
    assert token not in "".join(server.log)


@pytest.mark.parametrize("listener", ["listen", "admin"])
async def test_a_taken_port_is_named(bench, listener):
    address = {"listen": bench.config.server.listen[0], "admin": bench.config.server.admin}[listener]
    async with running(web.Application(), port=address.port):
        server = await bench.start("run", "-c", str(bench.path))
        assert await server.end() == FAILED
    assert server.log[-1] == (
        f"token-proxy: can't listen on {address}: address already in use: stop the program that has it "
        "(`token-proxy status` tells whether it is another token-proxy), or configure another address\n"
    )
    assert "Traceback" not in "".join(server.log)


async def test_without_the_compiled_parser_it_does_not_start(bench):
    server = await bench.start("run", "-c", str(bench.path), AIOHTTP_NO_EXTENSIONS="1")
    assert await server.end() == FAILED
    assert server.log[-1].startswith("token-proxy: aiohttp is without its compiled parser: ")
    assert "Traceback" not in "".join(server.log)


async def test_a_fault_in_the_configuration_starts_nothing(bench):
    bench.path.write_text(bench.path.read_text().replace("[server]", "[sever]"))
    server = await bench.start("run", "-c", str(bench.path))
    assert await server.end() == USAGE
    assert server.log[0].startswith(f"{bench.path}:1:")


# -- what it says at its start


async def test_the_start_event_says_what_is_served_from_what_and_how_it_is(bench):
    server = await bench.run()
    await bench.get(f"{bench.admin}/healthz")
    server.signal()
    assert await server.end() == DONE
    told = [json.loads(line) for line in server.log]
    (start,) = [line for line in told if line["event"] == "start"]
    assert start["config"] == str(bench.path)
    assert start["store"] == str(bench.config.server.state_dir / "tokens.db")
    assert start["public_url"] == bench.admin
    routes = {route["name"]: route for route in start["routes"]}
    assert routes.keys() == {route.name for route in bench.config.routes}
    assert routes["demo"] == {
        "name": "demo",
        "place": f"{bench.data}/demo",
        "upstream": str(bench.config.routes[0].upstream),
        "credential": "person",
        "account": "default",
        "state": "absent",
    }
    assert start["message"].startswith("token-proxy is ready, but 1 of ")
    assert "person/default: nobody has logged in yet; run `token-proxy login person`" in start["message"]


async def test_ready_is_said_without_a_but_once_all_accounts_can_serve(bench):
    await bench.log_in()
    server = await bench.run()
    server.signal()
    assert await server.end() == DONE
    (start,) = [line for line in map(json.loads, server.log) if line["event"] == "start"]
    assert start["message"] == "token-proxy is ready"


@pytest.mark.parametrize("columns", [250, 60])
async def test_on_a_terminal_a_summary_says_what_is_served_and_what_to_do(bench, columns):
    run = [sys.executable, "-m", "proxy", "run", "-c", str(bench.path)]
    code, said = await asyncio.to_thread(on_a_terminal, run, columns, TERM="xterm", NO_COLOR="1")
    assert code == DONE
    upstream = bench.config.routes[0].upstream
    lines = said.splitlines()  # those of the log are written by a thread: before the summary or behind it
    head = f"token-proxy {version('token-proxy')}   "
    summary = lines[[line.startswith(head) for line in lines].index(True) :]
    assert str(bench.path) in summary[0]
    where, how = (summary[1], summary[1]) if columns == 250 else summary[1:3]
    assert f"  {bench.data}/demo" in where
    assert f"→ {upstream}" in where
    assert "person/default" in how
    assert "nobody has logged in yet; run `token-proxy login person`" in how
    assert any(line.startswith(f"  status page  {bench.admin}/   1 of ") for line in summary)
    assert not any("\x1b[3" in line for line in summary)


async def test_the_summary_has_colours_only_where_they_are_wanted(bench):
    run = [sys.executable, "-m", "proxy", "run", "-c", str(bench.path)]
    _, coloured = await asyncio.to_thread(on_a_terminal, run, 250, TERM="xterm-256color")
    assert "\x1b[33m○ absent" in coloured
    _, dumb = await asyncio.to_thread(on_a_terminal, run, 250, TERM="dumb")
    assert "\x1b[" not in dumb


async def test_a_secret_in_the_configuration_is_warned_about_in_a_line_of_the_log(bench):
    text = bench.path.read_text()
    state = bench.config.server.state_dir
    literal = text.replace(f'client_secret = {{ file = "{state}/secret" }}', 'client_secret = "literal"')
    assert literal != text
    bench.path.write_text(literal)
    server = await bench.run()
    server.signal()
    assert await server.end() == DONE
    told = [json.loads(line) for line in server.log]
    warned = [
        line for line in told if line["level"] == "warning" and line["message"].startswith(str(bench.path))
    ]
    assert len(warned) == 2
    assert "literal" not in "".join(line["message"].replace("a literal", "") for line in warned)
