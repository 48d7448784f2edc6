"""status: of a running server, or of the store."""

import asyncio
import json
import os
import re
import signal
import sys

import pexpect
import pytest
from aiohttp import web

from proxy.commands import status
from proxy.commands.status_table import Selection
from proxy.demo import faults
from proxy.demo.serve import running
from tests.commands.a_terminal import on_a_terminal
from tests.commands.test_status_table import entry as status_entry
from tests.commands.test_status_table import status as status_document
from tests.patience import FOR_CERTAIN, until

DONE, FAILED, USAGE, LOGIN_NEEDED, INTERRUPTED = 0, 1, 2, 3, 130
COLUMNS = ["CREDENTIAL", "ACCOUNT", "STATE", "EXPIRES", "REFRESH", "TOKEN", "NEXT", "TRY", "OWNER", "ROUTES"]


async def shown(bench, *options):
    """Exit code, first line, the words of each row by credential, and the lines below the table."""
    done = await bench.call("status", *options)
    assert done.stderr == ""
    first, _, head, *rest = done.stdout.splitlines()
    assert head.split() == COLUMNS
    table, _, below = "\n".join(rest).partition("\n\n")
    rows = {line.split()[0]: line.split() for line in table.splitlines()}
    return done.exit_code, first, rows, below.splitlines()


async def test_without_a_server_the_status_is_read_from_the_store(bench):
    code, first, rows, below = await shown(bench)
    assert code == LOGIN_NEEDED
    assert first == "no server runs here: this is what the store holds"
    assert list(rows) == ["person", "machine"], "what needs attention is first"
    assert rows["machine"][:3] == ["machine", "default", "absent"]
    assert rows["person"][:3] == ["person", "default", "absent"]
    assert below[0] == (
        "person/default: nobody has logged in yet; run `token-proxy login person`, "
        f"or open {bench.admin}/login/person/default"
    )

    await bench.log_in()
    code, _, rows, _ = await shown(bench)
    assert code == DONE
    assert rows["person"][:4] == ["person", "default", "valid", "in"]


async def test_a_running_server_is_named_with_its_age(bench):
    process = await bench.run()
    _, first, _, _ = await shown(bench)
    assert re.fullmatch(rf"from the server at {bench.admin}, up \d+ (s|min)", first)
    process.signal()
    await process.end()


async def test_a_running_server_reports_what_the_store_does_not_have(bench):
    await bench.log_in()
    async with bench.serving() as services:
        bench.server.script(faults.NAMED["invalid-client"])
        account = services.tokens.account("person", "default")
        services.tokens.refresh_behind(account)
        while account.flight is not None:
            await account.flight
        code, _, rows, below = await shown(bench)
    assert (code, rows["person"][2]) == (DONE, "misconfigured")
    (note,) = [line for line in below if line.startswith("person/default: ")]
    assert "(invalid_client" in note
    assert "client_secret" in note


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
        told.append(json.loads(text)["tokens"][0]["state"])
        if len(told) == 3:
            raise EnoughError

    monkeypatch.setattr(status, "EVERY", 0.01)
    with pytest.raises(EnoughError):
        await status.show_status(bench.config, say, Selection(), as_json=True, watch=True)
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
    code, _, rows, _ = await shown(bench)
    assert (code, rows["person"][2:4]) == (LOGIN_NEEDED, ["login", "required"])


async def test_another_program_on_the_admin_port_is_ignored(bench):
    documents = iter(({"version": 1, "counts": {"other": {}}, "tokens": []}, {"version": 2}, ["x"], "x"))

    async def respond(_request):
        return web.json_response(next(documents))

    app = web.Application()
    app.router.add_get("/api/status", respond)
    async with running(app, port=bench.config.server.admin.port):
        for _ in range(4):
            assert (await shown(bench))[1].startswith("no server runs here")


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
        _, _, rows, _ = await shown(bench)
    assert rows["machine"][2] == "misconfigured"


BY_HEADER = 'credential = "person"\naccount = { header = "X-Remote-User" }'


async def test_a_credential_whose_requests_name_the_account_is_shown_before_there_is_one(bench):
    bench.edit('credential = "person"', BY_HEADER)
    code, _, rows, below = await shown(bench)
    assert (code, list(rows)) == (DONE, ["machine", "person"])
    assert rows["person"][:3] == ["person", "-", "absent"]
    assert "person: no accounts yet; run `token-proxy login person --account NAME`" in below


async def test_an_account_that_can_not_serve_for_another_reason_is_exit_code_1(bench):
    await bench.log_in()
    async with bench.serving() as services:
        bench.server.script(*[faults.NAMED["invalid-client"]] * 3)
        account = services.tokens.account("machine", "default")
        services.tokens.refresh_behind(account)
        while account.flight is not None:
            await account.flight
        code, _, rows, _ = await shown(bench)
    assert (code, rows["machine"][2]) == (FAILED, "misconfigured")


async def test_a_server_of_another_version_is_ignored(bench):
    """Its entries lack the members for the exit code: the store is read instead."""
    entry = {"credential": "person", "account": "default", "state": "valid"}
    document = {"version": 1, "counts": {"machine": {}, "person": {}}, "tokens": [entry], "next": None}

    async def old_server(_request):
        return web.json_response(document)

    app = web.Application()
    app.router.add_get("/api/status", old_server)
    async with running(app, port=bench.config.server.admin.port):
        assert (await shown(bench))[1].startswith("no server runs here")


async def test_without_credentials_there_is_nothing_to_show(bench):
    text = bench.path.read_text()
    bench.path.write_text(text.partition("[credentials")[0])
    done = await bench.call("status")
    assert (done.exit_code, done.stdout.splitlines()[1:]) == (
        DONE,
        ["the configuration has no credentials yet"],
    )


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


