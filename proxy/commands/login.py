"""`token-proxy login`: get the first tokens, with several ways to receive the redirect.

A running server receives it; if none runs and public_url is on this machine, the command listens there. Then
the command opens a page of ours, whose ticket binds the login to the browser that opens it first. If neither
is certain, the user can log in without that page, and paste the redirect URL: only this command takes it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from proxy import tasks
from proxy.admin.app import callback_application
from proxy.admin.peers import TELLS_USERS
from proxy.admin.server import AdminRunner
from proxy.commands import device_login
from proxy.commands.browser import has_browser, open_file, open_url, redirect_file
from proxy.commands.pasted import lines_of_stdin
from proxy.commands.progress import progress, terminal
from proxy.commands.running_server import ask_server, is_serving, still_needs_login
from proxy.commands.tokens import audited_services, check_kept, key_of
from proxy.config.address import Address, is_loopback
from proxy.config.model import Config, ListenerTLS
from proxy.errors import LoginFailed, StoreError
from proxy.fd_limits import Descriptors
from proxy.hosts import Hosts
from proxy.listen import CannotListen, close, listen, tls_context
from proxy.services import Services
from proxy.store.base import AccountId
from proxy.tokens.login.pending import TIME_TO_LOG_IN, TIME_TO_LOG_IN_SAID, UnknownLogin, new_secret
from proxy.tokens.saved.lasting import store_warning

ANOTHER_STORE: Final = (
    "the server at {} still needs this login, as it has another store: expected its server.state_dir "
    "(or $STATE_DIRECTORY), not {}"
)
WAITING: Final = "waiting for the login"
Say = Callable[[str], object]


async def exchange_code(
    config: Config,
    credential: str,
    account: str,
    code: str,
    redirect_uri: str | None,
    verifier: str | None,
    say: Say,
) -> int:
    """Exchange a code. Raises LoginFailed, StoreError, UnknownAccount, NothingKept."""
    key = key_of(config, credential, account)
    check_kept(config)
    async with audited_services(config) as services:
        await services.logins.exchange(
            key, code, redirect_uri or services.logins.redirect_uri(credential), verifier
        )
        say(await _done(services, key))
    return 0


async def log_in(config: Config, credential: str, account: str, say: Say, *, open_browser: bool) -> int:
    """Raises LoginFailed, StoreError, UnknownAccount, NothingKept."""
    key = key_of(config, credential, account)
    check_kept(config)
    async with audited_services(config) as services, _callback_listener(services) as listening:
        logins, command = services.logins, new_secret()
        is_received = listening or await _may_have_server(config)
        is_bound = open_browser and has_browser() and _tells_users(config, listening=listening)
        if is_received:
            url = await logins.invite(key, command, for_own_user=is_bound)
        else:
            url = await logins.begin_to_paste(key, command)
        say("Log in here:")
        say(_shown(url))
        with ExitStack() as stack:  # until the login ends
            is_secret = is_received and not is_bound
            opened = open_browser and await asyncio.to_thread(_open, url, stack if is_secret else None)
            comes_here = is_received and (listening or not _is_shared(config))
            can_paste = not (opened and comes_here)
            if failure := await _wait(services, key, command, say, can_paste=can_paste, or_wait=is_received):
                raise LoginFailed(failure)
        say(await _done(services, key))
    return 0


async def log_in_on_device(
    config: Config, credential: str, account: str, say: Say, *, open_browser: bool, in_colour: bool
) -> int:
    """`in_colour`: `say` goes to a terminal with colours. Raises as `log_in`."""
    key = key_of(config, credential, account)
    check_kept(config)
    async with audited_services(config) as services:
        login = await services.logins.begin_on_device(key)
        for line in device_login.lines_for(login.codes, in_colour=in_colour):
            say(line)
        with ExitStack() as stack:  # until the login ends
            if open_browser and has_browser():
                await asyncio.to_thread(_open, login.codes.link, stack)
            async with progress(WAITING, login.codes.lifetime, terminal()):
                await login.ended()
        say(await _done(services, key))
    return 0


def _tells_users(config: Config, *, listening: bool) -> bool:
    """Whether our page is opened by a direct connection, so that its listener sees whose browser it is.

    A server on a shared store may run as another user than the command.
    """
    address, is_shared = config.callback_address, _is_shared(config)
    is_direct = address is not None and address.port == config.server.admin.port and not is_shared
    return TELLS_USERS and (listening or is_direct)


def _open(url: str, stack: ExitStack | None) -> bool:
    """`stack`: open the URL by way of a file that only our user can read, and remove that at its end.

    Every user of this machine can read the arguments of a browser.
    """
    return open_url(url) if stack is None else open_file(stack.enter_context(redirect_file(url)))


async def _wait(
    services: Services, key: AccountId, command: str, say: Say, *, can_paste: bool, or_wait: bool
) -> str:
    """The outcome of the login: "", or the reason of its failure."""
    redirect_uri = services.logins.redirect_uri(key.credential)
    if can_paste:
        if or_wait:
            say("From a browser that can't open that, log in here:")
            say(_shown(await services.logins.begin_to_paste(key, command)))
        for line in how_to_paste(redirect_uri, is_received=or_wait):
            say(line)
    client = services.config.credentials[key.credential].client_id
    if client:
        say(f"If the server refuses the redirect URI: register {redirect_uri} there, for client {client}.")
    on_terminal = terminal()
    if on_terminal is None:
        say(f"Waiting for the login, for {TIME_TO_LOG_IN_SAID} at most.")
    outcome = services.logins.outcome(command)
    async with progress(WAITING, TIME_TO_LOG_IN, on_terminal) as shown:
        ends = [tasks.spawn(outcome, "wait for the callback")]
        if not can_paste:
            return await _first(ends)
        with lines_of_stdin(lambda begun: shown.hide() if begun else shown.show()) as lines:
            pasted = _pasted(services, key, command, shown.above(say), lines, or_wait=or_wait)
            ends.append(tasks.spawn(pasted, "wait for a pasted URL"))
            return await _first(ends)


def _shown(url: str) -> str:
    """A link where the terminal knows them: the URL takes several lines."""
    if terminal(sys.stdout) is None:
        return url
    from proxy.commands.terminal import line, link, rendered  # noqa: PLC0415 (on terminals only)

    return rendered(line(link(url)), sys.stdout)


def how_to_paste(redirect_uri: str, *, is_received: bool) -> Iterator[str]:
    """Lines for the person. `is_received`: by a server or by this command, if the browser reaches it."""
    address = urlsplit(redirect_uri)
    if not is_loopback(address.hostname or ""):
        yield f"Your browser will end on {redirect_uri}?code=…: copy its address, and paste the URL here."
        return
    page = "can't be reached" if is_received else "can't be reached, or is another program's"
    yield (
        f"Your browser will end on a page that {page} ({redirect_uri}?code=…). That is expected: "
        "copy the address from its address bar, and paste the URL here."
    )
    if is_received:
        port = address.port or (443 if address.scheme == "https" else 80)
        yield f"Or forward the port, and open the first URL: ssh -L {port}:127.0.0.1:{port} HOST"


def _is_shared(config: Config) -> bool:
    return config.store.is_shared


async def _may_have_server(config: Config) -> bool:
    """Whether a server may receive the redirect: one that runs here, or elsewhere with the same store."""
    if _is_shared(config) and not is_loopback(config.public_host):
        return True
    # beyond this machine a server gives its status to known visitors only
    return await ask_server(config) is not None or (
        not config.server.admin.is_local and await is_serving(config)
    )


async def _done(services: Services, key: AccountId) -> str:
    try:
        person = await services.tokens.owner(key)
    except StoreError:  # unlikely, as it has just saved the tokens
        person = None
    done = f"logged in: {key} has tokens" + (f" of {person.shown}" if person else "")
    warnings = [(await services.tokens.look_at(key)).diagnosis().text, store_warning(services.config)]
    if not warnings[0] and await still_needs_login(services.config, key):
        warnings.append(ANOTHER_STORE.format(services.config.public_url, services.config.server.state_dir))
    return "\n".join([done, *(f"warning: {text}" for text in warnings if text)])


async def _first(ends: list[asyncio.Task[str]]) -> str:
    """The outcome of the login: "", or the reason of its failure."""
    try:
        done, _ = await asyncio.wait(ends, timeout=TIME_TO_LOG_IN, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await tasks.cancel(*ends)
    return done.pop().result() if done else f"no login within {TIME_TO_LOG_IN_SAID}: run the command again"


async def _pasted(
    services: Services,
    key: AccountId,
    command: str,
    say: Say,
    lines: asyncio.Queue[str],
    *,
    or_wait: bool,
) -> str:
    """Wait for the redirect URL on stdin, and finish the login with it."""
    while line := await lines.get():
        try:
            if line.strip():
                await services.logins.paste(key, line, command)
                return ""
        except UnknownLogin:
            say("That is not the redirect URL of this login. Paste the whole URL:")
        except LoginFailed as error:
            return str(error)
    if or_wait:
        await asyncio.Event().wait()  # wait for the callback only
    return "no redirect URL was pasted, and no server runs to receive it: start one, or paste the URL"


@asynccontextmanager
async def _callback_listener(services: Services) -> AsyncIterator[bool]:
    """Listen at the redirect URI. Yields False if that is impossible, or if a server listens already."""
    config = services.config
    address = config.callback_address
    needs_certificate = config.public_url.startswith("https:") and config.server.admin_tls is None
    if address is None or needs_certificate:
        yield False
        return
    application = callback_application(services, Hosts([address.host]))
    limits = config.limits
    runner = AdminRunner(application, limits, Descriptors(admin=limits.admin_connections))
    await runner.setup()
    try:
        yield await _listens(runner, address, config.server.admin_tls)
    finally:
        await close(runner)


async def _listens(runner: AdminRunner, address: Address, tls: ListenerTLS | None) -> bool:
    try:
        await listen(runner, address, tls_context(tls) if tls else None)
    except (CannotListen, OSError):  # OSError: its TLS files can't be used
        return False
    return True
