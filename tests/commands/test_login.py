"""login: all ways in which the redirect can arrive."""

import asyncio
import base64
import os
import re
import stat
import sys
from contextlib import nullcontext, suppress
from dataclasses import replace
from html import escape
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from aiohttp import web
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from proxy.commands import browser as browser_command
from proxy.commands import login, running_server
from proxy.config.load import load
from proxy.demo import faults
from proxy.demo.serve import running
from proxy.demo.wiring import PERSON, free_ports
from proxy.errors import LoginFailed
from proxy.services import open_services
from proxy.store.base import AccountId
from tests.admin.conftest import Browser
from tests.fakes.id_tokens import logs_in
from tests.patience import until, within

DONE, FAILED, USAGE = 0, 1, 2
LOGGED_IN = "logged in: person/default has tokens"
VERIFIER = "v" * 43
TICKET = re.compile(r'name="ticket" value="([A-Za-z0-9_-]{43})"')
BROWSER = """#!{python}
import os, sys, urllib.request
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
asked = browser.open(sys.argv[1])  # our page leads to the authorization server's
approved = browser.open(asked.url, data=b"user=alice")  # follows the redirect to the callback
assert b"Logged in" in approved.read()
open({note!r}, "w").write("\\n".join(sys.argv[1:]))
open({note!r} + ".umask", "w").write(oct(os.umask(0)))
"""
NOTING_BROWSER = """#!/bin/sh
printf '%s\\n' "$*" >>{note}
"""


class Terminal:
    """The output of the command, and its input."""

    def __init__(self, bench, keyboard, **options):
        self.said = []
        self._keyboard = keyboard
        self._urls = asyncio.Queue()
        options = {"open_browser": False, **options}
        self.command = asyncio.create_task(
            login.log_in(bench.config, "person", "default", self._say, **options)
        )

    def _say(self, line):
        self.said.append(line)
        if line.startswith("http"):
            self._urls.put_nowait(line)

    async def url(self):
        """The next URL that it prints: of our page, if the callback can be received, then the other one."""
        printed = asyncio.ensure_future(self._urls.get())
        await asyncio.wait([self.command, printed], return_when=asyncio.FIRST_COMPLETED)
        return printed.result() if printed.done() else await self.command

    def type(self, line):
        os.write(self._keyboard, f"{line}\n".encode())

    def hang_up(self):
        os.close(self._keyboard)

    async def break_off(self):
        """End the command as Ctrl-C does, if it goes on, and all that it holds open."""
        self.command.cancel()
        await asyncio.wait([self.command])


@pytest.fixture
def terminal(bench, monkeypatch):
    """Begin a login at a terminal."""
    read, write = os.pipe()
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield lambda **options: Terminal(bench, write, **options)
        with suppress(OSError):  # the test may have hung up
            os.close(write)  # ends the thread that reads


@pytest.fixture
def a_free_port():
    return free_ports(0)[0]


@pytest.fixture
async def a_stranger(bench):
    """Another program has the port where the redirect will arrive."""
    async with running(web.Application(), port=bench.config.server.admin.port):
        yield


@pytest.fixture
async def browser(bench):
    opened = Browser(bench.admin)
    yield opened
    await opened.close()


async def redirect(browser, at, user=PERSON):
    """The person opens the page that the command printed, and logs in; the URL of the redirect."""
    begun = await browser.get(await at.url())
    assert begun.status == 303, await begun.text()
    return await browser.approve(begun.headers["Location"], user)


def give_own_callback(bench):
    """The credential gets a redirect URI of its own, the only one that is registered; returns it."""
    bench.edit("[credentials.person]", '[credentials.person]\ncallback = "own"')
    redirect_uri = f"{bench.config.public_url}/callback/person"
    clients = bench.server._protocol._clients
    clients["demo-app"] = replace(clients["demo-app"], redirect_uris=(redirect_uri,))
    return redirect_uri


# -- the callback comes by itself


