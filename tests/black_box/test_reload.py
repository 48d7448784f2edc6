"""Reloads of the real command: by signal, by --watch, of files that it names, and all of that in a storm."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import time

import pytest

from tests.black_box.reload_storm import storm
from tests.fakes.raw_servers import listening, read_message, response

from .conftest import until

ROUTE = """
[[routes]]
name = "{name}"
path = "/{name}"
upstream = "http://127.0.0.1:{upstream}"
credential = "crm"
"""


def api(connection):
    while read_message(connection):
        connection.sendall(response(b"hello"))


@pytest.fixture
def upstream():
    with listening(api) as port:
        yield port


@pytest.fixture
def served(command, credential, upstream):
    """The command with one route; `more` writes the configuration with others."""
    command.write = lambda *names: command.configure(
        credential("crm") + "".join(ROUTE.format(name=name, upstream=upstream) for name in ("one", *names))
    )
    command.write()
    return command


def reloads(command):
    told = [json.loads(line) for line in command.log().splitlines()]
    return [each for each in told if each["event"] == "reload"]


def test_sighup_reloads_and_a_bad_file_changes_nothing(served):
    served.start()
    assert served.get("/two/x")[0] == 404
    served.write("two")
    os.kill(served.pid, signal.SIGHUP)
    until(lambda: served.get("/two/x")[0] == 200, "the new route is there")
    served.config.write_text(served.config.read_text() + "\n[limits]\nidel = 1\n")
    os.kill(served.pid, signal.SIGHUP)
    until(lambda: len(reloads(served)) == 3, "the faults are told")
    good, head, fault = reloads(served)
    assert (good["level"], good["routes_added"]) == ("info", "two")
    assert (head["level"], head["faults"]) == ("error", 1)
    line = served.config.read_text().count("\n")
    assert fault["message"].startswith(f"{served.config}:{line}:1: unknown key 'idel'")
    assert served.get("/two/x")[0] == 200
    assert b"token_proxy_config_last_reload_successful 0.0" in served.get("/metrics", admin=True)[1]


def test_a_stop_is_not_hindered_by_reloads(served):
    served.start()
    for _ in range(50):
        os.kill(served.pid, signal.SIGHUP)
    served.stop()
    assert json.loads(served.log().splitlines()[-1])["event"] == "stop"


# -- --watch


@pytest.fixture
def watching(served):
    run = served._argv
    served._argv = lambda name, *more: run(name, *(("--watch",) if name == "run" else ()), *more)
    return served


def renamed(path, text):
    """As editors write."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.rename(path)


def removed_first(path, text):
    path.rename(path.with_name("config.toml~"))
    time.sleep(0.05)
    path.write_text(text)


@pytest.mark.parametrize("way", [lambda path, text: path.write_text(text), renamed, removed_first])
def test_a_changed_file_is_seen_however_it_is_written(watching, way):
    watching.start()
    before = watching.config.read_text()
    watching.write("two")
    after = watching.config.read_text()
    watching.config.write_text(before)
    way(watching.config, after)
    until(lambda: watching.get("/two/x")[0] == 200, "the new route is there")
    way(watching.config, before)
    until(lambda: watching.get("/two/x")[0] == 404, "and gone again")
    assert {each["level"] for each in reloads(watching)} == {"info"}


def test_the_swap_of_a_volume_of_kubernetes_is_seen(watching):
    """`..data` is a link to a folder, and what is replaced."""
    texts = []
    for names in ((), ("two",), ("two", "three")):
        watching.write(*names)
        texts.append(watching.config.read_text())
    folder = watching.folder

    def swap(number):
        (folder / f"..{number}").mkdir()
        (folder / f"..{number}" / "config.toml").write_text(texts[number])
        (folder / "..data_tmp").symlink_to(f"..{number}")
        (folder / "..data_tmp").rename(folder / "..data")

    swap(0)
    watching.config.unlink()
    watching.config.symlink_to("..data/config.toml")
    watching.start()
    for number, name in ((1, "two"), (2, "three")):
        assert watching.get(f"/{name}/x")[0] == 404
        swap(number)
        (folder / f"..{number - 1}" / "config.toml").unlink()
        until(lambda name=name: watching.get(f"/{name}/x")[0] == 200, f"/{name} is there")


def test_a_file_that_is_gone_is_a_failed_reload_and_no_end(watching):
    watching.start()
    text = watching.config.read_text()
    watching.config.unlink()
    until(lambda: reloads(watching), "it is told")
    assert reloads(watching)[0]["level"] == "error"
    assert watching.get("/one/x")[0] == 200
    watching.config.write_text(text)
    until(lambda: reloads(watching)[-1]["level"] == "info", "it is back")
    assert b"token_proxy_config_last_reload_successful 1.0" in watching.get("/metrics", admin=True)[1]


# -- a terminal


def test_it_stops_when_its_terminal_is_gone_and_reloads_while_it_is_there(served):
    """A hangup is the end of a terminal, too."""
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover
        argv = served._argv("run")
        os.execve(argv[0], argv, served._environment())
    try:
        until(lambda: served.get("/healthz", admin=True)[0] == 200, "it serves")
        served.write("two")
        os.kill(child, signal.SIGHUP)
        until(lambda: served.get("/two/x")[0] == 200, "the new route is there")
        os.close(terminal)
        until(lambda: os.waitpid(child, os.WNOHANG)[0] == child, "it ends with its terminal")
        child = 0
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


# -- all at once


def endure(command, **options):
    outcome, _ = asyncio.run(storm(command.folder, lambda: start(command), **options))
    print(outcome.said())
    assert outcome.faults == []
    assert set(outcome.statuses) == {200}
    assert outcome.events > 10 * options["seconds"]
    assert outcome.echoes
    assert outcome.reloads["info"] > 5
    assert outcome.reloads["error"] > 5
    # 1, 2, 4 and more seconds between its tries: a reload that forgot the back-off would try at once
    assert outcome.asked_of_the_dead <= 8 + options["seconds"] / 4
    return outcome


def start(command):
    """As `Command.start`, for an admin listener with TLS."""
    with (command.folder / "log").open("ab") as log:
        command._process = subprocess.Popen(
            command._argv("run"), env=command._environment(), stderr=log, stdout=log
        )
    until(lambda: '"event": "start"' in command.log(), "it is ready")
    return command.pid


def test_a_storm_of_reloads_costs_no_request_and_no_stream(command):
    endure(command, seconds=8, rate=100)


@pytest.mark.torture
def test_a_long_storm_at_a_thousand_requests_a_second(command):
    times = int(os.environ.get("TIMES", "1"))
    outcome = endure(command, seconds=40 * times, rate=1000, files=50 * times, signals=200 * times)
    before, after = outcome.resources
    assert after["rss_kib"] < before["rss_kib"] + 20 * 1024
    assert after["threads"] <= before["threads"] + 1
    assert after["files"] <= before["files"] + 20