# -- a selection of the accounts


async def test_accounts_are_selected_by_state_credential_and_text(bench):
    async def names(*options):
        done = await bench.call("status", *options)
        return done.exit_code, re.findall(r"^(\w+)  +default ", done.stdout, re.MULTILINE)

    async def all_of_them():
        assert await names("--state", "attention") == (LOGIN_NEEDED, ["person"])
        assert await names("--state", "absent") == (LOGIN_NEEDED, ["person", "machine"])
        assert await names("--credential", "machine") == (DONE, ["machine"])
        assert await names("-q", "ACH") == (DONE, ["machine"])
        assert await names("-q", "nobody") == (DONE, [])

    await all_of_them()
    async with bench.serving():
        await all_of_them()
    assert [
        each["credential"]
        for each in json.loads((await bench.call("status", "-q", "ach", "--json")).stdout)["tokens"]
    ] == ["machine"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--state", "sick"), USAGE, "attention"),
        (("-q", "x" * 201), USAGE, "at most 200 characters"),
        (("-q", "\x1b"), USAGE, "at most 200 characters"),
        (("--credential", "nobody"), FAILED, "the configuration has no credential 'nobody'"),
    ],
)
async def test_an_impossible_selection_is_refused(bench, options, code, said):
    failed = await bench.call("status", *options)
    assert (failed.exit_code, failed.stdout) == (code, "")
    assert said in failed.stderr


async def test_the_exit_code_is_that_of_all_pages(bench, monkeypatch):
    """machine can't serve, and comes first; person needs a login, on the next page."""
    await bench.log_in()
    bench.server.script(faults.NAMED["invalid-grant"])
    monkeypatch.setattr(status, "LIMIT", 1)
    async with bench.serving() as services:
        account = services.tokens.account("person", "default")
        await services.tokens.reject(account, services.tokens.ready(account))
        bench.server.script(*[faults.NAMED["invalid-client"]] * 3)
        machine = services.tokens.account("machine", "default")
        services.tokens.refresh_behind(machine)
        while machine.flight is not None:
            await machine.flight
        code, _, rows, below = await shown(bench)
        selected = await bench.call("status", "--credential", "machine")
    assert (code, list(rows)) == (LOGIN_NEEDED, ["machine"])
    assert below[-1] == "… and 1 more: token-proxy status --state attention"
    assert selected.exit_code == FAILED


@pytest.mark.parametrize("has_entries", [True, False])
async def test_a_program_whose_pages_never_end_is_not_followed_for_ever(bench, monkeypatch, has_entries):
    entry = status_entry(credential="machine", serves=False, needs_attention=True)
    counts = {"machine": {"valid": 1}, "person": {"valid": 1}}
    document = status_document(counts=counts, next="attention:machine/default")
    document["tokens"] = [entry] if has_entries else []

    async def respond(_request):
        return web.json_response(document)

    monkeypatch.setattr(status, "PAGES", 3)
    app = web.Application()
    app.router.add_get("/api/status", respond)
    async with running(app, port=bench.config.server.admin.port):
        done = await bench.call("status")
    assert done.exit_code == (FAILED if has_entries else DONE)
    assert done.stdout.startswith("from the server at ")


# -- watch


def watching(bench, **environ):
    command = ["-m", "proxy", "status", "--watch", "-c", str(bench.path)]
    environ = {"TERM": "xterm-256color", **environ}
    inherited = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    return pexpect.spawn(
        sys.executable,
        command,
        env={**inherited, **environ},
        encoding="utf-8",
        timeout=FOR_CERTAIN,
        dimensions=(40, 120),
    )


async def test_watch_redraws_in_place_until_ctrl_c(bench):
    def first():
        found = watching(bench)
        found.expect("person .*○ absent")
        return found

    terminal = await asyncio.to_thread(first)
    await bench.log_in()

    def then():
        terminal.expect("person .*✓ valid")
        redrawn = terminal.before
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
        rest = terminal.before
        terminal.close()
        return redrawn, rest

    redrawn, rest = await asyncio.to_thread(then)
    assert "\x1b[1A" in redrawn, "the cursor goes up, over what was drawn before"
    assert "\x1b[?25h" in rest, "the cursor is shown again"
    assert (terminal.exitstatus, terminal.signalstatus) == (INTERRUPTED, None)


async def test_a_signal_ends_a_watch_with_the_cursor_shown(bench):
    def run():
        terminal = watching(bench)
        terminal.expect("person .*absent")
        terminal.kill(signal.SIGTERM)
        terminal.expect(pexpect.EOF)
        rest = terminal.before
        terminal.close()
        return rest, terminal.signalstatus

    rest, number = await asyncio.to_thread(run)
    assert "\x1b[?25h" in rest
    assert number == signal.SIGTERM


@pytest.mark.parametrize("where", ["pipe", "dumb terminal"])
async def test_watch_prints_each_change_with_its_time_where_it_can_not_redraw(bench, monkeypatch, where):
    class EnoughError(Exception):
        pass

    said, is_dumb = [], where == "dumb terminal"

    async def log_in():
        await until(lambda: len(said) == 2)
        await asyncio.sleep(0.2)  # some rounds without a change
        assert len(said) == 2
        await bench.log_in()

    def say(text):
        said.append(text)
        if "valid" in text:
            raise EnoughError

    monkeypatch.setattr(status, "EVERY", 0.01)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_dumb)
    monkeypatch.setenv("TERM", "dumb")
    logging_in = asyncio.create_task(log_in())
    with pytest.raises(EnoughError):
        await status.show_status(bench.config, say, Selection(), as_json=False, watch=True)
    await logging_in
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", each) for each in said[::2])
    assert "\x1b" not in "".join(said)