@pytest.mark.parametrize("hangs_up", [False, True], ids=["at a terminal", "without one"])
async def test_where_no_server_runs_the_command_takes_the_callback(bench, terminal, browser, hangs_up):
    at = terminal()
    if hangs_up:
        at.hang_up()
    callback = await redirect(browser, at)
    assert callback.startswith(f"{bench.config.public_url}/callback?")
    page = await browser.get(callback)
    assert page.status == 200
    assert "Logged in" in await page.text()
    assert "<a " not in await page.text(), "the command serves no other page"
    assert await at.command == DONE
    assert at.said[-1] == LOGGED_IN
    assert bench.granted() == ["authorization_code"]


async def test_where_a_server_runs_its_callback_is_used(bench, terminal, browser):
    async with bench.serving():
        at = terminal()
        at.hang_up()
        assert (await browser.get(await redirect(browser, at))).status == 200
        assert await at.command == DONE
        async with within(1):
            while await bench.whose() != "alice":
                await asyncio.sleep(0.05)


async def test_the_listener_of_the_command_answers_to_its_host_and_for_the_callback_alone(bench, terminal):
    at = terminal()
    await at.url()
    for path in ("/", "/metrics", "/api/status", "/login/person"):
        assert (await bench.get(bench.admin + path)).status == 404
    without_ticket = await bench.get(f"{bench.admin}/login/person/default")
    assert (without_ticket.status, "<form" in await without_ticket.text()) == (400, False)
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.config.server.admin.port)
    writer.write(b"GET /callback HTTP/1.1\r\nHost: evil.com\r\n\r\n")
    assert b" 421 " in await reader.readline()
    writer.close()
    await at.break_off()


async def test_idle_connections_do_not_keep_the_browser_from_the_listener_of_the_command(
    bench, terminal, browser
):
    at = terminal()
    while not at.said:
        await asyncio.sleep(0.02)
    address = bench.config.server.admin
    writers = [(await asyncio.open_connection(address.host, address.port))[1] for _ in range(200)]
    assert (await browser.get(await redirect(browser, at))).status == 200
    assert await at.command == DONE
    for writer in writers:
        writer.close()


async def test_a_login_that_is_declined_says_so_to_both(bench, terminal, browser):
    at = terminal()
    page = await browser.get(await redirect(browser, at, user=""))
    assert page.status == 400
    assert "The login was declined." in await page.text()
    with pytest.raises(LoginFailed, match=r"^the login was declined$"):
        await at.command


@pytest.mark.parametrize("serving", [False, True], ids=["it listens itself", "a server has the callback"])
async def test_whoever_reads_the_opened_address_can_neither_end_the_login_nor_stop_it(
    bench, terminal, browser, serving
):
    """It stands in the arguments of the browser, which every user of the machine can read."""
    async with bench.serving() if serving else nullcontext():
        at = terminal()
        address = await at.url()
        begun = await browser.get(address)
        callback = await browser.approve(begun.headers["Location"])
        for url in (address, callback):
            assert (await bench.get(url)).status == 400
        assert bench.granted() == []
        assert not at.command.done()
        assert (await browser.get(callback)).status == 200
        assert await at.command == DONE


async def test_an_own_callback_of_a_credential_is_served_by_the_command(bench, terminal, browser):
    redirect_uri = give_own_callback(bench)
    at = terminal()
    callback = await redirect(browser, at)
    assert callback.startswith(f"{redirect_uri}?")
    assert (await browser.get(callback)).status == 200
    assert await at.command == DONE
    assert any(f"({redirect_uri}?code=…)" in line for line in at.said)


async def test_a_browser_elsewhere_that_does_not_reach_the_page_can_log_in_and_paste(bench, terminal):
    """Over ssh: a server runs, but its loopback address is not that of the person's browser."""
    async with bench.serving():
        at = terminal()
        page, url = await at.url(), await at.url()
        assert page.startswith(f"{bench.config.public_url}/login/person/default?ticket=")
        assert url.startswith(f"{bench.server.issuer}/authorize?")
        callback = await bench.authorize(url)
        refused = await bench.get(callback)
        assert refused.status == 400, "no browser can end it"
        assert "paste the address of this page into the command" in await refused.text()
        at.type(callback)
        assert await at.command == DONE
        assert bench.granted() == ["authorization_code"]


async def test_what_an_invited_browser_began_can_be_pasted(bench, terminal, browser):
    """If its callback did not get through."""
    at = terminal()
    at.type(await redirect(browser, at))
    assert await at.command == DONE


