"""status: of a running server, or of the store."""

import asyncio
import json
import sys

import pytest
from aiohttp import web

from proxy.commands import status
from proxy.demo import faults
from proxy.demo.serve import running
from tests.commands.a_terminal import on_a_terminal

DONE, FAILED, LOGIN_NEEDED = 0, 1, 3


async def shown(bench):
    """The table: its rows as lists of words, by name: those that need attention come first."""
    done = await bench.call("status")
    assert done.stderr == ""
    head, *rows = [line.split() for line in done.stdout.splitlines()]
    return done.exit_code, [head, *sorted(rows)]


async def test_without_a_server_the_status_is_read_from_the_store(bench):
    code, (head, machine, person) = await shown(bench)
    assert code == LOGIN_NEEDED
    assert head == ["CREDENTIAL", "ACCOUNT", "STATE", "EXPIRES", "REFRESH", "DUE", "ROUTES"]
    assert machine[:3] == ["machine", "default", "absent"]
    assert person[:3] == ["person", "default", "absent"]
    assert " ".join(person).endswith("nobody has logged in yet; run `token-proxy login person`")

    await bench.log_in()
    code, (_, _, person) = await shown(bench)
    assert code == DONE
    assert person[:4] == ["person", "default", "valid", "in"]


async def test_a_running_server_reports_what_the_store_does_not_have(bench):
    await bench.log_in()
    async with bench.serving() as services:
        bench.server.script(faults.NAMED["invalid-client"])
        account = services.tokens.account("person", "default")
        services.tokens.refresh_behind(account)
        while account.flight is not None:
            await account.flight
        code, (_, _, person) = await shown(bench)
    assert (code, person[2]) == (DONE, "misconfigured")
    assert "(invalid_client);" in person
    assert "client_secret" in person


async def test_json_is_that_of_the_server(bench):
    async with bench.serving():
        done = await bench.call("status", "--json")
        served = await (await bench.get(f"{bench.admin}/api/status")).json()
    told = json.loads(done.stdout)
    assert told.pop("now") <= served.pop("now")
    assert told == served
    assert done.exit_code == LOGIN_NEEDED


async def test_watch_repeats_the_status(bench, monkeypatch):
    class EnoughError(Exception):
        pass

    told = []

    def say(text):
        told.append(json.loads(text)["tokens"][1]["state"])
        if len(told) == 3:
            raise EnoughError

    monkeypatch.setattr(status, "EVERY", 0.01)
    with pytest.raises(EnoughError):
        await status.show_status(bench.config, say, as_json=True, watch=True)
    assert told == ["absent"] * 3


async def test_json_of_the_store_has_the_same_keys(bench):
    alone = json.loads((await bench.call("status", "--json")).stdout)
    async with bench.serving():
        served = json.loads((await bench.call("status", "--json")).stdout)
    assert alone.keys() == served.keys()
    assert [entry.keys() for entry in alone["tokens"]] == [entry.keys() for entry in served["tokens"]]


async def test_a_refused_refresh_token_needs_a_login(bench):
    await bench.log_in()
    bench.server.script(faults.NAMED["invalid-grant"])
    async with bench.serving() as services:
        account = services.tokens.account("person", "default")
        await services.tokens.reject(account, services.tokens.ready(account))
    code, (_, _, person) = await shown(bench)
    assert (code, person[2:4]) == (LOGIN_NEEDED, ["login", "required"])


async def test_another_program_on_the_admin_port_is_ignored(bench):
    documents = iter(({"version": 1, "counts": {"other": {}}, "tokens": []}, {"version": 2}, ["x"], "x"))

    async def respond(_request):
        return web.json_response(next(documents))

    app = web.Application()
    app.router.add_get("/api/status", respond)
    async with running(app, port=bench.config.server.admin.port):
        for _ in range(4):
            assert (await shown(bench))[1][1][0] == "machine"


async def test_a_server_on_a_unix_socket_is_asked_there(bench):
    path = bench.path.parent / "admin.sock"
    bench.edit(
        f'admin = "{bench.config.server.admin}"', f'admin = "unix:{path}"\npublic_url = "{bench.admin}"'
    )
    async with bench.serving() as services:
        bench.server.script(faults.NAMED["invalid-client"])
        account = services.tokens.account("machine", "default")
        services.tokens.refresh_behind(account)
        while account.flight is not None:
            await account.flight
        _, (_, machine, _) = await shown(bench)
    assert machine[2] == "misconfigured"


BY_HEADER = 'credential = "person"\naccount = { header = "X-Remote-User" }'


async def test_a_credential_whose_requests_name_the_account_is_shown_before_there_is_one(bench):
    bench.edit('credential = "person"', BY_HEADER)
    code, (_, machine, person) = await shown(bench)
    assert (code, machine[0]) == (DONE, "machine")
    assert person[:3] == ["person", "-", "absent"]
    assert " ".join(person).endswith("no accounts yet; run `token-proxy login person --account NAME`")


async def test_an_account_that_can_not_serve_for_another_reason_is_exit_code_1(bench):
    await bench.log_in()
    async with bench.serving() as services:
        bench.server.script(*[faults.NAMED["invalid-client"]] * 3)
        account = services.tokens.account("machine", "default")
        services.tokens.refresh_behind(account)
        while account.flight is not None:
            await account.flight
        code, (_, machine, _) = await shown(bench)
    assert (code, machine[2]) == (FAILED, "misconfigured")


async def test_a_server_of_another_version_is_ignored(bench):
    """Its entries lack the members for the exit code: the store is read instead."""
    entry = {"credential": "person", "account": "default", "state": "valid"}
    document = {"version": 1, "counts": {"machine": {}, "person": {}}, "tokens": [entry], "next": None}

    async def old_server(_request):
        return web.json_response(document)

    app = web.Application()
    app.router.add_get("/api/status", old_server)
    async with running(app, port=bench.config.server.admin.port):
        assert (await shown(bench))[1][1][0] == "machine"


async def test_without_credentials_there_is_nothing_to_show(bench):
    text = bench.path.read_text()
    bench.path.write_text(text.partition("[credentials")[0])
    done = await bench.call("status")
    assert (done.exit_code, done.stdout) == (DONE, "the configuration has no credentials yet\n")


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
async def test_colours_are_for_terminals_that_want_them(bench, environ, coloured):
    status = [sys.executable, "-m", "proxy", "status", "-c", str(bench.path)]
    code, said = await asyncio.to_thread(on_a_terminal, status, 250, **environ)
    assert code == 3
    assert "absent" in said
    assert ("\x1b[" in said) == coloured