async def test_where_nothing_receives_the_redirect_only_the_address_to_paste_is_printed(
    bench, terminal, a_stranger
):
    at = terminal()
    assert (await at.url()).startswith(f"{bench.server.issuer}/authorize?")
    assert [line for line in at.said if "ticket=" in line] == []
    await at.break_off()


@pytest.mark.parametrize(
    ("store", "public_url", "expected"),
    [
        ("redis://127.0.0.1:1", "https://proxy.example", True),  # a replica may serve it
        ("postgresql://127.0.0.1:1/x", "https://proxy.example", True),
        ("redis://127.0.0.1:1", "http://127.0.0.1:8081", False),
        ("sqlite:tokens.db", "https://proxy.example", False),  # it would run here
    ],
)
async def test_where_a_server_may_receive_the_redirect(tmp_path, a_free_port, store, public_url, expected):
    file = tmp_path / "config.toml"
    (tmp_path / "key").write_text(base64.b64encode(bytes(32)).decode())
    file.write_text(
        f'[server]\nadmin = "127.0.0.1:{a_free_port}"\npublic_url = "{public_url}"\n'
        f'[store]\nurl = "{store}"\nkey = {{ file = "key" }}\n'
    )
    (tmp_path / "key").chmod(0o600)
    assert await login._may_have_server(load(file).config) is expected


async def test_the_redirect_uri_to_register_is_named_with_its_client(bench, terminal):
    at = terminal()
    await at.url()
    await until(lambda: at.said[-1].startswith("Waiting for the login, for 10 minutes"))
    redirect_uri = f"{bench.config.public_url}/callback"
    assert (
        f"If the server refuses the redirect URI: register {redirect_uri} there, for client demo-app."
        in at.said
    )
    await at.break_off()


@pytest.mark.parametrize("serving", [False, True], ids=["it listens itself", "a server has the callback"])
async def test_where_a_browser_was_opened_nothing_need_be_pasted(bench, terminal, opened, serving):
    async with bench.serving() if serving else nullcontext():
        at = terminal(open_browser=True)
        await until(lambda: at.said and at.said[-1].startswith("Waiting for the login"))
        assert opened.exists()
        assert "paste" not in "".join(at.said)
        await at.break_off()


# -- the user pastes it


async def test_without_a_listener_the_user_pastes_the_callback(bench, terminal, a_stranger):
    at = terminal()
    at.type(await bench.authorize(await at.url()))
    assert await at.command == DONE
    assert at.said[-1] == LOGGED_IN


async def test_what_is_pasted_wrong_is_asked_for_again(bench, terminal, a_stranger):
    at = terminal()
    callback = await bench.authorize(await at.url())
    for wrong in ("", "yes", "https://127.0.0.1/callback?code=x", callback.replace("state=", "state=x")):
        at.type(wrong)
    at.type(callback)
    assert await at.command == DONE
    assert sum(line.startswith("That is not the redirect URL of this login") for line in at.said) == 3
    assert bench.granted() == ["authorization_code"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda query: {**query, "iss": "https://evil.example"}, "another authorization server"),
        (lambda query: {"state": query["state"], "iss": query["iss"]}, "no code"),
        (lambda query: {**query, "error": "access_denied"}, "declined"),
    ],
)
async def test_what_is_pasted_is_checked_as_a_callback_is(bench, terminal, a_stranger, change, sentence):
    at = terminal()
    url = urlsplit(await bench.authorize(await at.url()))
    at.type(url._replace(query=urlencode(change(dict(parse_qsl(url.query))))).geturl())
    with pytest.raises(LoginFailed, match=sentence):
        await at.command
    assert bench.granted() == []


async def test_a_code_that_the_server_refuses_is_reported(bench, terminal, a_stranger):
    bench.server.script(faults.NAMED["invalid-grant"])
    at = terminal()
    at.type(await bench.authorize(await at.url()))
    with pytest.raises(LoginFailed, match="refuses the code"):
        await at.command


async def test_without_a_terminal_and_without_a_listener_the_command_gives_up(bench, terminal, a_stranger):
    at = terminal()
    at.hang_up()
    with pytest.raises(LoginFailed, match="start one, or paste the URL"):
        await at.command


async def test_a_login_times_out(bench, terminal, monkeypatch):
    monkeypatch.setattr(login, "TIME_TO_LOG_IN", 0.05)
    with pytest.raises(LoginFailed, match="no login within"):
        await terminal().command


# -- the user


def told(bench, subject):
    """The next login is by this person."""
    email = f"{subject}@example.com"
    bench.server.script(logs_in(bench.server.issuer, "demo-app", subject, email=email))


async def log_in_as(bench, subject):
    told(bench, subject)
    return await bench.call("login", "person", "--code", await code_for(bench), "--code-verifier", VERIFIER)


async def has_it(bench):
    """The subject of the account."""
    async with open_services(bench.config) as services:
        return (await services.tokens.owner(AccountId("person", "default"))).subject


async def asked_in(browser, bench, at):
    """Bob logs in to ann's account; the form of the page that follows."""
    told(bench, "bob")
    page = await browser.get(await redirect(browser, at))
    assert page.status == 409
    ticket = TICKET.search(await page.text())[1]
    return {"csrf": browser.csrf_in(await page.text()), "ticket": ticket}


async def test_a_command_shows_the_user(bench, terminal, browser):
    assert (await log_in_as(bench, "ann")).stdout == f"{LOGGED_IN} of ann@example.com\n"
    at = terminal()
    told(bench, "ann")
    page = await browser.get(await redirect(browser, at))
    assert "token-proxy logout person --account default" in await page.text(), "no page here could do it"
    assert "<form" not in await page.text()
    assert await at.command == DONE
    assert at.said[-1] == f"{LOGGED_IN} of ann@example.com"


@pytest.mark.parametrize("serving", [False, True], ids=["it listens itself", "a server has the callback"])
async def test_a_command_waits_while_its_page_asks_whether_another_person_may(
    bench, terminal, browser, serving
):
    await log_in_as(bench, "ann")
    async with bench.serving() if serving else nullcontext():
        at = terminal()
        form = await asked_in(browser, bench, at)
        await asyncio.sleep(0.5)  # it asks for the outcome every quarter of a second
        assert not at.command.done()
        assert await has_it(bench) == "ann"
        done = await browser.post("/callback", {**form, "decision": "replace"})
        assert "bob@example.com" in await done.text()
        assert await at.command == DONE
    assert at.said[-1] == f"{LOGGED_IN} of bob@example.com"
    assert await has_it(bench) == "bob"


async def test_a_command_reports_that_its_login_was_cancelled(bench, terminal, browser):
    await log_in_as(bench, "ann")
    at = terminal()
    form = await asked_in(browser, bench, at)
    done = await browser.post("/callback", {**form, "decision": "cancel"})
    assert "Nothing has changed" in await done.text()
    with pytest.raises(LoginFailed, match=r"^the login was cancelled"):
        await at.command
    assert await has_it(bench) == "ann"


async def test_a_pasted_url_does_not_replace_another_person(bench, terminal, a_stranger):
    assert (await log_in_as(bench, "ann")).exit_code == DONE
    told(bench, "bob")
    at = terminal()
    at.type(await bench.authorize(await at.url()))
    with pytest.raises(LoginFailed, match="first run `token-proxy logout person --account default`"):
        await at.command
    assert await has_it(bench) == "ann"


async def test_a_code_replaces_another_person_only_after_a_logout(bench):
    assert (await log_in_as(bench, "ann")).exit_code == DONE
    failed = await log_in_as(bench, "bob")
    assert (failed.exit_code, failed.stdout, failed.stderr.count("\n")) == (FAILED, "", 1)
    assert failed.stderr.startswith("token-proxy: person/default has the tokens of another person")
    assert "bob" not in failed.stderr
    assert await has_it(bench) == "ann"
    assert bench.server.families_revoked == 1, "bob's"
    assert (await bench.call("logout", "person", "--account", "default")).exit_code == DONE
    assert (await log_in_as(bench, "bob")).exit_code == DONE
    assert await has_it(bench) == "bob"


# -- the browser


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The URLs that a browser was started with, a line each."""
    note, browser = tmp_path / "opened", tmp_path / "noting"
    browser.write_text(NOTING_BROWSER.format(note=note))
    browser.chmod(stat.S_IRWXU)
    monkeypatch.setenv("BROWSER", str(browser))
    return note


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "javascript:alert(1)", "--version", "-a", "$(touch x)", '"&calc', "//host/x", ""],
)
def test_only_http_urls_are_opened(opened, url):
    assert not browser_command.open_url(url)
    assert not opened.exists()
    assert browser_command.open_url("https://login.example/authorize?x=1")
    assert opened.read_text() == "https://login.example/authorize?x=1\n"


def test_a_browser_that_can_not_be_started_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("BROWSER", str(tmp_path / "missing"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    assert not browser_command.open_url("https://login.example/")


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac always has a screen")
def test_where_there_is_no_screen_no_browser_takes_the_terminal(monkeypatch):
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(browser_command, "_open", pytest.fail)
    assert not browser_command.open_url("https://login.example/")


async def test_the_browser_is_a_program_that_is_given_the_url_as_it_is(bench, tmp_path):
    note, browser = tmp_path / "note", tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable, note=str(note)))
    browser.chmod(stat.S_IRWXU)
    before = os.umask(0o022)
    try:
        command = await bench.start("login", "person", "-c", str(bench.path), BROWSER=str(browser))
    finally:
        os.umask(before)
    code = await command.end()
    assert (tmp_path / "note.umask").read_text() == oct(0o022), "the person's own, for downloads"
    assert (code, command.log) == (DONE, [])
    assert command.out.splitlines()[-1] == LOGGED_IN
    assert note.read_text() in command.out, "one argument: the URL that was printed too"
    assert "state=" not in note.read_text()
    assert (await bench.call("token", "person")).exit_code == DONE


def read_private(url):
    file = Path(urlsplit(url).path)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    return file.read_text()


@pytest.mark.parametrize("serving", [False, True], ids=["it listens itself", "a server has the callback"])
async def test_where_users_are_not_told_apart_no_argument_of_the_browser_has_the_ticket(
    bench, terminal, browser, monkeypatch, opened, serving
):
    monkeypatch.setattr(login, "TELLS_USERS", False)
    async with bench.serving() if serving else nullcontext():
        at = terminal(open_browser=True)
        address = await at.url()
        file = (await until(lambda: opened.exists() and opened.read_text())).strip()
        assert file.startswith("file://")
        assert read_private(file).count(escape(address)) == 2
        callback = await browser.approve((await browser.get(address)).headers["Location"])
        assert (await browser.get(callback)).status == 200
        assert await at.command == DONE
        with pytest.raises(FileNotFoundError):
            read_private(file)


# -- a code obtained elsewhere


async def code_for(bench, redirect_uri=None):
    query = {
        "response_type": "code",
        "client_id": "demo-app",
        "redirect_uri": redirect_uri or f"{bench.config.public_url}/callback",
        "code_challenge": create_s256_code_challenge(VERIFIER),
        "code_challenge_method": "S256",
    }
    callback = await bench.authorize(f"{bench.server.issuer}/authorize?{urlencode(query)}")
    return dict(parse_qsl(urlsplit(callback).query))["code"]


async def test_a_code_becomes_tokens(bench):
    done = await bench.call("login", "person", "--code", await code_for(bench), "--code-verifier", VERIFIER)
    assert (done.exit_code, done.stdout, done.stderr) == (DONE, f"{LOGGED_IN}\n", "")
    assert bench.server.active((await bench.call("token", "person")).stdout.strip()) == "alice"


async def test_a_login_that_the_running_server_can_t_see_says_so(bench, tmp_path, monkeypatch):
    """As of root beside a service that has a folder of its own."""
    monkeypatch.setattr(running_server, "SEEN_WITHIN", 1.0)
    async with bench.serving():
        state = bench.config.server.state_dir
        bench.edit(f'state_dir = "{state}"', f'state_dir = "{tmp_path}/elsewhere"')
        done = await bench.call(
            "login", "person", "--code", await code_for(bench), "--code-verifier", VERIFIER
        )
        assert done.exit_code == DONE
        assert done.stdout == (
            f"{LOGGED_IN}\nwarning: the server at {bench.admin} still needs this login, as it has another "
            f"store: expected its server.state_dir (or $STATE_DIRECTORY), not {tmp_path}/elsewhere\n"
        )


async def test_a_login_that_the_running_server_sees_is_no_reason_for_a_warning(bench):
    async with bench.serving():
        done = await bench.call(
            "login", "person", "--code", await code_for(bench), "--code-verifier", VERIFIER
        )
        assert (done.exit_code, done.stdout) == (DONE, f"{LOGGED_IN}\n")


async def test_a_code_goes_to_the_account_that_is_named(bench):
    arguments = ("--account", "anna@example.com", "--code-verifier", VERIFIER)
    await bench.call("login", "person", "--code", await code_for(bench), *arguments)
    assert (await bench.call("token", "person", "--account", "anna@example.com")).exit_code == DONE
    assert (await bench.call("token", "person")).exit_code == 3


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--code-verifier", "w" * 43),
        ("--code-verifier", VERIFIER, "--redirect-uri", "http://127.0.0.1:1/elsewhere"),
    ],
    ids=["no verifier", "another verifier", "another redirect URI"],
)
async def test_a_code_that_does_not_fit_is_refused_with_a_sentence(bench, more):
    failed = await bench.call("login", "person", "--code", await code_for(bench), *more)
    assert (failed.exit_code, failed.stdout, failed.stderr.count("\n")) == (FAILED, "", 1)
    assert failed.stderr.startswith("token-proxy: ")


async def test_a_code_is_redeemed_with_the_redirect_uri_of_its_credential(bench):
    redirect_uri = give_own_callback(bench)
    code = await code_for(bench, redirect_uri)
    assert (
        await bench.call("login", "person", "--code", code, "--code-verifier", VERIFIER)
    ).exit_code == DONE


@pytest.mark.parametrize("option", ["--redirect-uri", "--code-verifier"])
async def test_options_of_a_code_require_one(bench, option):
    failed = await bench.call("login", "person", option, "x")
    assert failed.exit_code == USAGE
    assert "go with --code" in failed.stderr


async def test_client_credentials_have_no_login(bench):
    for more in ((), ("--code", "x")):
        failed = await bench.call("login", "machine", *more)
        assert (failed.exit_code, failed.stderr.count("\n")) == (FAILED, 1)
        assert "which has no login" in failed.stderr


NO_REFRESH_TOKEN = faults.Fault(change={"refresh_token": None})


async def test_a_login_that_will_end_says_when_and_which_settings_make_it_last(bench, terminal, browser):
    bench.server.script(NO_REFRESH_TOKEN)
    at = terminal()
    page = await (await browser.get(await redirect(browser, at))).text()
    assert await at.command == DONE
    for told in (at.said[-1], page):
        assert "the server gave no refresh token: the access token expires at" in told.replace(
            "The server", "the server"
        )
        assert "offline_access" in told
    assert "are refreshed" not in page
    assert at.said[-1].startswith(f"{LOGGED_IN}\nwarning: ")


async def test_a_code_of_a_login_that_will_end_says_so_too(bench):
    bench.server.script(NO_REFRESH_TOKEN)
    done = await bench.call("login", "person", "--code", await code_for(bench), "--code-verifier", VERIFIER)
    assert done.exit_code == DONE
    assert "warning: the server gave no refresh token" in done.stdout


async def test_a_running_server_and_its_status_say_so_too(bench, terminal, browser):
    async with bench.serving():
        bench.server.script(NO_REFRESH_TOKEN)
        at = terminal()
        page = await (await browser.get(await redirect(browser, at))).text()
        assert await at.command == DONE
        shown = await bench.call("status")
    assert "are refreshed" not in page
    assert "offline_access" in page
    assert "the access token expires at" in at.said[-1]
    assert "the access token expires at" in shown.stdout
    assert shown.exit_code == DONE, "it serves for now"


async def test_a_page_of_a_command_promises_no_more_than_a_server_keeps(terminal, browser):
    at = terminal()
    page = await (await browser.get(await redirect(browser, at))).text()
    assert "are refreshed while a token-proxy server runs" in page
